//! Log out: the session of the login ends, and with it all its tokens.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::model::id::{SessionId, UserId};
use crate::telemetry::audit::AuditAction;

impl Accounts {
    /// Ends the session that the caller is logged in with. One that has ended meanwhile is as good as ended.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn log_out(
        &self,
        call: &Call,
        uid: &UserId,
        session: &SessionId,
    ) -> Result<(), AccountError> {
        self.begin(call, AuditAction::LogOut, Some(uid), Some(session.as_str()))
            .await?;
        let was_there = self.parts.store.end_session(uid, session).await?;
        let outcome = if was_there { "ok" } else { "not_found" };
        call.record(
            AuditAction::LogOut,
            outcome,
            Some(uid.as_str()),
            Some(session.as_str()),
        );
        Ok(())
    }
}
