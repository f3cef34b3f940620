//! The tree of path patterns, and the walk through it.
//!
//! At each node a literal precedes a capture, and a capture precedes `/**`. One walk finds the routes of a path as sent
//! and of the path with its last slash added or removed, and notices literals that differ from it in case only. A path
//! of plain characters therefore needs a second look-up only if it met such a literal, or resembles one of the
//! gateway's own paths.

use std::collections::BTreeMap;

use http::Method;

use crate::model::route::{PathPattern, Segment};
use crate::route::escape::decoded;
use crate::route::readings::caseless;

/// Maximum number of captures per pattern.
pub const CAPTURES_MAX: usize = 8;
/// Maximum length of a segment that is folded without an allocation, in bytes.
const SEGMENT_BYTES: usize = 64;
/// Maximum number of bytes of a segment per byte of its caseless text: escapes are three to one, and at most six bytes
/// of UTF-8 (a mathematical letter and a mark) become a letter.
const SHRINKING_MAX: usize = 32;

/// The patterns below a common prefix.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// By caseless text without escapes. Several literals of one text are spellings of it.
    literals: BTreeMap<Vec<u8>, Vec<Literal>>,
    /// Length of the longest of these texts, in bytes: far longer segments are not folded at all.
    longest: usize,
    capture: Option<Box<Node>>,
    here: Vec<RouteLeaf>,
    tail: Vec<RouteLeaf>,
}

/// A literal segment, and the node below it.
#[derive(Debug)]
pub(super) struct Literal {
    /// The literal as in a canonical path.
    written: String,
    pub(super) decoded: Vec<u8>,
    pub(super) node: Node,
}

/// A route at the end of its pattern.
#[derive(Clone, Debug)]
pub(super) struct RouteLeaf {
    /// Sorted; empty: all.
    pub(super) methods: Vec<Method>,
    pub(super) route: usize,
}

impl RouteLeaf {
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.methods.is_empty()
            || other.methods.is_empty()
            || self
                .methods
                .iter()
                .any(|method| other.methods.contains(method))
    }
}

impl Node {
    /// Returns the leaves of a pattern, creating its nodes as needed.
    pub(super) fn leaves(&mut self, pattern: &PathPattern) -> &mut Vec<RouteLeaf> {
        let node = pattern
            .segments
            .iter()
            .fold(self, |node, segment| match segment {
                Segment::Literal(text) => node.literal(text),
                Segment::Capture(_) => node.capture.get_or_insert_default(),
            });
        if pattern.tail {
            &mut node.tail
        } else {
            &mut node.here
        }
    }

    fn literal(&mut self, written: &str) -> &mut Self {
        let decoded = decoded(written.as_bytes());
        let text = caseless(&decoded);
        self.longest = self.longest.max(text.len());
        let spellings = self.literals.entry(text).or_default();
        let known = spellings.iter().position(|known| known.written == written);
        let place = known.unwrap_or(spellings.len());
        if known.is_none() {
            spellings.push(Literal {
                written: written.to_owned(),
                decoded,
                node: Self::default(),
            });
        }
        #[expect(clippy::indexing_slicing, reason = "it was found or pushed there")]
        &mut spellings[place].node
    }

