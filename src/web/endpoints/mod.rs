//! All paths of the gateway, with the descriptions that the types of their handlers cannot express.

mod access;
mod examples;
mod pages;
mod people;
mod questions;

use crate::web::openapi;
use crate::web::state::WebState;

type OwnApi = openapi::Api<WebState>;

/// Returns all endpoints below the prefix, and the key set.
pub(in crate::web) fn all(prefix: &str) -> OwnApi {
    let steps = [
        people::registrations,
        people::logins,
        people::sessions,
        people::callers,
        people::roles,
        access::api_keys,
        access::memberships,
        access::administration,
        pages::pages,
        pages::documents,
        questions::forward_auth,
    ];
    steps
        .into_iter()
        .fold(OwnApi::new(prefix), |api, step| step(api))
}
