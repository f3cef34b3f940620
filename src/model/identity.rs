//! A caller as verified for this request.

use crate::model::access::{ResourceRole, Role, Scope};
use crate::model::account::Account;
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, SessionId, UserId};

/// By what a caller was recognised; the value of `X-Auth-Method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthnMethod {
    /// A bearer token, ours or a foreign issuer's.
    Jwt,
    /// An API key.
    ApiKey,
    /// The session cookie.
    Session,
    /// By nothing.
    Anonymous,
}

impl AuthnMethod {
    /// The value of `X-Auth-Method`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "apikey",
            Self::Session => "session",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// An account of ours, as it was when it was read.
    Own {
        /// The record.
        account: std::sync::Arc<Account>,
        /// The login behind the bearer token or cookie; `None` for an API key.
        session: Option<SessionId>,
    },
    /// Somebody whom a foreign issuer vouches for.
    Foreign {
        /// The issuer's configured name.
        issuer: String,
        /// `subject_prefix` and the subject claim: visible ASCII without comma, 1 to 255.
        subject: String,
        /// `subject_prefix` and the username claim.
        username: Option<String>,
    },
}

/// A principal with roles and scopes as verified for this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub principal: Principal,
    /// By what.
    pub method: AuthnMethod,
    /// Which API key.
    pub key_id: Option<KeyId>,
    /// Global roles, sorted, no two alike.
    pub roles: Vec<Role>,
    /// Resource roles, sorted by resource, then id.
    pub resource_roles: Vec<ResourceRole>,
    /// The resource roles that the credential is limited to, sorted; `None`: it is limited to none.
    pub only: Option<std::sync::Arc<[ResourceRole]>>,
    /// Scopes, sorted, no two alike.
    pub scopes: Vec<Scope>,
    /// When the credential ends; `None`: it does not by itself.
    pub expires: Option<Timestamp>,
}

impl Identity {
    /// The stable name as told to upstreams, `X-Auth-Uid`.
    #[must_use]
    pub fn subject(&self) -> &str {
        match &self.principal {
            Principal::Own { account, .. } => account.uid.as_str(),
            Principal::Foreign { subject, .. } => subject,
        }
    }

    /// The name for people, `X-Auth-Username`.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match &self.principal {
            Principal::Own { account, .. } => Some(account.username.as_str()),
            Principal::Foreign { username, .. } => username.as_deref(),
        }
    }

    /// The uid of an account of ours.
    #[must_use]
    pub fn own_uid(&self) -> Option<&UserId> {
        match &self.principal {
            Principal::Own { account, .. } => Some(&account.uid),
            Principal::Foreign { .. } => None,
        }
    }

    /// How many roles and scopes it has: what it takes of memory beyond the few that everybody has.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.roles.len() + self.resource_roles.len() + self.scopes.len()
    }

    /// The length of all its texts together: others choose how long they are.
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

    /// What is left of a resource role under the limits of the credential; `None`: nothing.
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
