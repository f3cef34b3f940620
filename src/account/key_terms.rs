//! What an API key may be: the rules of its values, for those that are made and those that are changed alike.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::account::InvalidField;
use crate::account::halt::Refuses;
use crate::config::RoleSettings;
use crate::model::access::{Membership, Name, ResourceId, Scope};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;

/// Why a key was neither made nor changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// A value breaks its rule.
    Invalid(InvalidField),
    /// A scope that is not declared.
    ScopeUnknown,
    /// A scope that the maker does not carry, or one of the gateway's own that only an administrator gives.
    ScopeMissing,
    /// The account has as many keys as one may have.
    TooMany,
    /// The maker is no account of ours.
    NoAccount,
    /// The account has no such key.
    NoKey,
    /// The account has changed since the caller was recognised.
    Changed,
}

impl Refuses for KeyRefusal {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::ValueInvalid,
            Self::ScopeUnknown => ErrorCode::ScopeUnknown,
            Self::ScopeMissing => DenyReason::ScopeMissing.into(),
            Self::TooMany => ErrorCode::KeyLimit,
            Self::NoAccount | Self::NoKey => ErrorCode::NotFound,
            Self::Changed => ErrorCode::AccountChanged,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Invalid(field) => field.detail(),
            _ => None,
        }
    }
}

/// Longest name of a key, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Networks that one key may name: each is looked at on each request.
pub const NETWORKS_MAX: usize = 64;
/// Resource roles that one key may be limited to.
pub const RESOURCES_MAX: usize = 100;
/// Most requests in a minute that a limit may allow.
pub const RATE_MAX: u32 = 100_000;

/// A resource role as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRole {
    /// Kind of resource.
    pub resource: String,
    /// Which one.
    pub id: String,
    /// At which level, at most.
    pub level: String,
}

/// The rules, with the words that are declared.
pub(in crate::account) struct Terms<'a>(pub(in crate::account) &'a RoleSettings);

impl Terms<'_> {
    pub(in crate::account) fn name(name: String) -> Result<String, KeyRefusal> {
        if name.chars().any(char::is_control) || NAME_CHARS_MAX < name.chars().count() {
            return Err(invalid(
                "name",
                "at most 64 characters, none of them a control character",
            ));
        }
        Ok(name)
    }

    pub(in crate::account) fn expires(
        expires: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, KeyRefusal> {
        if expires.is_some_and(|expires| expires <= now) {
            return Err(invalid("expires", "a time in the future"));
        }
        Ok(expires)
    }

    /// Scopes that are declared and may be given, sorted, no two alike.
    pub(in crate::account) fn scopes(
        &self,
        wanted: &[String],
        may_give: &dyn Fn(&Scope) -> bool,
    ) -> Result<Vec<Scope>, KeyRefusal> {
        let mut scopes = Vec::new();
        for text in wanted {
            let known = self.0.scopes.iter().find(|scope| scope.as_str() == text);
            scopes.push(known.ok_or(KeyRefusal::ScopeUnknown)?.clone());
        }
        scopes.sort();
        scopes.dedup();
        if scopes.iter().all(may_give) {
            Ok(scopes)
        } else {
            Err(KeyRefusal::ScopeMissing)
        }
    }

    /// Networks, sorted, no two alike; none wanted: all.
    pub(in crate::account) fn networks(
        wanted: Option<&[String]>,
    ) -> Result<Vec<IpNet>, KeyRefusal> {
        const EXPECTED: &str = "1 to 64 networks or addresses such as 192.0.2.0/24 and 2001:db8::1, those of IPv4 written \
             as IPv4; null: all";
        let Some(wanted) = wanted else {
            return Ok(Vec::new());
        };
        // An empty list could mean nobody as well as everybody.
        if !(1..=NETWORKS_MAX).contains(&wanted.len()) {
            return Err(invalid("allow_from", EXPECTED));
        }
        let networks = wanted.iter().map(|text| network(text));
        let networks: Option<Vec<_>> = networks.collect();
        let mut networks = networks.ok_or(invalid("allow_from", EXPECTED))?;
        networks.sort();
        networks.dedup();
        Ok(networks)
    }

    pub(in crate::account) fn rate(wanted: Option<u64>) -> Result<Option<u32>, KeyRefusal> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let rate = u32::try_from(wanted)
            .ok()
            .filter(|rate| (1..=RATE_MAX).contains(rate));
        let expected = "requests in a minute, from 1 to 100000; null: no limit of its own";
        rate.map(Some).ok_or(invalid("rate_per_minute", expected))
    }

    /// Resource roles whose words are declared, sorted, each resource once; whether the owner has them shows on each
    /// request.
    pub(in crate::account) fn resources(
        &self,
        wanted: Option<&[WantedRole]>,
    ) -> Result<Option<Vec<Membership>>, KeyRefusal> {
        const EXPECTED: &str = "at most 100 of {resource, id, level}, no resource twice, resources and levels declared, the \
             level not the first; null: all that the owner has";
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let refused = invalid("resources", EXPECTED);
        let limits: Option<Vec<_>> = wanted.iter().map(|role| self.membership(role)).collect();
        let mut limits = limits.ok_or(refused)?;
        limits.sort();
        let count = limits.len();
        limits.dedup_by(|one, other| (&one.resource, &one.id) == (&other.resource, &other.id));
        if limits.len() == count && count <= RESOURCES_MAX {
            Ok(Some(limits))
        } else {
            Err(refused)
        }
    }

    fn membership(&self, wanted: &WantedRole) -> Option<Membership> {
        let resource = self
            .0
            .resources
            .iter()
            .find(|name| name.as_str() == wanted.resource)?;
        let rank = self
            .0
            .ladder
            .rank(&wanted.level)
            .filter(|rank| 0 < rank.0)?;
        let level: &Name = self.0.ladder.name(rank)?;
        Some(Membership {
            resource: resource.clone(),
            id: ResourceId::parse(&wanted.id).ok()?,
            level: level.clone(),
        })
    }
}

