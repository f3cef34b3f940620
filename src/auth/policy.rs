//! The pure check of an identity against the requirement of a route.

use std::sync::Arc;

use crate::config::RoleSettings;
use crate::model::access::{
    LevelOrder, LevelRank, Name, Requirement, ResourceId, ResourceRole, Role, RoleTemplate,
};
use crate::model::deny::DenyReason;
use crate::model::identity::Identity;
use crate::model::route::{Route, Segment};

/// A route with its requirement compiled for comparison: captures by index, resource roles parsed.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) route: Arc<Route>,
    any_role: Vec<CompiledRole>,
    /// The resources of `any_role` whose roles come from a role source.
    sourced: Vec<RequiredResource>,
}

/// One resource of a requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RequiredResource {
    resource: Name,
    id: RequiredId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RequiredId {
    Fixed(ResourceId),
    Captured(usize),
}

#[derive(Debug)]
enum CompiledRole {
    Plain(Role),
    Level {
        on: RequiredResource,
        rank: LevelRank,
    },
}

impl CompiledRoute {
    pub(crate) fn new(route: Arc<Route>, settings: &RoleSettings) -> Self {
        let RoleSettings {
            ladder, resources, ..
        } = settings;
        let captures: Vec<_> = route
            .path
            .segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Capture(name) => Some(name.as_str()),
                Segment::Literal(_) => None,
            })
            .collect();
        let compiled = |template: &RoleTemplate| match template {
            RoleTemplate::Plain(role) => {
                match ResourceRole::parse(role.as_str(), resources, ladder) {
                    Some(found) => CompiledRole::Level {
                        on: RequiredResource {
                            resource: found.resource,
                            id: RequiredId::Fixed(found.id),
                        },
                        rank: found.rank,
                    },
                    None => CompiledRole::Plain(role.clone()),
                }
            }
            RoleTemplate::Resource {
                resource,
                capture,
                rank,
                ..
            } => {
                // The configuration refuses a name that the path does not have. A missing capture is given an index
                // that never matches, so the role is never met.
                let place = captures.iter().position(|name| name == capture);
                CompiledRole::Level {
                    on: RequiredResource {
                        resource: resource.clone(),
                        id: RequiredId::Captured(place.unwrap_or(usize::MAX)),
                    },
                    rank: *rank,
                }
            }
        };
        let any_role: Vec<_> = match &route.require {
            Requirement::Rights { any_role, .. } => any_role.iter().map(compiled).collect(),
            _ => Vec::new(),
        };
        let mut sourced = Vec::new();
        for concern in any_role.iter().filter_map(CompiledRole::concern) {
            if settings.sourced.contains(&concern.resource) && !sourced.contains(concern) {
                sourced.push(concern.clone());
            }
        }
        Self {
            route,
            any_role,
            sourced,
        }
    }

    /// Returns the resources of the requirement, by kind and id, whose roles come from a role source.
    pub(crate) fn sourced<'c>(
        &'c self,
        captures: &'c [&str],
    ) -> impl Iterator<Item = (&'c Name, &'c str)> {
        named(self.sourced.iter(), captures)
    }

    /// Returns the roles of the requirement, with its captures filled in.
    pub(crate) fn roles_asked(&self, captures: &[&str], ladder: &LevelOrder) -> Vec<String> {
        let roles = self.any_role.iter().map(|role| match role {
            CompiledRole::Plain(role) => role.as_str().to_owned(),
            CompiledRole::Level { on, rank } => {
                let id = on.id(captures).unwrap_or_default();
                let level = ladder.name(*rank).map_or("", Name::as_str);
                format!("{}-{id}-{level}", on.resource)
            }
        });
        roles.collect()
    }

    /// Returns the resources of the requirement, by kind and id.
    pub(crate) fn concerns<'c>(
        &'c self,
        captures: &'c [&str],
    ) -> impl Iterator<Item = (&'c Name, &'c str)> {
        named(
            self.any_role.iter().filter_map(CompiledRole::concern),
            captures,
        )
    }

    /// Checks the identity against the requirement, roles first.
    ///
    /// `given`: the roles from role sources on [`CompiledRoute::sourced`]. `captures`: the captured segments of the
    /// matched path, in order.
    pub(crate) fn permit(
        &self,
        identity: &Identity,
        given: &[ResourceRole],
        captures: &[&str],
    ) -> Result<(), DenyReason> {
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
                .any(|role| role.is_met(identity, given, captures));
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

/// Returns the kinds and ids of these resources. Omits resources whose capture is missing.
fn named<'c>(
    resources: impl Iterator<Item = &'c RequiredResource>,
    captures: &'c [&str],
) -> impl Iterator<Item = (&'c Name, &'c str)> {
    resources.filter_map(|on| Some((&on.resource, on.id(captures)?)))
}

impl RequiredResource {
    /// Returns the id. A captured text that is not a valid id (one with a percent sign, for example) equals no stored
    /// id.
    fn id<'c>(&'c self, captures: &[&'c str]) -> Option<&'c str> {
        match &self.id {
            RequiredId::Fixed(id) => Some(id.as_str()),
            RequiredId::Captured(place) => captures.get(*place).copied(),
        }
    }
}

impl CompiledRole {
    const fn concern(&self) -> Option<&RequiredResource> {
        match self {
            Self::Plain(_) => None,
            Self::Level { on, .. } => Some(on),
        }
    }

    fn is_met(&self, identity: &Identity, given: &[ResourceRole], captures: &[&str]) -> bool {
        match self {
            Self::Plain(role) => identity.has_role(role.as_str()),
            Self::Level { on, rank } => on.id(captures).is_some_and(|id| {
                has_level(&identity.resource_roles, &on.resource, id, *rank)
                    || has_level(given, &on.resource, id, *rank)
            }),
        }
    }
}

/// Whether sorted roles contain the role of a level on one resource. A required level of rank 0 is never met.
fn has_level(roles: &[ResourceRole], resource: &Name, id: &str, rank: LevelRank) -> bool {
    roles_on(roles, resource, id).any(|role| {
        LevelRank(0) < rank
            && if role.exact {
                role.rank == rank
            } else {
                rank <= role.rank
            }
    })
}

/// Returns all roles on one resource from sorted resource roles, where they are adjacent.
pub(crate) fn roles_on<'i>(
    roles: &'i [ResourceRole],
    resource: &Name,
    id: &str,
) -> impl Iterator<Item = &'i ResourceRole> {
    let key = (resource.as_str(), id);
    let start = roles.partition_point(|role| (role.resource.as_str(), role.id.as_str()) < key);
    let rest = roles.get(start..).unwrap_or_default();
    let count = rest
        .iter()
        .take_while(|role| (role.resource.as_str(), role.id.as_str()) == key)
        .count();
    rest.get(..count).unwrap_or_default().iter()
}
