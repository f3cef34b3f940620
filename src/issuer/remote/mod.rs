//! Fetched keys of an issuer: one task fetches them, and decisions read the result.
//!
//! The state is the last good key set. A failed fetch and an invalid document do not change it. A set that was confirmed too
//! long ago verifies nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::crypto::digest;
use crate::crypto::jwks::{DOCUMENT_BYTES_MAX, KeySet, KeySetError};
use crate::fetch::{FetchResponse, Fetcher, Trust};
use crate::issuer::kept::KeySetFile;
use crate::issuer::schedule;
use crate::issuer::source::{Discovered, KeySetSource, SourceError};
use crate::model::algorithm::Algorithm;
use crate::model::clock::{Clock, Timestamp};
use crate::telemetry::issuer::{FetchOutcome, IssuerMetrics};

/// Maximum time of one fetch, from the first connect to the last byte.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(5),
    body_bytes_max: DOCUMENT_BYTES_MAX,
};
/// Minimum interval between fetches that tokens with unknown key ids cause.
const WISH_EVERY: Duration = Duration::from_secs(30);
/// Maximum time that a request waits for a fetch.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Maximum number of cached missing key ids. Others may cause a fetch, within the interval above.
const ABSENT_MAX: usize = 256;
/// Interval between log lines about the same failure.
const WARN_EVERY: Duration = Duration::from_mins(10);
/// Maximum by which the time of the last fetch may be behind on disk.
const KEEP_EVERY: Duration = Duration::from_mins(10);

/// Settings and dependencies of one issuer's keys.
pub(in crate::issuer) struct RemoteKeysParts {
    pub(in crate::issuer) name: String,
    pub(in crate::issuer) source: KeySetSource,
    pub(in crate::issuer) algorithms: Vec<Algorithm>,
    pub(in crate::issuer) stale_max: Duration,
    pub(in crate::issuer) trust: Trust,
    pub(in crate::issuer) kept: KeySetFile,
    pub(in crate::issuer) clock: Arc<dyn Clock>,
    pub(in crate::issuer) metrics: IssuerMetrics,
}

/// The last fetched keys of one issuer.
pub(in crate::issuer) struct RemoteKeys {
    parts: RemoteKeysParts,
    held: ArcSwapOption<CurrentKeySet>,
    /// Whether the last fetch failed, or there was none.
    is_away: AtomicBool,
    /// Number of the last fetch that a request asked for.
    wishes: watch::Sender<u64>,
    progress: watch::Sender<FetchProgress>,
    /// The lock is never held across an await.
    misses: Mutex<MissingKeyIds>,
}

/// A key set with its expiry.
#[derive(Debug)]
pub(in crate::issuer) struct CurrentKeySet {
    pub(in crate::issuer) keys: Arc<KeySet>,
    /// Increases with each removed key.
    pub(in crate::issuer) generation: u64,
    usable_until: Timestamp,
    document: [u8; 32],
}

/// Numbers of the last fetch that has begun and ended, from 1.
#[derive(Clone, Copy, Default)]
struct FetchProgress {
    begun: u64,
    ended: u64,
}

#[derive(Default)]
struct MissingKeyIds {
    /// The last fetch that a token caused.
    wish: Option<RequestedFetch>,
    /// Key ids that the last fetch did not find.
    absent: BTreeSet<String>,
}

/// A fetch that a request asked for: the time of the request, and its number.
#[derive(Clone, Copy)]
struct RequestedFetch {
    at: Duration,
    number: u64,
}

/// State of the task that fetches.
#[derive(Default)]
struct FetchState {
    discovered: Discovered,
    failures: u32,
    /// The last logged failure, and its time.
    told: Option<(String, Duration)>,
    /// Time at which the set on disk was written.
    written: Option<Duration>,
}

