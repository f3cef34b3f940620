//! Roles as text: those of a caller, or of an account that an administrator asks about.

use crate::account::{AccountError, Accounts};
use crate::model::access::{ResourceRole, Role};
use crate::model::account::AccountStatus;
use crate::model::id::UserId;
use crate::model::identity::Identity;

/// Which roles are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFilter {
    /// Only those of this kind of resource.
    pub resource: Option<String>,
    /// And of this one.
    pub id: Option<String>,
}

impl RoleFilter {
    /// Global roles concern no resource.
    fn takes_global(&self) -> bool {
        self.resource.is_none()
    }

    fn takes(&self, resource: &str, id: &str) -> bool {
        self.resource.as_deref().is_none_or(|want| want == resource)
            && self.id.as_deref().is_none_or(|want| want == id)
    }
}

impl Accounts {
    /// The roles of a caller as verified for this request: global ones, then `<resource>-<id>-<level>`.
    #[must_use]
    pub fn roles_of_caller(&self, identity: &Identity, filter: &RoleFilter) -> Vec<String> {
        let mut roles = Vec::new();
        if filter.takes_global() {
            roles.extend(identity.roles.iter().map(|role| role.as_str().to_owned()));
        }
        let ladder = &self.parts.roles.ladder;
        for role in &identity.resource_roles {
            if filter.takes(role.resource.as_str(), role.id.as_str()) {
                roles.extend(role.names(ladder));
            }
        }
        roles
    }

    /// The roles that an account has now; `None`: there is no such account. One that is not active has none.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn roles_of_account(
        &self,
        uid: &UserId,
        filter: &RoleFilter,
    ) -> Result<Option<Vec<String>>, AccountError> {
        let Some(account) = self.parts.store.account(uid).await? else {
            return Ok(None);
        };
        if account.status != AccountStatus::Active {
            return Ok(Some(Vec::new()));
        }
        let mut roles = Vec::new();
        if account.password_must_change {
            roles.extend(filter.takes_global().then(|| Role::PWCHANGE.to_owned()));
            return Ok(Some(roles));
        }
        if filter.takes_global() {
            let global = account.global_roles(account.is_admin);
            roles.extend(global.into_iter().map(String::from));
        }
        let settings = &self.parts.roles;
        for membership in self.parts.store.memberships_of(uid).await? {
            if filter.takes(membership.resource.as_str(), membership.id.as_str()) {
                let role = ResourceRole::of(&membership, &settings.resources, &settings.ladder);
                roles.extend(role.iter().flat_map(|role| role.names(&settings.ladder)));
            }
        }
        Ok(Some(roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Actor;
    use crate::account::call::Call;
    use crate::account::test_kit::Kit;
    use crate::store::{AccountChange, Store};

    #[tokio::test]
    async fn roles_are_global_ones_and_all_levels_down_to_the_second() {
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        let call = Call::cli();
        for (id, level) in [("42", "manager"), ("4-2", "invitee"), ("7", "public")] {
            let list = kit.accounts.resource("list", id).unwrap();
            let change = (&anna.uid, level);
            let set = kit
                .accounts
                .set_member(&call, Actor::Operator, &list, change)
                .await;
            assert!(set.is_ok());
        }
        let roles = async |resource: Option<&str>, id: Option<&str>| {
            let filter = RoleFilter {
                resource: resource.map(str::to_owned),
                id: id.map(str::to_owned),
            };
            let found = kit.accounts.roles_of_account(&anna.uid, &filter).await;
            found.unwrap().unwrap()
        };
        let of_42 = ["list-42-invitee", "list-42-member", "list-42-manager"];
        assert_eq!(roles(Some("list"), Some("42")).await, of_42);
        assert!(roles(Some("list"), Some("4")).await.is_empty());
        assert!(roles(Some("event"), None).await.is_empty());
        assert!(roles(Some("list"), Some("7")).await.is_empty());
        let all = roles(None, None).await;
        assert_eq!(all.len(), 5, "{all:?}");
        assert_eq!(all[0], "user");

        let change = AccountChange {
            password_must_change: Some(true),
            ..AccountChange::default()
        };
        kit.store.update_account(&anna.uid, change).await.unwrap();
        assert_eq!(roles(None, None).await, ["pwchange"]);
    }
}
