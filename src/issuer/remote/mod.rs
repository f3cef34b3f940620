//! The keys of an issuer that are fetched: one task fetches, whoever decides reads what it has brought.
//!
//! What is held is the last good key set. A fetch in vain and a document that cannot be used change nothing; a set that
//! was confirmed too long ago verifies nothing any more.

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

/// One fetch, from the first connect to the last byte.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(5),
    body_bytes_max: DOCUMENT_BYTES_MAX,
};
/// Tokens with unknown key ids cause a fetch no more often than this.
const WISH_EVERY: Duration = Duration::from_secs(30);
/// How long a request waits for a fetch that may bring its key.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Key ids that are remembered as missing; beyond that they are looked for again, no more often than all.
const ABSENT_MAX: usize = 256;
/// A failure that goes on is told again after this.
const TELL_EVERY: Duration = Duration::from_mins(10);
/// On disk the moment of the last fetch may be behind by so much.
const KEEP_EVERY: Duration = Duration::from_mins(10);

/// What everything about one issuer's keys is known by.
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

/// The keys of one issuer, as fetched last.
pub(in crate::issuer) struct RemoteKeys {
    parts: Parts,
    held: ArcSwapOption<Held>,
    /// The last fetch was in vain, or there was none.
    is_away: AtomicBool,
    /// Numbers what requests wish for: a fetch before its time.
    wishes: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
    /// Never held across an await.
    misses: Mutex<Misses>,
}

/// A key set that may be used until a moment.
#[derive(Debug)]
pub(in crate::issuer) struct Held {
    pub(in crate::issuer) keys: Arc<KeySet>,
    /// Moves with each key that is gone.
    pub(in crate::issuer) generation: u64,
    usable_until: Timestamp,
    document: [u8; 32],
}

/// Fetches are numbered from 1; as many have begun and ended.
#[derive(Clone, Copy, Default)]
struct Progress {
    begun: u64,
    ended: u64,
}

#[derive(Default)]
struct Misses {
    /// The fetch that a token caused last.
    wish: Option<Wish>,
    /// Key ids that the present set was fetched for in vain.
    absent: BTreeSet<String>,
}

/// A fetch before its time: when it was asked for, and its number.
#[derive(Clone, Copy)]
struct Wish {
    at: Duration,
    number: u64,
}

/// What the one task that fetches remembers from turn to turn.
#[derive(Default)]
struct Course {
    discovered: Discovered,
    failures: u32,
    /// The failure that was told last, and when.
    told: Option<(String, Duration)>,
    /// When the set on disk was written.
    written: Option<Duration>,
}

impl RemoteKeys {
    /// Begins with what was kept on disk, if that can be used.
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

    /// Whether the issuer cannot be reached, or there are no keys to use.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.is_away.load(Ordering::Acquire) || self.usable().is_none()
    }

    /// The set that counts now; waits for it only while the very first fetch is under way.
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

    /// Whether what was verified with the keys of a generation still counts.
    pub(in crate::issuer) fn is_current(&self, generation: u64, now: Timestamp) -> bool {
        self.held
            .load()
            .as_ref()
            .is_some_and(|held| held.generation == generation && now < held.usable_until)
    }

    /// A newer set that has a key of this id, which the present one lacks. All who ask wait for one fetch, which is asked
    /// for no more often than each 30 s; who asks in between, or for an id that it did not bring, gets `None` at once.
    pub(in crate::issuer) async fn refetched(&self, kid: &str) -> Option<Arc<Held>> {
        self.parts.metrics.unknown_kid();
        // A fetch that was under way already may have begun before the key was there: then one more.
        for _ in 0..2 {
            let Some((number, is_new)) = self.board(kid) else {
                // The present set may have come while the last one was looked into.
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

    /// The number of the fetch to wait for, and whether it begins after this; `None`: there is none.
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
            // Another one's, which has not begun: it does for this one too.
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

    /// The present set, if it has a key of this id.
    fn with(&self, kid: &str) -> Option<Arc<Held>> {
        self.usable().filter(|held| held.keys.has_kid(kid))
    }

    /// Waits for the end of a fetch, not for long; whether it came.
    async fn wait(&self, number: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| number <= progress.ended);
        matches!(tokio::time::timeout(WAIT_MAX, ended).await, Ok(Ok(_)))
    }

    /// Notes an id that a good fetch did not bring.
    fn note_absent(&self, kid: &str, number: u64) {
        let mut misses = self.misses();
        let is_latest = self.progress.borrow().ended == number;
        let was_good = !self.is_away.load(Ordering::Acquire);
        if is_latest && was_good && misses.absent.len() < ABSENT_MAX {
            misses.absent.insert(kid.to_owned());
        }
    }

    /// Fetches again and again, for ever: the one who does.
    pub(in crate::issuer) async fn keep_fresh(&self) {
        let mut course = Course::default();
        let mut wishes = self.wishes.subscribe();
        loop {
            wishes.mark_unchanged();
            let pause = self.turn(&mut course).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The sender is a field of this.
                _ = wishes.changed() => {}
            }
        }
    }

    /// One fetch; gives how long to wait until the next.
    async fn turn(&self, course: &mut Course) -> Duration {
        let parts = &self.parts;
        // What it confirms is as old as its beginning.
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

    /// Holds what came; whether it is another document than before.
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

    /// Reads a document that was fetched at a moment.
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

    /// Keeps a set for the next start: at once when it is new, else now and then.
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

    /// Tells of a failure: of each kind once, and again while it goes on.
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
