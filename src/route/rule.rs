//! The properties of routes that matter when two are compared, and the outcome of a lookup.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::model::access::{Requirement, RoleTemplate};
use crate::model::route::{Route, Upstream};
use crate::route::node::{CaptureSpans, PatternMatch, RouteLeaf, captures};

/// The properties of a route that matter when it is compared with another.
#[derive(Debug)]
pub(super) struct ComparedRoute {
    /// The index of the first route that decides as this one does.
    pub(super) class: usize,
    /// The indexes of the captures that its decision, or what is signed about it, depends on.
    pub(super) used: Vec<usize>,
    /// Whether its upstream may ignore the case of letters.
    pub(super) folds: bool,
}

impl ComparedRoute {
    pub(super) fn all(routes: &[Arc<Route>], upstreams: &[Upstream]) -> Vec<Self> {
        let mut known: BTreeMap<(usize, String), Vec<(usize, Route)>> = BTreeMap::new();
        let mut rules = Vec::with_capacity(routes.len());
        for (place, route) in routes.iter().enumerate() {
            let alike = (route.upstream, route.require.to_string());
            let alike = known.entry(alike).or_default();
            let bare = route.without_place();
            let class = alike.iter().find(|(_, other)| *other == bare);
            let class = class.map_or(place, |(class, _)| *class);
            if class == place {
                alike.push((place, bare));
            }
            rules.push(Self {
                class,
                used: used_captures(route),
                folds: upstreams
                    .get(route.upstream)
                    .is_none_or(|upstream| !upstream.case_sensitive),
            });
        }
        rules
    }
}

/// Returns the indexes of the captures that decide: those of the requirement, or all captures if an assertion signs the
/// caller's roles on them.
fn used_captures(route: &Route) -> Vec<usize> {
    if route.assertion {
        return (0..captures(&route.path).count()).collect();
    }
    let Requirement::Rights { any_role, .. } = &route.require else {
        return Vec::new();
    };
    let used = any_role.iter().filter_map(|template| match template {
        RoleTemplate::Resource { capture, .. } => {
            captures(&route.path).position(|name| name == capture)
        }
        RoleTemplate::Plain(_) => None,
    });
    used.collect()
}

/// The outcome of looking up one reading of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReadingOutcome<'n> {
    Route(usize, &'n CaptureSpans),
    /// The pattern matches, but none of its routes accepts the method.
    Method(&'n [RouteLeaf], &'n CaptureSpans),
    None,
}

impl<'n> ReadingOutcome<'n> {
    pub(super) fn of(hit: Option<&'n PatternMatch<'n>>, method: &Method) -> Self {
        let Some(hit) = hit else {
            return Self::None;
        };
        let leaf = hit.leaves.iter().find(|leaf| leaf.takes(method));
        leaf.map_or(Self::Method(hit.leaves, &hit.captures), |leaf| {
            Self::Route(leaf.route, &hit.captures)
        })
    }

    /// Returns the route and its captures, if one accepts the method.
    pub(super) const fn route(&self) -> Option<(usize, &'n CaptureSpans)> {
        match self {
            Self::Route(route, spans) => Some((*route, spans)),
            Self::Method(..) | Self::None => None,
        }
    }
}
