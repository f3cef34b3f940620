//! Where to probe: paths of the operator's own routes whose requirement makes an answer tell something.

use std::sync::Arc;

use http::Method;

use crate::config::Config;
use crate::doctor::DoctorError;
use crate::model::access::Requirement;
use crate::model::route::{PathPattern, Route, Segment};
use crate::route::normalize::canonical;
use crate::route::table::RouteTable;
use crate::snapshot::route_table;

/// What is asked for below a pattern.
const LEAF: &str = "doctor";

/// A path of one route.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) route: Arc<Route>,
}

impl Spot {
    /// All paths below it belong to the same route, unless another one is more exact; without a slash at its end.
    pub(super) fn folder(&self) -> Option<&str> {
        if !self.route.path.tail {
            return None;
        }
        self.path.rsplit_once('/').map(|(folder, _)| folder)
    }

    pub(super) fn takes(&self, method: &Method) -> bool {
        self.route.methods.is_empty() || self.route.methods.contains(method)
    }
}

/// The paths of a run.
#[derive(Debug)]
pub(super) struct Ground {
    /// Anybody may GET it.
    pub(super) open: Option<Spot>,
    /// Nobody may GET it without a credential.
    pub(super) closed: Option<Spot>,
    /// Preflights for it pass; with the method they ask about.
    pub(super) preflight: Option<(Spot, Method)>,
    map: Map,
}

impl Ground {
    /// Finds paths for requests to this host, those that the operator names first.
    pub(super) fn find(
        config: &Config,
        host: &str,
        open: Option<&str>,
        closed: Option<&str>,
    ) -> Result<Self, DoctorError> {
        let map = Map::new(config, host)?;
        let is_closed = |route: &Route| !is_open(route);
        let needs_login = |route: &Route| route.require == Requirement::Authenticated;
        let open = match open {
            Some(path) => Some(map.named(
                "--open",
                path,
                "leads to a route that anybody may GET",
                is_open,
            )?),
            None => map.first(&Method::GET, is_open),
        };
        let closed = match closed {
            Some(path) => Some(map.named(
                "--closed",
                path,
                "leads to a route that asks for a login",
                is_closed,
            )?),
            None => map
                .first(&Method::GET, needs_login)
                .or_else(|| map.first(&Method::GET, is_closed)),
        };
        let preflight = map.routes.iter().find_map(|route| {
            let of_route = route.methods.iter().find(|method| **method != Method::GET);
            let method = of_route.or(route.methods.first()).unwrap_or(&Method::PUT);
            let spot = route.cors_preflight.then(|| map.spot(route, method))?;
            Some((spot?, method.clone()))
        });
        Ok(Self {
            open,
            closed,
            preflight,
            map,
        })
    }

    /// Whether the routes let anybody in there, by a path that reads in one way only.
    pub(super) fn is_open(&self, path: &str, method: &Method) -> bool {
        let is_plain = canonical(path).is_ok_and(|target| target.path.as_str() == path);
        let route = self.map.route_of(path, method);
        is_plain && route.is_some_and(|route| is_open(route))
    }

    /// Whether the routes ask for something there.
    pub(super) fn is_closed(&self, path: &str) -> bool {
        let route = self.map.route_of(path, &Method::GET);
        route.is_some_and(|route| !is_open(route))
    }
}

fn is_open(route: &Route) -> bool {
    matches!(route.require, Requirement::Public | Requirement::Optional)
}

/// The routes, and which of them a path leads to.
#[derive(Debug)]
struct Map {
    routes: Vec<Arc<Route>>,
    table: RouteTable,
    host: String,
}

impl Map {
    fn new(config: &Config, host: &str) -> Result<Self, DoctorError> {
        let routes: Vec<_> = config.routes.iter().cloned().map(Arc::new).collect();
        let table = route_table(config, &routes).map_err(|_| DoctorError::Routes)?;
        Ok(Self {
            routes,
            table,
            host: host.to_owned(),
        })
    }

    fn route_of(&self, path: &str, method: &Method) -> Option<&Arc<Route>> {
        let target = canonical(path).ok()?;
        let choice = self.table.choose(&self.host, &target.path, method).ok()?;
        self.routes.get(choice.found.route)
    }

    /// A path that leads to this route and no other.
    fn spot(&self, route: &Arc<Route>, method: &Method) -> Option<Spot> {
        let path = path_of(&route.path)?;
        let found = self.route_of(&path, method)?;
        Arc::ptr_eq(found, route).then(|| Spot {
            path,
            route: Arc::clone(route),
        })
    }

    /// Routes below which everything is theirs come first: more can be tried there.
    fn first(&self, method: &Method, fits: impl Fn(&Route) -> bool) -> Option<Spot> {
        let spots = |tail: bool| {
            let routes = self
                .routes
                .iter()
                .filter(move |route| route.path.tail == tail);
            routes.filter(|route| fits(route))
        };
        spots(true)
            .chain(spots(false))
            .find_map(|route| self.spot(route, method))
    }

    fn named(
        &self,
        option: &'static str,
        path: &str,
        expected: &'static str,
        fits: impl Fn(&Route) -> bool,
    ) -> Result<Spot, DoctorError> {
        let path = match path.strip_suffix('/') {
            Some(folder) => format!("{folder}/{LEAF}"),
            None => path.to_owned(),
        };
        match self.route_of(&path, &Method::GET) {
            Some(route) if fits(route) => Ok(Spot {
                path,
                route: Arc::clone(route),
            }),
            _ => Err(DoctorError::Path { option, expected }),
        }
    }
}

/// A path that a pattern without captures matches.
fn path_of(pattern: &PathPattern) -> Option<String> {
    let mut path = String::new();
    for segment in &pattern.segments {
        match segment {
            Segment::Literal(text) => {
                path.push('/');
                path.push_str(text);
            }
            Segment::Capture(_) => return None,
        }
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
        let ground = Ground::find(&config, "a.test", None, None).unwrap();
        let open = ground.open.unwrap();
        assert_eq!(
            (open.path.as_str(), open.folder()),
            ("/public/doctor", Some("/public"))
        );
        let closed = ground.closed.unwrap();
        assert_eq!(
            (closed.path.as_str(), closed.folder()),
            ("/doctor", Some(""))
        );
        let (preflight, method) = ground.preflight.unwrap();
        assert_eq!(
            (preflight.path.as_str(), method),
            ("/api/doctor", Method::DELETE)
        );
        let ground =
            Ground::find(&config, "other.test", Some("/other/"), Some("/admin/x")).unwrap();
        assert_eq!(ground.open.unwrap().path, "/other/doctor");
        assert_eq!(ground.closed.unwrap().path, "/admin/x");
        for (open, closed) in [
            (Some("/admin/"), None),
            (Some("/public/../x"), None),
            (None, Some("/public/")),
            (Some("/other/"), None),
        ] {
            assert!(
                Ground::find(&config, "a.test", open, closed).is_err(),
                "{open:?} {closed:?}"
            );
        }
    }
}
