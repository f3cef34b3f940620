//! Administration: accounts listed, made and changed by administrators and by the operator.

use crate::account::call::Call;
use crate::account::password::{PasswordRefusal, WantedPassword};
use crate::account::register::{NewPerson, new_account};
use crate::account::{AccountError, Accounts, Actor};
use crate::mail::Mail;
use crate::model::access::{ResourceRole, Role};
use crate::model::account::{Account, AccountStatus};
use crate::model::id::{AccountId, UserId};
use crate::model::identity::Principal;
use crate::model::secret::Secret;
use crate::store::{AccountChange, Creation, Guarded, NewPassword};
use crate::telemetry::audit::AuditAction;

/// Accounts on one page.
pub const PAGE: usize = 100;

/// One page of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountPage {
    /// At most [`PAGE`] of them, in the order of their record ids.
    pub items: Vec<Account>,
    /// The next page begins after this one; `None`: there is none.
    pub next: Option<AccountId>,
}

/// Outcome of making or changing an account.
#[derive(Debug)]
#[must_use]
pub enum Administration {
    /// As it stands now.
    Done(Box<Account>),
    /// Nothing was written.
    Refused(AdministrationRefusal),
}

/// Why an account was neither made nor changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdministrationRefusal {
    /// There is no such account.
    NoAccount,
    /// The name belongs to another account.
    UsernameTaken,
    /// The address belongs to another account.
    IdentityTaken,
    /// An administrator who changes their own account might lock everybody out.
    OwnAccount,
    /// A pending account becomes active by its first password and by nothing else.
    Pending,
    /// The role is given by other means only.
    RoleReserved,
    /// The account has changed meanwhile.
    Changed,
    /// The password is not taken.
    Password(PasswordRefusal),
}

impl AdministrationRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAccount => "not_found",
            Self::UsernameTaken => "username_taken",
            Self::IdentityTaken => "identity_taken",
            Self::OwnAccount => "own_account",
            Self::Pending => "account_pending",
            Self::RoleReserved => "role_reserved",
            Self::Changed => "account_changed",
            Self::Password(refusal) => refusal.code(),
        }
    }
}