impl RemoteKeys {
    /// Starts with the set on disk, if it can be used.
    pub(in crate::issuer) fn new(parts: RemoteKeysParts) -> Self {
        let keys = Self {
            parts,
            held: ArcSwapOption::empty(),
            is_away: AtomicBool::new(true),
            wishes: watch::Sender::new(0),
            progress: watch::Sender::new(FetchProgress::default()),
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
                "the saved keys of an issuer are ignored"
            ),
        }
    }

    /// Whether the issuer is unreachable, or there are no valid keys.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.is_away.load(Ordering::Acquire) || self.usable().is_none()
    }

    /// The current set. Waits only for the first fetch, if it is in progress.
    pub(in crate::issuer) async fn held(&self) -> Option<Arc<CurrentKeySet>> {
        let found = self.usable();
        if found.is_some() || 0 < self.progress.borrow().ended {
            return found;
        }
        self.wait(1).await;
        self.usable()
    }

    fn usable(&self) -> Option<Arc<CurrentKeySet>> {
        let now = self.parts.clock.now();
        self.held.load_full().filter(|held| now < held.usable_until)
    }

    /// Whether results that were verified with the keys of a generation are still valid.
    pub(in crate::issuer) fn is_current(&self, generation: u64, now: Timestamp) -> bool {
        self.held
            .load()
            .as_ref()
            .is_some_and(|held| held.generation == generation && now < held.usable_until)
    }

    /// A newer set with a key of this id, which the current one does not have. All callers wait for one fetch, which is started
    /// at most once in 30 s. Other calls, and calls for an id that it did not find, get `None` at once.
    pub(in crate::issuer) async fn refetched(&self, kid: &str) -> Option<Arc<CurrentKeySet>> {
        self.parts.metrics.unknown_kid();
        // A fetch in progress may have begun before the key was published, so one more may be needed.
        for _ in 0..2 {
            let Some((number, is_new)) = self.board(kid) else {
                // The set may have changed since it was searched.
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

    /// The number of the fetch to wait for, and whether it has not begun yet; `None`: there is none.
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
            // Another request's fetch that has not begun serves this one as well.
            Some(wish) if progress.begun < wish.number => wish.number,
            Some(wish) if now < wish.at + WISH_EVERY => return None,
            _ => {
                let number = progress.begun + 1;
                misses.wish = Some(RequestedFetch { at: now, number });
                self.wishes.send_modify(|count| *count += 1);
                number
            }
        };
        Some((number, true))
    }

    /// The current set, if it has a key of this id.
    fn with(&self, kid: &str) -> Option<Arc<CurrentKeySet>> {
        self.usable().filter(|held| held.keys.has_kid(kid))
    }

    /// Waits a short time for the end of a fetch, and gives whether it ended.
    async fn wait(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| number <= progress.ended);
        matches!(tokio::time::timeout(WAIT_MAX, ended).await, Ok(Ok(_)))
    }

    /// Caches an id that a successful fetch did not find.
    fn note_absent(&self, kid: &str, number: u64) {
        let mut misses = self.misses();
        let is_latest = self.progress.borrow().ended == number;
        let was_good = !self.is_away.load(Ordering::Acquire);
        if is_latest && was_good && misses.absent.len() < ABSENT_MAX {
            misses.absent.insert(kid.to_owned());
        }
    }

    /// Fetches periodically, and never returns. Only one task may call it.
    pub(in crate::issuer) async fn keep_fresh(&self) {
        let mut course = FetchState::default();
        let mut wishes = self.wishes.subscribe();
        loop {
            wishes.mark_unchanged();
            let pause = self.turn(&mut course).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The sender is a field of `self`, so the channel stays open.
                _ = wishes.changed() => {}
            }
        }
    }

    /// Fetches once, and gives the time until the next fetch.
    async fn turn(&self, course: &mut FetchState) -> Duration {
        let parts = &self.parts;
        // The age of a set is measured from the beginning of its fetch.
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
                self.warn(course, error);
                schedule::retry(course.failures)
            }
        };
        let ended = |progress: &mut FetchProgress| progress.ended = progress.begun;
        self.progress.send_modify(ended);
        if let Ok((answer, is_new)) = taken {
            self.keep(course, &answer, at, is_new).await;
        }
        pause
    }

    /// Stores a fetched document, and gives whether it differs from the previous one.
    fn take(&self, answer: &FetchResponse, at: Timestamp) -> Result<bool, SourceError> {
        let before = self.held.load_full();
        let document = digest::sha256(&answer.body);
        if let Some(before) = before.filter(|before| before.document == document) {
            let again = CurrentKeySet {
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
                "a key of an issuer is ignored"
            );
        }
        self.hold(held, at);
        Ok(true)
    }

    /// Parses a document that was fetched at this time.
    fn read(&self, document: &[u8], fetched: Timestamp) -> Result<CurrentKeySet, KeySetError> {
        let text =
            std::str::from_utf8(document).map_err(|_| KeySetError("expected UTF-8".to_owned()))?;
        let keys = KeySet::from_jwks(text, &self.parts.algorithms)?;
        let before = self.held.load_full();
        let generation = before.map_or(0, |before| {
            before.generation + u64::from(!keys.keeps_all_of(&before.keys))
        });
        Ok(CurrentKeySet {
            keys: Arc::new(keys),
            generation,
            usable_until: fetched.plus(self.parts.stale_max),
            document: digest::sha256(document),
        })
    }

    fn hold(&self, held: CurrentKeySet, fetched: Timestamp) {
        self.parts.metrics.keys(held.keys.keys().len());
        self.parts.metrics.fetched(fetched);
        self.held.store(Some(Arc::new(held)));
    }

    /// Writes a set to disk: at once if it is new, else at intervals.
    async fn keep(
        &self,
        course: &mut FetchState,
        answer: &FetchResponse,
        at: Timestamp,
        is_new: bool,
    ) {
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

    /// Logs a failure when its kind is new, and at intervals while it lasts.
    fn warn(&self, course: &mut FetchState, error: &SourceError) {
        let has_keys = self.usable().is_some();
        if !has_keys {
            self.parts.metrics.keys(0);
        }
        let now = self.parts.clock.elapsed();
        let text = format!("{has_keys} {error}");
        let is_told = course
            .told
            .as_ref()
            .is_some_and(|(told, at)| *told == text && now < *at + WARN_EVERY);
        if is_told {
            return;
        }
        course.told = Some((text, now));
        tracing::warn!(
            issuer.name = self.parts.name,
            place = self.parts.source.place().authority(),
            error = error as &dyn std::error::Error,
            has_keys,
            "the keys of an issuer cannot be fetched: its previous keys stay in use for stale_max_s, then requests with its tokens get 503"
        );
    }

    fn misses(&self) -> MutexGuard<'_, MissingKeyIds> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
