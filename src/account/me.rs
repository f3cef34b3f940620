//! Changes that people make to their own account: their name and their address.

use crate::account::call::{Call, MAIL_LIMITED};
use crate::account::guess::{GUESS_FAILURES, Guess, Guesser};
use crate::account::halt::{Halt, refusals};
use crate::account::mail_limit::{MailCause, MailQuota};
use crate::account::{AccountError, Accounts};
use crate::crypto::digest;
use crate::limit::ReachedLimit;
use crate::mail::Mail;
use crate::model::account::{Account, AccountStatus, EmailAddress, PersonName, Purpose, Username};
use crate::model::error_code::ErrorCode;
use crate::model::id::UserId;
use crate::model::secret::Secret;
use crate::store::IdentityChange;
use crate::telemetry::audit::{self, AuditAction};

/// A checked change of the caller's own account.
#[derive(Clone, Debug, Default)]
pub struct OwnChange {
    /// The name of the person.
    pub name: Option<PersonName>,
    /// The address, with the account's password.
    pub identity: Option<(EmailAddress, Secret)>,
}

refusals! {
    /// Why nothing was changed.
    pub enum MeRefusal {
        /// The password is wrong.
        WrongPassword => ErrorCode::PasswordWrong,
        /// The account, or the client network, has used up its guesses.
        Limited(ReachedLimit) => ErrorCode::LoginLimited,
        /// Another account has the address. Reported only if `account.reveal_existing` is set.
        IdentityTaken => ErrorCode::IdentityTaken,
        /// The account is gone or no longer active.
        Changed => ErrorCode::AccountChanged,
    }
    fails GUESS_FAILURES
}

refusals! {
    /// Why the token for a new address was not accepted. The response does not distinguish the variants.
    pub enum ConfirmRefusal {
        /// The token is unknown, used, expired, for another purpose or for an account that is not active.
        Invalid => ErrorCode::TokenInvalid,
        /// Another account has taken the address meanwhile.
        IdentityTaken => ErrorCode::TokenInvalid => ErrorCode::IdentityTaken.as_str(),
    }
}

impl Accounts {
    /// Changes the caller's name, and mails a token to a new address, which takes effect once the token is posted.
    ///
    /// # Errors
    /// [`MeRefusal`], [`AccountError`]; in either case nothing has changed.
    pub async fn change_me(
        &self,
        call: &Call,
        uid: &UserId,
        change: OwnChange,
    ) -> Result<(), Halt<MeRefusal>> {
        // The address comes first, so that a wrong password changes nothing at all.
        if let Some((wanted, password)) = change.identity {
            let requested = self.request_identity(call, uid, wanted, password).await;
            call.settle_refusal(AuditAction::RequestIdentity, Some(uid), None, requested)?;
        }
        if let Some(name) = change.name {
            let action = AuditAction::ChangeName;
            self.begin(call, action, Some(uid), None).await?;
            let renamed = self.services.store.rename(uid, name).await?;
            let renamed = renamed.ok_or(Halt::Refused(MeRefusal::Changed));
            call.settle(action, Some(uid), None, renamed)?;
        }
        Ok(())
    }

    /// Verifies the password and sends the mails for a new address.
    async fn request_identity(
        &self,
        call: &Call,
        uid: &UserId,
        wanted: EmailAddress,
        password: Secret,
    ) -> Result<(), Halt<MeRefusal>> {
        let account = self.services.store.account(uid).await?;
        let active = account.filter(|account| account.status == AccountStatus::Active);
        let account = active.ok_or(MeRefusal::Changed)?;
        let action = AuditAction::RequestIdentity;
        self.check_trail(call, action)?;
        match self.guess(call, Guesser::Owner(&account), password).await? {
            Guess::Right { .. } => {}
            Guess::Wrong | Guess::SilentlyLimited => return Err(MeRefusal::WrongPassword.into()),
            Guess::Limited(limit) => return Err(MeRefusal::Limited(limit).into()),
        }
        let mut places = MailQuota::default();
        let outcome = self
            .mail_identity(call, &account, wanted, &mut places)
            .await;
        places.settle(outcome)
    }

    /// Sends the mails for a new address on behalf of a caller who has proved to be the owner.
    async fn mail_identity(
        &self,
        call: &Call,
        account: &Account,
        wanted: EmailAddress,
        places: &mut MailQuota,
    ) -> Result<(), Halt<MeRefusal>> {
        let (action, uid) = (AuditAction::RequestIdentity, &account.uid);
        if !self.may_cause_mail(call, places)? {
            call.record(action, MAIL_LIMITED, Some(uid.as_str()), None);
            return Ok(());
        }
        let owner = self.services.store.identity_owner(&wanted).await?;
        let other = owner.filter(|owner| owner.uid != *uid);
        if other.is_some() && self.config.account.reveal_existing {
            return Err(MeRefusal::IdentityTaken.into());
        }
        self.begin(call, action, Some(uid), None).await?;
        // INVARIANT: what the caller can see (in answers, in their mailbox, and in the state of a token mailed before)
        // does not depend on whether the address is taken or may be mailed to
        // (the_caller_sees_the_same_whether_or_not_an_address_is_taken). A token that is not mailed cannot be used.
        let (secret, token) = self.draw_token(Purpose::ChangeIdentity, uid, Some(wanted.clone()));
        let username = account.username.as_str().to_owned();
        let (to, mail, outcome) = if let Some(other) = &other {
            let outcome = ErrorCode::IdentityTaken.as_str();
            (&other.identity, Mail::IdentityTaken, outcome)
        } else {
            let username = username.clone();
            let mail = Mail::ChangeIdentity {
                token: secret,
                username,
            };
            (&wanted, mail, audit::DONE)
        };
        let may_mail = self.may_mail(MailCause::NamedAddress, to, places);
        let outcome = if may_mail { outcome } else { MAIL_LIMITED };
        let mail = may_mail
            .then(|| self.seal(to, &mail, token.created))
            .flatten();
        let id = mail.as_ref().map(|mail| mail.id.clone());
        if !self.services.store.put_token(token, mail).await? {
            return Err(MeRefusal::Changed.into());
        }
        call.record(action, outcome, Some(uid.as_str()), None);
        self.posted(id).await;
        self.send(&account.identity, Mail::IdentityChanging { username })
            .await;
        Ok(())
    }

