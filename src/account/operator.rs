//! Operations of the operator at the machine: find an account, create one, set its password.

use crate::account::admin::{CreationRefusal, settle_creation};
use crate::account::call::Call;
use crate::account::halt::{Halt, refusals};
use crate::account::password_rules::PasswordFault;
use crate::account::register::{NewPerson, new_account};
use crate::account::{AccountError, Accounts};
use crate::mail::Mail;
use crate::model::access::Role;
use crate::model::account::{Account, AccountStatus};
use crate::model::error_code::ErrorCode;
use crate::model::id::{AccountId, UserId};
use crate::model::secret::Secret;
use crate::store::{Creation, Guarded, NewPassword};
use crate::telemetry::audit::AuditAction;

refusals! {
    /// Why an account was not created, or has no new password.
    pub enum OperatorRefusal {
        /// There is no such account.
        NoAccount => ErrorCode::NotFound,
        /// A pending account gets its first password by its mailed token.
        Pending => ErrorCode::AccountPending,
        /// The account has changed meanwhile.
        Changed => ErrorCode::AccountChanged,
        /// The password is refused.
        Password(PasswordFault) => ErrorCode::PasswordRefused,
    }
    or Creation(CreationRefusal)
}

impl Accounts {
    /// Finds an account by uid, record id, name or address, for the command line.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn find(&self, text: &str) -> Result<Option<Account>, AccountError> {
        if let Ok(uid) = UserId::parse(text)
            && let Some(account) = self.services.store.account(&uid).await?
        {
            return Ok(Some(account));
        }
        if let Ok(id) = AccountId::parse(text)
            && let Some(account) = self.services.store.account_by_id(&id).await?
        {
            return Ok(Some(account));
        }
        self.account_named(text).await
    }

    /// Creates an account: active at once with a password, otherwise pending with an invitation by mail.
    ///
    /// # Errors
    /// [`OperatorRefusal`], [`AccountError`]; in either case no account was created.
    pub async fn create(
        &self,
        call: &Call,
        person: NewPerson,
        is_admin: bool,
        password: Option<Secret>,
    ) -> Result<Account, Halt<OperatorRefusal>> {
        let created = async {
            let Some(password) = password else {
                let created = self.create_pending(call, person, is_admin, Vec::new());
                return created.await.map_err(Halt::from);
            };
            let now = self.services.clock.now();
            let mut account = new_account(person, is_admin, AccountStatus::Active, now);
            self.check_rules(&password, &account)
                .map_err(OperatorRefusal::Password)?;
            account.password = Some(self.services.passwords.hash(password).await?);
            self.begin(call, AuditAction::CreateAccount, None, None)
                .await?;
            match self.services.store.create_account(account.clone()).await? {
                Creation::Created => Ok(account),
                Creation::UsernameTaken => Err(CreationRefusal::UsernameTaken.into()),
                Creation::IdentityTaken => Err(CreationRefusal::IdentityTaken.into()),
            }
        };
        settle_creation(call, created.await)
    }

    pub(in crate::account) async fn create_pending(
        &self,
        call: &Call,
        person: NewPerson,
        is_admin: bool,
        roles: Vec<Role>,
    ) -> Result<Account, Halt<CreationRefusal>> {
        if self.services.store.username_taken(&person.username).await? {
            return Err(CreationRefusal::UsernameTaken.into());
        }
        if self.services.store.identity_taken(&person.identity).await? {
            return Err(CreationRefusal::IdentityTaken.into());
        }
        self.begin(call, AuditAction::CreateAccount, None, None)
            .await?;
        let username = person.username.as_str().to_owned();
        let invitation = |token| Mail::Invitation { token, username };
        // The limit on pending accounts applies to strangers, not to people invited by an administrator.
        let written = self
            .write_pending((person, is_admin, roles), None, invitation)
            .await?;
        Ok(written.ok_or(CreationRefusal::Changed)?)
    }

    /// Sets the password of an active account on the operator's authority, ends its sessions, voids its one-time tokens
    /// and notifies the owner.
    ///
    /// # Errors
    /// [`OperatorRefusal`], [`AccountError`]; in either case nothing has changed.
    pub async fn set_password(
        &self,
        call: &Call,
        uid: &UserId,
        password: Secret,
    ) -> Result<Account, Halt<OperatorRefusal>> {
        let action = AuditAction::SetPassword;
        let set: Result<_, Halt<OperatorRefusal>> = async {
            let account = self.services.store.account(uid).await?;
            let account = account.ok_or(OperatorRefusal::NoAccount)?;
            if account.status == AccountStatus::Pending {
                return Err(OperatorRefusal::Pending.into());
            }
            self.check_rules(&password, &account)
                .map_err(OperatorRefusal::Password)?;
            let password = NewPassword {
                hash: self.services.passwords.hash(password).await?,
                revoke_keys: false,
            };
            self.begin(call, action, Some(uid), None).await?;
            let written =
                self.services
                    .store
                    .change_password(uid, account.standing(), password, None);
            match written.await? {
                Guarded::Done(account) => Ok(account),
                Guarded::Stale => Err(OperatorRefusal::Changed.into()),
            }
        }
        .await;
        let account = call.settle(action, Some(uid), None, set)?;
        self.pardon(call, &account);
        self.notify_owner(&account).await;
        Ok(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, refusal};
    use crate::store::Store;

    #[tokio::test]
    async fn an_account_is_made_with_a_password_or_invited() {
        let kit = Kit::new();
        let root = kit.administrator("root").await;
        assert!(root.is_admin);
        assert!(kit.login("root", PASSWORD).await.is_some());
        let create = async |identity: &str, name: &str, password: Option<&str>| {
            let person = NewPerson::parse(identity, name, "N. N.").unwrap();
            let password = password.map(|text| Secret::new(text.to_owned()));
            let outcome = kit
                .accounts
                .create(&Call::cli(), person, false, password)
                .await;
            refusal(outcome)
        };
        let name_taken = Some(CreationRefusal::UsernameTaken.into());
        let address_taken = Some(CreationRefusal::IdentityTaken.into());
        assert_eq!(create("x@example.org", "root", None).await, name_taken);
        assert_eq!(
            create("x@example.org", "root", Some(OTHER)).await,
            name_taken
        );
        assert_eq!(
            create("root+1@example.org", "anna", None).await,
            address_taken
        );
        assert!(
            create("a@example.org", "anna", Some("short"))
                .await
                .is_some()
        );
        assert!(kit.mailbox.take().is_empty());
        assert_eq!(create("a@example.org", "anna", None).await, None);
        let token = kit.mailbox.token();
        let set = kit.set_by_token(&token, None, OTHER).await;
        assert!(set.is_ok());
        assert!(kit.login("anna", OTHER).await.is_some());
    }

    #[tokio::test]
    async fn the_operator_sets_passwords_and_sessions_end() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.login("anna", PASSWORD).await.unwrap();
        let password = Secret::new(OTHER.to_owned());
        let outcome = kit
            .accounts
            .set_password(&Call::cli(), &anna.uid, password)
            .await;
        assert_eq!(refusal(outcome), None);
        assert!(kit.store.sessions_of(&anna.uid).await.unwrap().is_empty());
        assert!(kit.login("anna", OTHER).await.is_some());
        for text in [
            "anna",
            "anna@example.org",
            anna.uid.as_str(),
            anna.account_id.as_str(),
        ] {
            let found = kit.accounts.find(text).await.unwrap();
            assert_eq!(
                found.map(|found| found.uid),
                Some(anna.uid.clone()),
                "{text}"
            );
        }
    }
}
