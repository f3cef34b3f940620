//! The choice of the route for a request, and the check that every reading of its path agrees.
//!
//! A path is refused only if two readings of it would be decided differently. Two readings agree if they lead to the
//! same route, or to routes that decide alike, with equal values in the captures that decide.

use std::sync::Arc;

use http::Method;

use crate::model::access::ResourceId;
use crate::model::path::CanonicalPath;
use crate::model::route::{Route, Segment};
use crate::route::node::{CaptureSpans, CaseFolding, PathEnd, PatternMatch, RouteLeaf, TreeWalk};
use crate::route::readings::{PathReading, PathReadings};
use crate::route::rule::ReadingOutcome;
use crate::route::table::{FoundRoute, RouteTable};

/// The route that decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'p> {
    /// The route of the path as sent.
    pub found: FoundRoute<'p>,
    /// The route of the path with its last slash added or removed, if it decides differently: its requirement is
    /// checked too.
    pub slashed: Option<FoundRoute<'p>>,
}

/// The reasons why no route decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoChoice {
    /// No pattern matches.
    NoRoute,
    /// The matching pattern accepts these methods only.
    Method(Vec<Method>),
    /// A reading of the path is decided differently.
    Path(Disagreement),
}

/// Two readings of a path that are decided differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The route of the path as sent; `None`: no route.
    pub sent: Option<usize>,
    /// The other reading, escaped so that it is safe for terminals.
    pub reading: String,
    /// The target of that reading.
    pub leads_to: LeadsTo,
}

/// The target of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeadsTo {
    /// A route, by its index; may be the same route with other captures.
    Route(usize),
    /// A pattern that does not accept the method.
    NoMethod,
    /// One reading is an own endpoint, the other is not.
    Own,
    /// No route.
    Nowhere,
    /// Its readings are too many or too long to compare.
    TooMany,
}

/// The look-ups of a path as sent, and with its last slash added or removed.
struct Sent<'n, 'p> {
    path: &'p CanonicalPath,
    outcome: ReadingOutcome<'n>,
    slashed: ReadingOutcome<'n>,
}

