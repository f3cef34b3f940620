//! The gateway's own paths: those it answers itself, and those that an upstream could take for them.

use crate::model::route::{PathPattern, Segment};
use crate::route::node::{CaseFolding, Node, PatternMatch, RouteLeaf, TreeWalk};
use crate::route::readings::PathReading;

/// The paths of the gateway's own endpoints.
#[derive(Debug, Default)]
pub struct OwnPaths {
    /// In canonical form, without a trailing slash.
    prefix: String,
    /// The path of forward-auth, on every host; in canonical form.
    questions: String,
    keys: String,
    /// The hosts of the endpoints; empty: all.
    hosts: Vec<String>,
    tree: Node,
}

/// Marks a path served on the own hosts only.
const OWN_HOSTS: usize = 0;
/// Marks a path served on every host.
const EVERY_HOST: usize = 1;

impl OwnPaths {
    /// Creates the paths from the `prefix` of the own endpoints; `questions`, the forward-auth path below it, which
    /// proxies request under every host; `keys`, the path of the public keys; and the `hosts` of the own endpoints,
    /// empty for all.
    ///
    /// All paths are literal and in canonical form, with a leading slash and no trailing one.
    #[must_use]
    pub fn new(prefix: &str, questions: &str, keys: &str, hosts: &[String]) -> Self {
        let mut own = Self {
            prefix: prefix.to_owned(),
            questions: format!("{prefix}{questions}"),
            keys: keys.to_owned(),
            hosts: hosts.to_vec(),
            tree: Node::default(),
        };
        for (path, place) in [(prefix, OWN_HOSTS), (&own.questions, EVERY_HOST)] {
            for tail in [false, true] {
                insert(&mut own.tree, path, tail, place);
            }
        }
        insert(&mut own.tree, keys, false, OWN_HOSTS);
        own
    }

    /// Whether the gateway itself answers this path on this host (lower case, without port and trailing dot).
    #[must_use]
    pub fn serves(&self, host: &str, path: &str) -> bool {
        let is_own = path == self.keys || is_at_or_below(path, &self.prefix);
        is_own && self.is_own_host(host) || self.is_question(path)
    }

    /// Whether this is a path of forward-auth, which proxies request under any host.
    #[must_use]
    pub fn is_question(&self, path: &str) -> bool {
        is_at_or_below(path, &self.questions)
    }

    /// Whether a plain path is an own path except for case and the last slash.
    pub(super) fn resembles(&self, path: &str) -> bool {
        let is_at_or_below = |own: &str| {
            let (head, behind) = path
                .as_bytes()
                .split_at_checked(own.len())
                .unwrap_or_default();
            head.eq_ignore_ascii_case(own.as_bytes()) && matches!(behind, [] | [b'/', ..])
        };
        is_at_or_below(&self.prefix) || is_at_or_below(&self.keys)
    }

    /// Returns the ways in which a reading is an own path.
    pub(super) fn hits(
        &self,
        host: &str,
        reading: &PathReading,
        folding: CaseFolding,
    ) -> Vec<PatternMatch<'_>> {
        let mut walk = TreeWalk::new(&reading.path, reading.is_decoded, folding, Vec::new());
        walk.root(&self.tree);
        let mut hits = walk.hits;
        hits.retain(|hit| {
            let is_everywhere = hit.leaves.iter().any(|leaf| leaf.route == EVERY_HOST);
            is_everywhere || self.is_own_host(host)
        });
        hits
    }

    fn is_own_host(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|own| own == host)
    }
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn insert(tree: &mut Node, path: &str, tail: bool, place: usize) {
    let parts = path.split('/').skip(1);
    let segments = parts
        .map(|part| Segment::Literal(part.to_owned()))
        .collect();
    let leaf = RouteLeaf {
        methods: Vec::new(),
        route: place,
    };
    tree.leaves(&PathPattern { segments, tail }).push(leaf);
}
