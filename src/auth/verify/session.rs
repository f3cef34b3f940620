//! Verification of session cookies: look-up, secret, owner, and the idle end that moves with use.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::auth::caller::Caller;
use crate::auth::cookie::CookieKind;
use crate::auth::grant::Stop;
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{Evidence, Remembered, Verifier};
use crate::crypto::digest::digests_match;
use crate::crypto::token::SessionCookie;
use crate::model::account::{Digest, Session, SessionUse};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::SessionId;
use crate::model::identity::AuthnMethod;

/// Compared if there is no session, so that an unknown one costs as much as a wrong one.
const NO_SESSION: Digest = Digest([0; 32]);
/// Maximum interval at which a session's use is stored.
const STEP_MAX: Duration = Duration::from_mins(1);

/// The last use of a session, in memory; the stored one is at most a step behind.
pub(super) struct SessionLifetime {
    session: SessionId,
    ttl: Duration,
    /// The last use passed on to the store, in milliseconds since the epoch.
    seen: AtomicI64,
}

impl SessionLifetime {
    fn new(session: &Session, ttl: Duration) -> Self {
        Self {
            session: session.id.clone(),
            ttl,
            seen: AtomicI64::new(session.last_seen.millis()),
        }
    }

    /// Returns the end of the session if it is not used again.
    pub(super) fn idle_end(&self) -> Timestamp {
        Timestamp::from_millis(self.seen.load(Ordering::Relaxed)).plus(self.ttl)
    }

    /// Returns a use to be stored if the last one is a step or more ago, and no concurrent caller stores it.
    fn due(&self, now: Timestamp) -> Option<SessionUse> {
        // A short idle time has finer steps, so that the stored end stays accurate.
        let step = STEP_MAX.min(self.ttl / 4);
        let seen = self.seen.load(Ordering::Relaxed);
        let before = Timestamp::from_millis(seen);
        let is_due = (step <= now.since(before) || before.is_ahead(now))
            && self
                .seen
                .compare_exchange(seen, now.millis(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_due.then(|| SessionUse {
            session: self.session.clone(),
            at: now,
            idle_end: now.plus(self.ttl),
        })
    }
}

impl Verifier {
    pub(super) async fn session(
        &self,
        kind: CookieKind,
        text: &str,
        now: Timestamp,
    ) -> Result<Remembered, Unverified> {
        let ended = || Unverified::from(DenyReason::SessionEnded);
        let presented = SessionCookie::parse(text).ok_or_else(ended)?;
        let digest = presented.digest();
        let is_it = |session: Option<&Session>| {
            let at_rest = session
                .and_then(|session| session.cookies.as_ref())
                .and_then(|cookies| match kind {
                    CookieKind::Own => Some(&cookies.own),
                    CookieKind::Domain => cookies.domain.as_ref(),
                });
            digests_match(&digest, at_rest.unwrap_or(&NO_SESSION))
        };
        let found = self.session_at_rest(&presented.session).await?;
        let matches = is_it(found.as_ref());
        let Some(found) = found.filter(|_| matches) else {
            return Err(ended());
        };
        // INVARIANT: the owner is known from the first read only; from here on everything is read after the stamp
        // (tests/it/browser.rs).
        let stamp = self.services.store.generations().stamp(&found.uid);
        let again = self.session_at_rest(&found.id).await?;
        let Some(found) = again.filter(|again| is_it(Some(again)) && again.is_live(now)) else {
            return Err(ended());
        };
        let subject = self.active(&found.uid).await??;
        let ttl = if subject.account.is_admin {
            self.config.session.admin_idle_ttl
        } else {
            self.config.session.idle_ttl
        };
        let uses = SessionLifetime::new(&found, ttl);
        // The stored end follows the settings at its last use; a shorter idle time of today applies at once.
        if uses.idle_end() <= now {
            return Err(ended());
        }
        let mut identity = self.login_identity(
            &subject,
            Some(found.id),
            self.config.roles.login_scopes().cloned().collect(),
            Some(found.absolute_end),
        );
        identity.method = AuthnMethod::Session;
        Ok(Remembered {
            caller: Arc::new(Caller::new(identity)),
            until: found.absolute_end,
            evidence: Evidence::Session {
                cookie: kind,
                stamp,
                uses,
            },
        })
    }

    /// Returns a session as it is stored.
    pub(super) async fn session_at_rest(&self, id: &SessionId) -> Result<Option<Session>, Stop> {
        let found = self.services.store.session(id).await;
        found.map_err(|error| self.unavailable(&error))
    }

    /// Queues a use of a session for the store, off the request's path. If the queue is full, the next use is queued
    /// instead.
    pub(super) fn note_use(&self, uses: &SessionLifetime, now: Timestamp) {
        let before = uses.seen.load(Ordering::Relaxed);
        if let Some(due) = uses.due(now)
            && !self.services.session_uses.note(due)
        {
            uses.seen.store(before, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_moves_the_end_and_is_due_once_a_step() {
        let at = Timestamp::from_secs;
        let uses = |ttl| SessionLifetime {
            session: crate::crypto::token::draw_session_id(),
            ttl: Duration::from_secs(ttl),
            seen: AtomicI64::new(at(1000).millis()),
        };
        let long = uses(7200);
        assert_eq!(long.idle_end(), at(8200));
        assert!(long.due(at(1059)).is_none());
        let due = long.due(at(1060)).unwrap();
        assert_eq!((due.at, due.idle_end), (at(1060), at(8260)));
        assert_eq!(long.idle_end(), at(8260));
        assert!(long.due(at(1060)).is_none() && long.due(at(1119)).is_none());
        // A clock that goes back makes nothing due, unless it was far ahead.
        assert!(long.due(at(5)).is_none());
        let ahead = uses(7200);
        assert!(ahead.due(at(-90_000)).is_some());
        assert_eq!(ahead.idle_end(), at(-82_800));
        let short = uses(8);
        assert!(short.due(at(1001)).is_none());
        assert!(short.due(at(1002)).is_some());
    }
}