    /// Returns the groups of literals of this node that are spellings of one text.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &[Literal]> {
        let all = self.literals.values().map(Vec::as_slice);
        all.filter(|spellings| 1 < spellings.len())
    }

    /// Returns the nodes directly below.
    pub(super) fn below(&self) -> impl Iterator<Item = &Self> {
        let literals = self.literals.values().flatten();
        literals
            .map(|literal| &literal.node)
            .chain(self.capture.as_deref())
    }

    /// Returns the routes at this node.
    pub(super) fn routes(&self) -> impl Iterator<Item = usize> {
        self.here.iter().chain(&self.tail).map(|leaf| leaf.route)
    }

    fn named(&self, segment: &[u8]) -> &[Literal] {
        let is_too_long = self.longest.saturating_mul(SHRINKING_MAX) < segment.len();
        let found = if self.literals.is_empty() || is_too_long {
            None
        } else if segment.contains(&b'%') || !segment.is_ascii() {
            self.literals.get(&caseless(&decoded(segment)))
        } else {
            let mut buffer = [0; SEGMENT_BYTES];
            match buffer.get_mut(..segment.len()) {
                Some(folded) => {
                    folded.copy_from_slice(segment);
                    folded.make_ascii_lowercase();
                    self.literals.get(&*folded)
                }
                None => self.literals.get(&segment.to_ascii_lowercase()),
            }
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Returns the names that a pattern captures.
pub fn captures(pattern: &PathPattern) -> impl Iterator<Item = &str> {
    pattern.segments.iter().filter_map(|segment| match segment {
        Segment::Capture(name) => Some(name.as_str()),
        Segment::Literal(_) => None,
    })
}

/// The positions of the captures in a path, in the order of the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CaptureSpans {
    places: [(usize, usize); CAPTURES_MAX],
    count: usize,
}

impl CaptureSpans {
    /// Adds a capture; a pattern has at most [`CAPTURES_MAX`].
    fn push(&mut self, begin: usize, end: usize) {
        if let Some(place) = self.places.get_mut(self.count) {
            *place = (begin, end);
            self.count += 1;
        }
    }

    fn truncate(&mut self, count: usize) {
        self.count = count;
    }

    /// Returns the number of captures.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns the capture at an index of the pattern.
    pub(super) fn get<'t>(&self, text: &'t [u8], place: usize) -> Option<&'t [u8]> {
        let (begin, end) = *self.places.get(..self.count)?.get(place)?;
        text.get(begin..end)
    }
}

/// The variant of a path: as sent, or with its last slash added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEnd {
    Sent,
    Slashed,
}

/// A matching pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct PatternMatch<'n> {
    pub(super) end: PathEnd,
    /// Whether a literal matched in another case.
    pub(super) is_folded: bool,
    /// The routes of the pattern, at least one; the method selects among them.
    pub(super) leaves: &'n [RouteLeaf],
    pub(super) captures: CaptureSpans,
}

/// The hits of a walk that does not follow case: at most one for each variant.
#[derive(Debug, Default)]
pub(super) struct PathMatches<'n> {
    pub(super) sent: Option<PatternMatch<'n>>,
    pub(super) slashed: Option<PatternMatch<'n>>,
}

impl<'n> Extend<PatternMatch<'n>> for PathMatches<'n> {
    fn extend<I: IntoIterator<Item = PatternMatch<'n>>>(&mut self, hits: I) {
        for hit in hits {
            match hit.end {
                PathEnd::Sent => self.sent = Some(hit),
                PathEnd::Slashed => self.slashed = Some(hit),
            }
        }
    }
}

/// The handling of a literal that differs from the path in case only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaseFolding {
    /// It is noted ([`TreeWalk::met_case`]) and does not match.
    Noticed,
    /// Both possibilities are followed: a match and no match.
    Followed,
    /// It does not match.
    Ignored,
}

/// The variants of a path that no pattern has matched yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnmatchedEnds {
    pub(super) sent: bool,
    pub(super) slashed: bool,
}

impl UnmatchedEnds {
    const fn none(self) -> bool {
        !self.sent && !self.slashed
    }
}

/// A walk through the tree with one reading of a path.
#[derive(Debug)]
pub(super) struct TreeWalk<'t, H> {
    text: &'t [u8],
    /// Whether escapes in `text` are decoded: literals are then compared decoded, otherwise as written.
    is_decoded: bool,
    folding: CaseFolding,
    /// The captures on the way to the current node.
    captures: CaptureSpans,
    pub(super) hits: H,
    /// Whether a literal differed in case only.
    pub(super) met_case: bool,
    pub(super) open: UnmatchedEnds,
}

