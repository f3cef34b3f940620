//! Deliveries over a scripted transport.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::config::{MailLimits, MailSettings, MailTransport};
use crate::mail::{Mail, Mailer, OutgoingMessage};
use crate::model::account::EmailAddress;
use crate::model::clock::{Clock, ManualClock};
use crate::model::secret::Secret;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

type Outcome = Result<(), DeliveryError>;

/// A transport that answers as scripted, and records what it received.
#[derive(Debug, Default)]
struct Script {
    /// The answer to every mail and probe from now on.
    says: Mutex<Option<DeliveryError>>,
    tried: Mutex<Vec<String>>,
    probes: Mutex<usize>,
}

#[async_trait]
impl Transport for Script {
    async fn deliver(&self, letter: &OutgoingMessage) -> Outcome {
        self.tried.lock().unwrap().push(letter.to.clone());
        self.says.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn probe(&self) -> Outcome {
        *self.probes.lock().unwrap() += 1;
        match self.says.lock().unwrap().clone() {
            Some(error @ DeliveryError::Unreachable(_)) => Err(error),
            _ => Ok(()),
        }
    }

    fn is_local(&self) -> bool {
        false
    }
}

/// An outbox in memory; `tests/it/mail.rs` tests the delivery with that of the store.
#[derive(Debug, Default)]
struct Waiting(Mutex<Vec<QueuedMail>>);

impl Waiting {
    fn put_mail(&self, mail: QueuedMail) {
        self.0.lock().unwrap().push(mail);
    }
}

#[async_trait]
impl Outbox for Waiting {
    async fn due_mails(&self, now: Timestamp, limit: usize) -> Result<DueMails, OutboxError> {
        let mut mails = self.0.lock().unwrap().clone();
        mails.sort_by_key(|mail| mail.next_try);
        let next = mails.iter().map(|mail| mail.next_try).find(|at| now < *at);
        mails.retain(|mail| mail.next_try <= now);
        mails.truncate(limit);
        Ok(DueMails { mails, next })
    }

    async fn mail_count(&self) -> Result<usize, OutboxError> {
        Ok(self.0.lock().unwrap().len())
    }

    async fn postpone_mail(
        &self,
        id: &MailId,
        next_try: Timestamp,
        was_refused: bool,
    ) -> Result<bool, OutboxError> {
        let mut mails = self.0.lock().unwrap();
        let Some(mail) = mails.iter_mut().find(|mail| mail.id == *id) else {
            return Ok(false);
        };
        mail.next_try = next_try;
        mail.attempts = mail.attempts.saturating_add(1);
        mail.refusals += u32::from(was_refused);
        Ok(true)
    }

    async fn remove_mail(&self, id: &MailId) -> Result<bool, OutboxError> {
        let mut mails = self.0.lock().unwrap();
        let count = mails.len();
        mails.retain(|mail| mail.id != *id);
        Ok(mails.len() < count)
    }
}

struct Kit {
    delivery: Delivery,
    outbox: Arc<Waiting>,
    mailer: Arc<dyn Mailer>,
    script: Arc<Script>,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    _directory: tempfile::TempDir,
}

impl Kit {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let metrics = Arc::new(Metrics::new());
        let same = Arc::clone(&clock) as Arc<dyn Clock>;
        let post = Post::open(None, same, Arc::clone(&metrics), Output::to_nowhere()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let settings = MailSettings {
            transport: MailTransport::Sendmail("/bin/false".into()),
            from: "door@door.test".to_owned(),
            confirm_link: "{public_url}/{token}".to_owned(),
            reset_link: "{public_url}/{token}".to_owned(),
            templates: None,
            limits: MailLimits {
                per_address_per_hour: 3,
                per_network_per_hour: 10,
                per_hour: 1000,
            },
        };
        let mailer = post.mailer(&settings, "http://door.test").unwrap();
        let script = Arc::new(Script::default());
        post.adopt_for_test(Arc::clone(&script) as Arc<dyn Transport>);
        let outbox = Arc::new(Waiting::default());
        let store = Arc::clone(&outbox) as Arc<dyn Outbox>;
        Self {
            delivery: Delivery::new(post, store, DeliveryScope::All),
            outbox,
            mailer,
            script,
            clock,
            metrics,
            _directory: directory,
        }
    }

