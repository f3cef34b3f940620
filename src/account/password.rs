//! Set a password: the first or a new one by a mailed token, or another one with the old one.

use crate::account::call::Call;
use crate::account::guess::{Guess, Guesser};
use crate::account::password_rules::{PasswordFault, PasswordRules};
use crate::account::{AccountError, Accounts};
use crate::crypto::digest;
use crate::crypto::password::composed;
use crate::limit::Limit;
use crate::mail::Mail;
use crate::model::account::{Account, AccountStatus, Digest, OneTimeToken, Purpose};
use crate::model::id::{SessionId, UserId};
use crate::model::secret::Secret;
use crate::store::{Guarded, NewPassword};
use crate::telemetry::audit::AuditAction;

/// The new password, typed twice, and what goes with it.
#[derive(Clone, Debug)]
pub struct WantedPassword {
    /// The password.
    pub new: Secret,
    /// The same again.
    pub verify: Secret,
    /// End the account's API keys too.
    pub revoke_keys: bool,
}

/// Outcome of setting or changing a password.
#[derive(Debug)]
#[must_use]
pub enum PasswordSet {
    /// Set; every other session has ended and every one-time token of the account is void.
    Done(Box<Account>),
    /// Not set.
    Refused(PasswordRefusal),
}

/// Why a password was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordRefusal {
    /// The two texts differ. Nothing was consumed.
    Mismatch,
    /// The new password breaks a rule. Nothing was consumed.
    Rule(PasswordFault),
    /// Unknown, used or expired, of another purpose or another account: the caller is told no more than that.
    TokenInvalid,
    /// The old password is wrong.
    WrongOld,
    /// The account, or the client network, has used up its guesses.
    Limited(Limit),
    /// The account has changed while the password was hashed.
    Changed,
}

impl PasswordRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Mismatch => "password_mismatch",
            Self::Rule(_) => "password_refused",
            Self::TokenInvalid => "token_invalid",
            Self::WrongOld => "password_wrong",
            Self::Limited(_) => "login_limited",
            Self::Changed => "account_changed",
        }
    }
}

impl Accounts {
    /// Sets a password by a mailed token: a confirm token for a pending account, a reset token for an active one,
    /// nothing else. `uid`, if given, must be the token's owner.
    ///
    /// # Errors
    /// [`AccountError`]; the token was not consumed, or the password is set.
    pub async fn set_password_by_token(
        &self,
        call: &Call,
        presented: &str,
        uid: Option<&str>,
        wanted: WantedPassword,
    ) -> Result<PasswordSet, AccountError> {
        self.set_by_token(call, presented, (uid, None), wanted)
            .await
    }

    /// Sets a password by the token of a link: as [`Accounts::set_password_by_token`], but the token must be one for
    /// that purpose, whoever's it is.
    ///
    /// # Errors
    /// As there.
    pub async fn set_password_by_link(
        &self,
        call: &Call,
        presented: &str,
        purpose: Purpose,
        wanted: WantedPassword,
    ) -> Result<PasswordSet, AccountError> {
        let asked = (None, Some(purpose));
        self.set_by_token(call, presented, asked, wanted).await
    }

    async fn set_by_token(
        &self,
        call: &Call,
        presented: &str,
        (uid, purpose): (Option<&str>, Option<Purpose>),
        wanted: WantedPassword,
    ) -> Result<PasswordSet, AccountError> {
        let digest = digest::digest(presented);
        let owner = self.token_owner(&digest, uid).await?;
        let owner = owner.filter(|(_, found)| purpose.is_none_or(|wanted| wanted == *found));
        let Some((account, purpose)) = owner else {
            return self.refuse_token(call, &digest).await;
        };
        let subject = Some(account.uid.as_str());
        if let Err(refusal) = self.check(&wanted, &account) {
            return Ok(refuse(call, AuditAction::SetPassword, subject, refusal));
        }
        let hash = self.parts.passwords.hash(wanted.new).await?;
        let password = NewPassword {
            hash,
            revoke_keys: wanted.revoke_keys,
        };
        self.begin(call, AuditAction::SetPassword, Some(&account.uid), None)
            .await?;
        let now = self.parts.clock.now();
        let set = self
            .parts
            .store
            .set_password_by_token(&digest, password, now)
            .await?;
        let Some(account) = set else {
            return Ok(refuse(
                call,
                AuditAction::SetPassword,
                subject,
                PasswordRefusal::TokenInvalid,
            ));
        };
        call.record(
            AuditAction::SetPassword,
            "ok",
            Some(account.uid.as_str()),
            None,
        );
        // Guesses at what the password was tell nothing any more, and its owner wants to log in now.
        self.forgive(call, &account);
        if purpose == Purpose::Reset {
            self.tell_owner(&account).await;
        }
        Ok(PasswordSet::Done(Box::new(account)))
    }

