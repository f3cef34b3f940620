//! Log in: from name and password to a session.

use std::time::Duration;

use crate::account::call::Call;
use crate::account::guess::{Guess, Guesser};
use crate::account::{AccountError, Accounts};
use crate::crypto::token::{self, RefreshToken, SessionCookie};
use crate::limit::Limit;
use crate::model::account::{Account, CookieDigests, Session};
use crate::model::clock::Timestamp;
use crate::model::id::{SessionId, UserId};
use crate::model::secret::Secret;
use crate::store::Guarded;
use crate::telemetry::audit::AuditAction;

/// Outcome of a login.
#[derive(Debug)]
#[must_use]
pub enum Login {
    /// A session has begun.
    Opened(Box<Opened>),
    /// Unknown, pending or disabled account, or wrong password: the caller is told no more than that, and the work was
    /// the same. So too where the account has used up its guesses under another name.
    Refused,
    /// The name, whether or not there is an account of it, or the client network has used up its guesses.
    Limited(Limit),
}

/// A session that has begun.
#[derive(Debug)]
pub struct Opened {
    /// Whose.
    pub account: Account,
    /// The record.
    pub session: Session,
    /// The access token, a JWT.
    pub access_token: Secret,
    /// How long the access token lives.
    pub expires_in: Duration,
    /// The first refresh token.
    pub refresh_token: Secret,
    /// The session's cookies, if it was opened for a browser; then nobody is given the tokens.
    pub cookies: Option<Cookies>,
}

/// The values of the cookies that stand for a session.
#[derive(Debug)]
pub struct Cookies {
    /// For the gateway's own host.
    pub own: Secret,
    /// For the subdomains, if `[session] cookie_domain` names them.
    pub domain: Option<Secret>,
}

/// Who will carry the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// A program: an access token and a refresh token.
    Program,
    /// A browser: a cookie, or two.
    Browser,
}

/// A session that is about to be written, and what its carrier is given.
struct Draft {
    session: Session,
    refresh: RefreshToken,
    cookies: Option<Cookies>,
}

impl Accounts {
    /// Logs in with a name or an e-mail address and a password; see [`Accounts::guess`] for how often.
    ///
    /// # Errors
    /// [`AccountError`]; then no session has begun.
    pub async fn login(
        &self,
        call: &Call,
        name: &str,
        password: Secret,
    ) -> Result<Login, AccountError> {
        self.open(call, name, password, Carrier::Program).await
    }

    /// Logs a browser in: the session is carried by cookies, and ends when it is not used for `[session] idle_ttl_s`.
    ///
    /// # Errors
    /// [`AccountError`]; then no session has begun.
    pub async fn login_of_browser(
        &self,
        call: &Call,
        name: &str,
        password: Secret,
    ) -> Result<Login, AccountError> {
        self.open(call, name, password, Carrier::Browser).await
    }

    async fn open(
        &self,
        call: &Call,
        name: &str,
        password: Secret,
        carrier: Carrier,
    ) -> Result<Login, AccountError> {
        if let Some(limit) = self.name_limit(call, name) {
            return Ok(limited(call, limit));
        }
        self.check_trail(call, AuditAction::LogIn)?;
        let found = self.account_named(name).await?;
        let account = found.as_ref();
        let subject = account.map(|account| account.uid.clone());
        let subject = subject.as_ref().map(UserId::as_str);
        let guesser = Guesser::Stranger { name, account };
        let guess = self.guess(call, guesser, password.clone()).await?;
        let (
            Some(account),
            Guess::Right {
                is_outdated,
                failures,
            },
        ) = (found.as_ref(), guess)
        else {
            if let Guess::Limited(limit) = guess {
                return Ok(limited(call, limit));
            }
            call.record(AuditAction::LogIn, guess.outcome(), subject, None);
            return Ok(Login::Refused);
        };
        // A pool too busy to hash anew is no reason to refuse whoever knows the password.
        let rehash = if is_outdated {
            self.parts.passwords.hash(password).await.ok()
        } else {
            None
        };

        let now = self.parts.clock.now();
        let Draft {
            session,
            refresh,
            cookies,
        } = self.draft(call, account, carrier, now);
        let access = self.access_token(account, &session, now)?;
        let object = Some(session.id.as_str());
        self.begin(call, AuditAction::LogIn, Some(&account.uid), object)
            .await?;
        // INVARIANT: what happened to the account while the password was hashed wins
        // (test `a_reset_during_the_login_wins`).
        let written = self
            .parts
            .store
            .create_session(session.clone(), account.standing(), rehash)
            .await?;
        if written == Guarded::Stale {
            call.record(AuditAction::LogIn, "account_changed", subject, None);
            return Ok(Login::Refused);
        }
        call.record(
            AuditAction::LogIn,
            "ok",
            Some(account.uid.as_str()),
            Some(session.id.as_str()),
        );
        self.notice_login(call, account, failures).await;
        Ok(Login::Opened(Box::new(Opened {
            account: account.clone(),
            session,
            access_token: access.text,
            expires_in: access.expires_in,
            refresh_token: refresh.text(),
            cookies,
        })))
    }