    /// Puts a mail with a token into the outbox; it expires after `life_s` seconds.
    fn put(&self, to: &str, life_s: u64) -> MailId {
        let token = Secret::new("A".repeat(43));
        let expires = self.clock.now().plus(Duration::from_secs(life_s));
        let to = EmailAddress::parse(to).unwrap();
        let mail = Mail::ConfirmNew { token };
        let queued = self.mailer.seal(&to, &mail, expires).unwrap();
        let id = queued.id.clone();
        self.outbox.put_mail(queued);
        self.metrics.mails_queued().inc();
        id
    }

    fn say(&self, error: Option<DeliveryError>) {
        *self.script.says.lock().unwrap() = error;
    }

    fn tried(&self) -> Vec<String> {
        std::mem::take(&mut *self.script.tried.lock().unwrap())
    }

    fn wait(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Runs one round: begins what can begin and lets it end. Returns how long the delivery would sleep.
    async fn round(&mut self) -> Duration {
        let rest = self.delivery.hand_out().await;
        while let Some(done) = self.delivery.jobs.join_next().await {
            self.delivery.settle(done);
        }
        rest
    }

    /// Runs this many rounds without letting time pass.
    async fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.round().await;
        }
    }

    async fn queued(&self) -> Vec<QueuedMail> {
        let end = Timestamp::from_millis(i64::MAX);
        let due = self.delivery.store.due_mails(end, 100).await;
        due.unwrap().mails
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }
}

fn unreachable() -> DeliveryError {
    DeliveryError::Unreachable("nobody there".to_owned())
}

fn failed() -> DeliveryError {
    DeliveryError::Failed("451".to_owned())
}

fn refused() -> DeliveryError {
    DeliveryError::Refused("550".to_owned())
}

#[tokio::test]
async fn what_is_delivered_leaves_the_outbox_and_is_not_sent_again() {
    let mut kit = Kit::new();
    for number in 0..9 {
        kit.put(&format!("{number}@example.org"), 900);
    }
    kit.rounds(4).await;
    let mut tried = kit.tried();
    tried.sort();
    let expected: Vec<_> = (0..9).map(|n| format!("{n}@example.org")).collect();
    assert_eq!(tried, expected);
    assert!(kit.queued().await.is_empty());
    assert!(kit.counted("doorward_mails_total{event=\"sent\"} 9"));
    assert!(kit.counted("doorward_mails_queued 0"));
}

#[tokio::test]
async fn a_mail_that_is_not_taken_comes_again_later_and_later_until_it_expires() {
    let mut kit = Kit::new();
    kit.say(Some(failed()));
    kit.put("anna@example.org", 86_400);
    let mut pauses = Vec::new();
    let mut last = kit.clock.now();
    for _ in 0..9 {
        kit.rounds(2).await;
        assert_eq!(kit.tried().len(), 1, "once, however often it is looked at");
        let queued = kit.queued().await.remove(0);
        pauses.push(queued.next_try.since(last).as_secs());
        kit.clock
            .advance(queued.next_try.since(last) + Duration::from_millis(1));
        last = kit.clock.now();
    }
    for (pause, about) in pauses.iter().zip([5, 30, 120, 600, 1800, 3600, 3600, 3600]) {
        let range = about * 4 / 5..=about * 6 / 5;
        assert!(range.contains(pause), "{pauses:?}");
    }
    kit.wait(86_400);
    kit.say(None);
    kit.rounds(2).await;
    assert!(
        kit.tried().is_empty(),
        "expired: not sent, although it could be"
    );
    assert!(kit.queued().await.is_empty());
    assert!(kit.counted("doorward_mails_total{event=\"dropped\"} 1"));
    assert!(kit.counted("doorward_mails_total{event=\"sent\"} 0"));
}

#[test]
fn a_short_life_makes_short_pauses() {
    let mail = |life_s: u64, attempts: u32| QueuedMail {
        id: crate::crypto::token::draw_mail_id(),
        sealed: crate::model::mail::SealedMail(Vec::new()),
        created: Timestamp::from_secs(0),
        expires: Timestamp::from_secs(0).plus(Duration::from_secs(life_s)),
        next_try: Timestamp::from_secs(0),
        attempts,
        refusals: 0,
    };
    for (life_s, attempts, about) in [
        (900, 0, 5),
        (900, 1, 30),
        (900, 2, 90),
        (900, 50, 90),
        (20, 9, 5),
        (86_400, u32::MAX, 3600),
    ] {
        let pause = pause(&mail(life_s, attempts)).as_millis();
        let range = about * 800..=about * 1200;
        assert!(range.contains(&pause), "{life_s} {attempts}: {pause}");
    }
}

