//! `[roles]`: the declared levels, resources and scopes.

use crate::config::forms::{text, texts};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::model::access::{LevelOrder, Name, Scope};

/// `[roles]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// The ladder of levels.
    pub ladder: LevelOrder,
    /// Declared kinds of resources, those of role sources among them.
    pub resources: Vec<Name>,
    /// Kinds of resources whose memberships come from role sources. Those in the store are ignored.
    pub sourced: Vec<Name>,
    /// All declared scopes, sorted: those of `[roles] scopes`, those that routes require, and the gateway's own.
    pub scopes: Vec<Scope>,
    /// The level that may change memberships of its resource.
    pub manage_level: Name,
}

impl RoleSettings {
    /// Whether the memberships of this kind of resource are in the store.
    #[must_use]
    pub fn is_stored(&self, resource: &Name) -> bool {
        self.resources.contains(resource) && !self.sourced.contains(resource)
    }

    /// Returns the scopes of a login: every declared scope except the gateway's own.
    pub fn login_scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.iter().filter(|scope| !scope.is_own())
    }
}

/// The declared roles, and whether the roles of routes can be checked against them.
pub(super) struct DeclaredRoles {
    pub(super) settings: RoleSettings,
    /// `false` if levels or resources are invalid, so that roles of routes would be reported without need.
    pub(super) are_sound: bool,
}

/// Scopes of the gateway's own endpoints.
pub(super) const OWN_SCOPES: [&str; 3] = [Scope::MEMBERS, Scope::ADMIN, Scope::INTROSPECT];

/// The expectation that is reported for the name of a resource or a level.
pub(super) const NAME: &str = "a name: a-z, then a-z, 0-9 and _, at most 64, no dash";
const SCOPE: &str = "a scope such as lists:read: visible ASCII without \", \\ and comma; those with the prefix auth: \
     are the gateway's own";
const MANAGER: &str = "one of `levels`, and not the first, which yields no role";

keys! { pub(super) RolesKeys = "roles"; {
    /// Levels of membership, lowest first. Each level has the roles of those below it; the first level gives no role.
    levels: Vec<Name> = texts(NAME, name);
    /// Kinds of resources that have members: a-z, 0-9 and _.
    resources: Vec<Name> = texts(NAME, name) => vec![constant("list")];
    /// Scopes that are declared beside those that routes require.
    scopes: Vec<Scope> = texts(SCOPE, scope) => Vec::new();
    /// The level that may change memberships of its resource.
    manage_level: Name = text(MANAGER, name) => constant("manager");
}}

/// Reads the name of a resource or a level.
pub(super) fn name(text: &str) -> Option<Name> {
    Name::parse(text).ok()
}

/// The resources that role sources declare.
pub(super) struct SourcedResources {
    pub(super) resources: Vec<Name>,
    /// `false` if some of them are invalid.
    pub(super) are_sound: bool,
}

pub(super) fn read(reader: &mut SectionReader<'_>, sourced: SourcedResources) -> DeclaredRoles {
    let before = reader.problems().count();
    let are_sourced_sound = sourced.are_sound;
    let sourced = sourced.resources;
    let levels = reader.take(&RolesKeys::levels);
    let ladder = levels
        .and_then(|levels| {
            let ladder = LevelOrder::new(levels).ok();
            if ladder.is_none() {
                reader.add(
                    &RolesKeys::levels,
                    "1 to 32 levels, lowest first, no two alike",
                );
            }
            ladder
        })
        .unwrap_or_else(default_ladder);
    let is_written = reader.has(&RolesKeys::resources);
    let mut resources = reader
        .get(&RolesKeys::resources)
        .into_iter()
        .filter(|name| is_written || !sourced.contains(name))
        .collect::<Vec<_>>();
    if resources.iter().any(|name| sourced.contains(name)) {
        reader.add(
            &RolesKeys::resources,
            "none that a [[role_source]] declares: a resource's memberships have one source",
        );
    }
    resources.extend(sourced.iter().cloned());
    let are_sound = are_sourced_sound && reader.problems().count() == before;
    let mut scopes = reader.get(&RolesKeys::scopes);
    scopes.extend(OWN_SCOPES.iter().filter_map(|text| Scope::parse(text).ok()));
    let manage_level = reader.get(&RolesKeys::manage_level);
    let rank = ladder.rank(manage_level.as_str());
    if are_sound && rank.is_none_or(|rank| rank.0 == 0) {
        reader.add(&RolesKeys::manage_level, MANAGER);
    }
    DeclaredRoles {
        settings: RoleSettings {
            ladder,
            resources,
            sourced,
            scopes,
            manage_level,
        },
        are_sound,
    }
}

fn scope(text: &str) -> Option<Scope> {
    Scope::parse(text).ok().filter(|scope| !scope.is_own())
}

#[expect(
    clippy::expect_used,
    reason = "given constants only, all of which every reading of defaults goes through"
)]
fn constant(text: &'static str) -> Name {
    Name::parse(text).expect("a constant keeps the rule of names")
}

#[expect(
    clippy::expect_used,
    reason = "given constants only, all of which every reading of defaults goes through"
)]
fn default_ladder() -> LevelOrder {
    let levels = ["public", "invitee", "member", "manager", "secret"];
    LevelOrder::new(levels.map(constant).into()).expect("five different levels")
}
