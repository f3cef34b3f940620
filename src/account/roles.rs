//! Roles as text: those of a caller, or of an account that an administrator queries.

use std::time::Duration;

use crate::account::members::Resource;
use crate::account::{AccountError, Accounts};
use crate::model::access::{Membership, ResourceId, ResourceRole, Role};
use crate::model::account::AccountStatus;
use crate::model::id::UserId;
use crate::model::identity::Identity;
use crate::role_source::CacheUse;

/// Which roles to return.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFilter {
    /// Only roles on this kind of resource.
    pub resource: Option<String>,
    /// Only roles on the resource with this id.
    pub id: Option<String>,
}

/// The roles on one resource, read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshedRoles {
    /// The current roles.
    pub roles: Vec<String>,
    /// Whether they differ from those of the caller's last request.
    pub changed: bool,
}

impl RoleFilter {
    /// Whether global roles pass the filter. They concern no resource.
    fn takes_global(&self) -> bool {
        self.resource.is_none()
    }

    fn takes(&self, resource: &str, id: &str) -> bool {
        self.resource.as_deref().is_none_or(|want| want == resource)
            && self.id.as_deref().is_none_or(|want| want == id)
    }
}

impl Accounts {
    /// Returns the roles of a caller as verified for this request: global roles, then `<resource>-<id>-<level>`.
    #[must_use]
    pub fn roles_of_caller(&self, identity: &Identity, filter: &RoleFilter) -> Vec<String> {
        let mut roles = Vec::new();
        if filter.takes_global() {
            roles.extend(identity.roles.iter().map(|role| role.as_str().to_owned()));
        }
        for role in &identity.resource_roles {
            if filter.takes(role.resource.as_str(), role.id.as_str()) {
                self.push_names(&mut roles, role);
            }
        }
        roles
    }

    /// Returns the roles that other services grant to an account on the resources that pass the filter. With an id
    /// every source is queried, without an id only those that support it. Empty for a foreign identity, about which no
    /// source is queried.
    ///
    /// # Errors
    /// [`AccountError::RoleSource`]
    pub async fn given_roles_of_caller(
        &self,
        identity: &Identity,
        filter: &RoleFilter,
    ) -> Result<Vec<String>, AccountError> {
        let Some(uid) = identity.own_uid() else {
            return Ok(Vec::new());
        };
        self.given_roles(uid, Some(identity), filter).await
    }

    async fn given_roles(
        &self,
        uid: &UserId,
        identity: Option<&Identity>,
        filter: &RoleFilter,
    ) -> Result<Vec<String>, AccountError> {
        let sources = &self.role_sources;
        let mut names = Vec::new();
        for resource in sources.resources() {
            let want = filter.resource.as_deref();
            if want.is_some_and(|want| want != resource.as_str()) {
                continue;
            }
            let found = sources
                .roles(uid, resource, filter.id.as_deref(), CacheUse::Cached)
                .await?;
            self.push_given(&mut names, &found, identity, filter);
        }
        Ok(names)
    }

    fn push_given(
        &self,
        names: &mut Vec<String>,
        given: &[ResourceRole],
        identity: Option<&Identity>,
        filter: &RoleFilter,
    ) {
        let is_taken =
            |role: &&ResourceRole| filter.takes(role.resource.as_str(), role.id.as_str());
        for role in given.iter().filter(is_taken).cloned() {
            let narrowed = match identity {
                Some(identity) => identity.narrowed(role),
                None => Some(role),
            };
            if let Some(role) = narrowed {
                self.push_names(names, &role);
            }
        }
    }

    /// Adds the names of a role on a resource, lowest level first.
    fn push_names(&self, names: &mut Vec<String>, role: &ResourceRole) {
        names.extend(role.names(&self.roles.ladder).map(|name| name.to_string()));
    }