    fn draft(&self, call: &Call, account: &Account, carrier: Carrier, now: Timestamp) -> Draft {
        let (tokens, sessions) = (&self.parts.tokens, &self.parts.sessions);
        let id = token::draw_session_id();
        let (idle_ttl, cookies) = match carrier {
            Carrier::Program => (tokens.refresh_ttl, None),
            Carrier::Browser if account.is_admin => {
                (sessions.admin_idle_ttl, Some(self.cookies(&id)))
            }
            Carrier::Browser => (sessions.idle_ttl, Some(self.cookies(&id))),
        };
        let (cookies, digests) = cookies.unzip();
        // Of a browser's session too, since every session has one; nobody ever learns it.
        let refresh = RefreshToken::draw(id.clone());
        let session = Session {
            id,
            uid: account.uid.clone(),
            created: now,
            last_seen: now,
            from: call.from.clone().unwrap_or_default(),
            idle_end: now.plus(idle_ttl),
            absolute_end: now.plus(tokens.absolute_ttl),
            refresh: refresh.digest(),
            spent: Vec::new(),
            rotated: now,
            cookies: digests,
        };
        Draft {
            session,
            refresh,
            cookies,
        }
    }

    /// Draws the cookies of a session.
    fn cookies(&self, session: &SessionId) -> (Cookies, CookieDigests) {
        let own = SessionCookie::draw(session.clone());
        let domain = self.parts.sessions.cookie_domain.as_ref();
        let domain = domain.map(|_| SessionCookie::draw(session.clone()));
        let digests = CookieDigests {
            own: own.digest(),
            domain: domain.as_ref().map(SessionCookie::digest),
        };
        let cookies = Cookies {
            own: own.text(),
            domain: domain.as_ref().map(SessionCookie::text),
        };
        (cookies, digests)
    }
}

/// Without a subject: nobody was looked for.
fn limited(call: &Call, limit: Limit) -> Login {
    call.record(AuditAction::LogIn, "login_limited", None, None);
    Login::Limited(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD};
    use crate::model::access::{Membership, Name, ResourceId};
    use crate::model::account::AccountStatus;
    use crate::store::{AccountChange, MembershipChange, Store};

    #[tokio::test]
    async fn name_and_address_open_a_session() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        for name in ["anna", "ANNA", "anna@example.org", "Anna@Example.ORG"] {
            let opened = kit.login(name, PASSWORD).await.unwrap();
            assert_eq!(opened.account.uid, anna.uid, "{name}");
            assert_eq!(opened.expires_in, Duration::from_mins(15));
            let stored = kit.store.session(&opened.session.id).await.unwrap();
            assert_eq!(stored, Some(opened.session));
        }
    }

    #[tokio::test]
    async fn whoever_may_not_log_in_is_told_the_same() {
        let kit = Kit::new();
        kit.person("anna").await;
        kit.register("pending").await;
        let gone = kit.person("gone").await;
        let change = AccountChange {
            status: Some(AccountStatus::Disabled),
            ..AccountChange::default()
        };
        kit.store.update_account(&gone.uid, change).await.unwrap();
        let long = "x".repeat(2000);
        let cases = [
            ("anna", OTHER),
            ("anna", ""),
            ("anna", long.as_str()),
            ("nobody", PASSWORD),
            ("nobody@example.org", PASSWORD),
            ("pending", PASSWORD),
            ("gone", PASSWORD),
            ("no name at all", PASSWORD),
            ("@", PASSWORD),
            ("", PASSWORD),
            // The normalised form finds duplicates, it never logs in.
            ("anna+tag@example.org", PASSWORD),
        ];
        for (name, password) in cases {
            assert!(kit.login(name, password).await.is_none(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_reset_during_the_login_wins() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let password = Secret::new(PASSWORD.to_owned());
        let call = Call::default();
        // The login waits for its hash when the other branch runs.
        let (login, ended) = tokio::join!(
            kit.accounts.login(&call, "anna", password),
            kit.store
                .update_account(&anna.uid, AccountChange::default()),
        );
        assert!(ended.unwrap().unwrap().generation > anna.generation);
        assert!(matches!(login.unwrap(), Login::Refused));
        assert!(kit.store.sessions_of(&anna.uid).await.unwrap().is_empty());
        assert!(kit.login("anna", PASSWORD).await.is_some());
    }

    #[tokio::test]
    async fn a_level_that_somebody_sets_meanwhile_keeps_nobody_out() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let password = Secret::new(PASSWORD.to_owned());
        let call = Call::default();
        let membership = Membership {
            resource: Name::parse("list").unwrap(),
            id: ResourceId::parse("42").unwrap(),
            level: Name::parse("member").unwrap(),
        };
        // The login waits for its hash when the other branch runs.
        let (login, set) = tokio::join!(
            kit.accounts.login(&call, "anna", password),
            kit.store.set_membership(&anna.uid, membership, None),
        );
        assert_eq!(set.unwrap(), MembershipChange::Done);
        assert!(matches!(login.unwrap(), Login::Opened(_)));
    }
}
