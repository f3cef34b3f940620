//! The fetched keys of an issuer: one task fetches them, decisions read the result.
//!
//! The last good key set is held. A failed fetch or an unusable document changes nothing; a set that was confirmed too
//! long ago verifies nothing any more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::crypto::digest;
use crate::crypto::jwks::{DOCUMENT_BYTES_MAX, KeySet, KeySetError};
use crate::fetch::{Answer, Fetcher, Trust};
use crate::issuer::kept::KeptFile;
use crate::issuer::schedule;
use crate::issuer::source::{Discovered, Source, SourceError};
use crate::model::algorithm::Algorithm;
use crate::model::clock::{Clock, Timestamp};
use crate::telemetry::issuer::{FetchOutcome, IssuerMetrics};

/// The HTTP client; its timeout runs from the first connect to the last byte.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(5),
    body_bytes_max: DOCUMENT_BYTES_MAX,
};
/// Minimum interval of fetches caused by tokens with unknown key ids.
const WISH_EVERY: Duration = Duration::from_secs(30);
/// How long a request waits for a fetch that may bring its key.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Maximum number of key ids remembered as missing. Further ones are looked up again, within the interval that applies
/// to all.
const ABSENT_MAX: usize = 256;
/// Interval of log lines about a persistent failure.
const TELL_EVERY: Duration = Duration::from_mins(10);
/// How far the time of the last fetch on disk may lag behind.
const KEEP_EVERY: Duration = Duration::from_mins(10);

/// The configuration and dependencies of one issuer's keys.
pub(in crate::issuer) struct Parts {
    pub(in crate::issuer) name: String,
    pub(in crate::issuer) source: Source,
    pub(in crate::issuer) algorithms: Vec<Algorithm>,
    pub(in crate::issuer) stale_max: Duration,
    pub(in crate::issuer) trust: Trust,
    pub(in crate::issuer) kept: KeptFile,
    pub(in crate::issuer) clock: Arc<dyn Clock>,
    pub(in crate::issuer) metrics: IssuerMetrics,
}

/// The keys of one issuer, as last fetched.
pub(in crate::issuer) struct RemoteKeys {
    parts: Parts,
    held: ArcSwapOption<Held>,
    /// Whether the last fetch failed, or there was none.
    is_away: AtomicBool,
    /// Counts the fetches requested ahead of schedule.
    wishes: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
    /// Never held across an await.
    misses: Mutex<Misses>,
}

/// A key set with its expiry.
#[derive(Debug)]
pub(in crate::issuer) struct Held {
    pub(in crate::issuer) keys: Arc<KeySet>,
    /// Incremented when a key disappears.
    pub(in crate::issuer) generation: u64,
    usable_until: Timestamp,
    document: [u8; 32],
}

/// The number of fetches that have begun and ended. Fetches are numbered from 1.
#[derive(Clone, Copy, Default)]
struct Progress {
    begun: u64,
    ended: u64,
}

#[derive(Default)]
struct Misses {
    /// The last fetch caused by a token.
    wish: Option<Wish>,
    /// Key ids missing from the current set even after a fetch for them.
    absent: BTreeSet<String>,
}

/// A fetch ahead of schedule: when it was requested, and its number.
#[derive(Clone, Copy)]
struct Wish {
    at: Duration,
    number: u64,
}

/// The state of the fetching task between fetches.
#[derive(Default)]
struct Course {
    discovered: Discovered,
    failures: u32,
    /// The failure last logged, and when.
    told: Option<(String, Duration)>,
    /// When the set on disk was written.
    written: Option<Duration>,
}

impl RemoteKeys {
    /// Starts with the set on disk, if it can be used.
    pub(in crate::issuer) fn new(parts: Parts) -> Self {
        let keys = Self {
            parts,
            held: ArcSwapOption::empty(),
            is_away: AtomicBool::new(true),
            wishes: watch::Sender::new(0),
            progress: watch::Sender::new(Progress::default()),
            misses: Mutex::default(),
        };
        keys.parts.metrics.keys(0);
        keys.restore();
        keys
    }

    fn restore(&self) {
        let now = self.parts.clock.now();
        let Some(kept) = self.parts.kept.read(now) else {
            return;
        };
        match self.read(kept.document.as_bytes(), kept.fetched) {
            Ok(held) if now < held.usable_until => {
                self.hold(held, kept.fetched);
                self.is_away.store(false, Ordering::Release);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                issuer.name = self.parts.name,
                error = &error as &dyn std::error::Error,
                "the kept keys of an issuer are not used"
            ),
        }
    }

