//! May this identity use this route: pure.

use std::sync::Arc;

use crate::model::access::{
    Ladder, Name, Rank, Requirement, ResourceId, ResourceRole, Role, RoleTemplate,
};
use crate::model::deny::DenyReason;
use crate::model::identity::Identity;
use crate::model::route::{Route, Segment};

/// A route with its requirement ready to be compared: captures by place, resource roles taken apart.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) route: Arc<Route>,
    any_role: Vec<CompiledRole>,
}

#[derive(Debug)]
enum CompiledRole {
    Plain(Role),
    Fixed {
        resource: Name,
        id: ResourceId,
        rank: Rank,
    },
    Captured {
        resource: Name,
        capture: usize,
        rank: Rank,
    },
}

impl CompiledRoute {
    pub(crate) fn new(route: Arc<Route>, resources: &[Name], ladder: &Ladder) -> Self {
        let captures: Vec<_> = route
            .path
            .segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Capture(name) => Some(name.as_str()),
                Segment::Literal(_) => None,
            })
            .collect();
        let any_role = match &route.require {
            Requirement::Rights { any_role, .. } => any_role
                .iter()
                .map(|template| match template {
                    RoleTemplate::Plain(role) => {
                        match ResourceRole::parse(role.as_str(), resources, ladder) {
                            Some(ResourceRole {
                                resource, id, rank, ..
                            }) => CompiledRole::Fixed { resource, id, rank },
                            None => CompiledRole::Plain(role.clone()),
                        }
                    }
                    RoleTemplate::Resource {
                        resource,
                        capture,
                        rank,
                        ..
                    } => CompiledRole::Captured {
                        resource: resource.clone(),
                        // The configuration refuses a name that the path does not have; an impossible place yields no role.
                        capture: captures
                            .iter()
                            .position(|name| name == capture)
                            .unwrap_or(usize::MAX),
                        rank: *rank,
                    },
                })
                .collect(),
            _ => Vec::new(),
        };
        Self { route, any_role }
    }

    /// Whether the identity meets the requirement, the roles first.
    ///
    /// `captures`: the captured segments of the path that matched, in order.
    pub(crate) fn permit(&self, identity: &Identity, captures: &[&str]) -> Result<(), DenyReason> {
        if identity.has_role(Role::PWCHANGE) && identity.own_uid().is_some() {
            return Err(DenyReason::PasswordMustChange);
        }
        let Requirement::Rights {
            any_role,
            all_scopes,
        } = &self.route.require
        else {
            return Ok(());
        };
        let has_role = any_role.is_empty()
            || self
                .any_role
                .iter()
                .any(|role| role.is_met(identity, captures));
        if !has_role {
            return Err(DenyReason::RoleMissing);
        }
        let has_scopes = all_scopes
            .iter()
            .all(|scope| identity.has_scope(scope.as_str()));
        if has_scopes {
            Ok(())
        } else {
            Err(DenyReason::ScopeMissing)
        }
    }
}

impl CompiledRole {
    fn is_met(&self, identity: &Identity, captures: &[&str]) -> bool {
        match self {
            Self::Plain(role) => identity.has_role(role.as_str()),
            Self::Fixed { resource, id, rank } => has_level(identity, resource, id.as_str(), *rank),
            Self::Captured {
                resource,
                capture,
                rank,
            } => {
                // A captured text that is no id (a percent sign in it, say) equals no stored id.
                captures
                    .get(*capture)
                    .is_some_and(|id| has_level(identity, resource, id, *rank))
            }
        }
    }
}

/// Whether the identity has the role of a level on one resource. The lowest level yields no role, whoever asks.
pub(crate) fn has_level(identity: &Identity, resource: &Name, id: &str, rank: Rank) -> bool {
    roles_on(identity, resource, id).any(|role| {
        Rank(0) < rank
            && if role.exact {
                role.rank == rank
            } else {
                rank <= role.rank
            }
    })
}

/// All resource roles on one resource: they stand side by side.
pub(crate) fn roles_on<'i>(
    identity: &'i Identity,
    resource: &Name,
    id: &str,
) -> impl Iterator<Item = &'i ResourceRole> {
    let roles = &identity.resource_roles;
    let key = (resource.as_str(), id);
    let start = roles.partition_point(|role| (role.resource.as_str(), role.id.as_str()) < key);
    let rest = roles.get(start..).unwrap_or_default();
    let count = rest
        .iter()
        .take_while(|role| (role.resource.as_str(), role.id.as_str()) == key)
        .count();
    rest.get(..count).unwrap_or_default().iter()
}
