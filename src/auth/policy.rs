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
#[derive(Debug, PartialEq, Eq)]
struct RequiredResource {
    resource: Name,
    id: RequiredId,
}

#[derive(Debug, PartialEq, Eq)]
enum RequiredId {
    Fixed(ResourceId),
    Captured(usize),
}

#[derive(Debug)]
enum CompiledRole {
    Plain(Role),
    Fixed {
        resource: Name,
        id: ResourceId,
        rank: LevelRank,
    },
    Captured {
        resource: Name,
        capture: usize,
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
        let any_role: Vec<_> = match &route.require {
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
                        // The configuration refuses a name that the path does not have; an impossible index yields no
                        // role.
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
        let mut sourced = Vec::new();
        for concern in any_role.iter().filter_map(CompiledRole::concern) {
            if settings.sourced.contains(&concern.resource) && !sourced.contains(&concern) {
                sourced.push(concern);
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
        self.sourced.iter().filter_map(|concern| {
            let id = match &concern.id {
                RequiredId::Fixed(id) => id.as_str(),
                RequiredId::Captured(place) => captures.get(*place)?,
            };
            Some((&concern.resource, id))
        })
    }

    /// Returns the roles of the requirement, with its captures filled in.
    pub(crate) fn roles_asked(&self, captures: &[&str], ladder: &LevelOrder) -> Vec<String> {
        let named = |resource: &Name, id: &str, rank: LevelRank| {
            let level = ladder.name(rank).map_or("", Name::as_str);
            format!("{resource}-{id}-{level}")
        };
        let roles = self.any_role.iter().map(|role| match role {
            CompiledRole::Plain(role) => role.as_str().to_owned(),
            CompiledRole::Fixed { resource, id, rank } => named(resource, id.as_str(), *rank),
            CompiledRole::Captured {
                resource,
                capture,
                rank,
            } => named(resource, captures.get(*capture).unwrap_or(&""), *rank),
        });
        roles.collect()
    }

    /// Returns the resources of the requirement, by kind and id.
    pub(crate) fn concerns<'c>(
        &'c self,
        captures: &'c [&str],
    ) -> impl Iterator<Item = (Name, String)> + 'c {
        let concerns = self.any_role.iter().filter_map(CompiledRole::concern);
        concerns.filter_map(|concern| {
            let id = match &concern.id {
                RequiredId::Fixed(id) => id.as_str(),
                RequiredId::Captured(place) => captures.get(*place)?,
            };
            Some((concern.resource.clone(), id.to_owned()))
        })
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

impl CompiledRole {
    fn concern(&self) -> Option<RequiredResource> {
        match self {
            Self::Plain(_) => None,
            Self::Fixed { resource, id, .. } => Some(RequiredResource {
                resource: resource.clone(),
                id: RequiredId::Fixed(id.clone()),
            }),
            Self::Captured {
                resource, capture, ..
            } => Some(RequiredResource {
                resource: resource.clone(),
                id: RequiredId::Captured(*capture),
            }),
        }
    }

    fn is_met(&self, identity: &Identity, given: &[ResourceRole], captures: &[&str]) -> bool {
        let has_level = |resource: &Name, id: &str, rank: LevelRank| {
            has_level(&identity.resource_roles, resource, id, rank)
                || has_level(given, resource, id, rank)
        };
        match self {
            Self::Plain(role) => identity.has_role(role.as_str()),
            Self::Fixed { resource, id, rank } => has_level(resource, id.as_str(), *rank),
            Self::Captured {
                resource,
                capture,
                rank,
            } => {
                // A captured text that is not an id (one with a percent sign, for example) equals no stored id.
                captures
                    .get(*capture)
                    .is_some_and(|id| has_level(resource, id, *rank))
            }
        }
    }
}

/// Whether sorted roles contain the role of a level on one resource. The lowest level yields no role.
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