    /// Changes the password of the account that the caller is logged in with; that session goes on.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing has changed.
    pub async fn change_password(
        &self,
        call: &Call,
        (uid, session): (&UserId, &SessionId),
        old: Secret,
        wanted: WantedPassword,
    ) -> Result<PasswordSet, AccountError> {
        let action = AuditAction::ChangePassword;
        let subject = Some(uid.as_str());
        let account = self.parts.store.account(uid).await?;
        let active = account.filter(|account| account.status == AccountStatus::Active);
        let Some(account) = active else {
            return Ok(refuse(call, action, subject, PasswordRefusal::WrongOld));
        };
        // The rules first: a refused new password is no guess at the old one.
        if let Err(refusal) = self.check(&wanted, &account) {
            return Ok(refuse(call, action, subject, refusal));
        }
        if same(&old, &wanted.new) {
            let refusal = PasswordRefusal::Rule(PasswordFault::Unchanged);
            return Ok(refuse(call, action, subject, refusal));
        }
        self.check_trail(call, action)?;
        let refusal = match self.guess(call, Guesser::Owner(&account), old).await? {
            Guess::Right { .. } => None,
            Guess::Wrong | Guess::Unseen => Some(PasswordRefusal::WrongOld),
            Guess::Limited(limit) => Some(PasswordRefusal::Limited(limit)),
        };
        if let Some(refusal) = refusal {
            return Ok(refuse(call, action, subject, refusal));
        }
        let password = NewPassword {
            hash: self.parts.passwords.hash(wanted.new).await?,
            revoke_keys: wanted.revoke_keys,
        };
        self.begin(call, action, Some(uid), None).await?;
        let written = self
            .parts
            .store
            .change_password(uid, account.standing(), password, Some(session))
            .await?;
        let Guarded::Done(account) = written else {
            return Ok(refuse(call, action, subject, PasswordRefusal::Changed));
        };
        call.record(action, "ok", subject, None);
        self.tell_owner(&account).await;
        Ok(PasswordSet::Done(Box::new(account)))
    }

    /// Refuses a token. The audit trail says of an expired one that it is, and whose it was.
    async fn refuse_token(
        &self,
        call: &Call,
        digest: &Digest,
    ) -> Result<PasswordSet, AccountError> {
        let found = self.parts.store.one_time_token(digest).await?;
        let now = self.parts.clock.now();
        let expired = found.filter(|token| token.expires <= now);
        let refusal = PasswordRefusal::TokenInvalid;
        let (outcome, subject) = match &expired {
            Some(token) => ("token_expired", Some(token.uid.as_str())),
            None => (refusal.code(), None),
        };
        call.record(AuditAction::SetPassword, outcome, subject, None);
        Ok(PasswordSet::Refused(refusal))
    }

    /// The account that a token may set the password of, and what the token is for. Consumes nothing.
    async fn token_owner(
        &self,
        digest: &Digest,
        uid: Option<&str>,
    ) -> Result<Option<(Account, Purpose)>, AccountError> {
        let now = self.parts.clock.now();
        let found = self.parts.store.one_time_token(digest).await?;
        let fits = |token: &OneTimeToken| {
            token.is_live(now) && uid.is_none_or(|uid| uid == token.uid.as_str())
        };
        let Some(token) = found.filter(fits) else {
            return Ok(None);
        };
        let account = self.parts.store.account(&token.uid).await?;
        let sets_password = token.purpose != Purpose::ChangeIdentity;
        let fits = |account: &Account| sets_password && token.purpose.fits(account.status);
        let fitting = account.filter(fits);
        Ok(fitting.map(|account| (account, token.purpose)))
    }

    /// Whether the new password may be taken for this account.
    pub(in crate::account) fn check(
        &self,
        wanted: &WantedPassword,
        account: &Account,
    ) -> Result<(), PasswordRefusal> {
        let rules = PasswordRules::of(&self.parts.account);
        if !same(&wanted.new, &wanted.verify) {
            return Err(PasswordRefusal::Mismatch);
        }
        rules
            .check(&wanted.new, &account.username, &account.identity)
            .map_err(PasswordRefusal::Rule)
    }