/// A position in a walk: after a slash, or the end of the path.
#[derive(Clone, Copy)]
struct WalkPosition {
    begin: Option<usize>,
    is_folded: bool,
}

impl<'t, 'n, H: Extend<PatternMatch<'n>>> TreeWalk<'t, H> {
    /// Creates a walk; `text` begins with a slash.
    pub(super) fn new(text: &'t [u8], is_decoded: bool, folding: CaseFolding, hits: H) -> Self {
        let open = UnmatchedEnds {
            sent: true,
            // The root has one slash in every reading.
            slashed: text != b"/",
        };
        Self {
            text,
            is_decoded,
            folding,
            captures: CaptureSpans::default(),
            hits,
            met_case: false,
            open,
        }
    }

    /// Walks from a root. Matches of a previous root take precedence.
    pub(super) fn root(&mut self, root: &'n Node) {
        if !self.open.none() {
            let step = WalkPosition {
                begin: Some(1),
                is_folded: false,
            };
            self.open = self.descend(root, step, self.open);
        }
    }

    /// Visits each node at most once. Returns the variants that are still open.
    fn descend(
        &mut self,
        node: &'n Node,
        step: WalkPosition,
        open: UnmatchedEnds,
    ) -> UnmatchedEnds {
        let Some(begin) = step.begin else {
            let open = self.leave(&node.here, PathEnd::Sent, step, open);
            return self.leave(&node.tail, PathEnd::Slashed, step, open);
        };
        let rest = self.text.get(begin..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'/');
        let end = begin + length.unwrap_or(rest.len());
        let next = length.map(|_| end + 1);
        let segment = self.text.get(begin..end).unwrap_or_default();
        if segment.is_empty() && next.is_none() && 1 < begin {
            let open = self.leave(&node.tail, PathEnd::Sent, step, open);
            return self.leave(&node.here, PathEnd::Slashed, step, open);
        }
        let below = WalkPosition {
            begin: next,
            ..step
        };
        let mut open = self.by_literals(node, segment, below, open);
        if let Some(capture) = node.capture.as_deref()
            && !segment.is_empty()
            && !open.none()
        {
            let count = self.captures.count();
            self.captures.push(begin, end);
            open = self.descend(capture, below, open);
            self.captures.truncate(count);
        }
        let open = self.leave(&node.tail, PathEnd::Sent, step, open);
        self.leave(&node.tail, PathEnd::Slashed, step, open)
    }

    fn by_literals(
        &mut self,
        node: &'n Node,
        segment: &[u8],
        below: WalkPosition,
        open: UnmatchedEnds,
    ) -> UnmatchedEnds {
        let mut exact = None;
        for literal in node.named(segment) {
            let is_exact = if self.is_decoded {
                literal.decoded == segment
            } else {
                literal.written.as_bytes() == segment
            };
            if is_exact {
                exact = Some(&literal.node);
                continue;
            }
            // Escapes have a meaning in decoded readings only.
            if !self.is_decoded && segment.contains(&b'%') {
                continue;
            }
            self.met_case = true;
            if self.folding == CaseFolding::Followed {
                let is_folded = true;
                self.descend(&literal.node, WalkPosition { is_folded, ..below }, open);
            }
        }
        exact.map_or(open, |node| self.descend(node, below, open))
    }

    /// Closes a variant if there are routes for it.
    fn leave(
        &mut self,
        leaves: &'n [RouteLeaf],
        end: PathEnd,
        step: WalkPosition,
        mut open: UnmatchedEnds,
    ) -> UnmatchedEnds {
        let is_open = match end {
            PathEnd::Sent => &mut open.sent,
            PathEnd::Slashed => &mut open.slashed,
        };
        if *is_open && !leaves.is_empty() {
            *is_open = false;
            self.hits.extend([PatternMatch {
                end,
                is_folded: step.is_folded,
                leaves,
                captures: self.captures,
            }]);
        }
        open
    }
}
