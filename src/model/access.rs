//! The parts of access rights: roles, scopes, levels, memberships and requirements.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::field::{CheckedField, InvalidField};
use crate::model::id::UserId;
use crate::model::text::checked_text;

/// The error for a text that breaks the rule of the type it was parsed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a {0}")]
pub struct Invalid(pub &'static str);

checked_text! {
    /// A role that a route can require. Visible ASCII without space and comma, 1 to 255 bytes.
    Role, Invalid("role"), |text| {
        (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
    }
}
checked_text! {
    /// A scope that limits the use of a credential, such as `lists:read`. Visible ASCII without `"`, `\` and comma, 1
    /// to 255 bytes (RFC 6749 section 3.3; comma is excluded as well, so that no list splits a scope in two).
    Scope, Invalid("scope"), |text| {
        (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b','))
    }
}
checked_text! {
    /// The name of a resource kind or of a level: `[a-z][a-z0-9_]*`, at most 64 bytes, no dash.
    Name, Invalid("resource or level name"), |text| {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    }
}
checked_text! {
    /// The id of one resource: 1 to 128 of `[A-Za-z0-9._~:-]`, compared byte for byte.
    ResourceId, Invalid("resource id"), ResourceId::fits
}

impl Name {
    /// The rule as a pattern (ECMA-262).
    pub const PATTERN: &str = "^[a-z][a-z0-9_]{0,63}$";
}

impl ResourceId {
    /// The rule as a pattern (ECMA-262).
    pub const PATTERN: &str = "^[A-Za-z0-9._~:-]{1,128}$";

    /// Whether a text follows the rule of a resource id; does not allocate.
    #[must_use]
    pub fn fits(text: &str) -> bool {
        (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b':' | b'-'))
    }
}

impl Role {
    /// The role of every active account.
    pub const USER: &str = "user";
    /// The role of accounts with `is_admin`, and of no others.
    pub const ADMIN: &str = "admin";
    /// The single role of a login whose password must be changed.
    pub const PWCHANGE: &str = "pwchange";

    /// Whether only the gateway assigns this role: `admin`, `user`, `pwchange` and every text that reads as a role on a
    /// declared resource, each in any case, since an upstream may fold case.
    #[must_use]
    pub fn is_reserved(&self, resources: &[Name], ladder: &LevelOrder) -> bool {
        let text = self.as_str();
        let is_fixed = [Self::ADMIN, Self::USER, Self::PWCHANGE]
            .iter()
            .any(|fixed| fixed.eq_ignore_ascii_case(text));
        is_fixed || ResourceRole::reads_as_one(text, resources, ladder)
    }
}

impl CheckedField for Role {
    type Sent = String;

    const RULE: InvalidField = InvalidField {
        field: "roles",
        expected: "each of 1 to 255 visible ASCII characters without comma",
    };

    fn check(text: String) -> Option<Self> {
        Self::parse(&text).ok()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[!-+\--~]{1,255}$" })
    }
}

impl Scope {
    /// Allows an API key to change memberships.
    pub const MEMBERS: &str = "auth:members";
    /// Allows an administrator's API key to act as administrator.
    pub const ADMIN: &str = "auth:admin";
    /// Allows an API key to introspect tokens of other accounts.
    pub const INTROSPECT: &str = "auth:introspect";

    /// The prefix of the gateway's own scopes.
    const OWN_PREFIX: &str = "auth:";

    /// Whether this is one of the gateway's own scopes, `auth:*` in any case, which no login carries.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let start = self.as_str().as_bytes().get(..Self::OWN_PREFIX.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(Self::OWN_PREFIX.as_bytes()))
    }
}

/// The declared levels, lowest first, at most 32. The lowest level yields no role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelOrder(Arc<[Name]>);

/// The position of a level in the ladder: 0 is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LevelRank(pub u8);

