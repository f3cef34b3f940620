//! The delivery: takes mails from the outbox and hands them to the transport, again and again until they are taken or
//! expire.
//!
//! A mail is taken out of the outbox after it was delivered, so a process that ends between the two sends it twice: at
//! least once is what is promised. Within one process each mail has one delivery under way at most.

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

/// Deliveries at once.
const AT_ONCE: usize = 4;
/// Pauses after the first, second, … try in vain; the last one from then on.
const PAUSES_S: [u64; 6] = [5, 30, 120, 600, 1800, 3600];
/// No pause is longer than this part of a mail's life, so that one which lives for minutes is tried while it does.
const LIFE_PART: u32 = 10;
/// No pause is shorter, whatever else holds.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// How often a server may refuse a recipient for good before it is believed: it may have been about us.
const REFUSALS_MAX: u32 = 5;
/// The outbox is looked at this often even if nobody has said that there is something in it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the transport is probed while it works.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// How long after a failure it is probed first; twice as long each time, up to the above.
const PROBE_FIRST: Duration = Duration::from_secs(5);
/// A store in trouble is left in peace for so long.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long the end waits for what is under way.
const END_MAX: Duration = Duration::from_secs(5);

/// Where mails wait.
#[async_trait]
pub trait Outbox: fmt::Debug + Send + Sync {
    /// The mails whose next try is due, at most so many, and when the next one is.
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, OutboxError>;
    /// How many mails wait.
    async fn mail_count(&self) -> Result<usize, OutboxError>;
    /// Counts an attempt in vain and says when the next may be; `false`: there is no such mail any more.
    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, OutboxError>;
    /// Takes a mail out; `false`: there is none.
    async fn remove_mail(&self, id: &MailId) -> Result<bool, OutboxError>;
}

/// What the place says where mails wait, if it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OutboxError(#[from] pub Box<dyn Error + Send + Sync>);

/// Which mails are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All there are: a gateway that serves.
    All,
    /// Those that are posted meanwhile: a command on its own. The rest is left for the gateway.
    Posted,
}

/// Delivers until it is told to end, or at once if another delivery runs.
pub async fn run(post: Arc<Post>, store: Arc<dyn Outbox>, scope: Scope) {
    if let Some(calls) = post.listen() {
        Delivery::new(post, store, scope).run(calls).await;
    }
}

/// What a job was about, and what came of it.
enum Done {
    Mail(MailId, Ended),
    Probe(Result<(), DeliveryError>),
}

/// How a try ended.
enum Ended {
    /// Delivered, and out of the outbox.
    Sent,
    /// Delivered, but still in the outbox: the store could not take it out.
    SentNotRemoved,
    /// Given up, and out of the outbox.
    Dropped,
    /// In vain; it stays.
    Failed(DeliveryError),
    /// The store did not answer.
    StoreTrouble(OutboxError),
}

struct Delivery {
    post: Arc<Post>,
    store: Arc<dyn Outbox>,
    scope: Scope,
    jobs: JoinSet<Done>,
    in_flight: HashMap<MailId, Id>,
    /// Who waits for the first try of which mail.
    waiting: HashMap<MailId, oneshot::Sender<()>>,
    /// With [`Scope::Posted`]: those.
    posted: HashSet<MailId>,
    /// Delivered, and still to be taken out of the outbox.
    sent: HashSet<MailId>,
    /// The transport works again: what waits because it did not need wait no longer.
    is_catching_up: bool,
    /// Those that did so in vain.
    tried_again: HashSet<MailId>,
    is_probing: bool,
    /// On the monotonic clock.
    probe_at: Duration,
    probe_pause: Duration,
    paused_until: Duration,
}

