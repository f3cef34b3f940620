//! The paths that are probed: those of the operator's routes whose requirement makes an answer meaningful.

use std::sync::Arc;

use http::Method;

use crate::config::Config;
use crate::doctor::DoctorError;
use crate::model::access::Requirement;
use crate::model::route::{PathPattern, Route, Segment};
use crate::route::normalize::canonical;
use crate::route::table::RouteTable;
use crate::snapshot::route_table;

/// The last segment of a path below a pattern `/x/**`.
const LEAF: &str = "doctor";

/// A path of one route.
#[derive(Clone, Debug)]
pub(super) struct ProbePath {
    pub(super) path: String,
    pub(super) route: Arc<Route>,
}

impl ProbePath {
    /// Returns the folder, without a trailing slash, whose paths belong to the route except where a more specific route
    /// matches.
    pub(super) fn folder(&self) -> Option<&str> {
        let folder = self.path.rsplit_once('/').map(|(folder, _)| folder);
        folder.filter(|_| self.route.path.tail)
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        self.route.methods.is_empty() || self.route.methods.contains(method)
    }
}

/// The paths of a run.
#[derive(Debug)]
pub(super) struct ProbePaths {
    /// A path that anyone may GET.
    pub(super) open: Option<ProbePath>,
    /// A path that requires a credential for GET.
    pub(super) closed: Option<ProbePath>,
    /// A path for which preflights pass, and the method that they announce.
    pub(super) preflight: Option<(ProbePath, Method)>,
    lookup: RouteLookup,
}

impl ProbePaths {
    /// Finds paths for requests to this host. `open` and `closed`: paths named by the operator.
    pub(super) fn find(
        config: &Config,
        host: &str,
        open: Option<&str>,
        closed: Option<&str>,
    ) -> Result<Self, DoctorError> {
        let lookup = RouteLookup::new(config, host)?;
        let is_closed = |route: &Route| !is_open(route);
        let needs_login = |route: &Route| route.require == Requirement::Authenticated;
        let open = match open {
            Some(path) => Some(lookup.named(path, is_open).ok_or(DoctorError::Path {
                option: "--open",
                expected: "leads to a route that allows GET without a login",
            })?),
            None => lookup.first(is_open),
        };
        let closed = match closed {
            Some(path) => Some(lookup.named(path, is_closed).ok_or(DoctorError::Path {
                option: "--closed",
                expected: "leads to a route that requires a login",
            })?),
            None => lookup
                .first(needs_login)
                .or_else(|| lookup.first(is_closed)),
        };
        let preflight = lookup.routes.iter().find_map(|route| {
            let of_route = route.methods.iter().find(|method| **method != Method::GET);
            let method = of_route.or(route.methods.first()).unwrap_or(&Method::PUT);
            let path = route.cors_preflight.then(|| lookup.path(route, method))?;
            Some((path?, method.clone()))
        });
        Ok(Self {
            open,
            closed,
            preflight,
            lookup,
        })
    }

    /// Whether the routes let anyone request this path. A path that can be read in two ways is not open.
    pub(super) fn is_open(&self, path: &str, method: &Method) -> bool {
        let is_plain = canonical(path).is_ok_and(|target| target.path.as_str() == path);
        let route = self.lookup.route_of(path, method);
        is_plain && route.is_some_and(|route| is_open(route))
    }

    /// Whether the routes require a credential for GET of this path.
    pub(super) fn is_closed(&self, path: &str) -> bool {
        let route = self.lookup.route_of(path, &Method::GET);
        route.is_some_and(|route| !is_open(route))
    }
}

fn is_open(route: &Route) -> bool {
    matches!(route.require, Requirement::Public | Requirement::Optional)
}

/// Finds the route of a path.
#[derive(Debug)]
struct RouteLookup {
    routes: Vec<Arc<Route>>,
    table: RouteTable,
    host: String,
}

impl RouteLookup {
    fn new(config: &Config, host: &str) -> Result<Self, DoctorError> {
        let routes: Vec<_> = config.routes.iter().cloned().map(Arc::new).collect();
        let table = route_table(config, &routes).map_err(|_| DoctorError::Routes)?;
        let host = host.to_owned();
        Ok(Self {
            routes,
            table,
            host,
        })
    }

