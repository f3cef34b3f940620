//! Setting a password: the first or a new one by a mailed token, or a new one with the old one.

use crate::account::call::Call;
use crate::account::guess::{GUESS_FAILURES, Guess, Guesser};
use crate::account::halt::{Halt, Refuses, refusals};
use crate::account::password_rules::{PasswordFault, PasswordRules};
use crate::account::{AccountError, Accounts};
use crate::crypto::digest;
use crate::crypto::password::composed;
use crate::limit::ReachedLimit;
use crate::mail::Mail;
use crate::model::account::{Account, AccountStatus, Digest, OneTimeToken, Purpose};
use crate::model::error_code::ErrorCode;
use crate::model::id::{SessionId, UserId};
use crate::model::secret::Secret;
use crate::store::{Guarded, NewPassword};
use crate::telemetry::audit::AuditAction;

/// The new password, typed twice, and its options.
#[derive(Clone, Debug)]
pub struct WantedPassword {
    /// The new password.
    pub new: Secret,
    /// The repetition of the new password.
    pub verify: Secret,
    /// Whether the account's API keys are revoked too.
    pub revoke_keys: bool,
}

refusals! {
    /// Why a new password is not acceptable.
    pub enum NewPasswordRefusal {
        /// The two texts differ. Nothing was consumed.
        Mismatch => ErrorCode::PasswordMismatch,
        /// The new password breaks a rule. Nothing was consumed.
        Rule(PasswordFault) => ErrorCode::PasswordRefused,
    }
}

refusals! {
    /// Why a password was not set by a mailed token.
    pub enum TokenPasswordRefusal {
        /// The token is unknown, used, expired, for another purpose or of another account. The response does not
        /// distinguish these.
        TokenInvalid => ErrorCode::TokenInvalid,
    }
    or NewPassword(NewPasswordRefusal)
    fails [ErrorCode::HashingBusy]
}

refusals! {
    /// Why a password was not changed.
    pub enum PasswordChangeRefusal {
        /// The old password is wrong.
        WrongOld => ErrorCode::PasswordWrong,
        /// The account, or the client network, has used up its guesses.
        Limited(ReachedLimit) => ErrorCode::LoginLimited,
        /// The account has changed while the password was hashed.
        Changed => ErrorCode::AccountChanged,
    }
    or NewPassword(NewPasswordRefusal)
    fails GUESS_FAILURES
}

impl Accounts {
    /// Sets a password by a mailed token: a confirm token for a pending account or a reset token for an active one. If
    /// `uid` is present, it must be the owner of the token; if `purpose` is, it must be the token's.
    ///
    /// # Errors
    /// [`TokenPasswordRefusal`]; [`AccountError`], after which either the token was not consumed or the password is set.
    pub async fn set_password_by_token(
        &self,
        call: &Call,
        presented: &str,
        (uid, purpose): (Option<&str>, Option<Purpose>),
        wanted: WantedPassword,
    ) -> Result<Account, Halt<TokenPasswordRefusal>> {
        let action = AuditAction::SetPassword;
        let digest = digest::digest(presented);
        let owner = self.token_owner(&digest, uid).await?;
        let owner = owner.filter(|(_, found)| purpose.is_none_or(|wanted| wanted == *found));
        let Some((account, purpose)) = owner else {
            return self.refuse_token(call, &digest).await;
        };
        let uid = &account.uid;
        let set: Result<_, Halt<TokenPasswordRefusal>> = async {
            self.check(&wanted, &account)?;
            let password = self.hashed(wanted).await?;
            self.begin(call, action, Some(uid), None).await?;
            let now = self.services.clock.now();
            let set = self
                .services
                .store
                .set_password_by_token(&digest, password, now);
            Ok(set.await?.ok_or(TokenPasswordRefusal::TokenInvalid)?)
        }
        .await;
        let account = call.settle(action, Some(uid), None, set)?;
        // Earlier guesses at the password are void, and the owner wants to log in now.
        self.forgive(call, &account);
        if purpose == Purpose::Reset {
            self.notify_owner(&account).await;
        }
        Ok(account)
    }

    /// Changes the password of the account that the caller is logged in to. The session of the caller continues.
    ///
    /// # Errors
    /// [`PasswordChangeRefusal`], [`AccountError`]; in either case nothing has changed.
    pub async fn change_password(
        &self,
        call: &Call,
        (uid, session): (&UserId, &SessionId),
        old: Secret,
        wanted: WantedPassword,
    ) -> Result<Account, Halt<PasswordChangeRefusal>> {
        let action = AuditAction::ChangePassword;
        let changed: Result<_, Halt<PasswordChangeRefusal>> = async {
            let account = self.services.store.account(uid).await?;
            let active = account.filter(|account| account.status == AccountStatus::Active);
            let account = active.ok_or(PasswordChangeRefusal::WrongOld)?;
            // The rules come first: a refused new password is not a guess at the old one.
            self.check(&wanted, &account)?;
            if same(&old, &wanted.new) {
                return Err(NewPasswordRefusal::Rule(PasswordFault::Unchanged).into());
            }
            self.check_trail(call, action)?;
            match self.guess(call, Guesser::Owner(&account), old).await? {
                Guess::Right { .. } => {}
                Guess::Wrong | Guess::SilentlyLimited => {
                    return Err(PasswordChangeRefusal::WrongOld.into());
                }
                Guess::Limited(limit) => return Err(PasswordChangeRefusal::Limited(limit).into()),
            }
            let password = self.hashed(wanted).await?;
            self.begin(call, action, Some(uid), None).await?;
            let (standing, session) = (account.standing(), Some(session));
            let changed = self
                .services
                .store
                .change_password(uid, standing, password, session);
            match changed.await? {
                Guarded::Done(account) => Ok(account),
                Guarded::Stale => Err(PasswordChangeRefusal::Changed.into()),
            }
        }
        .await;
        let account = call.settle(action, Some(uid), None, changed)?;
        self.notify_owner(&account).await;
        Ok(account)
    }