impl Accounts {
    /// Accounts in the order of their record ids, those after `after`.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn list(&self, after: Option<&AccountId>) -> Result<AccountPage, AccountError> {
        let mut items = self.parts.store.accounts(after, PAGE + 1).await?;
        let more = PAGE < items.len();
        items.truncate(PAGE);
        let next = items
            .last()
            .filter(|_| more)
            .map(|account| account.account_id.clone());
        Ok(AccountPage { items, next })
    }

    /// One account by its record id.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>, AccountError> {
        Ok(self.parts.store.account_by_id(id).await?)
    }

    /// One account by uid, record id, name or address: for the command line.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn find(&self, text: &str) -> Result<Option<Account>, AccountError> {
        if let Ok(uid) = UserId::parse(text)
            && let Some(account) = self.parts.store.account(&uid).await?
        {
            return Ok(Some(account));
        }
        if let Ok(id) = AccountId::parse(text)
            && let Some(account) = self.parts.store.account_by_id(&id).await?
        {
            return Ok(Some(account));
        }
        self.account_named(text).await
    }

    /// Makes an account: active at once with a password, else pending with a confirm token by mail.
    ///
    /// # Errors
    /// [`AccountError`]; then there is no account.
    pub async fn create(
        &self,
        call: &Call,
        person: NewPerson,
        is_admin: bool,
        password: Option<Secret>,
    ) -> Result<Administration, AccountError> {
        let outcome = match password {
            Some(password) => self.create_active(person, is_admin, password).await?,
            None => self.create_pending(person, is_admin).await?,
        };
        record(call, AuditAction::CreateAccount, &outcome, None);
        Ok(outcome)
    }

    async fn create_active(
        &self,
        person: NewPerson,
        is_admin: bool,
        password: Secret,
    ) -> Result<Administration, AccountError> {
        let now = self.parts.clock.now();
        let mut account = new_account(person, is_admin, AccountStatus::Active, now);
        let wanted = typed_once(password);
        if let Err(refusal) = self.check(&wanted, &account) {
            return Ok(refused(AdministrationRefusal::Password(refusal)));
        }
        account.password = Some(self.parts.passwords.hash(wanted.new).await?);
        Ok(
            match self.parts.store.create_account(account.clone()).await? {
                Creation::Created => Administration::Done(Box::new(account)),
                Creation::UsernameTaken => refused(AdministrationRefusal::UsernameTaken),
                Creation::IdentityTaken => refused(AdministrationRefusal::IdentityTaken),
            },
        )
    }

    async fn create_pending(
        &self,
        person: NewPerson,
        is_admin: bool,
    ) -> Result<Administration, AccountError> {
        let store = &self.parts.store;
        if store.account_by_username(&person.username).await?.is_some() {
            return Ok(refused(AdministrationRefusal::UsernameTaken));
        }
        if store.identity_taken(&person.identity).await? {
            return Ok(refused(AdministrationRefusal::IdentityTaken));
        }
        let (account, token) = self.write_pending(person, is_admin).await?;
        self.send(&account.identity, Mail::ConfirmNew { token })
            .await;
        Ok(Administration::Done(Box::new(account)))
    }

    /// Sets the password of an active account, as the operator does: ends its sessions, voids its one-time tokens and
    /// tells the owner.
    ///
    /// # Errors
    /// [`AccountError`]; then nothing has changed.
    pub async fn set_password(
        &self,
        call: &Call,
        uid: &UserId,
        password: Secret,
    ) -> Result<Administration, AccountError> {
        let outcome = self.try_set_password(uid, password).await?;
        record(call, AuditAction::SetPassword, &outcome, Some(uid));
        if let Administration::Done(account) = &outcome {
            self.tell_owner(account).await;
        }
        Ok(outcome)
    }

    async fn try_set_password(
        &self,
        uid: &UserId,
        password: Secret,
    ) -> Result<Administration, AccountError> {
        let Some(account) = self.parts.store.account(uid).await? else {
            return Ok(refused(AdministrationRefusal::NoAccount));
        };
        if account.status == AccountStatus::Pending {
            return Ok(refused(AdministrationRefusal::Pending));
        }
        let wanted = typed_once(password);
        if let Err(refusal) = self.check(&wanted, &account) {
            return Ok(refused(AdministrationRefusal::Password(refusal)));
        }
        let password = NewPassword {
            hash: self.parts.passwords.hash(wanted.new).await?,
            revoke_keys: false,
        };
        let written = self
            .parts
            .store
            .change_password(uid, account.generation, password, None)
            .await?;
        Ok(match written {
            Guarded::Done(account) => Administration::Done(Box::new(account)),
            Guarded::Stale => refused(AdministrationRefusal::Changed),
        })
    }

    /// Changes an account: status, administrator or not, global roles, whether the password must change. It counts on
    /// the next request.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn change(
        &self,
        call: &Call,
        actor: Actor<'_>,
        id: &AccountId,
        change: AccountChange,
    ) -> Result<Administration, AccountError> {
        let Some(account) = self.parts.store.account_by_id(id).await? else {
            let outcome = refused(AdministrationRefusal::NoAccount);
            record(call, AuditAction::ChangeAccount, &outcome, None);
            return Ok(outcome);
        };
        let outcome = match self.checked_change(actor, &account, change) {
            Err(refusal) => refused(refusal),
            Ok(change) => {
                let written = self
                    .parts
                    .store
                    .update_account(&account.uid, change)
                    .await?;
                written.map_or_else(
                    || refused(AdministrationRefusal::NoAccount),
                    |account| Administration::Done(Box::new(account)),
                )
            }
        };
        record(
            call,
            AuditAction::ChangeAccount,
            &outcome,
            Some(&account.uid),
        );
        Ok(outcome)
    }

    fn checked_change(
        &self,
        actor: Actor<'_>,
        account: &Account,
        mut change: AccountChange,
    ) -> Result<AccountChange, AdministrationRefusal> {
        if let Actor::Caller(identity) = actor
            && matches!(&identity.principal, Principal::Own { account: own, .. } if own.uid == account.uid)
        {
            return Err(AdministrationRefusal::OwnAccount);
        }
        if account.status == AccountStatus::Pending && change.status.is_some() {
            return Err(AdministrationRefusal::Pending);
        }
        if let Some(roles) = &mut change.roles {
            if roles.iter().any(|role| self.is_reserved(role)) {
                return Err(AdministrationRefusal::RoleReserved);
            }
            roles.sort();
            roles.dedup();
        }
        Ok(change)
    }

    /// Whether a role comes from status, `is_admin`, `password_must_change` or a membership, and from nothing else.
    fn is_reserved(&self, role: &Role) -> bool {
        let settings = &self.parts.roles;
        matches!(role.as_str(), Role::USER | Role::ADMIN | Role::PWCHANGE)
            || ResourceRole::parse(role.as_str(), &settings.resources, &settings.ladder).is_some()
    }
}