impl LevelOrder {
    /// Builds a ladder from level names, lowest first.
    ///
    /// # Errors
    /// [`Invalid`] when there are none, more than 32, or two alike.
    pub fn new(levels: Vec<Name>) -> Result<Self, Invalid> {
        let distinct: std::collections::BTreeSet<_> = levels.iter().collect();
        if levels.is_empty() || 32 < levels.len() || distinct.len() != levels.len() {
            return Err(Invalid("ladder of 1 to 32 different levels"));
        }
        Ok(Self(levels.into()))
    }

    /// Returns the rank of a level; `None` if it is not, or no longer, declared.
    #[must_use]
    pub fn rank(&self, level: &str) -> Option<LevelRank> {
        let place = self.0.iter().position(|name| name.as_str() == level)?;
        u8::try_from(place).ok().map(LevelRank)
    }

    /// Returns the levels whose roles a membership at `rank` yields: that level and all below it down to the second.
    pub fn yielded(&self, rank: LevelRank) -> impl Iterator<Item = &Name> {
        self.0.iter().take(usize::from(rank.0) + 1).skip(1)
    }

    /// Returns the name of the level at a rank.
    #[must_use]
    pub fn name(&self, rank: LevelRank) -> Option<&Name> {
        self.0.get(usize::from(rank.0))
    }

    /// Returns all levels, lowest first.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }
}

/// An account's level on one resource, such as `member` of `list` 42. Stored under the account's uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "KeyRole", description = "")]
pub struct Membership {
    /// The resource kind, such as `list`.
    #[schemars(with = "String", description = "")]
    pub resource: Name,
    /// The resource's id.
    #[schemars(with = "String", description = "")]
    pub id: ResourceId,
    /// The level's name, so that a changed ladder does not change stored records.
    #[schemars(with = "String", description = "")]
    pub level: Name,
}

/// A member of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(description = "")]
pub struct Member {
    /// The account's uid.
    #[schemars(with = "String", description = "")]
    pub uid: UserId,
    /// The name of its level.
    #[schemars(with = "String", description = "")]
    pub level: Name,
}

/// A parsed resource role: `list-42-member`, with resource kind and level from the declared lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceRole {
    /// The resource kind.
    pub resource: Name,
    /// The resource's id: everything between resource kind and level, dashes included.
    pub id: ResourceId,
    /// The level's rank in the ladder.
    pub rank: LevelRank,
    /// `true`: this level only, as in a foreign claim; `false`: also every yielding level below.
    pub exact: bool,
}

impl ResourceRole {
    /// Parses `<resource>-<id>-<level>`; `None` if the resource or level is not declared, or if the id breaks its rule.
    ///
    /// A role that parses has the reserved form.
    #[must_use]
    pub fn parse(text: &str, resources: &[Name], ladder: &LevelOrder) -> Option<Self> {
        let (resource, rest) = text.split_once('-')?;
        let (id, level) = rest.rsplit_once('-')?;
        let resource = resources.iter().find(|name| name.as_str() == resource)?;
        Some(Self {
            resource: resource.clone(),
            id: ResourceId::parse(id).ok()?,
            rank: ladder.rank(level)?,
            exact: true,
        })
    }

    /// Whether a text has the form `<resource>-<anything>-<level>` with a declared resource and level, in any case.
    fn reads_as_one(text: &str, resources: &[Name], ladder: &LevelOrder) -> bool {
        let Some((resource, rest)) = text.split_once('-') else {
            return false;
        };
        let level = rest.rsplit_once('-').map_or("", |(_, level)| level);
        let is_it = |name: &Name, text: &str| name.as_str().eq_ignore_ascii_case(text);
        resources.iter().any(|name| is_it(name, resource))
            && ladder.names().iter().any(|name| is_it(name, level))
    }

