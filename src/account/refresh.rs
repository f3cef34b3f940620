//! Refresh: one token in, its one successor and a new access token out.

use std::time::Duration;

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::crypto::token::RefreshToken;
use crate::model::account::AccountStatus;
use crate::model::secret::Secret;
use crate::store::{RefreshRotation, Rotation};
use crate::telemetry::audit::AuditAction;

/// How long the newest spent token may come again: for an answer that was lost, or parallel requests of one client.
/// RFC 9700 section 4.14.2 leaves the figure open; the contract sets it.
const GRACE: Duration = Duration::from_secs(10);

/// Outcome of a refresh.
#[derive(Debug)]
#[must_use]
pub enum Refresh {
    /// Tokens.
    Refreshed {
        /// The access token, a JWT.
        access_token: Secret,
        /// How long the access token lives.
        expires_in: Duration,
        /// The successor: the same however often the token is presented within the grace.
        refresh_token: Secret,
    },
    /// Unknown, ended or spent: the caller is told no more than that.
    Invalid,
}

impl Accounts {
    /// Takes a refresh token and gives its successor and an access token. A token that was spent before ends its whole
    /// family: one of the two who hold it has stolen it.
    ///
    /// # Errors
    /// [`AccountError`]; the token may be presented again.
    pub async fn refresh(&self, call: &Call, presented: &str) -> Result<Refresh, AccountError> {
        let refuse = |outcome: &str, subject: Option<&str>, session: Option<&str>| {
            call.record(AuditAction::Refresh, outcome, subject, session);
            Ok(Refresh::Invalid)
        };
        let Some(token) = RefreshToken::parse(presented) else {
            return refuse("refresh_token_invalid", None, None);
        };
        let now = self.parts.clock.now();
        let successor = self.parts.token_keys.successor(&token);
        let rotation = RefreshRotation {
            session: token.session.clone(),
            presented: token.digest(),
            successor: successor.digest(),
            now,
            grace: GRACE,
            idle_end: now.plus(self.parts.tokens.refresh_ttl),
        };
        let session = match self.parts.store.rotate_refresh(rotation).await? {
            Rotation::Rotated(session) | Rotation::Repeated(session) => session,
            Rotation::Reused(session) => {
                call.record(
                    AuditAction::RefreshReuse,
                    "session_ended",
                    Some(session.uid.as_str()),
                    Some(session.id.as_str()),
                );
                return Ok(Refresh::Invalid);
            }
            Rotation::Unknown => return refuse("refresh_token_invalid", None, None),
        };
        let (uid, id) = (session.uid.as_str(), session.id.as_str());
        let account = self.parts.store.account(&session.uid).await?;
        let Some(account) = account.filter(|account| account.status == AccountStatus::Active)
        else {
            return refuse("account_not_active", Some(uid), Some(id));
        };
        let access = self.access_token(&account, &session, now)?;
        call.record(AuditAction::Refresh, "ok", Some(uid), Some(id));
        Ok(Refresh::Refreshed {
            access_token: access.text,
            expires_in: access.expires_in,
            refresh_token: successor.text(),
        })
    }
}