impl Delivery {
    fn new(post: Arc<Post>, store: Arc<dyn Outbox>, scope: Scope) -> Self {
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

    /// Sets the gauge right: it counts from here on.
    async fn count(&self) {
        if self.scope == Scope::All
            && let Ok(count) = self.store.mail_count().await
        {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.post.metrics().mails_queued().set(count);
        }
    }

    fn hear(&mut self, call: PostCall) {
        match call {
            PostCall::Posted { id, tried } => {
                if self.scope == Scope::Posted {
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

    /// Begins what can begin; how long there is nothing to do unless something happens.
    async fn hand_out(&mut self) -> Duration {
        let Some(transport) = self.post.transport() else {
            return LOOK_EVERY;
        };
        let elapsed = self.post.clock().elapsed();
        if elapsed < self.paused_until {
            return self.paused_until.saturating_sub(elapsed);
        }
        let until_probe = self.probe_when_due(&transport, elapsed);
        let slots = if self.post.is_reached() { AT_ONCE } else { 1 };
        let free = slots.saturating_sub(self.in_flight.len());
        if free == 0 {
            // A job that ends wakes us.
            return until_probe;
        }
        let now = self.post.clock().now();
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
        // A moment later than the clock of milliseconds, so that the mail is due then.
        until_probe
            .min(LOOK_EVERY)
            .min(until_next + Duration::from_millis(1))
    }

    fn may_go(&self, mail: &QueuedMail, now: Timestamp) -> bool {
        let is_ours = self.scope == Scope::All || self.posted.contains(&mail.id);
        let is_hastened = mail.refusals == 0 && !self.tried_again.contains(&mail.id);
        let is_due = mail.next_try <= now || is_hastened;
        is_ours && is_due && !self.in_flight.contains_key(&mail.id)
    }

    /// Tells those who wait for mails that neither wait nor are under way: they have been tried.
    fn answer_those_not_in(&mut self, ready: &[QueuedMail]) {
        if self.waiting.is_empty() {
            return;
        }
        let in_flight = &self.in_flight;
        let is_open =
            |id: &MailId| in_flight.contains_key(id) || ready.iter().any(|mail| mail.id == *id);
        // Dropped, the sender wakes who waits.
        self.waiting.retain(|id, _| is_open(id));
    }

    fn begin(&mut self, mail: QueuedMail, transport: Arc<dyn Transport>) {
        let id = mail.id.clone();
        let was_sent = self.sent.contains(&id);
        let (post, store) = (Arc::clone(&self.post), Arc::clone(&self.store));
        let job = self.jobs.spawn(async move {
            let ended = attempt(&post, &*store, &*transport, &mail, was_sent).await;
            Done::Mail(mail.id, ended)
        });
        self.in_flight.insert(id, job.id());
    }

    fn probe_when_due(&mut self, transport: &Arc<dyn Transport>, elapsed: Duration) -> Duration {
        if self.scope != Scope::All || self.is_probing {
            return LOOK_EVERY;
        }
        if self.probe_at <= elapsed {
            self.is_probing = true;
            let transport = Arc::clone(transport);
            self.jobs
                .spawn(async move { Done::Probe(transport.probe().await) });
            return LOOK_EVERY;
        }
        self.probe_at.saturating_sub(elapsed)
    }

    fn settle(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Probe(outcome)) => {
                self.is_probing = false;
                self.note(outcome.err());
            }
            Ok(Done::Mail(id, ended)) => {
                self.in_flight.remove(&id);
                self.waiting.remove(&id);
                self.settle_mail(id, ended);
            }
            Err(panicked) => {
                // Its mail is in the outbox as before.
                let count = self.in_flight.len();
                self.in_flight.retain(|_, job| *job != panicked.id());
                self.is_probing &= self.in_flight.len() < count;
                self.paused_until = self.post.clock().elapsed() + PAUSE_MIN;
                tracing::error!(
                    error = &panicked as &dyn std::error::Error,
                    "a try to deliver a mail broke off"
                );
            }
        }
    }

    fn settle_mail(&mut self, id: MailId, ended: Ended) {
        let metrics = self.post.metrics();
        match ended {
            Ended::Sent => {
                if !self.sent.remove(&id) {
                    metrics.mail(MailEvent::Sent);
                }
                self.gone();
                self.probe_pause = PROBE_FIRST;
                self.note(None);
            }
            Ended::SentNotRemoved => {
                if self.sent.insert(id) {
                    metrics.mail(MailEvent::Sent);
                }
                self.paused_until = self.post.clock().elapsed() + STORE_PAUSE;
                self.note(None);
            }
            Ended::Dropped => {
                metrics.mail(MailEvent::Dropped);
                self.gone();
            }
            Ended::Failed(error) => {
                metrics.mail(MailEvent::Failed);
                if self.is_catching_up {
                    self.tried_again.insert(id);
                }
                if matches!(error, DeliveryError::Unreachable(_)) {
                    self.note(Some(error));
                }
            }
            Ended::StoreTrouble(error) => self.store_trouble(&error),
        }
    }

    fn gone(&self) {
        let queued = self.post.metrics().mails_queued();
        if 0 < queued.get() {
            queued.dec();
        }
    }

    /// Notes whether the transport works, and when to look again.
    fn note(&mut self, error: Option<DeliveryError>) {
        let is_new = self.post.note_reached(error.is_none());
        let elapsed = self.post.clock().elapsed();
        match error {
            None => {
                self.probe_at = elapsed + PROBE_EVERY;
                if is_new {
                    self.is_catching_up = true;
                    self.tried_again.clear();
                    tracing::info!("mails get through again");
                }
            }
            Some(error) => {
                self.is_catching_up = false;
                // One mail that breaks every connection must not be tried at each probe that succeeds: the pause is
                // short again only when a mail has got through.
                if is_new || self.probe_at <= elapsed {
                    self.probe_at = elapsed + self.probe_pause;
                    self.probe_pause = PROBE_EVERY.min(self.probe_pause * 2);
                }
                if is_new {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "no mail gets through: mails wait in the outbox"
                    );
                }
            }
        }
    }

    fn store_trouble(&mut self, error: &OutboxError) {
        self.paused_until = self.post.clock().elapsed() + STORE_PAUSE;
        // The answers do not wait for it.
        self.waiting.clear();
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the outbox cannot be used"
        );
    }

    /// Lets what is under way end, begins what was posted last, and no more.
    async fn end(mut self) {
        let finish = async {
            self.hand_out().await;
            while let Some(done) = self.jobs.join_next().await {
                self.settle(done);
            }
        };
        // What is cut off stays in the outbox.
        let _ = tokio::time::timeout(END_MAX, finish).await;
    }
}

/// One try of one mail, with what it does to the outbox.
async fn attempt(
    post: &Post,
    store: &dyn Outbox,
    transport: &dyn Transport,
    mail: &QueuedMail,
    was_sent: bool,
) -> Ended {
    if was_sent {
        return removed(store, mail, Ended::Sent).await;
    }
    let now = post.clock().now();
    if mail.expires <= now || mail.created.is_ahead(now) {
        tracing::warn!(
            mail.id = %mail.id,
            attempts = mail.attempts,
            "a mail has expired and is dropped"
        );
        return removed(store, mail, Ended::Dropped).await;
    }
    let delivered = match post.open_mail(mail) {
        Some(letter) => transport.deliver(&letter).await,
        None => Err(DeliveryError::Failed(
            "it was sealed with another key than the present mail.key".to_owned(),
        )),
    };
    let Err(error) = delivered else {
        return match store.remove_mail(&mail.id).await {
            Ok(_) => Ended::Sent,
            Err(_) => Ended::SentNotRemoved,
        };
    };
    let was_refused = matches!(error, DeliveryError::Refused(_));
    if was_refused && REFUSALS_MAX <= mail.refusals + 1 {
        tracing::warn!(
            mail.id = %mail.id,
            error = &error as &dyn std::error::Error,
            "a mail is refused for good and is dropped"
        );
        return removed(store, mail, Ended::Dropped).await;
    }
    let pause = pause(mail);
    let next_try = post.clock().now().plus(pause).min(mail.expires);
    tracing::warn!(
        mail.id = %mail.id,
        attempts = mail.attempts + 1,
        pause_s = pause.as_secs(),
        error = &error as &dyn std::error::Error,
        "a mail was not delivered"
    );
    match store.postpone_mail(&mail.id, next_try, was_refused).await {
        Ok(_) => Ended::Failed(error),
        Err(trouble) => Ended::StoreTrouble(trouble),
    }
}

async fn removed(store: &dyn Outbox, mail: &QueuedMail, ended: Ended) -> Ended {
    match store.remove_mail(&mail.id).await {
        Ok(_) => ended,
        Err(error) => Ended::StoreTrouble(error),
    }
}

/// How long a mail waits after one more try in vain, a fifth more or less, so that those which failed together do not
/// come again together.
fn pause(mail: &QueuedMail) -> Duration {
    let step = usize::try_from(mail.attempts).unwrap_or(usize::MAX);
    let last = Duration::from_secs(PAUSES_S.last().copied().unwrap_or_default());
    let pause = PAUSES_S.get(step).map_or(last, |s| Duration::from_secs(*s));
    let life = mail.expires.since(mail.created) / LIFE_PART;
    let pause = pause.min(life).max(PAUSE_MIN);
    // A fresh hasher of the standard library is drawn at random, which is all that is needed here.
    let percent = RandomState::new().hash_one(mail.attempts) % 41;
    pause * (80 + u32::try_from(percent).unwrap_or_default()) / 100
}

#[cfg(test)]
mod tests;
