//! Log in: exchanges a name and a password for a session.

use std::time::Duration;

use crate::account::Accounts;
use crate::account::call::Call;
use crate::account::guess::{GUESS_FAILURES, Guess, Guesser};
use crate::account::halt::{Halt, refusals};
use crate::crypto::jwt::SignedToken;
use crate::crypto::token::{self, RefreshToken, SessionCookie};
use crate::limit::ReachedLimit;
use crate::model::account::{Account, CookieDigests, Session};
use crate::model::clock::Timestamp;
use crate::model::error_code::ErrorCode;
use crate::model::id::SessionId;
use crate::model::secret::Secret;
use crate::store::Guarded;
use crate::telemetry::audit::AuditAction;

refusals! {
    /// Why no session was opened. The response reveals [`LoginRefusal::Limited`]; the other variants are
    /// indistinguishable.
    pub enum LoginRefusal {
        /// The account is unknown, pending or disabled, or the password is wrong. The work was the same in each case.
        NoMatch => ErrorCode::LoginRefused,
        /// The account has used up its guesses: under another name or from other networks, or by guesses that ran
        /// meanwhile.
        AccountLimited => ErrorCode::LoginRefused => "account_limited",
        /// The account has changed while the password was hashed.
        Changed => ErrorCode::LoginRefused => ErrorCode::AccountChanged.as_str(),
        /// The name or the client network has used up its guesses. The name is counted whether or not an account has
        /// it.
        Limited(ReachedLimit) => ErrorCode::LoginLimited,
    }
    fails GUESS_FAILURES
}

/// A session that has just been opened.
#[derive(Debug)]
pub struct OpenedSession {
    /// The account of the session.
    pub account: Account,
    /// The record.
    pub session: Session,
    /// The access token, a JWT.
    pub access_token: SignedToken,
    /// The lifetime of the access token.
    pub expires_in: Duration,
    /// The first refresh token.
    pub refresh_token: Secret,
    /// The session's cookies, if it was opened for a browser; the tokens are then not handed out.
    pub cookies: Option<Cookies>,
}

/// The values of a session's cookies.
#[derive(Debug)]
pub struct Cookies {
    /// The cookie for the gateway's own host.
    pub own: Secret,
    /// The cookie for the subdomains, if `[session] cookie_domain` is set.
    pub domain: Option<Secret>,
}

/// The kind of caller that carries the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionCarrier {
    /// A program, with an access token and a refresh token.
    Program,
    /// A browser, with one or two cookies.
    Browser,
}

/// A session that is about to be written, and the credentials for its carrier.
struct SessionDraft {
    session: Session,
    refresh: RefreshToken,
    cookies: Option<Cookies>,
}

impl Accounts {
    /// Logs in with a name or an e-mail address and a password. [`Accounts::guess`] limits the attempts.
    ///
    /// The session of a browser ends if it is not used for `[session] idle_ttl_s`, or for `admin_idle_ttl_s` in the case
    /// of an administrator.
    ///
    /// # Errors
    /// [`LoginRefusal`], [`Halt::Failed`]; in either case no session was opened.
    pub async fn login(
        &self,
        call: &Call,
        name: &str,
        password: Secret,
        carrier: SessionCarrier,
    ) -> Result<OpenedSession, Halt<LoginRefusal>> {
        let action = AuditAction::LogIn;
        if let Some(limit) = self.name_limit(call, name) {
            let refused = Err(LoginRefusal::Limited(limit).into());
            return call.settle(action, None, None, refused);
        }
        self.check_trail(call, action)?;
        let found = self.account_named(name).await?;
        let guesser = Guesser::Stranger {
            name,
            account: found.as_ref(),
        };
        let opened = self.try_open(call, guesser, password, carrier).await;
        // The event of a used up limit names no account, as if no account had been looked up.
        let is_limited = matches!(opened, Err(Halt::Refused(LoginRefusal::Limited(_))));
        let uid = found.filter(|_| !is_limited).map(|account| account.uid);
        let session = opened.as_ref().ok();
        let session = session.map(|(opened, _)| opened.session.id.clone());
        let object = session.as_ref().map(SessionId::as_str);
        let (opened, failures) = call.settle(action, uid.as_ref(), object, opened)?;
        self.notice_login(call, &opened.account, failures).await;
        Ok(opened)
    }

