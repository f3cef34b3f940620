//! Routes and tables for tests.

use std::sync::Arc;

use http::Method;

use crate::model::access::Requirement;
use crate::model::route::{HostPattern, PathPattern, Route, Segment, Upstream, UpstreamAddress};
use crate::route::own::OwnPaths;
use crate::route::table::{RouteTable, TableError};

/// Creates a route that requires authentication, from a pattern whose literals are written as in canonical paths.
pub(super) fn literal_route(pattern: &str, hosts: &[&str], methods: &[&str]) -> Arc<Route> {
    let (inner, tail) = match pattern.strip_suffix("/**") {
        Some(inner) => (inner, true),
        None => (pattern, false),
    };
    let segments = inner.split('/').skip(1).map(|text| {
        let name = text
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        match name {
            Some(name) => Segment::Capture(name.to_owned()),
            None => Segment::Literal(text.to_owned()),
        }
    });
    Arc::new(Route {
        text: pattern.to_owned(),
        path: PathPattern {
            segments: segments.collect(),
            tail,
        },
        hosts: hosts
            .iter()
            .map(|host| HostPattern((*host).to_owned()))
            .collect(),
        methods: methods
            .iter()
            .map(|method| Method::from_bytes(method.as_bytes()).unwrap())
            .collect(),
        require: Requirement::Authenticated,
        ..Route::bare()
    })
}

/// Builds a table with three upstreams, the second of which is case-sensitive. Own endpoints have their default paths.
pub(super) fn table(routes: &[Arc<Route>]) -> Result<RouteTable, Vec<TableError>> {
    let upstreams = [false, true, false].map(|case_sensitive| Upstream {
        name: "one".to_owned(),
        addresses: vec![UpstreamAddress::BuiltinEcho],
        resources: Vec::new(),
        public_path: String::new(),
        case_sensitive,
        keepalive_timeout: std::time::Duration::from_mins(1),
    });
    let own = OwnPaths::new("/auth", "/verify", "/.well-known/jwks.json", &[]);
    RouteTable::build(routes, &upstreams, &Arc::new(own))
}