    /// Refuses a token. For an expired token the audit trail records this and its owner.
    async fn refuse_token<T>(
        &self,
        call: &Call,
        digest: &Digest,
    ) -> Result<T, Halt<TokenPasswordRefusal>> {
        let found = self.services.store.one_time_token(digest).await?;
        let now = self.services.clock.now();
        let expired = found.filter(|token| token.expires <= now);
        let refusal = TokenPasswordRefusal::TokenInvalid;
        let (outcome, subject) = match &expired {
            Some(token) => ("token_expired", Some(token.uid.as_str())),
            None => (refusal.outcome(), None),
        };
        call.record(AuditAction::SetPassword, outcome, subject, None);
        Err(refusal.into())
    }

    /// Returns the account whose password a token may set, and the purpose of the token, without consuming it.
    async fn token_owner(
        &self,
        digest: &Digest,
        uid: Option<&str>,
    ) -> Result<Option<(Account, Purpose)>, AccountError> {
        let now = self.services.clock.now();
        let found = self.services.store.one_time_token(digest).await?;
        let fits = |token: &OneTimeToken| {
            token.is_live(now) && uid.is_none_or(|uid| uid == token.uid.as_str())
        };
        let Some(token) = found.filter(fits) else {
            return Ok(None);
        };
        let account = self.services.store.account(&token.uid).await?;
        let sets_password = token.purpose != Purpose::ChangeIdentity;
        let fits = |account: &Account| sets_password && token.purpose.fits(account.status);
        let fitting = account.filter(fits);
        Ok(fitting.map(|account| (account, token.purpose)))
    }

    async fn hashed(&self, wanted: WantedPassword) -> Result<NewPassword, AccountError> {
        Ok(NewPassword {
            hash: self.services.passwords.hash(wanted.new).await?,
            revoke_keys: wanted.revoke_keys,
        })
    }

    /// Checks whether the new password is acceptable for this account.
    fn check(&self, wanted: &WantedPassword, account: &Account) -> Result<(), NewPasswordRefusal> {
        if !same(&wanted.new, &wanted.verify) {
            return Err(NewPasswordRefusal::Mismatch);
        }
        self.check_rules(&wanted.new, account)
            .map_err(NewPasswordRefusal::Rule)
    }

    /// Checks a password against the rules for this account.
    pub(in crate::account) fn check_rules(
        &self,
        password: &Secret,
        account: &Account,
    ) -> Result<(), PasswordFault> {
        let rules = PasswordRules::of(&self.config.account);
        rules.check(password, &account.username, &account.identity)
    }

    /// Notifies the owner that their password has changed.
    pub(in crate::account) async fn notify_owner(&self, account: &Account) {
        let username = account.username.as_str().to_owned();
        self.send(&account.identity, Mail::PasswordChanged { username })
            .await;
    }
}