    fn route_of(&self, path: &str, method: &Method) -> Option<&Arc<Route>> {
        let target = canonical(path).ok()?;
        let choice = self.table.choose(&self.host, &target.path, method).ok()?;
        self.routes.get(choice.found.route)
    }

    /// Returns a path that leads to this route and no other.
    fn path(&self, route: &Arc<Route>, method: &Method) -> Option<ProbePath> {
        let path = path_of(&route.path)?;
        let found = self.route_of(&path, method)?;
        let route = Arc::ptr_eq(found, route).then(|| Arc::clone(route))?;
        Some(ProbePath { path, route })
    }

    /// Returns a path of the first route that fits. Routes that match a whole folder come first, since they allow more
    /// checks.
    fn first(&self, fits: impl Fn(&Route) -> bool) -> Option<ProbePath> {
        let routes = || self.routes.iter().filter(|route| fits(route));
        let folders = routes().filter(|route| route.path.tail);
        let others = routes().filter(|route| !route.path.tail);
        folders
            .chain(others)
            .find_map(|route| self.path(route, &Method::GET))
    }

    /// Returns the path named by the operator, if its route fits; for a folder, a path in it.
    fn named(&self, path: &str, fits: impl Fn(&Route) -> bool) -> Option<ProbePath> {
        let leaf = if path.ends_with('/') { LEAF } else { "" };
        let path = format!("{path}{leaf}");
        let route = self.route_of(&path, &Method::GET)?;
        let route = fits(route).then(|| Arc::clone(route))?;
        Some(ProbePath { path, route })
    }
}

/// Returns a path that a pattern without captures matches.
fn path_of(pattern: &PathPattern) -> Option<String> {
    let mut path = String::new();
    for segment in &pattern.segments {
        let Segment::Literal(text) = segment else {
            return None;
        };
        path.push('/');
        path.push_str(text);
    }
    if pattern.tail {
        path.push('/');
        path.push_str(LEAF);
    }
    path.starts_with('/').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvOverlay;

    fn config(routes: &str) -> Config {
        let upstream = "[[upstream]]\nname = \"a\"\naddresses = [\"127.0.0.1:1\"]\n";
        Config::parse(&format!("{upstream}{routes}"), &EnvOverlay::default())
            .unwrap()
            .0
    }

    fn route(path: &str, more: &str) -> String {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"a\"\n{more}\n")
    }

    #[test]
    fn paths_are_found_in_the_routes() {
        let all = [
            route("/lists/{id}/**", "require = \"public\""),
            route("/health", "require = \"public\""),
            route("/posted/**", "require = \"public\"\nmethods = [\"POST\"]"),
            route(
                "/other/**",
                "require = \"public\"\nhosts = [\"other.test\"]",
            ),
            route("/public/**", "require = \"optional\""),
            route("/admin/**", "require = { any_role = [\"admin\"] }"),
            route("/**", "require = \"authenticated\""),
            route(
                "/api/**",
                "require = \"authenticated\"\nmethods = [\"GET\", \"DELETE\"]\ncors_preflight = true",
            ),
        ];
        let config = config(&all.concat());
        let paths = ProbePaths::find(&config, "a.test", None, None).unwrap();
        let open = paths.open.unwrap();
        assert_eq!(
            (open.path.as_str(), open.folder()),
            ("/public/doctor", Some("/public"))
        );
        let closed = paths.closed.unwrap();
        assert_eq!(
            (closed.path.as_str(), closed.folder()),
            ("/doctor", Some(""))
        );
        let (preflight, method) = paths.preflight.unwrap();
        assert_eq!(
            (preflight.path.as_str(), method),
            ("/api/doctor", Method::DELETE)
        );
        let paths =
            ProbePaths::find(&config, "other.test", Some("/other/"), Some("/admin/x")).unwrap();
        assert_eq!(paths.open.unwrap().path, "/other/doctor");
        assert_eq!(paths.closed.unwrap().path, "/admin/x");
        for (open, closed) in [
            (Some("/admin/"), None),
            (Some("/public/../x"), None),
            (None, Some("/public/")),
            (Some("/other/"), None),
        ] {
            assert!(
                ProbePaths::find(&config, "a.test", open, closed).is_err(),
                "{open:?} {closed:?}"
            );
        }
    }
}
