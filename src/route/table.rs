//! The compiled routes: from host, path and method to the best match.
//!
//! The host is chosen first: a route that names the host precedes one that does not. Then, segment by segment from the
//! left, a literal precedes a capture, and a capture precedes `/**`. The method comes last: a wider pattern never
//! answers for a narrower one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::model::path::CanonicalPath;
use crate::model::route::{Route, Upstream};
use crate::route::node::{
    CaptureSpans, CaseFolding, Node, PathMatches, PatternMatch, RouteLeaf, TreeWalk,
};
use crate::route::own::OwnPaths;
use crate::route::readings::equal_ignoring_case;
use crate::route::rule::{ComparedRoute, ReadingOutcome};

pub use crate::route::node::{CAPTURES_MAX, captures};

/// The errors of routes that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Two routes could match one request equally well.
    #[error("routes {first} and {second} can match one request equally well")]
    Ambiguous {
        /// Index of one route.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// Two patterns have literals at the same position that differ in case only, and an upstream may confuse them.
    #[error("routes {first} and {second} differ only in the case of a literal")]
    CaseAlone {
        /// Index of one route.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// A pattern has more than [`CAPTURES_MAX`] captures.
    #[error("route {route} has more than {CAPTURES_MAX} captures")]
    TooManyCaptures {
        /// Index of the route.
        route: usize,
    },
}

/// The compiled table.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(super) hosts: BTreeMap<String, Node>,
    pub(super) any_host: Node,
    pub(super) rules: Vec<ComparedRoute>,
    pub(super) own: Arc<OwnPaths>,
}

/// A matching route and its captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute<'p> {
    /// The route's index in the list that the table was built from.
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
    /// Returns the captured segments.
    #[must_use]
    pub fn as_slice(&self) -> &[&'p str] {
        self.texts.get(..self.count).unwrap_or_default()
    }

    fn of(path: &'p CanonicalPath, spans: &CaptureSpans) -> Self {
        let mut captures = Self::default();
        let texts = captures.texts.iter_mut().take(spans.count());
        for (place, text) in texts.enumerate() {
            let found = spans.get(path.as_str().as_bytes(), place);
            // A canonical path is ASCII.
            *text = found
                .and_then(|found| std::str::from_utf8(found).ok())
                .unwrap_or_default();
        }
        captures.count = spans.count();
        captures
    }
}

impl<'p> FoundRoute<'p> {
    pub(super) fn new(route: usize, path: &'p CanonicalPath, spans: &CaptureSpans) -> Self {
        let captures = Captures::of(path, spans);
        Self { route, captures }
    }
}

impl RouteTable {
    /// Compiles routes. `routes` is the list to which indexes in results and errors refer; `own`: the paths that the
    /// gateway answers itself.
    ///
    /// # Errors
    /// All [`TableError`]s found.
    pub fn build(
        routes: &[Arc<Route>],
        upstreams: &[Upstream],
        own: &Arc<OwnPaths>,
    ) -> Result<Self, Vec<TableError>> {
        let mut table = Self {
            own: Arc::clone(own),
            ..Self::default()
        };
        let mut errors = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            if CAPTURES_MAX < captures(&route.path).count() {
                errors.push(TableError::TooManyCaptures { route: place });
                continue;
            }
            if route.hosts.is_empty() {
                insert(&mut table.any_host, route, place, &mut errors);
            }
            for host in &route.hosts {
                let root = table.hosts.entry(host.0.clone()).or_default();
                insert(root, route, place, &mut errors);
            }
        }
        table.rules = ComparedRoute::all(routes, upstreams);
        for root in table.hosts.values().chain([&table.any_host]) {
            table.check_case(root, &mut errors);
        }
        if errors.is_empty() {
            Ok(table)
        } else {
            Err(errors)
        }
    }

    /// Returns the route that matches the unchanged path best; `None` if there is none.
    ///
    /// `host`: lower case, without port and trailing dot. Other readings of the path are not compared: requests are
    /// admitted by [`RouteTable::choose`].
    #[must_use]
    pub fn find<'p>(
        &self,
        host: &str,
        path: &'p CanonicalPath,
        method: &Method,
    ) -> Option<FoundRoute<'p>> {
        let walk = self.matches(host, path.as_str().as_bytes(), CaseFolding::Ignored);
        let outcome = ReadingOutcome::of(walk.hits.sent.as_ref(), method);
        let (route, spans) = outcome.route()?;
        Some(FoundRoute::new(route, path, spans))
    }

    /// Looks up a path as sent, and with its last slash added or removed.
    pub(super) fn matches<'t>(
        &self,
        host: &str,
        text: &'t [u8],
        folding: CaseFolding,
    ) -> TreeWalk<'t, PathMatches<'_>> {
        let walk = TreeWalk::new(text, false, folding, PathMatches::default());
        self.walk(host, walk)
    }

    /// Walks the patterns of a host, then those without a host.
    pub(super) fn walk<'t, 'n, H: Extend<PatternMatch<'n>>>(
        &'n self,
        host: &str,
        mut walk: TreeWalk<'t, H>,
    ) -> TreeWalk<'t, H> {
        for root in self.hosts.get(host).into_iter().chain([&self.any_host]) {
            walk.root(root);
        }
        walk
    }

    /// Finds spellings of one literal, below a node, in routes whose upstream may confuse them.
    fn check_case(&self, node: &Node, errors: &mut Vec<TableError>) {
        for spellings in node.spellings() {
            let below: Vec<_> = spellings
                .iter()
                .map(|literal| (literal.decoded.as_slice(), routes_below(&literal.node)))
                .collect();
            for (index, (text, first)) in below.iter().enumerate() {
                for (other, second) in below.iter().skip(index + 1) {
                    let folds =
                        |route: &&usize| self.rules.get(**route).is_none_or(|rule| rule.folds);
                    let may_fold = first.iter().chain(second).any(|route| folds(&route));
                    if may_fold
                        && equal_ignoring_case(text, other)
                        && let (Some(first), Some(second)) = (first.first(), second.first())
                    {
                        errors.push(TableError::CaseAlone {
                            first: *first.min(second),
                            second: *first.max(second),
                        });
                    }
                }
            }
        }
        for below in node.below() {
            self.check_case(below, errors);
        }
    }
}