#[tokio::test]
async fn while_nothing_gets_through_one_is_tried_at_a_time_and_then_all_follow_at_once() {
    let mut kit = Kit::new();
    kit.say(Some(unreachable()));
    for number in 0..6 {
        kit.put(&format!("{number}@example.org"), 86_400);
    }
    kit.round().await;
    assert!(!kit.delivery.post.is_reached());
    kit.tried();
    kit.round().await;
    assert_eq!(kit.tried().len(), 1);
    kit.rounds(9).await;
    kit.tried();
    // After the first pause: each has failed twice, and would wait for half a minute.
    kit.wait(7);
    kit.rounds(9).await;
    assert_eq!(kit.tried().len(), 6);
    kit.say(None);
    kit.wait(11);
    kit.rounds(6).await;
    assert!(kit.delivery.post.is_reached());
    assert_eq!(kit.tried().len(), 6, "none waits for its pause");
    assert!(kit.queued().await.is_empty());
}

#[tokio::test]
async fn catching_up_tries_each_once() {
    let mut kit = Kit::new();
    kit.say(Some(unreachable()));
    kit.put("anna@example.org", 86_400);
    kit.rounds(3).await;
    kit.tried();
    // The server is back, and does not accept this mail.
    kit.say(Some(failed()));
    kit.wait(11);
    kit.rounds(20).await;
    assert!(
        kit.tried().len() <= 2,
        "no faster than its pauses and one more"
    );
}

#[tokio::test]
async fn a_recipient_that_is_refused_again_and_again_is_given_up() {
    let mut kit = Kit::new();
    kit.say(Some(refused()));
    kit.put("nobody@example.org", 86_400);
    for _ in 0..10 {
        kit.rounds(2).await;
        kit.wait(4000);
    }
    assert_eq!(kit.tried().len(), 5);
    assert!(kit.queued().await.is_empty());
    assert!(
        kit.delivery.post.is_reached(),
        "it is about them, not about us"
    );
}

#[tokio::test]
async fn a_mail_of_another_key_waits_for_its_key_and_harms_no_other() {
    let mut kit = Kit::new();
    let id = kit.put("anna@example.org", 900);
    let mut mail = kit.queued().await.remove(0);
    kit.delivery.store.remove_mail(&id).await.unwrap();
    mail.id = crate::crypto::token::draw_mail_id();
    kit.outbox.put_mail(mail);
    kit.put("bert@example.org", 900);
    kit.rounds(3).await;
    assert_eq!(kit.tried(), ["bert@example.org"]);
    assert_eq!(kit.queued().await.len(), 1);
}

#[tokio::test]
async fn who_waits_for_the_first_try_hears_of_it_whatever_came_of_it() {
    for says in [None, Some(failed()), Some(unreachable())] {
        let mut kit = Kit::new();
        kit.say(says);
        let id = kit.put("anna@example.org", 900);
        let (tried, mut answer) = oneshot::channel();
        kit.delivery.hear(PostCall::Posted {
            id,
            tried: Some(tried),
        });
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Empty)
        ));
        kit.round().await;
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
        // A mail that is long gone.
        let (tried, mut answer) = oneshot::channel();
        kit.delivery.hear(PostCall::Posted {
            id: crate::crypto::token::draw_mail_id(),
            tried: Some(tried),
        });
        kit.round().await;
        assert!(matches!(
            answer.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
    }
}

#[tokio::test]
async fn a_command_delivers_its_own_mails_and_leaves_the_rest() {
    let mut kit = Kit::new();
    kit.delivery.scope = DeliveryScope::Posted;
    kit.put("anna@example.org", 900);
    let id = kit.put("bert@example.org", 900);
    kit.delivery.hear(PostCall::Posted { id, tried: None });
    kit.rounds(2).await;
    assert_eq!(kit.tried(), ["bert@example.org"]);
    assert_eq!(*kit.script.probes.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_transport_is_probed_at_the_start_and_now_and_then() {
    let mut kit = Kit::new();
    kit.say(Some(unreachable()));
    kit.rounds(3).await;
    assert_eq!(*kit.script.probes.lock().unwrap(), 1);
    assert!(!kit.delivery.post.is_reached());
    for (wait_s, probes) in [(5, 2), (5, 2), (5, 3), (20, 4), (40, 5), (60, 6), (60, 7)] {
        kit.wait(wait_s);
        kit.rounds(2).await;
        assert_eq!(*kit.script.probes.lock().unwrap(), probes, "{wait_s}");
    }
    kit.say(None);
    kit.wait(60);
    kit.rounds(2).await;
    assert!(kit.delivery.post.is_reached());
}
