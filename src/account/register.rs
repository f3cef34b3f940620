//! Registration: creates a pending account and sends a mail, which contains what the response must not reveal.

use crate::account::call::{Call, MAIL_LIMITED};
use crate::account::halt::{Halt, refusals};
use crate::account::mail_limit::{MailCause, MailQuota};
use crate::account::{AccountError, Accounts};
use crate::config::Registration;
use crate::crypto::token;
use crate::mail::Mail;
use crate::model::access::Role;
use crate::model::account::{Account, AccountStatus, EmailAddress, PersonName, Purpose, Username};
use crate::model::clock::Timestamp;
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, InvalidField};
use crate::model::secret::Secret;
use crate::store::bounds::PENDING_MAX;
use crate::telemetry::audit::{self, AuditAction};

/// The details of a new account that are the person chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPerson {
    /// Primary address, as typed.
    pub identity: EmailAddress,
    /// The username of the account.
    pub username: Username,
    /// The name of the person.
    pub name: PersonName,
}

impl NewPerson {
    /// Returns the details if each of the three fields is valid.
    ///
    /// # Errors
    /// [`InvalidField`] for the first invalid field.
    pub fn of(
        identity: Checked<EmailAddress>,
        username: Checked<Username>,
        name: Checked<PersonName>,
    ) -> Result<Self, InvalidField> {
        Ok(Self {
            identity: identity.valid()?,
            username: username.valid()?,
            name: name.valid()?,
        })
    }

    /// Checks the three texts.
    ///
    /// # Errors
    /// [`InvalidField`] for the first invalid text.
    pub fn parse(identity: &str, username: &str, name: &str) -> Result<Self, InvalidField> {
        Self::of(
            Checked::of(identity.to_owned()),
            Checked::of(username.to_owned()),
            Checked::of(name.to_owned()),
        )
    }
}

refusals! {
    /// Why a registration was refused. Any other finding is withheld from the caller and mailed to the owner of the
    /// address.
    pub enum RegisterRefusal {
        /// Registration is not open to strangers.
        Closed => ErrorCode::RegistrationClosed,
        /// Another account has the name. Reported only if `account.reveal_existing` is set, and then without a mail.
        UsernameTaken => ErrorCode::UsernameTaken,
        /// Another account has the address. Reported as above.
        IdentityTaken => ErrorCode::IdentityTaken,
    }
    fails [ErrorCode::LimitsFull]
}

impl Accounts {
    /// Registers a person, or reports by mail that the address or the name is taken. Does nothing once the limits of
    /// mails are used up.
    ///
    /// # Errors
    /// [`RegisterRefusal`], [`AccountError::Store`], [`AccountError::Uncounted`]
    pub async fn register(
        &self,
        call: &Call,
        person: NewPerson,
    ) -> Result<(), Halt<RegisterRefusal>> {
        if self.config.account.registration != Registration::Open {
            let closed = Err(RegisterRefusal::Closed.into());
            return call.settle(AuditAction::Register, None, None, closed);
        }
        let mut places = MailQuota::default();
        let outcome = self.register_within(call, person, &mut places).await;
        places.settle(outcome)
    }

    async fn register_within(
        &self,
        call: &Call,
        person: NewPerson,
        places: &mut MailQuota,
    ) -> Result<(), Halt<RegisterRefusal>> {
        let action = AuditAction::Register;
        let may_mail = self.may_cause_mail(call, places)?;
        // Both are always read, so that the time of the response reveals nothing.
        let owner = self.services.store.identity_owner(&person.identity).await?;
        let username_taken = self.services.store.username_taken(&person.username).await?;
        let reveal = self.config.account.reveal_existing;

        // A conflict that the response reveals needs no mail.
        if reveal && let Some(owner) = &owner {
            let taken = Err(RegisterRefusal::IdentityTaken.into());
            return call.settle(action, Some(&owner.uid), None, taken);
        }
        if reveal && username_taken {
            let taken = Err(RegisterRefusal::UsernameTaken.into());
            return call.settle(action, None, None, taken);
        }
        let to = owner.as_ref().map_or(&person.identity, |it| &it.identity);
        let is_limited = !may_mail || !self.may_mail(MailCause::NamedAddress, to, places);
        if !is_limited {
            // Recorded whether or not the name is free, which the response must not reveal.
            self.begin(call, action, None, None).await?;
        }
        if is_limited {
            // Without a mail nothing is written either.
            call.record(action, MAIL_LIMITED, None, None);
        } else if let Some(owner) = owner {
            let taken = ErrorCode::IdentityTaken.as_str();
            call.record(action, taken, Some(owner.uid.as_str()), None);
            // Fails as writing an account would.
            self.post(&owner.identity, &Mail::IdentityTaken).await?;
        } else if username_taken {
            call.record(action, ErrorCode::UsernameTaken.as_str(), None, None);
            let username = person.username.as_str().to_owned();
            self.post(&person.identity, &Mail::UsernameTaken { username })
                .await?;
        } else {
            let written = self
                .write_pending((person, false, Vec::new()), Some(PENDING_MAX), |token| {
                    Mail::ConfirmNew { token }
                })
                .await?;
            let uid = written.as_ref().map(|account| account.uid.as_str());
            let outcome = uid.map_or("pending_limited", |_| audit::DONE);
            call.record(action, outcome, uid, None);
        }
        Ok(())
    }

