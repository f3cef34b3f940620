//! Routes and tables for tests.

use std::sync::Arc;

use http::Method;

use crate::model::access::Requirement;
use crate::model::route::{HostPattern, PathPattern, Route, Segment, Upstream, UpstreamAddress};
use crate::route::own::OwnPaths;
use crate::route::table::{RouteTable, TableError, TableParts};

/// A route that asks for a login, by a pattern whose literals are written as canonical paths have them.
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

/// A table to three upstreams, of which the second keeps upper and lower case apart. Own endpoints are where they are by
/// default.
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
    RouteTable::build(TableParts {
        routes,
        upstreams: &upstreams,
        own: &Arc::new(own),
    })
}
