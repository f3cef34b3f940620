//! All routes, compiled: from host, path and method to the one that matches best.
//!
//! Among the routes that match, one that names the host goes before one that does not; then, segment by segment from
//! the left, a literal goes before a capture and a capture before `/**`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::model::path::CanonicalPath;
use crate::model::route::{Route, Segment};

/// Most captures that one pattern may have.
pub const CAPTURES_MAX: usize = 8;

/// Why routes make no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two routes could match one request equally well.
    #[error("routes {first} and {second} can match one request equally well")]
    Ambiguous {
        /// Place of one in the list.
        first: usize,
        /// Place of the other.
        second: usize,
    },
    /// A pattern has more than [`CAPTURES_MAX`] captures.
    #[error("route {route} has more than {CAPTURES_MAX} captures")]
    TooManyCaptures {
        /// Its place in the list.
        route: usize,
    },
}

/// The compiled table.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: BTreeMap<String, Node>,
    any_host: Node,
}

/// A route that matches, and what its captures hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'p> {
    /// The route's place in the list that the table was built from.
    pub route: usize,
    /// Captured segments, in the order of the pattern.
    pub captures: Captures<'p>,
}

/// Captured segments of one path, in the order of the pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures<'p> {
    texts: [&'p str; CAPTURES_MAX],
    count: usize,
}

impl<'p> Captures<'p> {
    /// The captured segments.
    #[must_use]
    pub fn as_slice(&self) -> &[&'p str] {
        self.texts.get(..self.count).unwrap_or_default()
    }

    fn with(mut self, text: &'p str) -> Self {
        if let Some(place) = self.texts.get_mut(self.count) {
            *place = text;
            self.count += 1;
        }
        self
    }
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    capture: Option<Box<Node>>,
    here: Vec<Leaf>,
    tail: Vec<Leaf>,
}

#[derive(Clone, Debug)]
struct Leaf {
    methods: Vec<Method>,
    route: usize,
}

impl Leaf {
    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.methods.is_empty()
            || other.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| other.methods.contains(method))
    }
}

impl RouteTable {
    /// Compiles routes; an index in an answer or error is a place in `routes`.
    ///
    /// # Errors
    /// All [`TableError`]s there are.
    pub fn build(routes: &[Arc<Route>]) -> Result<Self, Vec<TableError>> {
        let mut table = Self::default();
        let mut errors = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let captures = route
                .path
                .segments
                .iter()
                .filter(|segment| matches!(segment, Segment::Capture(_)))
                .count();
            if CAPTURES_MAX < captures {
                errors.push(TableError::TooManyCaptures { route: place });
                continue;
            }
            if route.hosts.is_empty() {
                insert(&mut table.any_host, route, place, &mut errors);
            }
            for host in &route.hosts {
                insert(
                    table.hosts.entry(host.0.clone()).or_default(),
                    route,
                    place,
                    &mut errors,
                );
            }
        }
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// The route that matches best; `None`: none does, and the request goes nowhere.
    ///
    /// `host`: lower case, without port and trailing dot.
    #[must_use]
    pub fn find<'p>(
        &self,
        host: &str,
        path: &'p CanonicalPath,
        method: &Method,
    ) -> Option<Found<'p>> {
        let rest = path.as_str().strip_prefix('/')?;
        let in_host = self
            .hosts
            .get(host)
            .and_then(|node| descend(node, Some(rest), method, Captures::default()));
        in_host.or_else(|| descend(&self.any_host, Some(rest), method, Captures::default()))
    }
}

fn insert(root: &mut Node, route: &Route, place: usize, errors: &mut Vec<TableError>) {
    let mut node = root;
    for segment in &route.path.segments {
        node = match segment {
            Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
            Segment::Capture(_) => node.capture.get_or_insert_default(),
        };
    }
    let leaf = Leaf {
        methods: route.methods.clone(),
        route: place,
    };
    let leaves = if route.path.tail {
        &mut node.tail
    } else {
        &mut node.here
    };
    for other in leaves.iter().filter(|other| other.overlaps(&leaf)) {
        errors.push(TableError::Ambiguous {
            first: other.route,
            second: place,
        });
    }
    leaves.push(leaf);
}

