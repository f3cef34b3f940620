//! `require`: what a route requires of its callers.

use crate::config::document::Value;
use crate::config::forms::{some_items, some_texts};
use crate::config::keys::{ConfigKey, keys, undeclared};
use crate::config::reader::SectionReader;
use crate::config::roles::{DeclaredRoles, OWN_SCOPES};
use crate::model::access::{Name, Requirement, ResourceRole, Role, RoleTemplate, Scope};

pub(super) const REQUIRE: &str =
    "\"public\", \"optional\", \"authenticated\" or { any_role = [\"…\"], all_scopes = [\"…\"] }";
const ROLE: &str = "a role such as admin: visible ASCII without comma and braces, at most 255";
const TEMPLATE: &str =
    "a role with one capture of the path as its whole id, such as list-{id}-member";
const SCOPE: &str =
    "a scope such as lists:read; with the prefix auth: only the gateway's own scopes";

keys! { pub(super) RequireKeys = "route[].require"; {
    any_role: Vec<String> = some_texts(ROLE, |text: &str| Some(text.to_owned()));
    all_scopes: Vec<Scope> = some_texts(SCOPE, scope) => Vec::new();
}}

/// Reads `require`. No route is public by default. `captures`: those of the path, `None` if the path is invalid.
pub(super) fn read(
    route: &mut SectionReader<'_>,
    key: &ConfigKey<Value>,
    captures: Option<&[&str]>,
    words: &DeclaredRoles,
) -> Option<Requirement> {
    match route.take(key) {
        Some(Value::Text(text)) => {
            let requirement = match text.as_str() {
                "public" => Some(Requirement::Public),
                "optional" => Some(Requirement::Optional),
                "authenticated" => Some(Requirement::Authenticated),
                _ => None,
            };
            if requirement.is_none() {
                route.add(key, REQUIRE);
            }
            requirement
        }
        Some(Value::Table(table)) => Some(rights(route.inner(key, table), captures, words)),
        Some(_) => {
            route.add(key, REQUIRE);
            None
        }
        None => {
            route.add(
                key,
                format!("{REQUIRE}; a route without it would have no requirement"),
            );
            None
        }
    }
}

fn rights(
    mut reader: SectionReader<'_>,
    captures: Option<&[&str]>,
    words: &DeclaredRoles,
) -> Requirement {
    if !reader.has(&RequireKeys::any_role) && !reader.has(&RequireKeys::all_scopes) {
        reader.add_here("`any_role` or `all_scopes`, with at least one item");
    }
    let roles = some_items(ROLE, |text: &str| template(text, captures, words));
    let any_role = reader.take_as(&RequireKeys::any_role, &roles);
    let all_scopes = reader.get(&RequireKeys::all_scopes);
    reader.finish();
    Requirement::Rights {
        any_role: any_role.unwrap_or_default(),
        all_scopes,
    }
}

fn scope(text: &str) -> Option<Scope> {
    let scope = Scope::parse(text).ok()?;
    (!scope.is_own() || OWN_SCOPES.contains(&text)).then_some(scope)
}

/// Reads one role of a route.
///
/// # Errors
/// The expectation to report.
fn template(
    text: &str,
    captures: Option<&[&str]>,
    words: &DeclaredRoles,
) -> Result<RoleTemplate, String> {
    if !text.contains(['{', '}']) {
        return plain(text, words).map(RoleTemplate::Plain);
    }
    let parts = text.split_once('{').and_then(|(resource, rest)| {
        let (capture, level) = rest.split_once('}')?;
        let is_one =
            !level.contains(['{', '}']) && !capture.contains('{') && !resource.contains('}');
        is_one.then_some((
            resource.strip_suffix('-')?,
            capture,
            level.strip_prefix('-')?,
        ))
    });
    let (resource, capture, level) = parts.ok_or(TEMPLATE)?;
    if captures.is_some_and(|names| !names.contains(&capture)) {
        return Err(format!("{TEMPLATE}; the path has no such capture"));
    }
    let settings = &words.settings;
    let resources = settings.resources.iter();
    let resource = resources
        .clone()
        .find(|name| name.as_str() == resource)
        .ok_or_else(|| {
            let what = format!(
                "{TEMPLATE}, its resource one of [roles] `resources` or of a [[role_source]]"
            );
            undeclared(&what, resource, resources.map(Name::as_str))
        })?;
    let rank = settings
        .ladder
        .rank(level)
        .filter(|rank| 0 < rank.0)
        .ok_or_else(|| {
            let what = format!(
                "{TEMPLATE}, its level one of [roles] `levels` and not the first, which yields no role"
            );
            let levels = settings.ladder.names().iter().skip(1);
            undeclared(&what, level, levels.map(Name::as_str))
        })?;
    Ok(RoleTemplate::Resource {
        resource: resource.clone(),
        capture: capture.to_owned(),
        rank,
        text: text.into(),
    })
}

fn plain(text: &str, words: &DeclaredRoles) -> Result<Role, String> {
    let role = Role::parse(text).map_err(|_| ROLE)?;
    let settings = &words.settings;
    let never_given = words.are_sound
        && ResourceRole::parse(text, &settings.resources, &settings.ladder)
            .is_some_and(|parsed| parsed.rank.0 == 0);
    if never_given {
        return Err(
            "a role that an account can have: the first of [roles] `levels` yields no role"
                .to_owned(),
        );
    }
    Ok(role)
}
