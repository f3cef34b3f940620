//! The identity of a caller, as verified for one request.

use crate::model::access::{ResourceRole, Role, Scope};
use crate::model::account::Account;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, SessionId, UserId};
use crate::model::table::table;

table! {
    /// The means by which a caller was authenticated; the value of `X-Auth-Method`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum AuthnMethod {
        /// A bearer token, of this gateway or of a foreign issuer.
        Jwt => "jwt",
        /// An API key.
        ApiKey => "apikey",
        /// The session cookie.
        Session => "session",
        /// None.
        Anonymous => "anonymous",
    }
    /// Returns the value of `X-Auth-Method`.
    pub fn as_str() -> &'static str;
}

/// The user or service that acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// An account of this gateway, as it was when read.
    Own {
        /// The account's record.
        account: std::sync::Arc<Account>,
        /// The login behind the bearer token or cookie; `None` for an API key.
        session: Option<SessionId>,
    },
    /// A principal known to a foreign issuer.
    Foreign {
        /// The issuer's configured name.
        issuer: String,
        /// `subject_prefix` followed by the subject claim: visible ASCII without comma, 1 to 255.
        subject: String,
        /// `subject_prefix` followed by the username claim.
        username: Option<String>,
    },
}

/// A principal with roles and scopes as verified for this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user or service.
    pub principal: Principal,
    /// The means of authentication.
    pub method: AuthnMethod,
    /// The id of the API key, if one was used.
    pub key_id: Option<KeyId>,
    /// Global roles, sorted and distinct.
    pub roles: Vec<Role>,
    /// Resource roles, sorted by resource, then id.
    pub resource_roles: Vec<ResourceRole>,
    /// The resource roles that the credential is limited to, sorted; `None`: no limit.
    pub only: Option<std::sync::Arc<[ResourceRole]>>,
    /// Scopes, sorted and distinct.
    pub scopes: Vec<Scope>,
    /// Time of expiry of the credential; `None`: it does not expire by itself.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// Returns the stable name that upstreams receive as `X-Auth-Uid`.
    #[must_use]
    pub fn subject(&self) -> &str {
        match &self.principal {
            Principal::Own { account, .. } => account.uid.as_str(),
            Principal::Foreign { subject, .. } => subject,
        }
    }

    /// Returns the human-readable name, `X-Auth-Username`.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match &self.principal {
            Principal::Own { account, .. } => Some(account.username.as_str()),
            Principal::Foreign { username, .. } => username.as_deref(),
        }
    }

    /// Returns the uid, if the principal is an account of this gateway.
    #[must_use]
    pub fn own_uid(&self) -> Option<&UserId> {
        match &self.principal {
            Principal::Own { account, .. } => Some(&account.uid),
            Principal::Foreign { .. } => None,
        }
    }

    /// Returns the number of roles and scopes: a measure of the memory used beyond the few that every identity has.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.roles.len() + self.resource_roles.len() + self.scopes.len()
    }

    /// Returns the total length of all texts, which others choose.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let roles = self.roles.iter().map(|role| role.as_str().len());
        let resource_roles = self
            .resource_roles
            .iter()
            .map(|role| role.id.as_str().len());
        let scopes = self.scopes.iter().map(|scope| scope.as_str().len());
        let names = self.subject().len() + self.username().map_or(0, str::len);
        names + roles.chain(resource_roles).chain(scopes).sum::<usize>()
    }

    /// Whether it has this global role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles
            .binary_search_by(|have| have.as_str().cmp(role))
            .is_ok()
    }

    /// Limits a resource role to the credential's limits; `None` if nothing remains.
    #[must_use]
    pub fn narrowed(&self, role: ResourceRole) -> Option<ResourceRole> {
        let Some(only) = &self.only else {
            return Some(role);
        };
        let is_it = |limit: &&ResourceRole| limit.resource == role.resource && limit.id == role.id;
        let limit = only.iter().find(is_it)?;
        Some(ResourceRole {
            rank: role.rank.min(limit.rank),
            ..role
        })
    }

    /// Whether it has this scope.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes
            .binary_search_by(|have| have.as_str().cmp(scope))
            .is_ok()
    }
}