    /// Returns the current roles of a caller on one resource, and whether they differ from those of `before`, the
    /// identity of the caller's last request.
    ///
    /// # Errors
    /// [`AccountError::RoleSource`] and, for a forced reading, [`AccountError::Store`]
    pub async fn refresh_roles(
        &self,
        identity: &Identity,
        before: Option<&Identity>,
        resource: &Resource,
        reading: CacheUse,
    ) -> Result<RefreshedRoles, AccountError> {
        let Resource { kind, id } = resource;
        let filter = RoleFilter {
            resource: Some(kind.as_str().to_owned()),
            id: Some(id.as_str().to_owned()),
        };
        let (mut roles, mut last) = (Vec::new(), Vec::new());
        let (sources, uid) = (&self.role_sources, identity.own_uid());
        if let Some(uid) = uid.filter(|_| sources.speaks_for(kind)) {
            let known = sources.last(uid, kind, id.as_str());
            let known = known.as_deref().unwrap_or_default();
            let given = sources.roles(uid, kind, Some(id.as_str()), reading).await?;
            self.push_given(&mut last, known, Some(identity), &filter);
            self.push_given(&mut roles, &given, Some(identity), &filter);
        } else {
            last = before.map_or_else(Vec::new, |before| self.roles_of_caller(before, &filter));
            roles = match uid.filter(|_| reading == CacheUse::Forced) {
                Some(uid) => self.stored_roles(uid, identity, resource).await?,
                None => self.roles_of_caller(identity, &filter),
            };
        }
        Ok(RefreshedRoles {
            changed: roles != last,
            roles,
        })
    }

    /// Reads roles from the store, bypassing everything that is cached of it.
    async fn stored_roles(
        &self,
        uid: &UserId,
        identity: &Identity,
        resource: &Resource,
    ) -> Result<Vec<String>, AccountError> {
        // Voids what is cached of this account, so that later reads are fresh too.
        self.store.generations().touch(uid);
        let mut roles = Vec::new();
        for membership in self.store.memberships_of(uid).await? {
            let is_it = membership.resource == resource.kind && membership.id == resource.id;
            let role = self.stored_role(&membership).filter(|_| is_it);
            if let Some(role) = role.and_then(|role| identity.narrowed(role)) {
                self.push_names(&mut roles, &role);
            }
        }
        Ok(roles)
    }

    /// Counts a forced reading against the limit of a caller.
    ///
    /// # Errors
    /// The time to wait, if the caller has used up the readings of this minute.
    pub fn count_forced(&self, identity: &Identity) -> Result<(), Duration> {
        self.role_sources.count_forced(identity.subject())
    }

    /// Returns the resource with this kind and id, whichever service owns its memberships; `None` if the kind is not
    /// declared or the id is invalid.
    #[must_use]
    pub fn declared_resource(&self, kind: &str, id: &str) -> Option<Resource> {
        let mut declared = self.roles.resources.iter();
        Some(Resource {
            kind: declared.find(|name| name.as_str() == kind)?.clone(),
            id: ResourceId::parse(id).ok()?,
        })
    }

    /// Returns the current roles of an account, including those of [`Accounts::given_roles_of_caller`]; `None` if there
    /// is no such account. An account that is not active has no roles.
    ///
    /// # Errors
    /// [`AccountError::Store`] and [`AccountError::RoleSource`]
    pub async fn roles_of_account(
        &self,
        uid: &UserId,
        filter: &RoleFilter,
    ) -> Result<Option<Vec<String>>, AccountError> {
        let Some(account) = self.store.account(uid).await? else {
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
        let settings = &self.roles;
        for membership in self.store.memberships_of(uid).await? {
            if filter.takes(membership.resource.as_str(), membership.id.as_str()) {
                let role = ResourceRole::of(&membership, &settings.resources, &settings.ladder);
                if let Some(role) = role {
                    self.push_names(&mut roles, &role);
                }
            }
        }
        roles.extend(self.given_roles(uid, None, filter).await?);
        Ok(Some(roles))
    }

    /// Returns the role that a stored membership confers; `None` if another service owns the memberships of its
    /// resource.
    fn stored_role(&self, membership: &Membership) -> Option<ResourceRole> {
        let settings = &self.roles;
        let role = ResourceRole::of(membership, &settings.resources, &settings.ladder);
        role.filter(|role| settings.is_stored(&role.resource))
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
