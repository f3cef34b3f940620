//! What people change about themselves: what they are called, and their address.

use crate::account::call::Call;
use crate::account::guess::{Guess, Guesser};
use crate::account::mail_limit::{Cause, MailPlaces};
use crate::account::register::{checked_address, checked_name};
use crate::account::{AccountError, Accounts, InvalidField};
use crate::crypto::{digest, token};
use crate::limit::Limit;
use crate::mail::Mail;
use crate::model::account::{
    Account, AccountStatus, EmailAddress, OneTimeToken, Purpose, Username,
};
use crate::model::id::UserId;
use crate::model::secret::Secret;
use crate::store::IdentityChange;
use crate::telemetry::audit::AuditAction;

/// Another address for the account that asks.
#[derive(Clone, Debug)]
pub struct WantedIdentity {
    /// The address, as typed.
    pub identity: EmailAddress,
    /// The account's password.
    pub password: Secret,
}

/// What is to change, checked.
#[derive(Clone, Debug, Default)]
pub struct OwnChange {
    /// What the person is called.
    pub name: Option<String>,
    /// The address.
    pub identity: Option<WantedIdentity>,
}

/// Outcome of a change of one's own account.
#[derive(Debug)]
#[must_use]
pub enum Me {
    /// Done; a new address has been mailed its token, or its owner told, and counts once that is posted.
    Done,
    /// Nothing has changed.
    Refused(MeRefusal),
}

/// Why nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeRefusal {
    /// The password is wrong.
    WrongPassword,
    /// The account, or the client network, has used up its guesses.
    Limited(Limit),
    /// Another account has the address; told only where `account.reveal_existing` is set.
    IdentityTaken,
    /// The account is gone or not active any more.
    Changed,
}

impl MeRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::WrongPassword => "password_wrong",
            Self::Limited(_) => "login_limited",
            Self::IdentityTaken => "identity_taken",
            Self::Changed => "account_changed",
        }
    }
}

/// Outcome of posting the token of a new address.
#[derive(Debug)]
#[must_use]
pub enum IdentityConfirmed {
    /// The new address counts; the old one has been told.
    Done(Box<Account>),
    /// Unknown, used or expired, of another purpose or of an account that is not active; or another account has the
    /// address meanwhile.
    Refused,
}

impl OwnChange {
    /// Checks the texts; `password` goes with `identity` and with nothing else.
    ///
    /// # Errors
    /// [`InvalidField`] for the first that breaks its rule.
    pub fn parse(
        name: Option<&str>,
        identity: Option<(&str, Secret)>,
    ) -> Result<Self, InvalidField> {
        let address = |(text, password): (&str, Secret)| {
            let identity = checked_address(text)?;
            Ok(WantedIdentity { identity, password })
        };
        Ok(Self {
            name: name.map(checked_name).transpose()?,
            identity: identity.map(address).transpose()?,
        })
    }
}

impl Accounts {
    /// Changes what the caller is called, and mails a token to another address.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing has changed.
    pub async fn change_me(
        &self,
        call: &Call,
        uid: &UserId,
        change: OwnChange,
    ) -> Result<Me, AccountError> {
        // The address first: with a wrong password nothing changes at all.
        if let Some(wanted) = change.identity
            && let Some(refusal) = self.request_identity(call, uid, wanted).await?
        {
            let subject = Some(uid.as_str());
            call.record(AuditAction::RequestIdentity, refusal.code(), subject, None);
            return Ok(Me::Refused(refusal));
        }
        if let Some(name) = change.name {
            self.begin(call, AuditAction::ChangeName, Some(uid), None)
                .await?;
            let renamed = self.parts.store.rename(uid, name).await?.is_some();
            let outcome = if renamed {
                "ok"
            } else {
                MeRefusal::Changed.code()
            };
            call.record(AuditAction::ChangeName, outcome, Some(uid.as_str()), None);
            if !renamed {
                return Ok(Me::Refused(MeRefusal::Changed));
            }
        }
        Ok(Me::Done)
    }