/// Administration is bound to no resource, so a key that is limited to some may not carry it.
pub(in crate::account) fn is_too_strong(
    scopes: &[Scope],
    resources: Option<&[Membership]>,
) -> bool {
    resources.is_some() && scopes.iter().any(|scope| scope.as_str() == Scope::ADMIN)
}

/// A network, or an address as the network of itself; host bits are cut off. IPv4 in the clothes of IPv6 is refused:
/// callers are looked at without them.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    (network.addr().to_canonical() == network.addr()).then_some(network)
}

const fn invalid(field: &'static str, expected: &'static str) -> KeyRefusal {
    KeyRefusal::Invalid(InvalidField { field, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::config;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn networks_are_read_as_they_are_meant() {
        let read = |list: &[&str]| {
            let found = Terms::networks(Some(&texts(list)))?;
            Ok::<_, KeyRefusal>(
                found
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        assert_eq!(
            read(&["192.0.2.7/24", "10.0.0.1", "192.0.2.0/24"]).unwrap(),
            "10.0.0.1/32 192.0.2.0/24"
        );
        assert_eq!(
            read(&["2001:db8::/32", "::1"]).unwrap(),
            "::1/128 2001:db8::/32"
        );
        for bad in [
            "",
            "x",
            "192.0.2.0/33",
            "192.0.2",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.0/120",
            "192.0.2.1:80",
        ] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&[]).is_err() && read(&["10.0.0.1"; 65]).is_err());
        assert_eq!(Terms::networks(None), Ok(Vec::new()));
    }

    #[test]
    fn limits_name_declared_words_and_each_resource_once() {
        let settings = config().roles;
        let terms = Terms(&settings);
        let role = |resource: &str, id: &str, level: &str| WantedRole {
            resource: resource.to_owned(),
            id: id.to_owned(),
            level: level.to_owned(),
        };
        let two = [role("list", "43", "member"), role("list", "42", "manager")];
        let read = terms.resources(Some(&two)).unwrap().unwrap();
        assert_eq!(
            read.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(),
            ["42", "43"]
        );
        assert_eq!(terms.resources(Some(&[])), Ok(Some(Vec::new())));
        assert_eq!(terms.resources(None), Ok(None));
        for bad in [
            role("event", "1", "member"),
            role("list", "a/b", "member"),
            role("list", "", "member"),
            role("list", "1", "owner"),
            role("list", "1", "public"),
        ] {
            assert!(
                terms.resources(Some(std::slice::from_ref(&bad))).is_err(),
                "{bad:?}"
            );
        }
        let twice = [role("list", "42", "member"), role("list", "42", "manager")];
        assert!(terms.resources(Some(&twice)).is_err());
        let many: Vec<_> = (0..101)
            .map(|id| role("list", &id.to_string(), "member"))
            .collect();
        assert!(terms.resources(Some(&many)).is_err());
    }

    #[test]
    fn rates_and_names_keep_their_bounds() {
        for (rate, fits) in [
            (0, false),
            (1, true),
            (100_000, true),
            (100_001, false),
            (u64::MAX, false),
        ] {
            assert_eq!(Terms::rate(Some(rate)).is_ok(), fits, "{rate}");
        }
        assert!(Terms::name("x".repeat(64)).is_ok() && Terms::name("x".repeat(65)).is_err());
        assert!(Terms::name("a\nb".to_owned()).is_err());
    }
}
