//! Administration: administrators and the operator list and change accounts.

use crate::account::call::Call;
use crate::account::halt::{Halt, Refuses, refusals};
use crate::account::page::{PAGE, Page};
use crate::account::register::NewPerson;
use crate::account::{AccountError, Accounts, Actor};
use crate::model::access::Role;
use crate::model::account::{Account, AccountStatus};
use crate::model::error_code::ErrorCode;
use crate::model::id::AccountId;
use crate::model::identity::Principal;
use crate::store::AccountChange;
use crate::telemetry::audit::AuditAction;

refusals! {
    /// Why no account was created.
    pub enum CreationRefusal {
        /// The name belongs to another account.
        UsernameTaken => ErrorCode::UsernameTaken,
        /// The address belongs to another account.
        IdentityTaken => ErrorCode::IdentityTaken,
        /// The role is reserved and cannot be assigned.
        RoleReserved => ErrorCode::RoleReserved,
        /// The account has changed meanwhile.
        Changed => ErrorCode::AccountChanged,
    }
}

refusals! {
    /// Why an account was not removed.
    pub enum RemovalRefusal {
        /// There is no such account.
        NoAccount => ErrorCode::NotFound,
        /// Administrators may not remove their own account, which could lock out all administrators.
        OwnAccount => ErrorCode::OwnAccount,
    }
}

refusals! {
    /// Why an account was not changed.
    pub enum AccountChangeRefusal {
        /// There is no such account.
        NoAccount => ErrorCode::NotFound,
        /// Administrators may not change their own account, which could lock out all administrators.
        OwnAccount => ErrorCode::OwnAccount,
        /// A pending account becomes active only by its first password.
        Pending => ErrorCode::AccountPending,
        /// The role is reserved and cannot be assigned.
        RoleReserved => ErrorCode::RoleReserved,
    }
}

impl Accounts {
    /// Returns accounts in the order of their record ids, starting after `after`.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn list(
        &self,
        after: Option<&AccountId>,
    ) -> Result<Page<Account, AccountId>, AccountError> {
        let items = self.services.store.accounts(after, PAGE + 1).await?;
        Ok(Page::of(items, |account| account.account_id.clone()))
    }

    /// Returns one account by its record id.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn account_by_id(&self, id: &AccountId) -> Result<Option<Account>, AccountError> {
        Ok(self.services.store.account_by_id(id).await?)
    }

    /// Invites a person: creates a pending account with these rights, and mails a confirm token as an invitation. Works
    /// whatever `account.registration` is set to.
    ///
    /// # Errors
    /// [`CreationRefusal`], [`AccountError::Store`]
    pub async fn invite(
        &self,
        call: &Call,
        person: NewPerson,
        is_admin: bool,
        mut roles: Vec<Role>,
    ) -> Result<Account, Halt<CreationRefusal>> {
        roles.sort();
        roles.dedup();
        let invited = if roles.iter().any(|role| self.is_reserved(role)) {
            Err(CreationRefusal::RoleReserved.into())
        } else {
            self.create_pending(call, person, is_admin, roles).await
        };
        settle_creation(call, invited)
    }

    /// Removes an account permanently: its credentials, sessions, keys, memberships and settings are deleted; its uid
    /// and its name stay taken. Callers cannot remove their own account.
    ///
    /// # Errors
    /// [`RemovalRefusal`], [`AccountError::Store`]
    pub async fn remove(
        &self,
        call: &Call,
        actor: Actor<'_>,
        id: &AccountId,
    ) -> Result<Account, Halt<RemovalRefusal>> {
        let action = AuditAction::RemoveAccount;
        let found = self.services.store.account_by_id(id).await?;
        let uid = found.as_ref().map(|account| account.uid.clone());
        let removed = async {
            let account = found.ok_or(RemovalRefusal::NoAccount)?;
            if is_own(actor, &account) {
                return Err(RemovalRefusal::OwnAccount.into());
            }
            self.begin(call, action, Some(&account.uid), None).await?;
            let removed = self.services.store.remove_account(&account.uid).await?;
            Ok(removed.ok_or(RemovalRefusal::NoAccount)?)
        };
        call.settle(action, uid.as_ref(), None, removed.await)
    }

    /// Changes an account: its status, whether it is an administrator, its global roles, and whether its password must
    /// change. Takes effect on the next request.
    ///
    /// # Errors
    /// [`AccountChangeRefusal`], [`AccountError::Store`]
    pub async fn change(
        &self,
        call: &Call,
        actor: Actor<'_>,
        id: &AccountId,
        change: AccountChange,
    ) -> Result<Account, Halt<AccountChangeRefusal>> {
        let action = AuditAction::ChangeAccount;
        let found = self.services.store.account_by_id(id).await?;
        let uid = found.as_ref().map(|account| account.uid.clone());
        let changed = async {
            let account = found.ok_or(AccountChangeRefusal::NoAccount)?;
            let change = self.checked_change(actor, &account, change)?;
            self.begin(call, action, Some(&account.uid), None).await?;
            let changed = self
                .services
                .store
                .update_account(&account.uid, change)
                .await?;
            Ok(changed.ok_or(AccountChangeRefusal::NoAccount)?)
        };
        call.settle(action, uid.as_ref(), None, changed.await)
    }

    fn checked_change(
        &self,
        actor: Actor<'_>,
        account: &Account,
        change: AccountChange,
    ) -> Result<AccountChange, AccountChangeRefusal> {
        if is_own(actor, account) {
            return Err(AccountChangeRefusal::OwnAccount);
        }
        if account.status == AccountStatus::Pending && change.status.is_some() {
            return Err(AccountChangeRefusal::Pending);
        }
        let mut roles = change.roles.iter().flatten();
        if roles.any(|role| self.is_reserved(role)) {
            return Err(AccountChangeRefusal::RoleReserved);
        }
        Ok(change)
    }

    /// Whether a role results only from status, `is_admin`, `password_must_change` or a membership.
    fn is_reserved(&self, role: &Role) -> bool {
        let settings = &self.config.roles;
        role.is_reserved(&settings.resources, &settings.ladder)
    }
}

