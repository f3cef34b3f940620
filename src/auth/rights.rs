//! The explanation of an unmet requirement for `explain`: the required roles and scopes, and those the caller has.

use crate::auth::policy::{CompiledRoute, roles_on};
use crate::model::access::{LevelOrder, Requirement, ResourceRole, Role, Scope};
use crate::model::deny::DenyReason;
use crate::model::identity::Identity;

/// Maximum number of a caller's roles or scopes listed; there may be thousands.
const NAMED_MAX: usize = 20;

/// The rights of a caller.
pub(in crate::auth) struct Rights<'a> {
    pub(in crate::auth) identity: &'a Identity,
    /// Roles from role sources, sorted.
    pub(in crate::auth) given: &'a [ResourceRole],
    pub(in crate::auth) ladder: &'a LevelOrder,
}

impl Rights<'_> {
    /// Returns the missing and the present rights, after a colon; empty if rights are not the reason.
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
                format!(": needs one of the roles {asked}; the caller has {held}")
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
                format!(": needs the scopes {missing}; the caller has {held}")
            }
            _ => String::new(),
        }
    }

    /// Returns the names of the caller's roles: first those on the resources of the requirement, then global ones, then
    /// all others.
    fn roles(&self, compiled: &CompiledRoute, captures: &[&str]) -> Vec<String> {
        let held = &self.identity.resource_roles;
        let mut roles = Vec::new();
        for (resource, id) in compiled.concerns(captures) {
            roles.extend(roles_on(held, resource, id));
            roles.extend(roles_on(self.given, resource, id));
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

/// Joins the first names, and the number of the remaining ones.
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
