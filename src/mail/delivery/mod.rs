//! The delivery: hands the mails of the outbox to the transport, and retries until they are accepted or expire.
//!
//! A mail is removed from the outbox after its delivery, so a process that ends between the two sends it twice: delivery is
//! at least once. Within one process at most one delivery of each mail is in progress.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

use crate::mail::post::{Post, PostCall};
use crate::mail::transport::{DeliveryError, Transport};
use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::mail::{DueMails, QueuedMail};
use crate::telemetry::metrics::MailEvent;

/// Maximum number of concurrent deliveries.
const AT_ONCE: usize = 4;
/// Pauses after the first, second, … failed attempt. The last one applies to all further attempts.
const PAUSES_S: [u64; 6] = [5, 30, 120, 600, 1800, 3600];
/// Maximum part of a mail's life that a pause takes, so that a mail that expires after minutes is retried in time.
const LIFE_PART: u32 = 10;
/// Minimum pause.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// Number of permanent refusals of a recipient after which a mail is dropped. The first ones may be about the gateway.
const REFUSALS_MAX: u32 = 5;
/// Interval at which the outbox is read even without a notification.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Interval at which a working transport is probed.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// Pause before the first probe after a failure. It doubles with each probe, up to the interval above.
const PROBE_FIRST: Duration = Duration::from_secs(5);
/// Pause after an error of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Maximum time for deliveries in progress at shutdown.
const END_MAX: Duration = Duration::from_secs(5);

/// The outbox in which mails wait.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// Gives up to this many mails whose next attempt is due, and the time of the next attempt after them.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, OutboxError>;
    /// The number of waiting mails.
    async fn mail_count(&self) -> Result<usize, OutboxError>;
    /// Counts a failed attempt and sets the time of the next one; `false`: the mail does not exist any more.
    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, OutboxError>;
    /// Removes a mail; `false`: there is none.
    async fn remove_mail(&self, id: &MailId) -> Result<bool, OutboxError>;
}

/// The error of an outbox that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OutboxError(#[from] pub Box<dyn Error + Send + Sync>);

/// The mails that a delivery handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryScope {
    /// All mails, in a gateway that serves.
    All,
    /// The mails that this process posts, in a command that runs alone. The others are left to the gateway.
    Posted,
}

/// Delivers until it is asked to end. Returns at once if another delivery runs.
pub async fn run(post: Arc<Post>, store: Arc<dyn Outbox>, scope: DeliveryScope) {
    if let Some(calls) = post.listen() {
        Delivery::new(post, store, scope).run(calls).await;
    }
}

/// A job's mail and result.
enum FinishedJob {
    Mail(MailId, Result<AttemptResult, OutboxError>),
    Probe(Result<(), DeliveryError>),
}

/// The result of an attempt.
enum AttemptResult {
    /// The mail is delivered and removed from the outbox.
    Sent,
    /// The mail is delivered, but the store could not remove it from the outbox.
    SentNotRemoved,
    /// The mail is dropped and removed from the outbox.
    Dropped,
    /// The attempt failed, and the mail stays in the outbox.
    Failed(DeliveryError),
}

struct Delivery {
    post: Arc<Post>,
    store: Arc<dyn Outbox>,
    scope: DeliveryScope,
    jobs: JoinSet<FinishedJob>,
    in_flight: HashMap<MailId, Id>,
    /// Callers that wait for the first attempt of a mail.
    waiting: HashMap<MailId, oneshot::Sender<()>>,
    /// The mails to handle with [`DeliveryScope::Posted`].
    posted: HashSet<MailId>,
    /// Delivered mails that are still in the outbox.
    sent: HashSet<MailId>,
    /// Whether the transport has recovered, so that mails that failed because of it are due at once.
    is_catching_up: bool,
    /// The mails that failed because of the transport.
    tried_again: HashSet<MailId>,
    is_probing: bool,
    /// Time of the monotonic clock.
    probe_at: Duration,
    probe_pause: Duration,
    paused_until: Duration,
}