    /// Converts a membership; `None` if its resource or level is no longer declared, or if the level is the lowest,
    /// which yields no role.
    #[must_use]
    pub fn of(membership: &Membership, resources: &[Name], ladder: &LevelOrder) -> Option<Self> {
        let rank = ladder.rank(membership.level.as_str())?;
        let yields = LevelRank(0) < rank && resources.contains(&membership.resource);
        yields.then(|| Self {
            resource: membership.resource.clone(),
            id: membership.id.clone(),
            rank,
            exact: false,
        })
    }

    /// Returns the names of its roles, lowest level first.
    pub fn names<'a>(&'a self, ladder: &'a LevelOrder) -> impl Iterator<Item = RoleName<'a>> {
        let alone = self.exact.then(|| ladder.name(self.rank)).flatten();
        let all = (!self.exact).then(|| ladder.yielded(self.rank));
        alone
            .into_iter()
            .chain(all.into_iter().flatten())
            .map(|level| RoleName { role: self, level })
    }
}

/// The name of one role on a resource, formatted on demand: `list-42-member`.
#[derive(Clone, Copy, Debug)]
pub struct RoleName<'a> {
    role: &'a ResourceRole,
    level: &'a Name,
}

impl<'a> RoleName<'a> {
    /// Returns the parts of the name in their order, so that it can be written without formatting.
    #[must_use]
    pub fn parts(&self) -> [&'a str; 5] {
        let ResourceRole { resource, id, .. } = self.role;
        [
            resource.as_str(),
            "-",
            id.as_str(),
            "-",
            self.level.as_str(),
        ]
    }
}

impl fmt::Display for RoleName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts()
            .into_iter()
            .try_for_each(|part| f.write_str(part))
    }
}

/// The requirement of a route on its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// None: credentials are not read.
    Public,
    /// Any caller; a credential that is presented must be verified.
    Optional,
    /// An authenticated caller.
    Authenticated,
    /// An authenticated caller with rights.
    Rights {
        /// At least one of these roles; empty: no role is required.
        any_role: Vec<RoleTemplate>,
        /// All of these scopes.
        all_scopes: Vec<Scope>,
    },
}

impl fmt::Display for Requirement {
    /// Formats the requirement as `explain` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (any_role, all_scopes) = match self {
            Self::Public => return f.write_str("public"),
            Self::Optional => return f.write_str("optional"),
            Self::Authenticated => return f.write_str("authenticated"),
            Self::Rights {
                any_role,
                all_scopes,
            } => (any_role, all_scopes),
        };
        let roles: Vec<_> = any_role.iter().map(ToString::to_string).collect();
        let scopes: Vec<_> = all_scopes.iter().map(Scope::as_str).collect();
        let lists = [
            ("any role of ", roles.join(", ")),
            ("all scopes of ", scopes.join(", ")),
        ];
        let parts: Vec<_> = lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{what}{list}"))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// A role that a route requires: plain, or with an id captured from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleTemplate {
    /// `admin`, `list-42-member`: compared verbatim.
    Plain(Role),
    /// `list-{id}-member`.
    Resource {
        /// The resource kind.
        resource: Name,
        /// The name of the path capture that holds the id.
        capture: String,
        /// The required level.
        rank: LevelRank,
        /// The template as written, for `explain` and errors.
        text: Arc<str>,
    },
}

