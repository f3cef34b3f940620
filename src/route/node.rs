//! The tree of path patterns, and the one way through it.
//!
//! At each node a literal goes before a capture and a capture before `/**`. One walk finds where a path leads as it was
//! sent and where it would lead with its last slash added or dropped, and notices literals that it meets in another case,
//! so a path of plain characters needs a second look-up only where it met one, or is nearly a path of the gateway's own.

use std::collections::BTreeMap;

use http::Method;

use crate::model::route::{PathPattern, Segment};
use crate::route::escape::decoded;
use crate::route::readings::caseless;

/// Most captures that one pattern may have.
pub const CAPTURES_MAX: usize = 8;
/// Segments up to this are folded without an allocation.
const SEGMENT_BYTES: usize = 64;
/// How many bytes of a segment can become one of its text without case: escapes are three to one, and six bytes of UTF-8
/// (a mathematical letter and a mark) at most become a letter.
const SHRINKING_MAX: usize = 32;

/// What is below one beginning of a path.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// By their text without case and escapes. More than one of a text are spellings of it.
    literals: BTreeMap<Vec<u8>, Vec<Literal>>,
    /// The bytes of the longest of these texts: what is far longer is not folded at all.
    longest: usize,
    capture: Option<Box<Node>>,
    here: Vec<Leaf>,
    tail: Vec<Leaf>,
}

/// A literal segment, and what is below it.
#[derive(Debug)]
pub(super) struct Literal {
    /// As a canonical path has it.
    written: String,
    pub(super) decoded: Vec<u8>,
    pub(super) node: Node,
}

/// A route at the place of its pattern.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Sorted; empty: all.
    pub(super) methods: Vec<Method>,
    pub(super) route: usize,
}

impl Leaf {
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
    /// The leaves at the place of a pattern, which is made where it is missing.
    pub(super) fn leaves(&mut self, pattern: &PathPattern) -> &mut Vec<Leaf> {
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

    /// Literals of this node that are spellings of one text, where there is more than one.
    pub(super) fn spellings(&self) -> impl Iterator<Item = &[Literal]> {
        let all = self.literals.values().map(Vec::as_slice);
        all.filter(|spellings| 1 < spellings.len())
    }

    /// The nodes right below.
    pub(super) fn below(&self) -> impl Iterator<Item = &Self> {
        let literals = self.literals.values().flatten();
        literals
            .map(|literal| &literal.node)
            .chain(self.capture.as_deref())
    }

    /// The routes at this node.
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

/// Where the captures of a path are, in the order of the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spans {
    places: [(usize, usize); CAPTURES_MAX],
    count: usize,
}

impl Spans {
    fn with(mut self, begin: usize, end: usize) -> Self {
        if let Some(place) = self.places.get_mut(self.count) {
            *place = (begin, end);
            self.count += 1;
        }
        self
    }

    /// How many there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The capture at a place of the pattern.
    pub(super) fn get<'t>(&self, text: &'t [u8], place: usize) -> Option<&'t [u8]> {
        let (begin, end) = *self.places.get(..self.count)?.get(place)?;
        text.get(begin..end)
    }
}

/// Which of the two ends of a path: as it was sent, or with its last slash added or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Sent,
    Slashed,
}

/// A pattern that matches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'n> {
    pub(super) end: End,
    /// By a literal in another case.
    pub(super) is_folded: bool,
    /// The routes of the pattern, at least one: which one, the method says.
    pub(super) leaves: &'n [Leaf],
    pub(super) captures: Spans,
}

/// Where the hits of a walk go.
pub(super) trait Hits<'n> {
    fn push(&mut self, hit: Hit<'n>);
}

impl<'n> Hits<'n> for Vec<Hit<'n>> {
    fn push(&mut self, hit: Hit<'n>) {
        self.push(hit);
    }
}

/// The hits of a walk that does not follow case: one for each end at most.
#[derive(Debug, Default)]
pub(super) struct Ends<'n> {
    pub(super) sent: Option<Hit<'n>>,
    pub(super) slashed: Option<Hit<'n>>,
}

impl<'n> Hits<'n> for Ends<'n> {
    fn push(&mut self, hit: Hit<'n>) {
        match hit.end {
            End::Sent => self.sent = Some(hit),
            End::Slashed => self.slashed = Some(hit),
        }
    }
}