    /// Tells the owner that their password is another one now.
    pub(in crate::account) async fn tell_owner(&self, account: &Account) {
        let username = account.username.as_str().to_owned();
        self.send(&account.identity, Mail::PasswordChanged { username })
            .await;
    }
}

/// Whether two texts are one password. Compares digests, so that nothing stops early at the first byte that differs.
fn same(one: &Secret, other: &Secret) -> bool {
    let digest = |text: &Secret| digest::digest(composed(text.clone()).expose());
    digest(one) == digest(other)
}

fn refuse(
    call: &Call,
    action: AuditAction,
    subject: Option<&str>,
    refusal: PasswordRefusal,
) -> PasswordSet {
    call.record(action, refusal.code(), subject, None);
    PasswordSet::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, wanted};
    use crate::store::{AccountChange, Store};

    fn refusal(outcome: PasswordSet) -> PasswordRefusal {
        match outcome {
            PasswordSet::Done(_) => panic!("the password was set"),
            PasswordSet::Refused(refusal) => refusal,
        }
    }

    async fn forgot(kit: &Kit, name: &str) -> String {
        kit.accounts
            .request_reset(&Call::default(), name)
            .await
            .unwrap();
        kit.mailbox.token()
    }

    async fn change(kit: &Kit, account: &Account, old: &str, new: &str) -> PasswordSet {
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let old = Secret::new(old.to_owned());
        kit.accounts
            .change_password(&Call::default(), (&account.uid, &session), old, wanted(new))
            .await
            .unwrap()
    }

    /// The original took any account's reset token for any account.
    #[tokio::test]
    async fn a_token_of_one_account_sets_no_other_ones_password() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.person("mallory").await;
        let token = forgot(&kit, "mallory").await;
        let set = kit
            .set_by_token(&token, Some(anna.uid.as_str()), OTHER)
            .await;
        assert_eq!(refusal(set), PasswordRefusal::TokenInvalid);
        assert!(kit.login("anna", PASSWORD).await.is_some());
        // It was not consumed: its owner uses it.
        let PasswordSet::Done(set) = kit.set_by_token(&token, None, OTHER).await else {
            panic!("refused");
        };
        assert_eq!(set.username.as_str(), "mallory");
    }

    /// In the original confirm and reset tokens could stand for each other.
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
        assert_eq!(refusal(set), PasswordRefusal::TokenInvalid);
        // A disabled account is enabled by no token.
        let set = kit.set_by_token(&confirm, None, PASSWORD).await;
        assert!(matches!(set, PasswordSet::Done(_)));
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
            assert_eq!(refusal(set), PasswordRefusal::TokenInvalid);
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
            PasswordRefusal::Rule(PasswordFault::Common)
        ));
        let mut differing = wanted(OTHER);
        differing.verify = Secret::new(PASSWORD.to_owned());
        let set = kit
            .accounts
            .set_password_by_token(&Call::default(), &token, None, differing)
            .await;
        assert_eq!(refusal(set.unwrap()), PasswordRefusal::Mismatch);
        let opened = kit.login("anna", PASSWORD).await.unwrap();
        assert!(matches!(
            kit.set_by_token(&token, None, OTHER).await,
            PasswordSet::Done(_)
        ));
        let mails = kit.mailbox.take();
        assert!(matches!(mails[0].1, Mail::PasswordChanged { .. }));
        // Used, and the other one void with it; the sessions have ended.
        for token in [token, first] {
            let set = kit.set_by_token(&token, None, PASSWORD).await;
            assert_eq!(refusal(set), PasswordRefusal::TokenInvalid);
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
        assert_eq!(refusal(set), PasswordRefusal::TokenInvalid);
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
        let done = |outcome: &&PasswordSet| matches!(outcome, PasswordSet::Done(_));
        assert_eq!(outcomes.iter().filter(done).count(), 1);
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
        assert_eq!(refusal(outcome), PasswordRefusal::WrongOld);
        let outcome = change(&kit, &anna, PASSWORD, PASSWORD).await;
        let unchanged = PasswordRefusal::Rule(PasswordFault::Unchanged);
        assert_eq!(refusal(outcome), unchanged);
        assert_eq!(kit.store.sessions_of(&anna.uid).await.unwrap().len(), 3);
        let outcome = change(&kit, &anna, PASSWORD, OTHER).await;
        assert!(matches!(outcome, PasswordSet::Done(_)));
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
