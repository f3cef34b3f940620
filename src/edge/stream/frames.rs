//! A budget for HTTP/2 frames that carry no request: each costs work, and a caller may send any number of them.
//!
//! The h2 crate limits resets, continuations and small DATA frames, but not PING, SETTINGS, PRIORITY or unknown frames.
//! Only frame heads are read here; payloads are left to h2.

use tokio::time::Instant;

/// Size of the budget: the frames a connection may send in one burst.
const BURST: u32 = 1000;
/// Frames added to the budget per second.
const PER_S: f64 = 100.0;
/// Frames added per request: browsers send a PRIORITY and a `WINDOW_UPDATE` with each.
const PER_REQUEST: u32 = 4;
/// Frames added per frame of an answer: the caller acknowledges it with `WINDOW_UPDATE` for stream and connection, and
/// measures with a PING.
const PER_ANSWER_FRAME: u32 = 3;
/// Cost of a reset: more than its request has added.
const RESET_COST: u32 = 5;

/// Frame types (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// A frame head: length, type, flags, stream.
const HEAD_BYTES: usize = 9;

/// A parser that finds the frame types in one direction of a connection.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Number of bytes before the next frame head.
    skip: usize,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(u8)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let wanted = HEAD_BYTES - self.head_bytes;
            let fresh = bytes.get(skipped..).unwrap_or_default();
            let (head, rest) = fresh.split_at(wanted.min(fresh.len()));
            let known = self.head.iter_mut().skip(self.head_bytes);
            known.zip(head).for_each(|(place, byte)| *place = *byte);
            self.head_bytes += head.len();
            bytes = rest;
            if self.head_bytes == HEAD_BYTES {
                let [a, b, c, kind, ..] = self.head;
                self.head_bytes = 0;
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                on_frame(kind);
            }
        }
    }
}

/// The frame budget of one connection.
#[derive(Debug)]
pub(super) struct FrameBudget {
    from_caller: Frames,
    to_caller: Frames,
    left: u32,
    refilled: Instant,
}

impl FrameBudget {
    /// Creates the budget of a new connection, whose first frame follows a preface of `preface_bytes` bytes.
    pub(super) fn new(preface_bytes: usize) -> Self {
        Self {
            from_caller: Frames {
                skip: preface_bytes,
                ..Frames::default()
            },
            to_caller: Frames::default(),
            left: BURST,
            refilled: Instant::now(),
        }
    }

    /// Counts the frames the caller sent; returns `false` if the budget is exceeded.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let (mut earned, mut cost) = (0, 0);
        self.from_caller.feed(bytes, |kind| match kind {
            DATA => {}
            HEADERS => earned += PER_REQUEST,
            RST_STREAM => cost += RESET_COST,
            _ => cost += 1,
        });
        self.earn(earned);
        if self.left < cost {
            self.refill();
        }
        let fits = cost <= self.left;
        if fits {
            self.left -= cost;
        }
        fits
    }

    /// Counts the frames sent to the caller.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        let mut earned = 0;
        self.to_caller.feed(bytes, |kind| {
            if matches!(kind, DATA | HEADERS) {
                earned += PER_ANSWER_FRAME;
            }
        });
        self.earn(earned);
    }

    fn earn(&mut self, count: u32) {
        self.left = BURST.min(self.left.saturating_add(count));
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded by the burst, and never negative"
        )]
        self.earn((seconds * PER_S).min(f64::from(BURST)) as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.resize(HEAD_BYTES + payload, 6);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_ask_for_nothing_have_a_budget() {
        // PING, SETTINGS, PRIORITY, WINDOW_UPDATE, and an unknown type.
        for kind in [6, 4, 2, 8, 99] {
            let mut budget = FrameBudget::new(24);
            assert!(budget.take(&[b'P'; 24]));
            for _ in 0..BURST {
                assert!(budget.take(&frame(kind, 8)), "{kind}");
            }
            assert!(!budget.take(&frame(kind, 8)), "{kind}");
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..100 {
                assert!(budget.take(&frame(kind, 8)), "{kind}");
            }
            assert!(!budget.take(&frame(kind, 8)), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn honest_callers_earn_what_they_need() {
        let mut budget = FrameBudget::new(0);
        for _ in 0..100_000 {
            // A request with its priority and window; an answer that is acknowledged and measured.
            let request = [frame(HEADERS, 40), frame(2, 5), frame(8, 4)].concat();
            assert!(budget.take(&request));
            budget.give(&[frame(HEADERS, 30), frame(DATA, 16_000)].concat());
            let thanks = [frame(8, 4), frame(8, 4), frame(6, 8)].concat();
            assert!(budget.take(&thanks));
        }
        // Requests that are all reset exceed the budget.
        let mut budget = FrameBudget::new(0);
        let taken_back = [frame(HEADERS, 40), frame(RST_STREAM, 4)].concat();
        assert!((0..5000).any(|_| !budget.take(&taken_back)));
    }

    #[tokio::test]
    async fn frames_are_found_however_they_are_cut() {
        let bytes = [frame(1, 3), frame(0, 70_000), frame(6, 8), frame(3, 0)].concat();
        for size in [1, 2, 8, 9, 10, 1000, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.feed(piece, |kind| seen.push(kind));
            }
            assert_eq!(seen, [1, 0, 6, 3], "{size}");
        }
    }
}