impl fmt::Display for RoleTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(role) => f.write_str(role.as_str()),
            Self::Resource { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<Name> {
        list.iter().map(|text| Name::parse(text).unwrap()).collect()
    }

    fn ladder() -> LevelOrder {
        LevelOrder::new(names(&["public", "invitee", "member", "manager", "secret"])).unwrap()
    }

    #[test]
    fn words_keep_their_rules() {
        for good in ["user", "list-42-member", "a:b/c"] {
            assert!(Role::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a,b", "\u{e9}", "a\n", &"x".repeat(256)] {
            assert!(Role::parse(bad).is_err(), "{bad}");
        }
        for bad in ["List", "4list", "a-b", ""] {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a/b", "a%2d", "a b", &"x".repeat(129)] {
            assert!(ResourceId::parse(bad).is_err(), "{bad}");
        }
        assert!(ResourceId::parse("4-2.a_b~c:d").is_ok());
    }

    #[test]
    fn roles_and_scopes_of_the_gateway_are_reserved_in_any_case() {
        let is_reserved = |text: &str| {
            Role::parse(text)
                .unwrap()
                .is_reserved(&names(&["list"]), &ladder())
        };
        for reserved in [
            "admin",
            "Admin",
            "USER",
            "PwChange",
            "list-4-member",
            "list-4-2-public",
            "LIST-4-Member",
            "list--member",
            "list-a%2f-member",
            "list-a-b/c-Manager",
        ] {
            assert!(is_reserved(reserved), "{reserved}");
        }
        for free in [
            "admins",
            "superuser",
            "list-member",
            "list",
            "list-4-owner",
            "event-4-member",
            "x-list-4-member",
            "corp:admin",
        ] {
            assert!(!is_reserved(free), "{free}");
        }
        for (scope, is_own) in [
            ("auth:admin", true),
            ("AUTH:admin", true),
            ("Auth:", true),
            ("auth", false),
            ("xauth:admin", false),
            ("lists:read", false),
        ] {
            assert_eq!(Scope::parse(scope).unwrap().is_own(), is_own, "{scope}");
        }
    }

    #[test]
    fn the_first_level_yields_nothing_and_others_all_below() {
        let ladder = ladder();
        let yielded = |level| -> Vec<_> {
            ladder
                .yielded(ladder.rank(level).unwrap())
                .map(Name::as_str)
                .collect()
        };
        assert!(yielded("public").is_empty());
        assert_eq!(yielded("manager"), ["invitee", "member", "manager"]);
        assert_eq!(ladder.rank("owner"), None);
    }

    #[test]
    fn a_membership_of_what_is_no_longer_declared_yields_nothing() {
        let cases = [
            ("list", "member", &["list-4-invitee", "list-4-member"][..]),
            ("list", "public", &[]),
            ("list", "owner", &[]),
            ("event", "member", &[]),
        ];
        for (resource, level, expected) in cases {
            let membership = Membership {
                resource: Name::parse(resource).unwrap(),
                id: ResourceId::parse("4").unwrap(),
                level: Name::parse(level).unwrap(),
            };
            let role = ResourceRole::of(&membership, &names(&["list"]), &ladder());
            let found: Vec<_> = role
                .iter()
                .flat_map(|role| {
                    let ladder = ladder();
                    let names = role.names(&ladder).map(|name| name.to_string());
                    names.collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(found, expected, "{resource} {level}");
        }
    }

    #[test]
    fn a_requirement_reads_as_it_is_asked() {
        let rights = Requirement::Rights {
            any_role: vec![
                RoleTemplate::Plain(Role::parse("admin").unwrap()),
                RoleTemplate::Resource {
                    resource: Name::parse("list").unwrap(),
                    capture: "id".to_owned(),
                    rank: LevelRank(2),
                    text: "list-{id}-member".into(),
                },
            ],
            all_scopes: vec![Scope::parse("lists:read").unwrap()],
        };
        assert_eq!(
            rights.to_string(),
            "any role of admin, list-{id}-member; all scopes of lists:read"
        );
        assert_eq!(Requirement::Authenticated.to_string(), "authenticated");
    }

    #[test]
    fn a_resource_role_keeps_the_dashes_of_its_id() {
        let resources = names(&["list"]);
        let parsed = ResourceRole::parse("list-4-2-member", &resources, &ladder()).unwrap();
        assert_eq!(parsed.id.as_str(), "4-2");
        for plain in [
            "list-member",
            "list--member",
            "event-4-member",
            "list-4-owner",
            "admin",
        ] {
            assert_eq!(
                ResourceRole::parse(plain, &resources, &ladder()),
                None,
                "{plain}"
            );
        }
    }
}
