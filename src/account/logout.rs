//! Log out: ends the session of the login and revokes all its tokens.

use crate::account::call::Call;
use crate::account::halt::{Halt, NotFound, found};
use crate::account::{AccountError, Accounts};
use crate::model::id::{SessionId, UserId};
use crate::telemetry::audit::AuditAction;

impl Accounts {
    /// Ends the session that the caller is logged in with. A session that has already ended is a success.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn log_out(
        &self,
        call: &Call,
        uid: &UserId,
        session: &SessionId,
    ) -> Result<(), AccountError> {
        let (action, object) = (AuditAction::LogOut, Some(session.as_str()));
        self.begin(call, action, Some(uid), object).await?;
        let was_live = self.services.store.end_session(uid, session).await?;
        match call.settle(action, Some(uid), object, found(was_live)) {
            Ok(()) | Err(Halt::Refused(NotFound)) => Ok(()),
            Err(Halt::Failed(error)) => Err(error),
        }
    }
}
