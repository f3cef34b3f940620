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
/// RFC 9700 section 4.14.2 leaves the figure open.
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
        // A token of no session changes nothing: strangers can make up any number of them.
        if let Some(session) = self.parts.store.session(&token.session).await? {
            let object = Some(session.id.as_str());
            self.begin(call, AuditAction::Refresh, Some(&session.uid), object)
                .await?;
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD};
    use crate::store::Store;

    async fn refresh(kit: &Kit, token: &str) -> Option<String> {
        match kit.accounts.refresh(&Call::default(), token).await.unwrap() {
            Refresh::Refreshed { refresh_token, .. } => Some(refresh_token.expose().to_owned()),
            Refresh::Invalid => None,
        }
    }

    #[tokio::test]
    async fn fifty_at_once_get_one_successor() {
        let kit = Arc::new(Kit::new());
        kit.person("anna").await;
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        let first = opened.refresh_token.expose().to_owned();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (kit, first) = (Arc::clone(&kit), first.clone());
            tasks.spawn(async move { refresh(&kit, &first).await.unwrap() });
        }
        let successors: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(successors.len(), 1);
        let successor = successors.first().unwrap();
        assert_ne!(*successor, first);
        assert!(refresh(&kit, successor).await.is_some());
    }

    #[tokio::test]
    async fn reuse_after_the_grace_ends_the_family() {
        let kit = Kit::new();
        kit.person("anna").await;
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        let first = opened.refresh_token.expose().to_owned();
        let second = refresh(&kit, &first).await.unwrap();
        kit.clock.advance(GRACE);
        kit.clock.advance(Duration::from_secs(1));
        assert_eq!(refresh(&kit, &first).await, None);
        assert_eq!(
            refresh(&kit, &second).await,
            None,
            "the thief's or the owner's"
        );
        assert_eq!(kit.store.session(&opened.session.id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_no_live_token_is_refused() {
        let kit = Kit::new();
        kit.person("anna").await;
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        let token = opened.refresh_token.expose().to_owned();
        let jwt = opened.access_token.expose().to_owned();
        let cut = token.trim_start_matches(|first| token.starts_with(first));
        for bad in ["", "x", jwt.as_str(), cut] {
            assert_eq!(refresh(&kit, bad).await, None, "{bad}");
        }
        kit.clock.advance(Duration::from_hours(336));
        assert_eq!(refresh(&kit, &token).await, None, "idle too long");
    }

    #[tokio::test]
    async fn a_session_has_an_absolute_end() {
        let kit = Kit::new();
        kit.person("anna").await;
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        let mut token = opened.refresh_token.expose().to_owned();
        for _ in 0..2 {
            kit.clock.advance(Duration::from_secs(1_209_599));
            token = refresh(&kit, &token).await.unwrap();
        }
        kit.clock.advance(Duration::from_secs(200_000));
        assert_eq!(refresh(&kit, &token).await, None);
    }
}
