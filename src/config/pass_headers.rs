//! `pass_headers` of a route: fields of a caller that the service wants, and that the gateway removes or refuses
//! elsewhere.

use http::HeaderName;

use crate::config::forms::texts;
use crate::config::headers;
use crate::config::keys::keys;
use crate::config::problem::{ConfigProblems, ValuePlace};
use crate::config::reader::SectionReader;
use crate::model::field_name::{FoldedName, is_method_override};
use crate::model::route::{PathPattern, Route, Segment};

const EXPECTED: &str = "header names such as X-HTTP-Method-Override or X-Auth-Token: letters, digits and -; none that describes \
     the caller, the target or the client, and none that HTTP, proxies or credentials use";

keys! { pub(super) PassHeadersKeys = "route[]"; {
    /// Fields of the caller that the service needs and that are otherwise removed or refused, such as X-HTTP-Method-Override
    /// or X-Auth-Token; no field that identifies the caller, the target or the source of a request.
    pass_headers: Vec<HeaderName> = texts(EXPECTED, name) => Vec::new();
}}

pub(super) fn read(route: &mut SectionReader<'_>) -> Vec<HeaderName> {
    let names = route.get(&PassHeadersKeys::pass_headers);
    let is_idle = |name: &HeaderName| {
        let bytes = name.as_str().as_bytes();
        !is_method_override(bytes) && !FoldedName::of(bytes).is_of_family()
    };
    if names.iter().any(is_idle) {
        route.warn(
            &PassHeadersKeys::pass_headers,
            "only names that are removed by default: one of these is passed on anyway",
        );
    }
    names
}

fn name(text: &str) -> Option<HeaderName> {
    let name = headers::well_formed(text)?;
    let is_free = is_method_override(text.as_bytes())
        || !(FoldedName::of(text.as_bytes()).is_never_the_callers() || headers::is_taken(&name));
    is_free.then_some(name)
}

/// Checks the lists of all routes against each other. `places`: the place of each list; `carriers`: the fields that
/// carry credentials.
pub(super) fn check(
    places: &[ValuePlace],
    routes: &[Route],
    carriers: &[&HeaderName],
    problems: &ConfigProblems,
) {
    for (place, route) in places.iter().zip(routes) {
        let names = &route.pass_headers;
        let tells_who = |name: &&HeaderName| {
            let mut identity = routes.iter().flat_map(|other| other.identity_headers.all());
            carriers.contains(name) || identity.any(|told| told == *name)
        };
        if names.iter().any(|name| tells_who(&name)) {
            problems.add(
                place,
                "no identity header of any route, and no header that carries credentials",
            );
        }
        let overrides = names
            .iter()
            .any(|name| is_method_override(name.as_str().as_bytes()));
        if overrides && routes.iter().any(|other| shares_path(route, other)) {
            problems.add(
                place,
                "no method override where routes of one path differ by method: it would bypass the other route",
            );
        }
    }
}

/// Whether another route matches the same paths, so that the two differ by method.
fn shares_path(route: &Route, other: &Route) -> bool {
    let is_host_shared = (route.hosts.is_empty() && other.hosts.is_empty())
        || route.hosts.iter().any(|host| other.hosts.contains(host));
    !std::ptr::eq(route, other) && is_host_shared && is_same_path(&route.path, &other.path)
}

/// Whether two patterns match the same paths, regardless of the names of captures.
fn is_same_path(path: &PathPattern, other: &PathPattern) -> bool {
    let pairs = path.segments.iter().zip(&other.segments);
    let are_alike = |(one, other): (&Segment, &Segment)| match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Capture(_), Segment::Capture(_)) => true,
        _ => false,
    };
    path.tail == other.tail
        && path.segments.len() == other.segments.len()
        && pairs.into_iter().all(are_alike)
}