/// Whether two texts are the same password. Compares digests, so that the time does not depend on the first difference.
fn same(one: &Secret, other: &Secret) -> bool {
    let digest = |text: &Secret| digest::digest(composed(text.clone()).expose());
    digest(one) == digest(other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, refusal, wanted};
    use crate::store::{AccountChange, Store};

    async fn forgot(kit: &Kit, name: &str) -> String {
        kit.accounts
            .request_reset(&Call::default(), name)
            .await
            .unwrap();
        kit.mailbox.token()
    }

    async fn change(
        kit: &Kit,
        account: &Account,
        old: &str,
        new: &str,
    ) -> Result<Account, Halt<PasswordChangeRefusal>> {
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let old = Secret::new(old.to_owned());
        kit.accounts
            .change_password(&Call::default(), (&account.uid, &session), old, wanted(new))
            .await
    }

    /// The original accepted any account's reset token for any account.
    #[tokio::test]
    async fn a_token_of_one_account_sets_no_other_ones_password() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.person("mallory").await;
        let token = forgot(&kit, "mallory").await;
        let set = kit
            .set_by_token(&token, Some(anna.uid.as_str()), OTHER)
            .await;
        assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        assert!(kit.login("anna", PASSWORD).await.is_some());
        // The token was not consumed: its owner can still use it.
        let set = kit.set_by_token(&token, None, OTHER).await.unwrap();
        assert_eq!(set.username.as_str(), "mallory");
    }

    /// The original accepted confirm and reset tokens in place of each other.
    #[tokio::test]
    async fn confirm_and_reset_cannot_stand_for_each_other() {
        let kit = Kit::new();
        let confirm = kit.register("anna").await;
        let pending = kit.store.accounts(None, 1).await.unwrap().remove(0);
        let reset = crate::crypto::token::draw_one_time();
        let written = kit.store.put_token(
            OneTimeToken {
                digest: reset.1,
                purpose: Purpose::Reset,
                uid: pending.uid.clone(),
                created: kit.clock_in(0),
                expires: kit.clock_in(60),
                identity: None,
            },
            None,
        );
        assert!(!written.await.unwrap(), "no reset of a pending account");
        let set = kit.set_by_token(reset.0.expose(), None, PASSWORD).await;
        assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        // No token enables a disabled account.
        let set = kit.set_by_token(&confirm, None, PASSWORD).await;
        assert!(set.is_ok());
        let token = forgot(&kit, "anna").await;
        let disabled = AccountChange {
            status: Some(AccountStatus::Disabled),
            ..AccountChange::default()
        };
        kit.store
            .update_account(&pending.uid, disabled)
            .await
            .unwrap();
        for token in [token, confirm] {
            let set = kit.set_by_token(&token, None, PASSWORD).await;
            assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        }
    }

    #[tokio::test]
    async fn a_refused_password_consumes_nothing_and_a_set_one_consumes_all() {
        let kit = Kit::new();
        kit.person("anna").await;
        let (first, token) = (forgot(&kit, "anna").await, forgot(&kit, "anna").await);
        let set = kit.set_by_token(&token, None, "password").await;
        assert!(matches!(
            refusal(set),
            Some(TokenPasswordRefusal::NewPassword(NewPasswordRefusal::Rule(
                PasswordFault::Common
            )))
        ));
        let mut differing = wanted(OTHER);
        differing.verify = Secret::new(PASSWORD.to_owned());
        let set = kit
            .accounts
            .set_password_by_token(&Call::default(), &token, (None, None), differing)
            .await;
        assert_eq!(refusal(set), Some(NewPasswordRefusal::Mismatch.into()));
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        assert!(kit.set_by_token(&token, None, OTHER).await.is_ok());
        let mails = kit.mailbox.take();
        assert!(matches!(mails[0].1, Mail::PasswordChanged { .. }));
        // The token is used and the other one void; the sessions have ended.
        for token in [token, first] {
            let set = kit.set_by_token(&token, None, PASSWORD).await;
            assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        }
        assert_eq!(kit.store.session(&opened.session.id).await.unwrap(), None);
        assert!(kit.login("anna", PASSWORD).await.is_none());
        assert!(kit.login("anna", OTHER).await.is_some());
    }

    #[tokio::test]
    async fn tokens_expire() {
        let kit = Kit::new();
        kit.person("anna").await;
        let token = forgot(&kit, "anna").await;
        kit.clock.advance(Duration::from_mins(15));
        let set = kit.set_by_token(&token, None, OTHER).await;
        assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
    }

    #[tokio::test]
    async fn fifty_uses_of_one_token_set_one_password() {
        let kit = std::sync::Arc::new(Kit::new());
        let token = kit.register("anna").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (kit, token) = (std::sync::Arc::clone(&kit), token.clone());
            tasks.spawn(async move { kit.set_by_token(&token, None, PASSWORD).await });
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(outcomes.iter().filter(|set| set.is_ok()).count(), 1);
    }

    #[tokio::test]
    async fn forgot_mails_nobody_but_active_people() {
        let kit = Kit::new();
        kit.administrator("root").await;
        kit.register("pending").await;
        for name in [
            "root",
            "pending",
            "nobody",
            "nobody@example.org",
            "not a name",
        ] {
            let call = Call::default();
            kit.accounts.request_reset(&call, name).await.unwrap();
            assert!(kit.mailbox.take().is_empty(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_change_needs_the_old_password_and_keeps_its_own_session() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let other = kit.login("anna", PASSWORD).await.unwrap().session;
        let outcome = change(&kit, &anna, OTHER, "Third-Password-7").await;
        assert_eq!(refusal(outcome), Some(PasswordChangeRefusal::WrongOld));
        let outcome = change(&kit, &anna, PASSWORD, PASSWORD).await;
        let unchanged = NewPasswordRefusal::Rule(PasswordFault::Unchanged);
        assert_eq!(refusal(outcome), Some(unchanged.into()));
        assert_eq!(kit.store.sessions_of(&anna.uid).await.unwrap().len(), 3);
        let outcome = change(&kit, &anna, PASSWORD, OTHER).await;
        assert!(outcome.is_ok());
        let left = kit.store.sessions_of(&anna.uid).await.unwrap();
        assert_eq!(left.len(), 1);
        assert_ne!(left[0].id, other.id);
        assert!(matches!(
            kit.mailbox.take()[0].1,
            Mail::PasswordChanged { .. }
        ));
        assert!(kit.login("anna", OTHER).await.is_some());
    }
}