fn typed_once(password: Secret) -> WantedPassword {
    WantedPassword {
        verify: password.clone(),
        new: password,
        revoke_keys: false,
    }
}

fn refused(refusal: AdministrationRefusal) -> Administration {
    Administration::Refused(refusal)
}

fn record(call: &Call, action: AuditAction, outcome: &Administration, subject: Option<&UserId>) {
    let (code, uid) = match outcome {
        Administration::Done(account) => ("ok", Some(&account.uid)),
        Administration::Refused(refusal) => (refusal.code(), subject),
    };
    call.record(action, code, uid.map(UserId::as_str), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, identity};
    use crate::store::Store;

    fn refusal(outcome: Administration) -> Option<AdministrationRefusal> {
        match outcome {
            Administration::Done(_) => None,
            Administration::Refused(refusal) => Some(refusal),
        }
    }

    fn role(text: &str) -> Role {
        Role::parse(text).unwrap()
    }

    #[tokio::test]
    async fn changes_that_would_lock_out_or_forge_are_refused() {
        let kit = Kit::new();
        let root = kit.administrator("root").await;
        let anna = kit.person("anna").await;
        kit.register("pending").await;
        let accounts = kit.store.accounts(None, 10).await.unwrap();
        let is_pending = |account: &&Account| account.status == AccountStatus::Pending;
        let pending = accounts.iter().find(is_pending).unwrap();
        let demoted = AccountChange {
            is_admin: Some(false),
            ..AccountChange::default()
        };
        let activated = AccountChange {
            status: Some(AccountStatus::Active),
            ..AccountChange::default()
        };
        let with_roles = |roles: &[&str]| AccountChange {
            roles: Some(roles.iter().map(|text| role(text)).collect()),
            ..AccountChange::default()
        };
        let reserved = Some(AdministrationRefusal::RoleReserved);
        let cases = [
            (
                &root,
                demoted.clone(),
                Some(AdministrationRefusal::OwnAccount),
            ),
            (pending, activated, Some(AdministrationRefusal::Pending)),
            (&anna, with_roles(&["admin"]), reserved.clone()),
            (&anna, with_roles(&["list-42-member"]), reserved),
            (&anna, with_roles(&["editor", "author", "editor"]), None),
        ];
        let caller = identity(&root, None, &["auth:admin"]);
        for (account, change, expected) in cases {
            let outcome = kit
                .accounts
                .change(
                    &Call::default(),
                    Actor::Caller(&caller),
                    &account.account_id,
                    change,
                )
                .await;
            assert_eq!(refusal(outcome.unwrap()), expected);
        }
        assert_eq!(
            kit.stored(&anna).await.roles,
            [role("author"), role("editor")]
        );
        // The operator at the machine may do what nobody may do to themselves.
        let outcome = kit
            .accounts
            .change(&Call::cli(), Actor::Operator, &root.account_id, demoted)
            .await;
        assert_eq!(refusal(outcome.unwrap()), None);
    }

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
            refusal(outcome.unwrap())
        };
        let name_taken = Some(AdministrationRefusal::UsernameTaken);
        let address_taken = Some(AdministrationRefusal::IdentityTaken);
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
        assert!(matches!(
            set,
            crate::account::password::PasswordSet::Done(_)
        ));
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
        assert_eq!(refusal(outcome.unwrap()), None);
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

    #[tokio::test]
    async fn pages_follow_each_other_without_gap() {
        let kit = Kit::new();
        for number in 0..=PAGE {
            kit.register(&format!("person{number}")).await;
        }
        let first = kit.accounts.list(None).await.unwrap();
        assert_eq!(first.items.len(), PAGE);
        let second = kit.accounts.list(first.next.as_ref()).await.unwrap();
        assert_eq!((second.items.len(), second.next), (1, None));
        assert!(!first.items.contains(&second.items[0]));
    }
}
