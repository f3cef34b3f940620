//! The rules for the terms of API keys that depend on the settings, the clock and the maker of the key.

use crate::account::halt::refusals;
use crate::config::RoleSettings;
use crate::model::access::{Membership, Name, ResourceId, Scope};
use crate::model::api_key::{KeyExpiry, KeyPatch, KeyTerms, RESOURCES_MAX, WantedRole};
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, InvalidField};

refusals! {
    /// Why the terms of a key are not allowed.
    pub enum KeyTermsRefusal {
        /// A value violates its rule.
        Invalid(InvalidField) => ErrorCode::ValueInvalid,
        /// A scope is not declared.
        ScopeUnknown => ErrorCode::ScopeUnknown,
        /// The maker lacks a scope, or asks for one of the gateway's own scopes, which only an administrator may grant.
        ScopeMissing => ErrorCode::Denied(DenyReason::ScopeMissing),
    }
}

impl From<InvalidField> for KeyTermsRefusal {
    fn from(invalid: InvalidField) -> Self {
        Self::Invalid(invalid)
    }
}

/// The settings, time and rights that the terms of a key are checked against.
pub(in crate::account) struct KeyRules<'a> {
    /// Declared scopes, resources and levels.
    pub(in crate::account) roles: &'a RoleSettings,
    pub(in crate::account) now: Timestamp,
    /// Whether the maker may grant a scope to a key.
    pub(in crate::account) may_give: &'a (dyn Fn(&Scope) -> bool + Sync),
}

impl KeyRules<'_> {
    /// Returns the terms after a change, provided that every value set is allowed.
    pub(in crate::account) fn changed(
        &self,
        before: KeyTerms,
        patch: KeyPatch,
    ) -> Result<KeyTerms, KeyTermsRefusal> {
        let terms = KeyTerms {
            name: patch.name.map_or(Ok(before.name), Checked::valid)?,
            expires: patch
                .expires
                .apply(before.expires, |expires| self.expires(expires))?,
            scopes: match patch.scopes {
                Some(wanted) => self.scopes(&wanted)?,
                None => before.scopes,
            },
            allow_from: patch
                .allow_from
                .apply(Some(before.allow_from), Checked::valid)?
                .unwrap_or_default(),
            rate_per_minute: patch
                .rate_per_minute
                .apply(before.rate_per_minute, Checked::valid)?,
            resources: patch
                .resources
                .apply(before.resources, |roles| self.resources(&roles))?,
            note: patch.note.apply(before.note, Checked::valid)?,
        };
        // Administration is not bound to a resource, so a key that is limited to resources must not carry it.
        let is_administrative = |scope: &Scope| scope.as_str() == Scope::ADMIN;
        if terms.resources.is_some() && terms.scopes.iter().any(is_administrative) {
            return Err(invalid(
                "resources",
                "no value together with the scope auth:admin, which cannot be limited",
            ));
        }
        Ok(terms)
    }

    fn expires(&self, wanted: Checked<KeyExpiry>) -> Result<Timestamp, KeyTermsRefusal> {
        let KeyExpiry(expires) = wanted.valid()?;
        if expires <= self.now {
            return Err(invalid("expires", "a time in the future"));
        }
        Ok(expires)
    }

    /// Declared scopes that the maker may grant, sorted and without duplicates.
    fn scopes(&self, wanted: &[String]) -> Result<Vec<Scope>, KeyTermsRefusal> {
        let mut scopes = Vec::new();
        for text in wanted {
            let mut declared = self.roles.scopes.iter();
            let known = declared.find(|scope| scope.as_str() == text);
            scopes.push(known.ok_or(KeyTermsRefusal::ScopeUnknown)?.clone());
        }
        scopes.sort();
        scopes.dedup();
        if scopes.iter().all(self.may_give) {
            Ok(scopes)
        } else {
            Err(KeyTermsRefusal::ScopeMissing)
        }
    }

    /// Resource roles with declared names, sorted, each resource once. Whether the owner holds them is checked on each
    /// request.
    fn resources(&self, wanted: &[WantedRole]) -> Result<Vec<Membership>, KeyTermsRefusal> {
        let refused = invalid(
            "resources",
            "at most 100 of {resource, id, level}, no resource twice, resources and levels declared, the \
             level not the first; null: everything the owner has",
        );
        let limits: Option<Vec<_>> = wanted.iter().map(|role| self.membership(role)).collect();
        let mut limits = limits.ok_or(refused)?;
        limits.sort();
        let count = limits.len();
        limits.dedup_by(|one, other| (&one.resource, &one.id) == (&other.resource, &other.id));
        if limits.len() == count && count <= RESOURCES_MAX {
            Ok(limits)
        } else {
            Err(refused)
        }
    }

    fn membership(&self, wanted: &WantedRole) -> Option<Membership> {
        let mut declared = self.roles.resources.iter();
        let resource = declared.find(|name| name.as_str() == wanted.resource)?;
        let rank = self.roles.ladder.rank(&wanted.level);
        let level: &Name = self.roles.ladder.name(rank.filter(|rank| 0 < rank.0)?)?;
        Some(Membership {
            resource: resource.clone(),
            id: ResourceId::parse(&wanted.id).ok()?,
            level: level.clone(),
        })
    }
}

const fn invalid(field: &'static str, expected: &'static str) -> KeyTermsRefusal {
    KeyTermsRefusal::Invalid(InvalidField { field, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::config;

    #[test]
    fn limits_name_declared_words_and_each_resource_once() {
        let settings = config().roles;
        let rules = KeyRules {
            roles: &settings,
            now: Timestamp::default(),
            may_give: &|_| true,
        };
        let role = |resource: &str, id: &str, level: &str| WantedRole {
            resource: resource.to_owned(),
            id: id.to_owned(),
            level: level.to_owned(),
        };
        let two = [role("list", "43", "member"), role("list", "42", "manager")];
        let read = rules.resources(&two).unwrap();
        assert_eq!(
            read.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(),
            ["42", "43"]
        );
        assert_eq!(rules.resources(&[]), Ok(Vec::new()));
        for bad in [
            role("event", "1", "member"),
            role("list", "a/b", "member"),
            role("list", "", "member"),
            role("list", "1", "owner"),
            role("list", "1", "public"),
        ] {
            assert!(
                rules.resources(std::slice::from_ref(&bad)).is_err(),
                "{bad:?}"
            );
        }
        let twice = [role("list", "42", "member"), role("list", "42", "manager")];
        assert!(rules.resources(&twice).is_err());
        let many: Vec<_> = (0..101)
            .map(|id| role("list", &id.to_string(), "member"))
            .collect();
        assert!(rules.resources(&many).is_err());
    }
}
