//! What `explain` says of a requirement that is not met: the roles and scopes that are asked for, and those that are there.

use crate::auth::policy::{CompiledRoute, roles_on};
use crate::model::access::{Ladder, Requirement, ResourceRole, Role, Scope};
use crate::model::deny::DenyReason;
use crate::model::identity::Identity;

/// How many roles or scopes of a caller are named; there may be thousands.
const NAMED_MAX: usize = 20;

/// The rights of a caller.
pub(in crate::auth) struct Rights<'a> {
    pub(in crate::auth) identity: &'a Identity,
    /// Roles that other services give, sorted.
    pub(in crate::auth) given: &'a [ResourceRole],
    pub(in crate::auth) ladder: &'a Ladder,
}

impl Rights<'_> {
    /// What is missing and what is there, after a colon; nothing where rights are not the reason.
    pub(in crate::auth) fn lacking(
        &self,
        compiled: &CompiledRoute,
        reason: DenyReason,
        captures: &[&str],
    ) -> String {
        match reason {
            DenyReason::RoleMissing => {
                let asked = compiled.roles_asked(captures, self.ladder).join(", ");
                let held = named(self.roles(compiled, captures));
                format!(": none of the roles {asked} is there; there are {held}")
            }
            DenyReason::ScopeMissing => {
                let missing = match &compiled.route.require {
                    Requirement::Rights { all_scopes, .. } => all_scopes
                        .iter()
                        .filter(|scope| !self.identity.has_scope(scope.as_str()))
                        .map(Scope::as_str)
                        .collect::<Vec<_>>(),
                    _ => Vec::new(),
                };
                let held = self.identity.scopes.iter();
                let held = named(held.map(|scope| scope.as_str().to_owned()).collect());
                let missing = missing.join(", ");
                format!(": the scopes {missing} are missing; there are {held}")
            }
            _ => String::new(),
        }
    }

    /// The names of the caller's roles: first those on the resources that the requirement is about, then global ones,
    /// then all others.
    fn roles(&self, compiled: &CompiledRoute, captures: &[&str]) -> Vec<String> {
        let held = &self.identity.resource_roles;
        let mut roles = Vec::new();
        for (resource, id) in compiled.concerns(captures) {
            roles.extend(roles_on(held, &resource, &id));
            roles.extend(roles_on(self.given, &resource, &id));
        }
        let names = |role: &ResourceRole| -> Vec<String> {
            role.names(self.ladder)
                .map(|name| name.to_string())
                .collect()
        };
        let mut all: Vec<String> = roles.iter().flat_map(|role| names(role)).collect();
        let global = self.identity.roles.iter().map(Role::as_str);
        all.extend(global.map(str::to_owned));
        all.extend(held.iter().flat_map(names));
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|name| seen.insert(name.clone()));
        all
    }
}

/// The first of these, and how many more there are.
fn named(names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let mut shown = names;
    shown.truncate(NAMED_MAX);
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