/// What becomes of a literal that differs in case from the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folding {
    /// It is noticed ([`Walk::met_case`]) and does not match.
    Noticed,
    /// Both are followed: that it matches, and that it does not.
    Followed,
    /// It does not match.
    Ignored,
}

/// The ends of a path that no pattern has matched yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) sent: bool,
    pub(super) slashed: bool,
}

impl Open {
    const fn none(self) -> bool {
        !self.sent && !self.slashed
    }
}

/// A way through the tree with one reading of a path.
#[derive(Debug)]
pub(super) struct Walk<'t, H> {
    text: &'t [u8],
    /// Escapes in `text` were decoded: literals are compared decoded, else as they are written.
    is_decoded: bool,
    folding: Folding,
    pub(super) hits: H,
    /// A literal differed in case alone.
    pub(super) met_case: bool,
    pub(super) open: Open,
}

/// Where a walk is: what follows the last slash, or the end of the path.
#[derive(Clone, Copy)]
struct Step {
    begin: Option<usize>,
    captures: Spans,
    is_folded: bool,
}

impl<'t, 'n, H: Hits<'n>> Walk<'t, H> {
    /// `text`: begins with a slash.
    pub(super) fn new(text: &'t [u8], is_decoded: bool, folding: Folding, hits: H) -> Self {
        let open = Open {
            sent: true,
            // The root has one slash, whoever reads it.
            slashed: text != b"/",
        };
        Self {
            text,
            is_decoded,
            folding,
            hits,
            met_case: false,
            open,
        }
    }

    /// Walks from a root. What another root has matched before stays so.
    pub(super) fn root(&mut self, root: &'n Node) {
        if !self.open.none() {
            let step = Step {
                begin: Some(1),
                captures: Spans::default(),
                is_folded: false,
            };
            self.open = self.descend(root, step, self.open);
        }
    }

    /// Visits each node at most once. Gives the ends that are still open behind it.
    fn descend(&mut self, node: &'n Node, step: Step, open: Open) -> Open {
        let Some(begin) = step.begin else {
            let open = self.leave(&node.here, End::Sent, step, open);
            return self.leave(&node.tail, End::Slashed, step, open);
        };
        let rest = self.text.get(begin..).unwrap_or_default();
        let length = rest.iter().position(|byte| *byte == b'/');
        let end = begin + length.unwrap_or(rest.len());
        let next = length.map(|_| end + 1);
        let segment = self.text.get(begin..end).unwrap_or_default();
        if segment.is_empty() && next.is_none() && 1 < begin {
            let open = self.leave(&node.tail, End::Sent, step, open);
            return self.leave(&node.here, End::Slashed, step, open);
        }
        let below = Step {
            begin: next,
            ..step
        };
        let mut open = self.by_literals(node, segment, below, open);
        if let Some(capture) = node.capture.as_deref()
            && !segment.is_empty()
            && !open.none()
        {
            let captures = step.captures.with(begin, end);
            open = self.descend(capture, Step { captures, ..below }, open);
        }
        let open = self.leave(&node.tail, End::Sent, step, open);
        self.leave(&node.tail, End::Slashed, step, open)
    }

    fn by_literals(&mut self, node: &'n Node, segment: &[u8], below: Step, open: Open) -> Open {
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
            // Only decoded readings know what an escape is.
            if !self.is_decoded && segment.contains(&b'%') {
                continue;
            }
            self.met_case = true;
            if self.folding == Folding::Followed {
                let is_folded = true;
                self.descend(&literal.node, Step { is_folded, ..below }, open);
            }
        }
        exact.map_or(open, |node| self.descend(node, below, open))
    }

    /// Closes an end where there are routes for it.
    fn leave(&mut self, leaves: &'n [Leaf], end: End, step: Step, mut open: Open) -> Open {
        let is_open = match end {
            End::Sent => &mut open.sent,
            End::Slashed => &mut open.slashed,
        };
        if *is_open && !leaves.is_empty() {
            *is_open = false;
            self.hits.push(Hit {
                end,
                is_folded: step.is_folded,
                leaves,
                captures: step.captures,
            });
        }
        open
    }
}