impl Delivery {
    fn new(post: Arc<Post>, store: Arc<dyn Outbox>, scope: DeliveryScope) -> Self {
        Self {
            post,
            store,
            scope,
            jobs: JoinSet::new(),
            in_flight: HashMap::new(),
            waiting: HashMap::new(),
            posted: HashSet::new(),
            sent: HashSet::new(),
            is_catching_up: false,
            tried_again: HashSet::new(),
            is_probing: false,
            probe_at: Duration::ZERO,
            probe_pause: PROBE_FIRST,
            paused_until: Duration::ZERO,
        }
    }

    async fn run(mut self, mut calls: mpsc::Receiver<PostCall>) {
        self.count().await;
        loop {
            let rest = self.hand_out().await;
            tokio::select! {
                call = calls.recv() => {
                    let mut next = call;
                    loop {
                        match next {
                            Some(PostCall::End) | None => return self.end().await,
                            Some(call) => self.hear(call),
                        }
                        match calls.try_recv() {
                            Ok(call) => next = Some(call),
                            Err(_) => break,
                        }
                    }
                }
                Some(done) = self.jobs.join_next() => self.settle(done),
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Initialises the gauge of waiting mails.
    async fn count(&self) {
        if self.scope == DeliveryScope::All
            && let Ok(count) = self.store.mail_count().await
        {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.post.metrics.mails_queued().set(count);
        }
    }

    fn hear(&mut self, call: PostCall) {
        match call {
            PostCall::Posted { id, tried } => {
                if self.scope == DeliveryScope::Posted {
                    self.posted.insert(id.clone());
                }
                if let Some(tried) = tried {
                    self.waiting.insert(id, tried);
                }
            }
            PostCall::Changed => {
                self.probe_at = Duration::ZERO;
                self.probe_pause = PROBE_FIRST;
            }
            PostCall::End => {}
        }
    }

    /// Starts due deliveries, and gives the time to wait if nothing happens.
    async fn hand_out(&mut self) -> Duration {
        let Some(transport) = self.post.transport() else {
            return LOOK_EVERY;
        };
        let elapsed = self.post.clock.elapsed();
        if elapsed < self.paused_until {
            return self.paused_until.saturating_sub(elapsed);
        }
        let until_probe = self.probe_when_due(&transport, elapsed);
        let slots = if self.post.is_reached() { AT_ONCE } else { 1 };
        let free = slots.saturating_sub(self.in_flight.len());
        if free == 0 {
            // A job that ends wakes this task.
            return until_probe;
        }
        let now = self.post.clock.now();
        let horizon = if self.is_catching_up {
            Timestamp::from_millis(i64::MAX)
        } else {
            now
        };
        let limit = AT_ONCE + self.in_flight.len();
        let due = match self.store.due_mails(horizon, limit).await {
            Ok(due) => due,
            Err(error) => {
                self.store_trouble(&error);
                return STORE_PAUSE;
            }
        };
        let is_all = due.mails.len() < limit;
        let mut ready = due.mails;
        ready.retain(|mail| self.may_go(mail, now));
        if is_all {
            self.answer_those_not_in(&ready);
        }
        if ready.is_empty() {
            self.is_catching_up = false;
        }
        for mail in ready.into_iter().take(free) {
            self.begin(mail, Arc::clone(&transport));
        }
        let until_next = due.next.map_or(LOOK_EVERY, |next| next.since(now));
        // One millisecond later, since the clock rounds down and the mail must be due.
        until_probe
            .min(LOOK_EVERY)
            .min(until_next + Duration::from_millis(1))
    }

    fn may_go(&self, mail: &QueuedMail, now: Timestamp) -> bool {
        let is_ours = self.scope == DeliveryScope::All || self.posted.contains(&mail.id);
        let is_hastened = mail.refusals == 0 && !self.tried_again.contains(&mail.id);
        let is_due = mail.next_try <= now || is_hastened;
        is_ours && is_due && !self.in_flight.contains_key(&mail.id)
    }

    /// Notifies the callers whose mails have been attempted.
    fn answer_those_not_in(&mut self, ready: &[QueuedMail]) {
        if self.waiting.is_empty() {
            return;
        }
        let in_flight = &self.in_flight;
        let is_open =
            |id: &MailId| in_flight.contains_key(id) || ready.iter().any(|mail| mail.id == *id);
        // Dropping the sender wakes the caller.
        self.waiting.retain(|id, _| is_open(id));
    }

    fn begin(&mut self, mail: QueuedMail, transport: Arc<dyn Transport>) {
        let id = mail.id.clone();
        let was_sent = self.sent.contains(&id);
        let (post, store) = (Arc::clone(&self.post), Arc::clone(&self.store));
        let job = self.jobs.spawn(async move {
            let ended = attempt(&post, &*store, &*transport, &mail, was_sent).await;
            FinishedJob::Mail(mail.id, ended)
        });
        self.in_flight.insert(id, job.id());
    }

    fn probe_when_due(&mut self, transport: &Arc<dyn Transport>, elapsed: Duration) -> Duration {
        if self.scope != DeliveryScope::All || self.is_probing {
            return LOOK_EVERY;
        }
        if self.probe_at <= elapsed {
            self.is_probing = true;
            let transport = Arc::clone(transport);
            self.jobs
                .spawn(async move { FinishedJob::Probe(transport.probe().await) });
            return LOOK_EVERY;
        }
        self.probe_at.saturating_sub(elapsed)
    }

    fn settle(&mut self, done: Result<FinishedJob, JoinError>) {
        match done {
            Ok(FinishedJob::Probe(outcome)) => {
                self.is_probing = false;
                self.note(outcome.err());
            }
            Ok(FinishedJob::Mail(id, ended)) => {
                self.in_flight.remove(&id);
                self.waiting.remove(&id);
                self.settle_mail(id, ended);
            }
            Err(panicked) => {
                // The mail is still in the outbox.
                let count = self.in_flight.len();
                self.in_flight.retain(|_, job| *job != panicked.id());
                self.is_probing &= self.in_flight.len() < count;
                self.paused_until = self.post.clock.elapsed() + PAUSE_MIN;
                tracing::error!(
                    error = &panicked as &dyn std::error::Error,
                    "an attempt to deliver a mail panicked"
                );
            }
        }
    }

    fn settle_mail(&mut self, id: MailId, ended: Result<AttemptResult, OutboxError>) {
        let metrics = &self.post.metrics;
        match ended {
            Ok(AttemptResult::Sent) => {
                if !self.sent.remove(&id) {
                    metrics.mail(MailEvent::Sent);
                }
                self.gone();
                self.probe_pause = PROBE_FIRST;
                self.note(None);
            }
            Ok(AttemptResult::SentNotRemoved) => {
                if self.sent.insert(id) {
                    metrics.mail(MailEvent::Sent);
                }
                self.paused_until = self.post.clock.elapsed() + STORE_PAUSE;
                self.note(None);
            }
            Ok(AttemptResult::Dropped) => {
                metrics.mail(MailEvent::Dropped);
                self.gone();
            }
            Ok(AttemptResult::Failed(error)) => {
                metrics.mail(MailEvent::Failed);
                if self.is_catching_up {
                    self.tried_again.insert(id);
                }
                if matches!(error, DeliveryError::Unreachable(_)) {
                    self.note(Some(error));
                }
            }
            Err(error) => self.store_trouble(&error),
        }
    }

    fn gone(&self) {
        let queued = self.post.metrics.mails_queued();
        if 0 < queued.get() {
            queued.dec();
        }
    }

    /// Records whether the transport works, and schedules the next probe.
    fn note(&mut self, error: Option<DeliveryError>) {
        let is_new = self.post.note_reached(error.is_none());
        let elapsed = self.post.clock.elapsed();
        match error {
            None => {
                self.probe_at = elapsed + PROBE_EVERY;
                if is_new {
                    self.is_catching_up = true;
                    self.tried_again.clear();
                    tracing::info!("mails are delivered again");
                }
            }
            Some(error) => {
                self.is_catching_up = false;
                // A mail that breaks every connection must not be retried after each successful probe, so the pause is reset
                // only by a delivered mail.
                if is_new || self.probe_at <= elapsed {
                    self.probe_at = elapsed + self.probe_pause;
                    self.probe_pause = PROBE_EVERY.min(self.probe_pause * 2);
                }
                if is_new {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "no mail can be delivered: mails are kept in the outbox"
                    );
                }
            }
        }
    }

    fn store_trouble(&mut self, error: &OutboxError) {
        self.paused_until = self.post.clock.elapsed() + STORE_PAUSE;
        // The callers do not wait for it.
        self.waiting.clear();
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the outbox cannot be used"
        );
    }

    /// Finishes deliveries in progress, and starts only those that were posted last.
    async fn end(mut self) {
        let finish = async {
            self.hand_out().await;
            while let Some(done) = self.jobs.join_next().await {
                self.settle(done);
            }
        };
        // An interrupted mail stays in the outbox.
        let _ = tokio::time::timeout(END_MAX, finish).await;
    }
}

/// One attempt to deliver a mail, with its change to the outbox.
async fn attempt(
    post: &Post,
    store: &dyn Outbox,
    transport: &dyn Transport,
    mail: &QueuedMail,
    was_sent: bool,
) -> Result<AttemptResult, OutboxError> {
    if was_sent {
        store.remove_mail(&mail.id).await?;
        return Ok(AttemptResult::Sent);
    }
    let now = post.clock.now();
    if mail.expires <= now || mail.created.is_ahead(now) {
        tracing::warn!(
            mail.id = %mail.id,
            attempts = mail.attempts,
            "a mail has expired and is dropped"
        );
        store.remove_mail(&mail.id).await?;
        return Ok(AttemptResult::Dropped);
    }
    let delivered = match post.open_mail(mail) {
        Some(letter) => transport.deliver(&letter).await,
        None => Err(DeliveryError::Failed(
            "it was encrypted with another key than the current mail.key".to_owned(),
        )),
    };
    let Err(error) = delivered else {
        return Ok(match store.remove_mail(&mail.id).await {
            Ok(_) => AttemptResult::Sent,
            Err(_) => AttemptResult::SentNotRemoved,
        });
    };
    let was_refused = matches!(error, DeliveryError::Refused(_));
    if was_refused && REFUSALS_MAX <= mail.refusals + 1 {
        tracing::warn!(
            mail.id = %mail.id,
            error = &error as &dyn std::error::Error,
            "a mail was refused permanently and is dropped"
        );
        store.remove_mail(&mail.id).await?;
        return Ok(AttemptResult::Dropped);
    }
    let pause = pause(mail);
    let next_try = post.clock.now().plus(pause).min(mail.expires);
    tracing::warn!(
        mail.id = %mail.id,
        attempts = mail.attempts + 1,
        pause_s = pause.as_secs(),
        error = &error as &dyn std::error::Error,
        "a mail was not delivered"
    );
    store.postpone_mail(&mail.id, next_try, was_refused).await?;
    Ok(AttemptResult::Failed(error))
}

/// The pause after a failed attempt, with a jitter of a fifth, so that mails that failed together are not retried together.
fn pause(mail: &QueuedMail) -> Duration {
    let step = usize::try_from(mail.attempts).unwrap_or(usize::MAX);
    let pause_s = PAUSES_S.get(step).or(PAUSES_S.last());
    let pause = Duration::from_secs(pause_s.copied().unwrap_or_default());
    let life = mail.expires.since(mail.created) / LIFE_PART;
    let pause = pause.min(life).max(PAUSE_MIN);
    // A new hasher of the standard library has a random state, which is enough for a jitter.
    let percent = RandomState::new().hash_one(mail.attempts) % 41;
    pause * (80 + u32::try_from(percent).unwrap_or_default()) / 100
}

#[cfg(test)]
mod tests;