    /// Whether the issuer cannot be reached, or there are no usable keys.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.is_away.load(Ordering::Acquire) || self.usable().is_none()
    }

    /// Returns the current set; waits only for the end of the very first fetch.
    pub(in crate::issuer) async fn held(&self) -> Option<Arc<Held>> {
        let found = self.usable();
        if found.is_some() || 0 < self.progress.borrow().ended {
            return found;
        }
        self.wait(1).await;
        self.usable()
    }

    fn usable(&self) -> Option<Arc<Held>> {
        let now = self.parts.clock.now();
        self.held.load_full().filter(|held| now < held.usable_until)
    }

    /// Whether a verification with the keys of `generation` still counts.
    pub(in crate::issuer) fn is_current(&self, generation: u64, now: Timestamp) -> bool {
        self.held
            .load()
            .as_ref()
            .is_some_and(|held| held.generation == generation && now < held.usable_until)
    }

    /// Returns a newer set that contains the id `kid`, which the current one lacks. Concurrent callers share one fetch,
    /// requested at most every 30 s; a call in between, or for an id that the fetch did not bring, returns `None` at
    /// once.
    pub(in crate::issuer) async fn refetched(&self, kid: &str) -> Option<Arc<Held>> {
        self.parts.metrics.unknown_kid();
        // A fetch already in flight may have begun before the key was published: then try once more.
        for _ in 0..2 {
            let Some((number, is_new)) = self.board(kid) else {
                // The current set may have arrived after the caller read the previous one.
                return self.with(kid);
            };
            let has_ended = self.wait(number).await;
            let found = self.with(kid);
            if found.is_some() || !has_ended {
                return found;
            }
            if is_new {
                self.note_absent(kid, number);
                return None;
            }
        }
        None
    }

    /// Returns the number of the fetch to wait for, and whether it begins after this call; `None` if there is none.
    fn board(&self, kid: &str) -> Option<(u64, bool)> {
        let mut misses = self.misses();
        if misses.absent.contains(kid) {
            return None;
        }
        let progress = *self.progress.borrow();
        if progress.ended < progress.begun {
            return Some((progress.begun, false));
        }
        let now = self.parts.clock.elapsed();
        let number = match misses.wish {
            // A fetch requested by another caller has not begun, and serves this one too.
            Some(wish) if progress.begun < wish.number => wish.number,
            Some(wish) if now < wish.at + WISH_EVERY => return None,
            _ => {
                let number = progress.begun + 1;
                misses.wish = Some(Wish { at: now, number });
                self.wishes.send_modify(|count| *count += 1);
                number
            }
        };
        Some((number, true))
    }

    /// Returns the current set if it contains the id `kid`.
    fn with(&self, kid: &str) -> Option<Arc<Held>> {
        self.usable().filter(|held| held.keys.has_kid(kid))
    }

    /// Waits for the end of a fetch, within [`WAIT_MAX`]; returns whether it ended.
    async fn wait(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| number <= progress.ended);
        matches!(tokio::time::timeout(WAIT_MAX, ended).await, Ok(Ok(_)))
    }

    /// Records an id that a successful fetch did not bring.
    fn note_absent(&self, kid: &str, number: u64) {
        let mut misses = self.misses();
        let is_latest = self.progress.borrow().ended == number;
        let was_good = !self.is_away.load(Ordering::Acquire);
        if is_latest && was_good && misses.absent.len() < ABSENT_MAX {
            misses.absent.insert(kid.to_owned());
        }
    }

    /// Fetches forever; run by the fetching task.
    pub(in crate::issuer) async fn keep_fresh(&self) {
        let mut course = Course::default();
        let mut wishes = self.wishes.subscribe();
        loop {
            wishes.mark_unchanged();
            let pause = self.turn(&mut course).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The sender is a field of `self`, so this never fails.
                _ = wishes.changed() => {}
            }
        }
    }

    /// Performs one fetch and returns the pause until the next.
    async fn turn(&self, course: &mut Course) -> Duration {
        let parts = &self.parts;
        // The fetched set counts from the beginning of the fetch.
        let (at, began) = (parts.clock.now(), parts.clock.elapsed());
        self.progress.send_modify(|progress| progress.begun += 1);
        let discovered = &mut course.discovered;
        let fetched = parts
            .source
            .fetch(&FETCHER, &parts.trust, discovered, began);
        let taken = match fetched.await {
            Ok(answer) => self.take(&answer, at).map(|is_new| (answer, is_new)),
            Err(error) => Err(error),
        };
        let pause = match &taken {
            Ok((answer, _)) => {
                parts.metrics.fetch(FetchOutcome::Taken);
                self.is_away.store(false, Ordering::Release);
                self.misses().absent.clear();
                if 0 < std::mem::take(&mut course.failures) {
                    course.told = None;
                    tracing::info!(
                        issuer.name = parts.name,
                        "the keys of an issuer are fetched again"
                    );
                }
                schedule::refresh(answer.max_age, parts.stale_max)
            }
            Err(error) => {
                parts.metrics.fetch(error.outcome());
                self.is_away.store(true, Ordering::Release);
                course.failures = course.failures.saturating_add(1);
                self.tell(course, error);
                schedule::retry(course.failures)
            }
        };
        let ended = |progress: &mut Progress| progress.ended = progress.begun;
        self.progress.send_modify(ended);
        if let Ok((answer, is_new)) = taken {
            self.keep(course, &answer, at, is_new).await;
        }
        pause
    }

    /// Holds the fetched set; returns whether its document differs from the previous one.
    fn take(&self, answer: &Answer, at: Timestamp) -> Result<bool, SourceError> {
        let before = self.held.load_full();
        let document = digest::sha256(&answer.body);
        if let Some(before) = before.filter(|before| before.document == document) {
            let again = Held {
                keys: Arc::clone(&before.keys),
                generation: before.generation,
                usable_until: at.plus(self.parts.stale_max),
                document,
            };
            self.hold(again, at);
            return Ok(false);
        }
        let held = self.read(&answer.body, at)?;
        tracing::info!(
            issuer.name = self.parts.name,
            keys = held.keys.keys().len(),
            "the keys of an issuer have changed"
        );
        for left_out in held.keys.left_out() {
            tracing::warn!(
                issuer.name = self.parts.name,
                left_out,
                "a key of an issuer is not used"
            );
        }
        self.hold(held, at);
        Ok(true)
    }

    /// Parses a document fetched at `fetched`.
    fn read(&self, document: &[u8], fetched: Timestamp) -> Result<Held, KeySetError> {
        let text = std::str::from_utf8(document)
            .map_err(|_| KeySetError("expected a text in UTF-8".to_owned()))?;
        let keys = KeySet::from_jwks(text, &self.parts.algorithms)?;
        let before = self.held.load_full();
        let generation = before.map_or(0, |before| {
            before.generation + u64::from(!keys.keeps_all_of(&before.keys))
        });
        Ok(Held {
            keys: Arc::new(keys),
            generation,
            usable_until: fetched.plus(self.parts.stale_max),
            document: digest::sha256(document),
        })
    }

    fn hold(&self, held: Held, fetched: Timestamp) {
        self.parts.metrics.keys(held.keys.keys().len());
        self.parts.metrics.fetched(fetched);
        self.held.store(Some(Arc::new(held)));
    }

    /// Writes a set to disk for the next start: at once if it is new, otherwise periodically.
    async fn keep(&self, course: &mut Course, answer: &Answer, at: Timestamp, is_new: bool) {
        let now = self.parts.clock.elapsed();
        let every = KEEP_EVERY.min(self.parts.stale_max / 4);
        let is_due = course.written.is_none_or(|written| written + every <= now);
        if (is_new || is_due)
            && let Ok(document) = std::str::from_utf8(&answer.body)
        {
            course.written = Some(now);
            self.parts.kept.write(document, at).await;
        }
    }

    /// Logs a failure: each kind once, and again while it persists.
    fn tell(&self, course: &mut Course, error: &SourceError) {
        let has_keys = self.usable().is_some();
        if !has_keys {
            self.parts.metrics.keys(0);
        }
        let now = self.parts.clock.elapsed();
        let text = format!("{has_keys} {error}");
        let is_told = course
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == text && now < *at + TELL_EVERY);
        if is_told {
            return;
        }
        course.told = Some((text, now));
        tracing::warn!(
            issuer.name = self.parts.name,
            place = self.parts.source.place().authority(),
            error = error as &dyn std::error::Error,
            has_keys,
            "the keys of an issuer cannot be fetched: those it had serve for stale_max_s, then its tokens get 503"
        );
    }

    fn misses(&self) -> MutexGuard<'_, Misses> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