    /// Writes a pending account, its confirm token and the mail that `mail` makes of the token, all or nothing. Returns
    /// `None` if there are `pending_max` pending accounts already.
    pub(in crate::account) async fn write_pending(
        &self,
        (person, is_admin, roles): (NewPerson, bool, Vec<Role>),
        pending_max: Option<u64>,
        mail: impl FnOnce(Secret) -> Mail,
    ) -> Result<Option<Account>, AccountError> {
        let now = self.services.clock.now();
        let mut account = new_account(person, is_admin, AccountStatus::Pending, now);
        account.roles = roles;
        let (text, confirm) = self.draw_token(Purpose::Confirm, &account.uid, None);
        let mail = self.seal(&account.identity, &mail(text), now);
        let id = mail.as_ref().map(|mail| mail.id.clone());
        let is_written = self
            .services
            .store
            .register(account.clone(), confirm, mail, pending_max)
            .await?;
        if !is_written {
            return Ok(None);
        }
        self.posted(id).await;
        Ok(Some(account))
    }
}

/// Creates an account record with fresh ids and without password and roles.
pub(in crate::account) fn new_account(
    person: NewPerson,
    is_admin: bool,
    status: AccountStatus,
    now: Timestamp,
) -> Account {
    Account {
        uid: token::draw_user_id(),
        account_id: token::draw_account_id(),
        username: person.username,
        identity: person.identity,
        name: person.name,
        status,
        is_admin,
        roles: Vec::new(),
        settings_id: token::draw_settings_id(),
        password_must_change: false,
        password: None,
        generation: 0,
        level_changes: 0,
        created: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD, config, refusal};
    use crate::store::Store;

    async fn register(kit: &Kit, identity: &str, username: &str) -> Vec<(String, Mail)> {
        let person = NewPerson::parse(identity, username, "N. N.").unwrap();
        let outcome = kit.accounts.register(&Call::default(), person).await;
        assert_eq!(refusal(outcome), None);
        kit.mailbox.take()
    }

    #[test]
    fn values_that_break_their_rule_are_named() {
        let long = "x".repeat(129);
        let cases = [
            ("a@b@c", "anna", "Anna", "identity"),
            ("a@b\r\nBcc: c@d", "anna", "Anna", "identity"),
            ("a@b", "u-12345678", "Anna", "username"),
            ("a..b@c", "anna", "Anna", "identity"),
            (".a@b", "anna", "Anna", "identity"),
            ("a@b..c", "anna", "Anna", "identity"),
            ("a@-b", "anna", "Anna", "identity"),
            ("a@[127.0.0.1]", "anna", "Anna", "identity"),
            ("a@b", "a", "Anna", "username"),
            ("a@b", "anna", "", "name"),
            ("a@b", "anna", "An\nna", "name"),
            ("a@b", "anna", long.as_str(), "name"),
        ];
        for (identity, username, name, field) in cases {
            let invalid = NewPerson::parse(identity, username, name).unwrap_err();
            assert_eq!(invalid.field, field, "{identity:?} {username:?} {name:?}");
        }
    }

    #[tokio::test]
    async fn the_mail_tells_what_the_answer_does_not() {
        let kit = Kit::new();
        kit.person("anna").await;
        let taken = register(&kit, "Anna+new@Example.org", "bert").await;
        assert_eq!(taken[0].0, "anna@example.org", "to the stored address");
        assert!(matches!(taken[0].1, Mail::IdentityTaken));
        let named = register(&kit, "bert@example.org", "ANNA").await;
        assert_eq!(named[0].0, "bert@example.org");
        assert!(matches!(&named[0].1, Mail::UsernameTaken { username } if username == "anna"));
        let free = register(&kit, "Bert@example.org", "bert").await;
        assert_eq!(free[0].0, "Bert@example.org", "as typed");
        assert!(matches!(free[0].1, Mail::ConfirmNew { .. }));
    }

    #[tokio::test]
    async fn a_pending_account_reserves_nothing_and_the_first_password_wins() {
        let kit = Kit::new();
        let first = kit.register("anna").await;
        let second = kit.register("anna").await;
        let set = kit.set_by_token(&second, None, PASSWORD).await;
        assert!(set.is_ok());
        let set = kit.set_by_token(&first, None, PASSWORD).await;
        let invalid = crate::account::password::TokenPasswordRefusal::TokenInvalid;
        assert_eq!(refusal(set), Some(invalid));
    }

    #[tokio::test]
    async fn what_exists_is_told_to_the_caller_if_that_is_configured() {
        let mut config = config();
        config.account.reveal_existing = true;
        let kit = Kit::with(config);
        kit.person("anna").await;
        let cases = [
            (
                "Anna+2@Example.org",
                "bert",
                Some(RegisterRefusal::IdentityTaken),
                0,
            ),
            (
                "bert@example.org",
                "anna",
                Some(RegisterRefusal::UsernameTaken),
                0,
            ),
            ("bert@example.org", "bert", None, 1),
        ];
        for (identity, username, expected, mails) in cases {
            let person = NewPerson::parse(identity, username, "N. N.").unwrap();
            let outcome = kit.accounts.register(&Call::default(), person).await;
            assert_eq!(refusal(outcome), expected, "{identity} {username}");
            assert_eq!(kit.mailbox.take().len(), mails, "{identity} {username}");
        }
    }

    #[tokio::test]
    async fn closed_is_closed() {
        for registration in [Registration::Closed, Registration::Invite] {
            let mut config = config();
            config.account.registration = registration;
            let kit = Kit::with(config);
            let person = NewPerson::parse("a@b", "anna", "Anna").unwrap();
            let outcome = kit.accounts.register(&Call::default(), person).await;
            assert_eq!(refusal(outcome), Some(RegisterRefusal::Closed));
            assert!(kit.mailbox.take().is_empty());
            assert!(kit.store.accounts(None, 10).await.unwrap().is_empty());
        }
    }
}