impl RouteTable {
    /// Returns the route that decides a request.
    ///
    /// `host`: lower case, without port and trailing dot.
    ///
    /// # Errors
    /// [`NoChoice`] if no route decides, or if servers could read the path as one that is decided differently.
    pub fn choose<'p>(
        &self,
        host: &str,
        path: &'p CanonicalPath,
        method: &Method,
    ) -> Result<Choice<'p>, NoChoice> {
        let text = path.as_str();
        let walk = self.matches(host, text.as_bytes(), CaseFolding::Noticed);
        let sent = Sent {
            path,
            outcome: ReadingOutcome::of(walk.hits.sent.as_ref(), method),
            slashed: ReadingOutcome::of(walk.hits.slashed.as_ref(), method),
        };
        let slashed = self.slashed(&sent)?;
        let has_readings = !path.is_plain() || walk.met_case || self.own.resembles(text);
        if has_readings {
            self.compare(host, &sent, slashed, method)?;
        }
        match sent.outcome {
            ReadingOutcome::Route(route, spans) => Ok(Choice {
                found: FoundRoute::new(route, path, spans),
                slashed: slashed.map(|(route, spans)| FoundRoute::new(route, path, spans)),
            }),
            ReadingOutcome::Method(leaves, _) => {
                let methods = leaves.iter().flat_map(|leaf| leaf.methods.iter().cloned());
                Err(NoChoice::Method(methods.collect()))
            }
            ReadingOutcome::None => Err(NoChoice::NoRoute),
        }
    }

    /// Returns the route of the path with its last slash added or removed, if it decides differently; both requirements
    /// apply even if the upstreams differ, so that `/pay` can be served alongside `/**`.
    ///
    /// If the pattern of the other path does not accept the method, the gateway serves no such request there, but the
    /// upstream may treat both paths as one. If the routes there decide alike, the requirement of the first is checked
    /// too; otherwise the path is refused.
    fn slashed<'n>(
        &self,
        sent: &Sent<'n, '_>,
    ) -> Result<Option<(usize, &'n CaptureSpans)>, NoChoice> {
        let ReadingOutcome::Route(route, spans) = sent.outcome else {
            return Ok(None);
        };
        let text = sent.path.as_str().as_bytes();
        let other = match sent.slashed {
            ReadingOutcome::None => return Ok(None),
            ReadingOutcome::Route(other, others) => Some((other, others)),
            ReadingOutcome::Method(leaves, others) => leaves.first().and_then(|first| {
                let first = (first.route, others, text);
                let is_like_it =
                    |leaf: &RouteLeaf| self.decide_alike(first, (leaf.route, others, text));
                leaves.iter().all(is_like_it).then_some((first.0, others))
            }),
        };
        let Some((other, others)) = other else {
            return Err(NoChoice::Path(Disagreement {
                sent: Some(route),
                reading: with_other_slash(sent.path.as_str()),
                leads_to: LeadsTo::NoMethod,
            }));
        };
        let alike =
            other == route || self.decide_alike((route, spans, text), (other, others, text));
        Ok((!alike).then_some((other, others)))
    }

    /// Compares every reading with the path as sent.
    fn compare(
        &self,
        host: &str,
        sent: &Sent<'_, '_>,
        slashed: Option<(usize, &CaptureSpans)>,
        method: &Method,
    ) -> Result<(), NoChoice> {
        let route = sent.outcome.route().map(|(route, _)| route);
        let folds = route.and_then(|route| self.rules.get(route));
        let folding = if folds.is_none_or(|rule| rule.folds) {
            CaseFolding::Followed
        } else {
            CaseFolding::Ignored
        };
        let disagree = |reading: &[u8], leads_to| {
            Err(NoChoice::Path(Disagreement {
                sent: route,
                reading: reading.escape_ascii().to_string(),
                leads_to,
            }))
        };
        let Ok(readings) = PathReadings::of(sent.path) else {
            return disagree(sent.path.as_str().as_bytes(), LeadsTo::TooMany);
        };
        let is_own = self.own.serves(host, sent.path.as_str());
        for reading in readings.iter() {
            let host = reading.host.as_deref().unwrap_or(host);
            let found = self
                .against_own(host, reading, folding, is_own, sent)
                .or_else(|| self.against_routes(host, reading, folding, sent, slashed, method));
            if let Some(leads_to) = found {
                return disagree(&reading.path, leads_to);
            }
        }
        Ok(())
    }

    /// Returns how a reading disagrees about the gateway's own paths.
    fn against_own(
        &self,
        host: &str,
        reading: &PathReading,
        folding: CaseFolding,
        is_own: bool,
        sent: &Sent<'_, '_>,
    ) -> Option<LeadsTo> {
        let hits = self.own.hits(host, reading, folding);
        let is_itself = |hit: &PatternMatch<'_>| hit.end == PathEnd::Sent && !hit.is_folded;
        let disagrees = if is_own {
            !hits.iter().any(is_itself)
        } else if matches!(sent.outcome, ReadingOutcome::Route(..)) {
            !hits.is_empty()
        } else {
            hits.iter().any(is_itself)
        };
        disagrees.then_some(LeadsTo::Own)
    }

    /// Returns how a reading disagrees about the route. A reading that differs only in the last slash or in case may
    /// have no route.
    fn against_routes(
        &self,
        host: &str,
        reading: &PathReading,
        folding: CaseFolding,
        sent: &Sent<'_, '_>,
        slashed: Option<(usize, &CaptureSpans)>,
        method: &Method,
    ) -> Option<LeadsTo> {
        let walk = TreeWalk::new(&reading.path, reading.is_decoded, folding, Vec::new());
        let walk = self.walk(host, walk);
        if walk.open.sent && !matches!(sent.outcome, ReadingOutcome::None) {
            return Some(LeadsTo::Nowhere);
        }
        let text = sent.path.as_str().as_bytes();
        walk.hits.iter().find_map(|hit| {
            let is_itself = hit.end == PathEnd::Sent && !hit.is_folded;
            let outcome = ReadingOutcome::of(Some(hit), method);
            let is_checked = |other: usize, others: &CaptureSpans| {
                let is_like = |(route, spans): (usize, &CaptureSpans)| {
                    let other = (other, others, reading.path.as_slice());
                    self.decide_alike((route, spans, text), other)
                };
                let as_sent = sent.outcome.route().is_some_and(is_like);
                as_sent || hit.end == PathEnd::Slashed && slashed.is_some_and(is_like)
            };
            match (sent.outcome, outcome) {
                (ReadingOutcome::Route(..), ReadingOutcome::Route(other, others)) => {
                    (!is_checked(other, others)).then_some(LeadsTo::Route(other))
                }
                (ReadingOutcome::Method(..), ReadingOutcome::Method(..)) => None,
                // As in [`RouteTable::slashed`]: a requirement that is checked already may apply to the other slash, if
                // case and everything else are the same.
                (ReadingOutcome::Route(..), ReadingOutcome::Method(leaves, others)) => {
                    let is_all_checked = hit.end == PathEnd::Slashed
                        && !hit.is_folded
                        && leaves.iter().all(|leaf| is_checked(leaf.route, others));
                    (!is_all_checked).then_some(LeadsTo::NoMethod)
                }
                (ReadingOutcome::Route(..), ReadingOutcome::None) => Some(LeadsTo::NoMethod),
                (_, ReadingOutcome::Route(other, _)) => is_itself.then_some(LeadsTo::Route(other)),
                _ => is_itself.then_some(LeadsTo::NoMethod),
            }
        })
    }

    /// Whether two routes decide alike: equal in everything that decides, captures included.
    fn decide_alike(
        &self,
        (one, spans, text): (usize, &CaptureSpans, &[u8]),
        (other, others, other_text): (usize, &CaptureSpans, &[u8]),
    ) -> bool {
        let (Some(one), Some(other)) = (self.rules.get(one), self.rules.get(other)) else {
            return false;
        };
        let ids = one.used.iter().map(|place| id(spans.get(text, *place)));
        let other_ids = other
            .used
            .iter()
            .map(|place| id(others.get(other_text, *place)));
        one.class == other.class && ids.eq(other_ids)
    }

    /// Returns the pairs of routes whose paths differ only in the last slash and that decide differently: requests for
    /// either are checked against both requirements. Indices; the route of the pattern without the slash is first.
    #[must_use]
    pub fn slash_pairs(&self, routes: &[Arc<Route>]) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for (place, route) in routes
            .iter()
            .enumerate()
            .filter(|(_, route)| !route.path.tail)
        {
            let Some(path) = example(route) else {
                continue;
            };
            let text = path.as_str().as_bytes();
            let named = route.hosts.iter().map(|host| host.0.as_str());
            let all = self.hosts.keys().map(String::as_str).chain([""]);
            let hosts = named.chain(all.filter(|_| route.hosts.is_empty()));
            for host in hosts {
                let hits = self.matches(host, text, CaseFolding::Noticed).hits;
                let (Some(sent), Some(slashed)) = (hits.sent, hits.slashed) else {
                    continue;
                };
                let this = sent.leaves.iter().filter(|leaf| leaf.route == place);
                for leaf in this {
                    for other in slashed.leaves.iter().filter(|other| other.overlaps(leaf)) {
                        let this = (place, &sent.captures, text);
                        let alike = self.decide_alike(this, (other.route, &slashed.captures, text));
                        if !alike && !pairs.contains(&(place, other.route)) {
                            pairs.push((place, other.route));
                        }
                    }
                }
            }
        }
        pairs
    }
}

/// Returns a captured segment as a requirement reads it; `None` for a text that is not a valid id.
fn id(capture: Option<&[u8]>) -> Option<&str> {
    capture
        .and_then(|capture| std::str::from_utf8(capture).ok())
        .filter(|text| ResourceId::fits(text))
}

/// Returns an example path that a pattern matches.
fn example(route: &Route) -> Option<CanonicalPath> {
    let path = route
        .path
        .segments
        .iter()
        .fold(String::new(), |path, segment| {
            let part = match segment {
                Segment::Literal(text) => text,
                Segment::Capture(name) => name,
            };
            format!("{path}/{part}")
        });
    CanonicalPath::new(path)
}

fn with_other_slash(path: &str) -> String {
    path.strip_suffix('/')
        .map_or_else(|| format!("{path}/"), str::to_owned)
}
