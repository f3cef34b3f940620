//! The caller's own sessions: list, show and end them.

use crate::account::call::Call;
use crate::account::halt::{Halt, NotFound, found};
use crate::account::page::Page;
use crate::account::{AccountError, Accounts};
use crate::model::account::Session;
use crate::model::id::{SessionId, UserId};
use crate::telemetry::audit::{self, AuditAction};

impl Accounts {
    /// Returns the live sessions of a uid in the order of their ids, starting after `after`.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn sessions(
        &self,
        uid: &UserId,
        after: Option<&SessionId>,
    ) -> Result<Page<Session, SessionId>, AccountError> {
        let now = self.services.clock.now();
        let mut sessions = self.services.store.sessions_of(uid).await?;
        sessions.retain(|session| {
            session.is_live(now) && after.is_none_or(|after| *after < session.id)
        });
        Ok(Page::of(sessions, |session| session.id.clone()))
    }

    /// Returns one live session of a uid, or `None` if the session belongs to another uid.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn session(
        &self,
        uid: &UserId,
        id: &SessionId,
    ) -> Result<Option<Session>, AccountError> {
        let now = self.services.clock.now();
        let session = self.services.store.session(id).await?;
        Ok(session.filter(|session| session.uid == *uid && session.is_live(now)))
    }

    /// Ends one session of a uid.
    ///
    /// # Errors
    /// [`NotFound`], [`AccountError::Store`]
    pub async fn end_session(
        &self,
        call: &Call,
        uid: &UserId,
        id: &SessionId,
    ) -> Result<(), Halt<NotFound>> {
        let (action, object) = (AuditAction::EndSession, Some(id.as_str()));
        self.begin(call, action, Some(uid), object).await?;
        let was_live = self.services.store.end_session(uid, id).await?;
        call.settle(action, Some(uid), object, found(was_live))
    }

    /// Ends all sessions of a uid, including the one that makes the request, and returns their number.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn end_all_sessions(&self, call: &Call, uid: &UserId) -> Result<usize, AccountError> {
        let (action, object) = (AuditAction::EndSession, Some("all"));
        self.begin(call, action, Some(uid), object).await?;
        let count = self.services.store.end_sessions(uid, None).await?;
        call.record(action, audit::DONE, Some(uid.as_str()), object);
        Ok(count)
    }
}