    /// Opens a session for the right password, and returns the number of failures in a row that it ended.
    async fn try_open(
        &self,
        call: &Call,
        guesser: Guesser<'_>,
        password: Secret,
        carrier: SessionCarrier,
    ) -> Result<(OpenedSession, u32), Halt<LoginRefusal>> {
        let (is_outdated, failures) = match self.guess(call, guesser, password.clone()).await? {
            Guess::Right {
                is_outdated,
                failures,
            } => (is_outdated, failures),
            Guess::Wrong => return Err(LoginRefusal::NoMatch.into()),
            Guess::SilentlyLimited => return Err(LoginRefusal::AccountLimited.into()),
            Guess::Limited(limit) => return Err(LoginRefusal::Limited(limit).into()),
        };
        let account = guesser.account().ok_or(LoginRefusal::NoMatch)?;
        // A hashing pool too busy for a rehash is no reason to refuse a caller who knows the password.
        let rehash = if is_outdated {
            self.services.passwords.hash(password).await.ok()
        } else {
            None
        };
        let now = self.services.clock.now();
        let SessionDraft {
            session,
            refresh,
            cookies,
        } = self.draft(call, account, carrier, now);
        let access = self.access_token(account, &session, now)?;
        let (action, object) = (AuditAction::LogIn, Some(session.id.as_str()));
        self.begin(call, action, Some(&account.uid), object).await?;
        // INVARIANT: a change to the account while the password is hashed takes precedence
        // (test `a_reset_during_the_login_wins`).
        let written = self
            .services
            .store
            .create_session(session.clone(), account.standing(), rehash)
            .await?;
        if written == Guarded::Stale {
            return Err(LoginRefusal::Changed.into());
        }
        let opened = OpenedSession {
            account: account.clone(),
            session,
            access_token: access.text,
            expires_in: access.expires_in,
            refresh_token: refresh.text(),
            cookies,
        };
        Ok((opened, failures))
    }

    fn draft(
        &self,
        call: &Call,
        account: &Account,
        carrier: SessionCarrier,
        now: Timestamp,
    ) -> SessionDraft {
        let (tokens, sessions) = (&self.config.tokens, &self.config.session);
        let id = token::draw_session_id();
        let (idle_ttl, cookies) = match carrier {
            SessionCarrier::Program => (tokens.refresh_ttl, None),
            SessionCarrier::Browser if account.is_admin => {
                (sessions.admin_idle_ttl, Some(self.cookies(&id)))
            }
            SessionCarrier::Browser => (sessions.idle_ttl, Some(self.cookies(&id))),
        };
        let (cookies, digests) = cookies.unzip();
        // Every session has a refresh token; that of a browser's session is never handed out.
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
        SessionDraft {
            session,
            refresh,
            cookies,
        }
    }

    /// Draws the cookies of a session and their digests.
    fn cookies(&self, session: &SessionId) -> (Cookies, CookieDigests) {
        let own = SessionCookie::draw(session.clone());
        let domain = self.config.session.cookie_domain.as_ref();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, refusal};
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
            // The normalised form only finds duplicates; it does not log in.
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
        // The login waits for its hash while the other branch runs.
        let (login, ended) = tokio::join!(
            kit.accounts
                .login(&call, "anna", password, SessionCarrier::Program),
            kit.store
                .update_account(&anna.uid, AccountChange::default()),
        );
        assert!(ended.unwrap().unwrap().generation > anna.generation);
        assert_eq!(refusal(login), Some(LoginRefusal::Changed));
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
        // The login waits for its hash while the other branch runs.
        let (login, set) = tokio::join!(
            kit.accounts
                .login(&call, "anna", password, SessionCarrier::Program),
            kit.store.set_membership(&anna.uid, membership, None),
        );
        assert_eq!(set.unwrap(), MembershipChange::Done);
        assert!(login.is_ok());
    }
}
