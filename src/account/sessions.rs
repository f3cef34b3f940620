//! One's own sessions: look at them, end them.

use crate::account::call::Call;
use crate::account::page::Page;
use crate::account::{AccountError, Accounts};
use crate::model::account::Session;
use crate::model::id::{SessionId, UserId};
use crate::telemetry::audit::AuditAction;

impl Accounts {
    /// The live sessions of a uid in the order of their ids, those after `after`.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn sessions(
        &self,
        uid: &UserId,
        after: Option<&SessionId>,
    ) -> Result<Page<Session, SessionId>, AccountError> {
        let now = self.parts.clock.now();
        let mut sessions = self.parts.store.sessions_of(uid).await?;
        sessions.retain(|session| {
            session.is_live(now) && after.is_none_or(|after| *after < session.id)
        });
        Ok(Page::of(sessions, |session| session.id.clone()))
    }

    /// One live session of a uid; somebody else's is not there.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn session(
        &self,
        uid: &UserId,
        id: &SessionId,
    ) -> Result<Option<Session>, AccountError> {
        let now = self.parts.clock.now();
        let session = self.parts.store.session(id).await?;
        Ok(session.filter(|session| session.uid == *uid && session.is_live(now)))
    }

    /// Ends one session of a uid; `false`: they have none of that id.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn end_session(
        &self,
        call: &Call,
        uid: &UserId,
        id: &SessionId,
    ) -> Result<bool, AccountError> {
        self.begin(call, AuditAction::EndSession, Some(uid), Some(id.as_str()))
            .await?;
        let ended = self.parts.store.end_session(uid, id).await?;
        let outcome = if ended { "ok" } else { "not_found" };
        call.record(
            AuditAction::EndSession,
            outcome,
            Some(uid.as_str()),
            Some(id.as_str()),
        );
        Ok(ended)
    }

    /// Ends all sessions of a uid, the one that asks included; how many there were.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn end_all_sessions(&self, call: &Call, uid: &UserId) -> Result<usize, AccountError> {
        self.begin(call, AuditAction::EndSession, Some(uid), Some("all"))
            .await?;
        let count = self.parts.store.end_sessions(uid, None).await?;
        call.record(
            AuditAction::EndSession,
            "ok",
            Some(uid.as_str()),
            Some("all"),
        );
        Ok(count)
    }
}