fn routes_below(node: &Node) -> Vec<usize> {
    let mut routes: Vec<_> = node.routes().collect();
    routes.extend(node.below().flat_map(routes_below));
    routes
}

fn insert(root: &mut Node, route: &Route, place: usize, errors: &mut Vec<TableError>) {
    let leaf = RouteLeaf {
        methods: route.methods.clone(),
        route: place,
    };
    let leaves = root.leaves(&route.path);
    for other in leaves.iter().filter(|other| other.overlaps(&leaf)) {
        errors.push(TableError::Ambiguous {
            first: other.route,
            second: place,
        });
    }
    leaves.push(leaf);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::normalize::canonical;
    use crate::route::test_kit::{literal_route as route, table};

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
        let routes = table(&routes).unwrap();
        let cases: [(&str, &str, &str, usize, &[&str]); 12] = [
            ("h", "GET", "/", 5, &[]),
            ("h", "GET", "/x", 0, &[]),
            ("h", "GET", "/lists", 4, &[]),
            ("h", "GET", "/lists/", 0, &[]),
            ("h", "GET", "/lists/42", 3, &["42"]),
            ("h", "GET", "/lists/42/", 1, &["42"]),
            ("h", "GET", "/lists/42/x/y", 1, &["42"]),
            ("h", "GET", "/lists/all/x", 2, &[]),
            ("h", "GET", "/lists/all", 3, &["all"]),
            ("api.example.com", "GET", "/lists/42", 6, &[]),
            ("api.example.com", "GET", "/other", 0, &[]),
            ("h", "GET", "/a/b/c", 7, &["b"]),
        ];
        for (host, method, path, place, captures) in cases {
            let path = canonical(path).unwrap().path;
            let found = routes.find(host, &path, &method.parse().unwrap()).unwrap();
            assert_eq!(
                (found.route, found.captures.as_slice()),
                (place, captures),
                "{host} {method} {path}"
            );
        }
    }

    #[test]
    fn what_no_route_matches_is_not_found() {
        let routes =
            table(&[route("/x/**", &[], &["GET"]), route("/y/{id}", &["h"], &[])]).unwrap();
        for (host, method, path) in [
            ("h", "GET", "/x"),
            ("h", "POST", "/x/a"),
            ("h", "get", "/x/a"),
            ("g", "GET", "/y/1"),
            ("h", "GET", "/y/"),
            ("h", "GET", "/X/a"),
            ("h", "GET", "/y/1/"),
        ] {
            let path = canonical(path).unwrap().path;
            assert_eq!(
                routes.find(host, &path, &Method::from_bytes(method.as_bytes()).unwrap()),
                None,
                "{host} {method} {path}"
            );
        }
        assert!(
            table(&[])
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
                table(&pair).unwrap_err(),
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
            assert!(table(&pair).is_ok());
        }
    }

    #[test]
    fn literals_that_differ_in_case_alone_are_an_error_unless_the_upstreams_keep_them_apart() {
        let (folds, keeps) = (0, 1);
        let cases = [
            ("/a", folds, "/A/**", folds, true),
            ("/x/a/y", folds, "/x/A", keeps, true),
            ("/{x}/caf%C3%A9", folds, "/{y}/CAF%C3%89/z", folds, true),
            ("/a", keeps, "/A/**", keeps, false),
            ("/x/a", folds, "/{y}/A", folds, false),
            ("/a", folds, "/a/**", folds, false),
        ];
        for (one, upstream, other, other_upstream, is_error) in cases {
            let routes = [(one, upstream), (other, other_upstream)];
            let routes = routes.map(|(pattern, upstream)| {
                let mut route = Route::clone(&route(pattern, &[], &[]));
                route.upstream = upstream;
                Arc::new(route)
            });
            let wanted = vec![TableError::CaseAlone {
                first: 0,
                second: 1,
            }];
            assert_eq!(
                table(&routes).err(),
                is_error.then_some(wanted),
                "{one} {other}"
            );
        }
    }
}
