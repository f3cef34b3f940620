//! Opaque tokens: the issuer is asked what they are worth (RFC 7662).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::config::{Client, Introspection};
use crate::crypto::{strict_json, token};
use crate::fetch::{FetchError, Fetcher, Replied, Trust};
use crate::issuer::IssuerDown;
use crate::limit::places::Places;
use crate::model::account::Digest;
use crate::model::client_network::client_network;
use crate::model::clock::Clock;
use crate::model::token_fault::{FaultKind, TokenFault};
use crate::telemetry::issuer::{Introspected, IssuerMetrics};

/// A question may take this long; the request that needs it waits.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(2),
    body_bytes_max: 64 * 1024,
};
/// Questions at once: what is slow must not pile up.
const AT_ONCE_MAX: usize = 32;
/// Of these, questions that clients of one network cause: made-up tokens must not take all the places.
const AT_ONCE_OF_NETWORK_MAX: usize = 8;
/// How long a token that is refused is not asked about again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Tokens that are remembered as refused.
const REFUSED_MAX: u64 = 100_000;
/// How long nothing is asked when the issuer is in trouble, and a token is not asked about whose question failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Questions that failed within this time count together.
const DOUBT_FOR: Duration = Duration::from_secs(5);
/// An issuer that fails is told of no more often than this.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What an opaque token is worth.
#[derive(Clone, Debug)]
pub enum Said {
    /// The issuer calls it active.
    Active {
        /// What it says of the token.
        claims: Arc<Map<String, Value>>,
        /// For how long that counts at most.
        ttl: Duration,
    },
    /// It is refused.
    Refused(TokenFault),
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the introspection endpoint {0}")]
    Fetch(#[source] FetchError),
    #[error(
        "the introspection endpoint answered with status {0}: it does not take the gateway's client or form"
    )]
    Refusal(u16),
    #[error("what came is no answer to an introspection")]
    Garbage,
    #[error("there are too many questions at once")]
    Crowded,
}

impl AskError {
    /// Whether no token can have caused it.
    const fn is_issuers(&self) -> bool {
        use FetchError::{Connect, Forbidden, Name, NoAddress, NotLoopback, Resolve, Tls};
        matches!(
            self,
            Self::Fetch(
                Connect(_) | Forbidden | Name | NoAddress | NotLoopback | Resolve(_) | Tls(_)
            )
        )
    }
}

/// What a question brought, and until when it counts.
#[derive(Clone)]
struct Answered {
    said: Result<Said, IssuerDown>,
    until: Duration,
}

/// Asks one issuer about opaque tokens, one question for each token at a time.
pub(in crate::issuer) struct Introspector {
    name: String,
    settings: Introspection,
    authorization: Option<HeaderValue>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    metrics: IssuerMetrics,
    /// By client network.
    at_once: Places<IpAddr>,
    /// Questions under way, and tokens that are refused.
    asked: Cache<Digest, Arc<OnceCell<Answered>>>,
    /// Whether the last question failed.
    has_failed: AtomicBool,
    /// Until when nothing is asked, in milliseconds of the clock; 0: asked at any time.
    paused_until_ms: AtomicU64,
    /// The last question that failed in a way that its token may have caused: from which network, and when.
    doubt: Mutex<Option<(IpAddr, Duration)>>,
    /// When a failure was told last, in milliseconds of the clock and one more; 0: never.
    told_ms: AtomicU64,
}

impl Introspector {
    pub(in crate::issuer) fn new(
        name: &str,
        settings: &Introspection,
        trust: Trust,
        clock: Arc<dyn Clock>,
        metrics: IssuerMetrics,
    ) -> Self {
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            authorization: settings.client.as_ref().and_then(basic),
            trust,
            clock,
            metrics,
            at_once: Places::new(AT_ONCE_MAX, AT_ONCE_OF_NETWORK_MAX),
            asked: Cache::builder()
                .max_capacity(REFUSED_MAX)
                .time_to_live(REFUSED_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            has_failed: AtomicBool::new(false),
            paused_until_ms: AtomicU64::new(0),
            doubt: Mutex::default(),
            told_ms: AtomicU64::new(0),
        }
    }