/// Whether the actor acts on their own account.
fn is_own(actor: Actor<'_>, account: &Account) -> bool {
    let Actor::Caller(identity) = actor else {
        return false;
    };
    matches!(&identity.principal, Principal::Own { account: own, .. } if own.uid == account.uid)
}

/// Records the outcome of an account's creation. The event of a refusal names no account, because none exists.
pub(in crate::account) fn settle_creation<R: Refuses>(
    call: &Call,
    created: Result<Account, Halt<R>>,
) -> Result<Account, Halt<R>> {
    let uid = created.as_ref().ok().map(|account| account.uid.clone());
    call.settle(AuditAction::CreateAccount, uid.as_ref(), None, created)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, identity, refusal};
    use crate::store::Store;

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
        let reserved = Some(AccountChangeRefusal::RoleReserved);
        let cases = [
            (
                &root,
                demoted.clone(),
                Some(AccountChangeRefusal::OwnAccount),
            ),
            (pending, activated, Some(AccountChangeRefusal::Pending)),
            (&anna, with_roles(&["admin"]), reserved),
            (&anna, with_roles(&["Admin"]), reserved),
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
            assert_eq!(refusal(outcome), expected);
        }
        assert_eq!(
            kit.stored(&anna).await.roles,
            [role("author"), role("editor")]
        );
        // The operator at the machine may change any account, including that of the only administrator.
        let outcome = kit
            .accounts
            .change(&Call::cli(), Actor::Operator, &root.account_id, demoted)
            .await;
        assert_eq!(refusal(outcome), None);
    }

    #[tokio::test]
    async fn an_invitation_carries_the_rights_that_it_was_made_with() {
        let mut config = crate::account::test_kit::config();
        config.account.registration = crate::config::Registration::Invite;
        let kit = Kit::with(config);
        let invite = async |name: &str, roles: &[&str]| {
            let person = NewPerson::parse(&format!("{name}@example.org"), name, "N.").unwrap();
            let roles = roles.iter().map(|text| role(text)).collect();
            let call = Call::default();
            refusal(kit.accounts.invite(&call, person, true, roles).await)
        };
        let reserved = Some(CreationRefusal::RoleReserved);
        assert_eq!(invite("anna", &["editor", "admin"]).await, reserved);
        assert_eq!(invite("anna", &["list-1-member"]).await, reserved);
        assert!(kit.mailbox.take().is_empty());
        assert_eq!(invite("anna", &["editor", "author", "editor"]).await, None);
        let token = kit.mailbox.token();
        let anna = kit
            .set_by_token(&token, None, crate::account::test_kit::PASSWORD)
            .await
            .unwrap();
        assert!(anna.is_admin);
        assert_eq!(anna.roles, [role("author"), role("editor")]);
        let name_taken = Some(CreationRefusal::UsernameTaken);
        assert_eq!(invite("anna", &[]).await, name_taken);
    }

    #[tokio::test]
    async fn a_removed_account_leaves_its_uid_and_name_taken_and_its_address_free() {
        let kit = Kit::new();
        let (root, anna) = (kit.administrator("root").await, kit.person("anna").await);
        let opened = kit.login("anna", crate::account::test_kit::PASSWORD).await;
        let caller = identity(&root, None, &["auth:admin"]);
        let remove = async |id: &AccountId| {
            let (call, actor) = (Call::default(), Actor::Caller(&caller));
            refusal(kit.accounts.remove(&call, actor, id).await)
        };
        let own = Some(RemovalRefusal::OwnAccount);
        assert_eq!(remove(&root.account_id).await, own);
        assert_eq!(remove(&anna.account_id).await, None);
        let gone = Some(RemovalRefusal::NoAccount);
        assert_eq!(remove(&anna.account_id).await, gone);
        assert_eq!(kit.store.account(&anna.uid).await.unwrap(), None);
        let session = opened.unwrap().session.id;
        assert_eq!(kit.store.session(&session).await.unwrap(), None);
        assert!(kit.store.username_taken(&anna.username).await.unwrap());
        assert!(!kit.store.identity_taken(&anna.identity).await.unwrap());
        let person = NewPerson::parse("anna@example.org", "anna", "A.").unwrap();
        let made = kit.accounts.create(&Call::cli(), person, false, None).await;
        let taken = Some(CreationRefusal::UsernameTaken.into());
        assert_eq!(refusal(made), taken);
        let person = NewPerson::parse("anna@example.org", "anna2", "A.").unwrap();
        let made = kit.accounts.create(&Call::cli(), person, false, None).await;
        assert_eq!(refusal(made), None);
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
