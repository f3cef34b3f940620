//! `X-Auth-Roles`: the roles that concern one request, as one value.

use bytes::Bytes;
use http::HeaderValue;
use smallvec::SmallVec;

use crate::auth::Authorizer;
use crate::auth::caller::Caller;
use crate::auth::policy::roles_on;
use crate::model::access::{LevelOrder, ResourceRole};

/// The text of the roles. Up to this length, that of a few roles, it needs no allocation of its own.
type RolesText = SmallVec<[u8; 128]>;

impl Authorizer {
    /// Returns the global roles and those on resources whose id is in the path; all roles if `all`.
    ///
    /// `given`: those from role sources on the resources of the requirement. `captures`: the captured segments.
    pub(super) fn roles_header(
        &self,
        all: bool,
        caller: &Caller,
        given: &[ResourceRole],
        captures: &[&str],
    ) -> Option<HeaderValue> {
        let settings = &self.config.roles;
        let held = &caller.identity.resource_roles;
        // By binary search, so that a caller with ten thousand roles does not wait longer.
        let of_kind = |resource| {
            captures
                .iter()
                .flat_map(move |id| roles_on(held, resource, id))
        };
        let of_path = (!all).then(|| settings.resources.iter().flat_map(of_kind));
        let of_caller = all.then_some(held).into_iter().flatten();
        let mut concerned = of_caller.chain(of_path.into_iter().flatten()).chain(given);
        let Some(first) = concerned.next() else {
            return caller.roles.clone();
        };
        match concerned.next() {
            // Most paths have one resource, which needs no list.
            None => value(caller.roles.as_ref(), &[first], &settings.ladder),
            Some(second) => {
                let mut several = vec![first, second];
                several.extend(concerned);
                several.sort_unstable();
                // Two captures may have the same id.
                several.dedup();
                value(caller.roles.as_ref(), &several, &settings.ladder)
            }
        }
    }
}

/// Writes the global roles and the names of resource roles, separated by spaces; `None` if there are none.
fn value(
    global: Option<&HeaderValue>,
    concerned: &[&ResourceRole],
    ladder: &LevelOrder,
) -> Option<HeaderValue> {
    let global = global.map_or(&[][..], HeaderValue::as_bytes);
    // In one allocation, which clones share: a value made of a vector would take a second for the count of its clones.
    let mut text = RolesText::new();
    text.extend_from_slice(global);
    for name in concerned.iter().flat_map(|role| role.names(ladder)) {
        if !text.is_empty() {
            text.push(b' ');
        }
        for part in name.parts() {
            text.extend_from_slice(part.as_bytes());
        }
    }
    if text.is_empty() {
        return None;
    }
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Name;

    #[test]
    fn one_value_lists_the_global_roles_first() {
        let names = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Name::parse(text).unwrap())
                .collect()
        };
        let resources: Vec<_> = names(&["list", "event"]);
        let ladder = LevelOrder::new(names(&["public", "member", "manager"])).unwrap();
        let role = |text| ResourceRole::parse(text, &resources, &ladder).unwrap();
        let (low, high, public) = (
            role("event-7-member"),
            role("list-42-manager"),
            role("list-1-public"),
        );
        let user = HeaderValue::from_static("dev user");
        let cases: [(_, &[&ResourceRole], _); 6] = [
            (None, &[], None),
            (None, &[&low], Some("event-7-member")),
            (Some(&user), &[&low], Some("dev user event-7-member")),
            (None, &[&low, &high], Some("event-7-member list-42-manager")),
            (
                Some(&user),
                &[&low, &high],
                Some("dev user event-7-member list-42-manager"),
            ),
            (Some(&user), &[&public], Some("dev user list-1-public")),
        ];
        for (global, concerned, expected) in cases {
            let value = value(global, concerned, &ladder);
            let text = value.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(text, expected, "{concerned:?}");
        }
    }
}