    /// Mails what the new address needs; gives why it does not.
    async fn request_identity(
        &self,
        call: &Call,
        uid: &UserId,
        wanted: WantedIdentity,
    ) -> Result<Option<MeRefusal>, AccountError> {
        let account = self.parts.store.account(uid).await?;
        let active = account.filter(|account| account.status == AccountStatus::Active);
        let Some(account) = active else {
            return Ok(Some(MeRefusal::Changed));
        };
        let action = AuditAction::RequestIdentity;
        self.check_trail(call, action)?;
        let password = wanted.password;
        match self.guess(call, Guesser::Owner(&account), password).await? {
            Guess::Right { .. } => {}
            Guess::Wrong | Guess::Unseen => return Ok(Some(MeRefusal::WrongPassword)),
            Guess::Limited(limit) => return Ok(Some(MeRefusal::Limited(limit))),
        }
        let mut places = MailPlaces::default();
        let outcome = self
            .mail_identity(call, &account, wanted.identity, &mut places)
            .await;
        places.settle(outcome)
    }

    /// For whoever has shown to be the owner.
    async fn mail_identity(
        &self,
        call: &Call,
        account: &Account,
        wanted: EmailAddress,
        places: &mut MailPlaces,
    ) -> Result<Option<MeRefusal>, AccountError> {
        let (action, uid) = (AuditAction::RequestIdentity, &account.uid);
        if !self.may_cause_mail(call, places)? {
            call.record(action, "mail_limited", Some(uid.as_str()), None);
            return Ok(None);
        }
        let owner = self.parts.store.identity_owner(&wanted).await?;
        let other = owner.filter(|owner| owner.uid != *uid);
        if other.is_some() && self.parts.account.reveal_existing {
            return Ok(Some(MeRefusal::IdentityTaken));
        }
        self.begin(call, action, Some(uid), None).await?;
        // INVARIANT: what the caller can see, in answers, in their mailbox and in what becomes of a token that was mailed
        // before, is the same whether or not somebody has the address, and whether or not it may be mailed to
        // (the_caller_sees_the_same_whether_or_not_an_address_is_taken). A token that nobody is mailed is one for nobody.
        let now = self.parts.clock.now();
        let (secret, digest) = token::draw_one_time();
        let username = account.username.as_str().to_owned();
        let (to, mail, outcome) = if let Some(other) = &other {
            (&other.identity, Mail::IdentityTaken, "identity_taken")
        } else {
            let username = username.clone();
            let mail = Mail::ChangeIdentity {
                token: secret,
                username,
            };
            (&wanted, mail, "ok")
        };
        let may_mail = self.may_mail(Cause::NamedAddress, to, places);
        let outcome = if may_mail { outcome } else { "mail_limited" };
        let mail = may_mail.then(|| self.seal(to, &mail, now)).flatten();
        let id = mail.as_ref().map(|mail| mail.id.clone());
        let token = OneTimeToken {
            digest,
            purpose: Purpose::ChangeIdentity,
            uid: uid.clone(),
            created: now,
            expires: now.plus(self.parts.account.confirm_ttl),
            identity: Some(wanted.clone()),
        };
        if !self.parts.store.put_token(token, mail).await? {
            return Ok(Some(MeRefusal::Changed));
        }
        call.record(action, outcome, Some(uid.as_str()), None);
        self.posted(id).await;
        self.send(&account.identity, Mail::IdentityChanging { username })
            .await;
        Ok(None)
    }

