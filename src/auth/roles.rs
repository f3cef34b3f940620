//! `X-Auth-Roles`: the roles that concern one request, as one value.

use std::fmt::Write;

use bytes::Bytes;
use http::HeaderValue;

use crate::auth::Authorizer;
use crate::auth::caller::Caller;
use crate::auth::policy::roles_on;
use crate::model::access::ResourceRole;

/// Initial capacity for the names of a role or two: most values are written without growing.
const CAPACITY: usize = 128;

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
        let mut concerned: Vec<&ResourceRole> = if all {
            held.iter().collect()
        } else {
            let of_kind = |resource| {
                captures
                    .iter()
                    .flat_map(move |id| roles_on(held, resource, id))
            };
            settings.resources.iter().flat_map(of_kind).collect()
        };
        concerned.extend(given);
        if concerned.is_empty() {
            return caller.roles.clone();
        }
        concerned.sort_unstable();
        // Two captures may have the same id.
        concerned.dedup();
        let mut text = String::with_capacity(CAPACITY);
        if let Some(global) = caller.roles.as_ref().and_then(|roles| roles.to_str().ok()) {
            text.push_str(global);
        }
        for name in concerned
            .iter()
            .flat_map(|role| role.names(&settings.ladder))
        {
            let space = if text.is_empty() { "" } else { " " };
            // Writing into a `String` cannot fail.
            let _ = write!(text, "{space}{name}");
        }
        if text.is_empty() {
            return None;
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }
}