    /// Whether the last question failed.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// What the issuer says of a token now, or said within the last seconds if it is refused.
    pub(in crate::issuer) async fn ask(
        &self,
        text: &str,
        client: IpAddr,
    ) -> Result<Said, IssuerDown> {
        let digest = token::digest(text);
        let mut cell = self.asked.get_with_by_ref(&digest, Arc::default);
        if cell
            .get()
            .is_some_and(|answered| answered.until <= self.clock.elapsed())
        {
            self.asked.invalidate(&digest);
            cell = self.asked.get_with_by_ref(&digest, Arc::default);
        }
        let asked = cell.get_or_init(|| self.question(text, client_network(client)));
        let answered = asked.await.clone();
        if answered.until <= self.clock.elapsed() {
            self.asked.invalidate(&digest);
        }
        answered.said
    }

    /// Remembers that a token is refused though the issuer calls it active.
    pub(in crate::issuer) fn refuse(&self, text: &str, fault: &TokenFault) {
        let refused = Answered {
            said: Ok(Said::Refused(fault.clone())),
            until: self.clock.elapsed() + REFUSED_FOR,
        };
        let cell = Arc::new(OnceCell::new_with(Some(refused)));
        self.asked.insert(token::digest(text), cell);
    }

    async fn question(&self, text: &str, network: IpAddr) -> Answered {
        let counts_for = |said, time| Answered {
            said,
            until: self.clock.elapsed() + time,
        };
        if self.is_paused() {
            return counts_for(Err(IssuerDown), Duration::ZERO);
        }
        match self.fetch(text, network).await {
            Ok(said) => {
                self.note_answer(&said);
                // An active one is remembered by who decides, with everything that depends on it.
                let time = match &said {
                    Said::Active { .. } => Duration::ZERO,
                    Said::Refused(_) => REFUSED_FOR,
                };
                counts_for(Ok(said), time)
            }
            Err(AskError::Crowded) => {
                self.metrics.introspection(Introspected::Failed);
                self.tell(&AskError::Crowded);
                counts_for(Err(IssuerDown), Duration::ZERO)
            }
            Err(error) => {
                self.metrics.introspection(Introspected::Failed);
                self.note_failure(&error, network);
                counts_for(Err(IssuerDown), PAUSE)
            }
        }
    }

    async fn fetch(&self, text: &str, network: IpAddr) -> Result<Said, AskError> {
        let place = self.at_once.take(network, FETCHER.timeout).await;
        let Some(_place) = place else {
            return Err(AskError::Crowded);
        };
        let mut form = String::with_capacity(text.len() + 64);
        form.push_str("token_type_hint=access_token&token=");
        push_encoded(&mut form, text);
        let authorization = self.authorization.as_ref();
        let replied = FETCHER
            .post_form(&self.settings.endpoint, &self.trust, authorization, form)
            .await
            .map_err(AskError::Fetch)?;
        let answer = match replied {
            Replied::Answer(answer) => answer,
            Replied::Refusal { status, body } => return refusal(status, &body),
        };
        let claims = strict_json::object(&answer.body).ok_or(AskError::Garbage)?;
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(Said::Active {
                claims: Arc::new(claims),
                ttl: self.settings.ttl,
            }),
            Some(Value::Bool(false)) => Ok(Said::Refused(FaultKind::Inactive.into())),
            _ => Err(AskError::Garbage),
        }
    }

    fn is_paused(&self) -> bool {
        millis(self.clock.elapsed()) < self.paused_until_ms.load(Ordering::Acquire)
    }

    fn note_answer(&self, said: &Said) {
        self.has_failed.store(false, Ordering::Release);
        self.paused_until_ms.store(0, Ordering::Release);
        *self.doubt.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.metrics.introspection(match said {
            Said::Active { .. } => Introspected::Active,
            Said::Refused(fault) if fault.kind == FaultKind::Inactive => Introspected::Inactive,
            Said::Refused(_) => Introspected::Refused,
        });
    }

    /// Pauses all questions where the issuer is in trouble. What a token's own text can have caused is that: failures of
    /// one network, which may be sending odd tokens on purpose, pause nobody else.
    fn note_failure(&self, error: &AskError, network: IpAddr) {
        self.has_failed.store(true, Ordering::Release);
        let now = self.clock.elapsed();
        let is_shared = {
            let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
            let before = doubt.replace((network, now));
            before.is_some_and(|(other, at)| other != network && now < at + DOUBT_FOR)
        };
        if error.is_issuers() || is_shared {
            self.paused_until_ms
                .store(millis(now + PAUSE), Ordering::Release);
        }
        self.tell(error);
    }

    fn tell(&self, error: &AskError) {
        let now = millis(self.clock.elapsed()).saturating_add(1);
        let told = self.told_ms.load(Ordering::Relaxed);
        let is_due = told == 0 || told.saturating_add(millis(TELL_EVERY)) <= now;
        let exchanged =
            self.told_ms
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && exchanged.is_ok() {
            tracing::warn!(
                issuer.name = self.name,
                place = self.settings.endpoint.authority(),
                error = error as &dyn std::error::Error,
                "an issuer cannot be asked about tokens: they get 503"
            );
        }
    }
}