    /// What a one-time token is for, and the name of its account; `None`: it counts for nothing. It is not consumed.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn token_holder(
        &self,
        presented: &str,
    ) -> Result<Option<(Purpose, Username)>, AccountError> {
        let digest = digest::digest(presented);
        let now = self.parts.clock.now();
        let found = self.parts.store.one_time_token(&digest).await?;
        let Some(token) = found.filter(|token| token.is_live(now)) else {
            return Ok(None);
        };
        let account = self.parts.store.account(&token.uid).await?;
        let fitting = account.filter(|account| token.purpose.fits(account.status));
        Ok(fitting.map(|account| (token.purpose, account.username)))
    }

    /// Makes the address count that a token was mailed to. Sessions go on; every other one-time token is void.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn confirm_identity(
        &self,
        call: &Call,
        presented: &str,
    ) -> Result<IdentityConfirmed, AccountError> {
        let action = AuditAction::ChangeIdentity;
        let digest = digest::digest(presented);
        let now = self.parts.clock.now();
        // A made-up token changes nothing: strangers can post any number of them.
        if let Some(token) = self.parts.store.one_time_token(&digest).await? {
            self.begin(call, action, Some(&token.uid), None).await?;
        }
        match self.parts.store.change_identity(&digest, now).await? {
            IdentityChange::Done { account, before } => {
                call.record(action, "ok", Some(account.uid.as_str()), None);
                let username = account.username.as_str().to_owned();
                self.send(&before, Mail::IdentityChanged { username }).await;
                Ok(IdentityConfirmed::Done(Box::new(account)))
            }
            IdentityChange::Taken => {
                call.record(action, "identity_taken", None, None);
                Ok(IdentityConfirmed::Refused)
            }
            IdentityChange::Invalid => {
                call.record(action, "token_invalid", None, None);
                Ok(IdentityConfirmed::Refused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::password::PasswordSet;
    use crate::account::register::{NewPerson, Register};
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, config};
    use crate::store::Store;

    async fn ask(
        kit: &Kit,
        account: &Account,
        identity: &str,
        password: &str,
    ) -> Option<MeRefusal> {
        let password = Secret::new(password.to_owned());
        let change = OwnChange::parse(None, Some((identity, password))).unwrap();
        let call = Call::default();
        match kit
            .accounts
            .change_me(&call, &account.uid, change)
            .await
            .unwrap()
        {
            Me::Done => None,
            Me::Refused(refusal) => Some(refusal),
        }
    }

    async fn confirm(kit: &Kit, token: &str) -> Option<Box<Account>> {
        match kit
            .accounts
            .confirm_identity(&Call::default(), token)
            .await
            .unwrap()
        {
            IdentityConfirmed::Done(account) => Some(account),
            IdentityConfirmed::Refused => None,
        }
    }

    /// The token of a change, and to whom each mail went.
    fn mailed(kit: &Kit) -> (String, Vec<String>) {
        let mails = kit.mailbox.take();
        let token = mails.iter().find_map(|(_, mail)| match mail {
            Mail::ChangeIdentity { token, .. } => Some(token.expose().to_owned()),
            _ => None,
        });
        (
            token.unwrap(),
            mails.into_iter().map(|(to, _)| to).collect(),
        )
    }

    #[tokio::test]
    async fn a_new_address_counts_once_its_token_is_posted_and_the_old_one_is_told() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let session = kit.login("anna", PASSWORD).await.unwrap().session.id;
        let wrong = ask(&kit, &anna, "new@example.org", OTHER).await;
        assert_eq!(wrong, Some(MeRefusal::WrongPassword));
        assert!(kit.mailbox.take().is_empty());
        assert_eq!(ask(&kit, &anna, "new@example.org", PASSWORD).await, None);
        let (token, to) = mailed(&kit);
        assert_eq!(to, ["new@example.org", "anna@example.org"]);
        assert!(kit.login("new@example.org", PASSWORD).await.is_none());
        kit.accounts
            .request_reset(&Call::default(), "anna")
            .await
            .unwrap();
        let reset = kit.mailbox.token();

        assert_eq!(
            kit.accounts.token_holder(&token).await.unwrap(),
            Some((Purpose::ChangeIdentity, anna.username.clone()))
        );
        let moved = confirm(&kit, &token).await.unwrap();
        assert_eq!(moved.identity.as_str(), "new@example.org");
        let told = kit.mailbox.take();
        assert_eq!(told[0].0, "anna@example.org");
        assert!(matches!(told[0].1, Mail::IdentityChanged { .. }));
        assert!(kit.login("new@example.org", PASSWORD).await.is_some());
        assert!(kit.login("anna@example.org", PASSWORD).await.is_none());
        assert!(kit.store.session(&session).await.unwrap().is_some());
        assert!(confirm(&kit, &token).await.is_none(), "used");
        // What lies in the old mailbox opens nothing.
        let set = kit.set_by_token(&reset, None, OTHER).await;
        assert!(matches!(set, PasswordSet::Refused(_)));
        // The old address is free.
        let person = NewPerson::parse("anna@example.org", "anna2", "A.").unwrap();
        let outcome = kit.accounts.register(&Call::default(), person).await;
        assert_eq!(outcome.unwrap(), Register::Accepted);
        assert!(matches!(kit.mailbox.take()[0].1, Mail::ConfirmNew { .. }));
    }

    #[tokio::test]
    async fn tokens_of_other_purposes_change_no_address_and_this_one_sets_no_password() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.accounts
            .request_reset(&Call::default(), "anna")
            .await
            .unwrap();
        let reset = kit.mailbox.token();
        assert!(confirm(&kit, &reset).await.is_none());
        assert_eq!(ask(&kit, &anna, "new@example.org", PASSWORD).await, None);
        let (first, _) = mailed(&kit);
        let set = kit.set_by_token(&first, None, OTHER).await;
        assert!(matches!(set, PasswordSet::Refused(_)));
        // Only the last one asked for counts, and it expires.
        assert_eq!(ask(&kit, &anna, "other@example.org", PASSWORD).await, None);
        let (second, _) = mailed(&kit);
        assert!(confirm(&kit, &first).await.is_none());
        kit.clock.advance(Duration::from_hours(24));
        assert!(confirm(&kit, &second).await.is_none());
        assert!(kit.login("anna", PASSWORD).await.is_some());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_to_its_owner_only() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.person("bert").await;
        assert_eq!(ask(&kit, &anna, "bert+1@example.org", PASSWORD).await, None);
        let mails = kit.mailbox.take();
        assert_eq!(mails[0].0, "bert@example.org");
        assert!(matches!(mails[0].1, Mail::IdentityTaken));
        // Another spelling of one's own address is no other's.
        assert_eq!(ask(&kit, &anna, "Anna+2@Example.org", PASSWORD).await, None);
        let (token, _) = mailed(&kit);
        assert!(confirm(&kit, &token).await.is_some());
        // Taken meanwhile.
        assert_eq!(ask(&kit, &anna, "carl@example.org", PASSWORD).await, None);
        let (token, _) = mailed(&kit);
        kit.person("carl").await;
        assert!(confirm(&kit, &token).await.is_none());

        let mut config = config();
        config.account.reveal_existing = true;
        let kit = Kit::with(config);
        let anna = kit.person("anna").await;
        kit.person("bert").await;
        let refused = ask(&kit, &anna, "bert@example.org", PASSWORD).await;
        assert_eq!(refused, Some(MeRefusal::IdentityTaken));
        assert!(kit.mailbox.take().is_empty());
    }

    #[tokio::test]
    async fn the_caller_sees_the_same_whether_or_not_an_address_is_taken() {
        let mut config = config();
        config.mail.limits.per_address_per_hour = 4;
        let kit = Kit::with(config);
        let anna = kit.person("anna").await;
        kit.person("bert").await;
        // The third of each may not be mailed to any more: others have asked about it, who get nowhere if it is free.
        for address in ["bert@example.org", "free@example.org"] {
            for _ in 0..3 {
                let call = Call::default();
                kit.accounts.request_reset(&call, address).await.unwrap();
            }
        }
        kit.mailbox.take();
        let mut seen = Vec::new();
        for address in ["bert@example.org", "free@example.org", "other@example.org"] {
            assert_eq!(ask(&kit, &anna, "mine@example.net", PASSWORD).await, None);
            let (token, _) = mailed(&kit);
            let refusal = ask(&kit, &anna, address, PASSWORD).await;
            let mails = kit.mailbox.take();
            let own = mails.iter().filter(|(to, _)| to == "anna@example.org");
            let is_notice = |mail: &Mail| matches!(mail, Mail::IdentityChanging { .. });
            let notices: Vec<_> = own.map(|(_, mail)| is_notice(mail)).collect();
            // The one asked for before is void in each case.
            let confirmed = confirm(&kit, &token).await.is_some();
            seen.push((refusal, notices, confirmed));
        }
        assert_eq!(seen, vec![(None, vec![true], false); 3]);
    }

    #[tokio::test]
    async fn a_name_changes_at_once() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let change = OwnChange::parse(Some("Anna B."), None).unwrap();
        let outcome = kit
            .accounts
            .change_me(&Call::default(), &anna.uid, change)
            .await;
        assert!(matches!(outcome.unwrap(), Me::Done));
        assert_eq!(kit.stored(&anna).await.name, "Anna B.");
        assert!(OwnChange::parse(Some("a\nb"), None).is_err());
        let password = Secret::new(PASSWORD.to_owned());
        assert!(OwnChange::parse(None, Some(("no address", password))).is_err());
    }
}