/// `rest`: what follows the slash behind this node; `None`: the path ends here. Visits each node at most once.
fn descend<'p>(
    node: &Node,
    rest: Option<&'p str>,
    method: &Method,
    captures: Captures<'p>,
) -> Option<Found<'p>> {
    let found = |leaves: &[Leaf]| {
        leaves
            .iter()
            .find(|leaf| leaf.takes(method))
            .map(|leaf| Found {
                route: leaf.route,
                captures,
            })
    };
    let Some(rest) = rest else {
        return found(&node.here);
    };
    let (segment, behind) = match rest.split_once('/') {
        Some((segment, behind)) => (segment, Some(behind)),
        None => (rest, None),
    };
    let literal = node
        .literals
        .get(segment)
        .and_then(|next| descend(next, behind, method, captures));
    let in_capture = || {
        let next = node.capture.as_deref().filter(|_| !segment.is_empty())?;
        descend(next, behind, method, captures.with(segment))
    };
    literal.or_else(in_capture).or_else(|| found(&node.tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::route::{HostPattern, PathPattern};
    use crate::route::normalize::canonical;

    fn route(pattern: &str, hosts: &[&str], methods: &[&str]) -> Arc<Route> {
        let (inner, tail) = match pattern.strip_suffix("/**") {
            Some(inner) => (inner, true),
            None => (pattern, false),
        };
        let segments = inner
            .split('/')
            .skip(1)
            .map(|text| {
                match text
                    .strip_prefix('{')
                    .and_then(|name| name.strip_suffix('}'))
                {
                    Some(name) => Segment::Capture(name.to_owned()),
                    None => Segment::Literal(text.to_owned()),
                }
            })
            .collect();
        Arc::new(Route {
            text: pattern.to_owned(),
            path: PathPattern { segments, tail },
            hosts: hosts
                .iter()
                .map(|host| HostPattern((*host).to_owned()))
                .collect(),
            methods: methods
                .iter()
                .map(|method| Method::from_bytes(method.as_bytes()).unwrap())
                .collect(),
            ..Route::bare()
        })
    }

    #[test]
    fn the_best_match_wins() {
        let routes = [
            route("/**", &[], &[]),
            route("/lists/{id}/**", &[], &["GET"]),
            route("/lists/all/**", &[], &[]),
            route("/lists/{id}", &[], &[]),
            route("/lists", &[], &[]),
            route("/", &[], &[]),
            route("/lists/**", &["api.example.com"], &[]),
            route("/a/{x}/c", &[], &[]),
            route("/a/b/d", &[], &[]),
        ];
        let table = RouteTable::build(&routes).unwrap();
        let cases: [(&str, &str, &str, usize, &[&str]); 13] = [
            ("h", "GET", "/", 5, &[]),
            ("h", "GET", "/x", 0, &[]),
            ("h", "GET", "/lists", 4, &[]),
            ("h", "GET", "/lists/", 0, &[]),
            ("h", "GET", "/lists/42", 3, &["42"]),
            ("h", "GET", "/lists/42/", 1, &["42"]),
            ("h", "GET", "/lists/42/x/y", 1, &["42"]),
            ("h", "POST", "/lists/42/x", 0, &[]),
            ("h", "GET", "/lists/all/x", 2, &[]),
            ("h", "GET", "/lists/all", 3, &["all"]),
            ("api.example.com", "GET", "/lists/42", 6, &[]),
            ("api.example.com", "GET", "/other", 0, &[]),
            ("h", "GET", "/a/b/c", 7, &["b"]),
        ];
        for (host, method, path, place, captures) in cases {
            let path = canonical(path).unwrap().path;
            let found = table.find(host, &path, &method.parse().unwrap()).unwrap();
            assert_eq!(
                (found.route, found.captures.as_slice()),
                (place, captures),
                "{host} {method} {path}"
            );
        }
    }

    #[test]
    fn what_no_route_matches_is_not_found() {
        let table =
            RouteTable::build(&[route("/x/**", &[], &["GET"]), route("/y/{id}", &["h"], &[])])
                .unwrap();
        for (host, method, path) in [
            ("h", "GET", "/x"),
            ("h", "POST", "/x/a"),
            ("h", "get", "/x/a"),
            ("g", "GET", "/y/1"),
            ("h", "GET", "/y/"),
            ("h", "GET", "/X/a"),
        ] {
            let path = canonical(path).unwrap().path;
            assert_eq!(
                table.find(host, &path, &Method::from_bytes(method.as_bytes()).unwrap()),
                None,
                "{host} {method} {path}"
            );
        }
        assert!(
            RouteTable::build(&[])
                .unwrap()
                .find("h", &canonical("/").unwrap().path, &Method::GET)
                .is_none()
        );
    }

    #[test]
    fn equal_patterns_are_an_error_unless_hosts_or_methods_part_them() {
        let ambiguous = [
            [route("/a/{x}", &[], &[]), route("/a/{y}", &[], &["GET"])],
            [
                route("/a/**", &["h"], &[]),
                route("/a/**", &["g", "h"], &[]),
            ],
        ];
        for pair in ambiguous {
            assert_eq!(
                RouteTable::build(&pair).unwrap_err(),
                [TableError::Ambiguous {
                    first: 0,
                    second: 1
                }]
            );
        }
        let parted = [
            [
                route("/a/{x}", &[], &["POST"]),
                route("/a/{y}", &[], &["GET"]),
            ],
            [route("/a/**", &["h"], &[]), route("/a/**", &[], &[])],
            [route("/a/**", &[], &[]), route("/a/{x}", &[], &[])],
        ];
        for pair in parted {
            assert!(RouteTable::build(&pair).is_ok());
        }
    }
}