/// What a status between 400 and 499 means (RFC 6749 section 5.2, RFC 7662 section 2.3): a form or a client that is
/// refused concerns every token; everything else is about what this one looks like.
fn refusal(status: u16, body: &[u8]) -> Result<Said, AskError> {
    let error =
        strict_json::object(body).and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
    let is_clients = matches!(
        error.as_deref(),
        Some("invalid_client" | "unauthorized_client" | "access_denied")
    );
    match status {
        400 | 403 | 413 | 414 | 422 | 431 if !is_clients => Ok(Said::Refused(
            FaultKind::NotAnswered.with(format!("it answers with status {status}")),
        )),
        _ => Err(AskError::Refusal(status)),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// HTTP Basic of a client, id and secret each form-encoded first (RFC 6749 section 2.3.1).
fn basic(client: &Client) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(String::with_capacity(8192));
    push_encoded(&mut pair, &client.id);
    pair.push(':');
    push_encoded(&mut pair, client.secret.0.expose());
    let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&field).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Appends a value as forms have it: letters, digits and `-._~` stand for themselves, all else is `%XX`.
fn push_encoded(form: &mut String, value: &str) {
    form.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SharedSecret;
    use crate::model::secret::Secret;

    #[test]
    fn a_refusal_is_the_tokens_unless_it_is_the_clients() {
        for (status, body, is_tokens) in [
            (400, "", true),
            (400, r#"{"error":"invalid_request"}"#, true),
            (400, r#"{"error":"unsupported_token_type"}"#, true),
            (400, r#"{"error":"invalid_client"}"#, false),
            (403, "<html>blocked</html>", true),
            (403, r#"{"error":"unauthorized_client"}"#, false),
            (413, "", true),
            (401, "", false),
            (401, r#"{"error":"invalid_token"}"#, false),
            (404, "", false),
            (405, "", false),
            (429, "", false),
        ] {
            let said = refusal(status, body.as_bytes());
            assert_eq!(said.is_ok(), is_tokens, "{status} {body}");
        }
    }

    #[test]
    fn a_client_network_is_one_ipv4_address_or_64_bits_of_ipv6() {
        let network = |text: &str| client_network(text.parse().unwrap());
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn rfc6749_2_3_1_id_and_secret_are_encoded_before_they_are_joined() {
        let client = Client {
            id: "a:b c".to_owned(),
            secret: SharedSecret(Secret::new("p%&+=".to_owned())),
        };
        let value = basic(&client).unwrap();
        assert!(value.is_sensitive());
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(pair, "a%3Ab+c:p%25%26%2B%3D");
    }
}
