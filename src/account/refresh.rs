//! Refresh: exchanges a refresh token for its only successor and a new access token.

use std::time::Duration;

use crate::account::Accounts;
use crate::account::call::{Call, NOT_ACTIVE};
use crate::account::halt::{Halt, refusals};
use crate::crypto::jwt::SignedToken;
use crate::crypto::token::RefreshToken;
use crate::model::account::AccountStatus;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::secret::Secret;
use crate::store::{RefreshRotation, Rotation};
use crate::telemetry::audit::AuditAction;

/// How long the most recently spent token may be presented again, because a response was lost or the caller sends
/// requests in parallel. RFC 9700 section 4.14.2 leaves the figure open.
const GRACE: Duration = Duration::from_secs(10);

/// The tokens returned in exchange for a refresh token.
#[derive(Debug)]
pub struct RefreshedTokens {
    /// The access token, a JWT.
    pub access_token: SignedToken,
    /// The lifetime of the access token.
    pub expires_in: Duration,
    /// The successor, which is the same each time the token is presented within the grace.
    pub refresh_token: Secret,
}

refusals! {
    /// Why a refresh token was not accepted. The response does not distinguish the variants.
    pub enum RefreshRefusal {
        /// The token belongs to no live session.
        Unknown => ErrorCode::RefreshTokenInvalid,
        /// The token was spent before; its session has ended.
        Reused => ErrorCode::RefreshTokenInvalid => DenyReason::SessionEnded.code(),
        /// The account of the token may not act.
        NotActive => ErrorCode::RefreshTokenInvalid => NOT_ACTIVE,
    }
}

impl Accounts {
    /// Exchanges a refresh token for its successor and an access token. A spent token that is presented after the grace
    /// ends its whole family, because one of its two holders has stolen it.
    ///
    /// # Errors
    /// [`RefreshRefusal`]; [`Halt::Failed`], after which the token may be presented again.
    pub async fn refresh(
        &self,
        call: &Call,
        presented: &str,
    ) -> Result<RefreshedTokens, Halt<RefreshRefusal>> {
        let action = AuditAction::Refresh;
        let unknown = || Err(RefreshRefusal::Unknown.into());
        let Some(token) = RefreshToken::parse(presented) else {
            return call.settle(action, None, None, unknown());
        };
        let now = self.services.clock.now();
        let successor = self.services.token_keys.successor(&token);
        let rotation = RefreshRotation {
            session: token.session.clone(),
            presented: token.digest(),
            successor: successor.digest(),
            now,
            grace: GRACE,
            idle_end: now.plus(self.config.tokens.refresh_ttl),
        };
        // Only a token of a session can change anything; strangers can make up any number of others.
        if let Some(session) = self.services.store.session(&token.session).await? {
            let object = Some(session.id.as_str());
            self.begin(call, action, Some(&session.uid), object).await?;
        }
        let session = match self.services.store.rotate_refresh(rotation).await? {
            Rotation::Rotated(session) | Rotation::Repeated(session) => session,
            Rotation::Reused(session) => {
                let (action, object) = (AuditAction::RefreshReuse, Some(session.id.as_str()));
                let reused = Err(RefreshRefusal::Reused.into());
                return call.settle(action, Some(&session.uid), object, reused);
            }
            Rotation::Unknown => return call.settle(action, None, None, unknown()),
        };
        let refreshed = async {
            let account = self.services.store.account(&session.uid).await?;
            let active = account.filter(|account| account.status == AccountStatus::Active);
            let account = active.ok_or(RefreshRefusal::NotActive)?;
            let access = self.access_token(&account, &session, now)?;
            Ok(RefreshedTokens {
                access_token: access.text,
                expires_in: access.expires_in,
                refresh_token: successor.text(),
            })
        };
        let object = Some(session.id.as_str());
        call.settle(action, Some(&session.uid), object, refreshed.await)
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
        match kit.accounts.refresh(&Call::default(), token).await {
            Ok(refreshed) => Some(refreshed.refresh_token.expose().to_owned()),
            Err(Halt::Refused(_)) => None,
            Err(Halt::Failed(error)) => panic!("{error:?}"),
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