    /// Returns the purpose of a one-time token and the username of its account, without consuming the token; `None` if
    /// the token is not accepted.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn token_holder(
        &self,
        presented: &str,
    ) -> Result<Option<(Purpose, Username)>, AccountError> {
        let digest = digest::digest(presented);
        let now = self.services.clock.now();
        let found = self.services.store.one_time_token(&digest).await?;
        let Some(token) = found.filter(|token| token.is_live(now)) else {
            return Ok(None);
        };
        let account = self.services.store.account(&token.uid).await?;
        let fitting = account.filter(|account| token.purpose.fits(account.status));
        Ok(fitting.map(|account| (token.purpose, account.username)))
    }

    /// Puts the address that a token was mailed to into effect. Sessions continue; every other one-time token is void.
    ///
    /// # Errors
    /// [`ConfirmRefusal`], [`AccountError::Store`]
    pub async fn confirm_identity(
        &self,
        call: &Call,
        presented: &str,
    ) -> Result<Account, Halt<ConfirmRefusal>> {
        let action = AuditAction::ChangeIdentity;
        let digest = digest::digest(presented);
        let now = self.services.clock.now();
        // A made-up token changes nothing, and strangers can post any number of them.
        if let Some(token) = self.services.store.one_time_token(&digest).await? {
            self.begin(call, action, Some(&token.uid), None).await?;
        }
        let changed = match self.services.store.change_identity(&digest, now).await? {
            IdentityChange::Done { account, before } => Ok((account, before)),
            IdentityChange::Taken => Err(ConfirmRefusal::IdentityTaken.into()),
            IdentityChange::Invalid => Err(ConfirmRefusal::Invalid.into()),
        };
        let uid = changed
            .as_ref()
            .ok()
            .map(|(account, _)| account.uid.clone());
        let (account, before) = call.settle(action, uid.as_ref(), None, changed)?;
        let username = account.username.as_str().to_owned();
        self.send(&before, Mail::IdentityChanged { username }).await;
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::password::TokenPasswordRefusal;
    use crate::account::register::NewPerson;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, config, refusal};
    use crate::model::field::CheckedField;
    use crate::store::Store;

    async fn ask(
        kit: &Kit,
        account: &Account,
        identity: &str,
        password: &str,
    ) -> Option<MeRefusal> {
        let identity = EmailAddress::reachable(identity).unwrap();
        let change = OwnChange {
            name: None,
            identity: Some((identity, Secret::new(password.to_owned()))),
        };
        let call = Call::default();
        refusal(kit.accounts.change_me(&call, &account.uid, change).await)
    }

    async fn confirm(kit: &Kit, token: &str) -> Option<Account> {
        let confirmed = kit.accounts.confirm_identity(&Call::default(), token).await;
        match confirmed {
            Ok(account) => Some(account),
            Err(Halt::Refused(_)) => None,
            Err(Halt::Failed(error)) => panic!("{error:?}"),
        }
    }

    /// Takes the mails and returns the token of a change and the recipient of each mail.
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
        let notices = kit.mailbox.take();
        assert_eq!(notices[0].0, "anna@example.org");
        assert!(matches!(notices[0].1, Mail::IdentityChanged { .. }));
        assert!(kit.login("new@example.org", PASSWORD).await.is_some());
        assert!(kit.login("anna@example.org", PASSWORD).await.is_none());
        assert!(kit.store.session(&session).await.unwrap().is_some());
        assert!(confirm(&kit, &token).await.is_none(), "used");
        // A token in the old mailbox no longer works.
        let set = kit.set_by_token(&reset, None, OTHER).await;
        assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        // The old address is free.
        let person = NewPerson::parse("anna@example.org", "anna2", "A.").unwrap();
        let outcome = kit.accounts.register(&Call::default(), person).await;
        assert_eq!(refusal(outcome), None);
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
        assert_eq!(refusal(set), Some(TokenPasswordRefusal::TokenInvalid));
        // Only the most recently requested token counts, and it expires.
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
        // Another spelling of the caller's own address does not count as taken.
        assert_eq!(ask(&kit, &anna, "Anna+2@Example.org", PASSWORD).await, None);
        let (token, _) = mailed(&kit);
        assert!(confirm(&kit, &token).await.is_some());
        // The address is taken by another account meanwhile.
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
        // Requests of strangers use up the mail limit of the taken address, but not that of a free one.
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
            // The token requested before is void in each case.
            let confirmed = confirm(&kit, &token).await.is_some();
            seen.push((refusal, notices, confirmed));
        }
        assert_eq!(seen, vec![(None, vec![true], false); 3]);
    }

    #[tokio::test]
    async fn a_name_changes_at_once() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let name = PersonName::check("Anna B.".to_owned());
        let change = OwnChange {
            name: name.clone(),
            identity: None,
        };
        let outcome = kit
            .accounts
            .change_me(&Call::default(), &anna.uid, change)
            .await;
        assert_eq!(refusal(outcome), None);
        assert_eq!(Some(kit.stored(&anna).await.name), name);
        assert!(PersonName::check("a\nb".to_owned()).is_none());
        assert!(EmailAddress::check("no address".to_owned()).is_none());
    }
}
