//! Introspection of opaque tokens by their issuer (RFC 7662).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::config::{Introspection, IssuerClient};
use crate::crypto::{digest, strict_json};
use crate::fetch::{FetchError, Fetcher, Replied, Trust};
use crate::issuer::IssuerDown;
use crate::limit::places::SharedSlots;
use crate::model::account::Digest;
use crate::model::client_network::client_network;
use crate::model::clock::Clock;
use crate::model::token_fault::{FaultKind, TokenFault};
use crate::telemetry::issuer::{Introspected, IssuerMetrics};

/// Maximum time of one question, for which the caller's request waits.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(2),
    body_bytes_max: 64 * 1024,
};
/// Maximum number of concurrent questions.
const AT_ONCE_MAX: usize = 32;
/// Maximum number of concurrent questions for one client network, so that made-up tokens do not take all the places.
const AT_ONCE_OF_NETWORK_MAX: usize = 8;
/// Time for which a refused token is cached.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Maximum number of cached refused tokens.
const REFUSED_MAX: u64 = 100_000;
/// Interval of questions to an unreachable issuer, and time for which a failed question is cached.
const PAUSE: Duration = Duration::from_secs(1);
/// Minimum interval between log lines about a failing issuer.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The result of an introspection.
#[derive(Clone, Debug)]
pub enum IntrospectedToken {
    /// The token is active.
    Active {
        /// The claims of the token.
        claims: Arc<Map<String, Value>>,
        /// Maximum time for which the result may be cached.
        ttl: Duration,
    },
    /// The token is refused.
    Refused(TokenFault),
}

/// The error of a question without an answer.
#[derive(Debug, thiserror::Error)]
enum IntrospectionError {
    #[error("the introspection endpoint {0}")]
    Fetch(#[source] FetchError),
    #[error(
        "the introspection endpoint answered with status {0}: it does not accept the gateway's client credentials or the form of the request"
    )]
    Refusal(u16),
    #[error("the answer is not an introspection response")]
    Garbage,
    #[error("too many introspection requests are in flight")]
    Crowded,
}

/// What an unanswered question reveals about the connection to the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IssuerReachability {
    /// The issuer is unreachable, which no token can have caused.
    Shut,
    /// The issuer is reachable, but did not answer this question.
    Open,
    /// It reveals nothing about the connection.
    Unknown,
}

impl IntrospectionError {
    const fn way(&self) -> IssuerReachability {
        use FetchError::{
            Connect, Forbidden, Name, NoAddress, NotLoopback, Protocol, Resolve, Status, Target,
            Tls, TooLarge, TooSlow,
        };
        match self {
            Self::Fetch(
                Connect(_) | Forbidden | Name | NoAddress | NotLoopback | Resolve(_) | Tls(_),
            ) => IssuerReachability::Shut,
            Self::Fetch(Protocol(_) | Status(_) | TooLarge(_))
            | Self::Refusal(_)
            | Self::Garbage => IssuerReachability::Open,
            // A slow answer may be caused by the token, and a missing one by the issuer.
            Self::Fetch(TooSlow(_) | Target(_)) | Self::Crowded => IssuerReachability::Unknown,
        }
    }
}

/// The pause while an issuer is unreachable, in which single questions find out whether it is reachable again.
#[derive(Debug, Default)]
struct IssuerPause {
    /// Time of the next question, in milliseconds of the clock; 0: there is no pause.
    next_ms: AtomicU64,
}

impl IssuerPause {
    fn begin(&self, now: Duration) {
        self.next_ms.store(millis(now + PAUSE), Ordering::Release);
    }

    fn end(&self) {
        self.next_ms.store(0, Ordering::Release);
    }

    /// Whether a question may be sent now. In a pause, one may be sent in each [`PAUSE`].
    fn lets_through(&self, now: Duration) -> bool {
        let next = self.next_ms.load(Ordering::Acquire);
        if next == 0 {
            return true;
        }
        let after = millis(now + PAUSE);
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        next <= millis(now)
            && self
                .next_ms
                .compare_exchange(next, after, success, failure)
                .is_ok()
    }
}

/// The result of a question, and its expiry.
#[derive(Clone)]
struct CachedAnswer {
    said: Result<IntrospectedToken, IssuerDown>,
    until: Duration,
}

/// Introspects opaque tokens of one issuer, with a single flight for each token.
pub(in crate::issuer) struct Introspector {
    name: String,
    settings: Introspection,
    authorization: Option<HeaderValue>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    metrics: IssuerMetrics,
    /// Questions in progress by client network.
    at_once: SharedSlots<IpAddr>,
    /// Questions in progress, and refused tokens.
    asked: Cache<Digest, Arc<OnceCell<CachedAnswer>>>,
    /// Whether the last question failed.
    has_failed: AtomicBool,
    pause: IssuerPause,
    /// Time of the last log line about a failure, in milliseconds of the clock plus one; 0: never.
    warned_ms: AtomicU64,
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
            at_once: SharedSlots::new(AT_ONCE_MAX, AT_ONCE_OF_NETWORK_MAX),
            asked: Cache::builder()
                .max_capacity(REFUSED_MAX)
                .time_to_live(REFUSED_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            has_failed: AtomicBool::new(false),
            pause: IssuerPause::default(),
            warned_ms: AtomicU64::new(0),
        }
    }

    /// Whether the last request failed.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Introspects a token. A refusal may come from the cache.
    pub(in crate::issuer) async fn ask(
        &self,
        text: &str,
        client: IpAddr,
    ) -> Result<IntrospectedToken, IssuerDown> {
        let digest = digest::digest(text);
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

    /// Caches a refusal of a token that the issuer calls active.
    pub(in crate::issuer) fn refuse(&self, text: &str, fault: &TokenFault) {
        let refused = CachedAnswer {
            said: Ok(IntrospectedToken::Refused(fault.clone())),
            until: self.clock.elapsed() + REFUSED_FOR,
        };
        let cell = Arc::new(OnceCell::new_with(Some(refused)));
        self.asked.insert(digest::digest(text), cell);
    }

    async fn question(&self, text: &str, network: IpAddr) -> CachedAnswer {
        let counts_for = |said, time| CachedAnswer {
            said,
            until: self.clock.elapsed() + time,
        };
        if !self.pause.lets_through(self.clock.elapsed()) {
            return counts_for(Err(IssuerDown), Duration::ZERO);
        }
        match self.fetch(text, network).await {
            Ok(said) => {
                self.note_answer(&said);
                // An active token is cached by the verifier, with everything that depends on it.
                let time = match &said {
                    IntrospectedToken::Active { .. } => Duration::ZERO,
                    IntrospectedToken::Refused(_) => REFUSED_FOR,
                };
                counts_for(Ok(said), time)
            }
            Err(IntrospectionError::Crowded) => {
                self.metrics.introspection(Introspected::Failed);
                self.warn(&IntrospectionError::Crowded);
                counts_for(Err(IssuerDown), Duration::ZERO)
            }
            Err(error) => {
                self.metrics.introspection(Introspected::Failed);
                self.note_failure(&error);
                counts_for(Err(IssuerDown), PAUSE)
            }
        }
    }

    async fn fetch(
        &self,
        text: &str,
        network: IpAddr,
    ) -> Result<IntrospectedToken, IntrospectionError> {
        let place = self.at_once.take(network, FETCHER.timeout).await;
        let Some(_place) = place else {
            return Err(IntrospectionError::Crowded);
        };
        let mut form = String::with_capacity(text.len() + 64);
        form.push_str("token_type_hint=access_token&token=");
        push_encoded(&mut form, text);
        let authorization = self.authorization.as_ref();
        let replied = FETCHER
            .post_form(&self.settings.endpoint, &self.trust, authorization, form)
            .await
            .map_err(IntrospectionError::Fetch)?;
        let answer = match replied {
            Replied::Answer(answer) => answer,
            Replied::Refusal { status, body } => return refusal(status, &body),
        };
        let claims = strict_json::object(&answer.body).ok_or(IntrospectionError::Garbage)?;
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(IntrospectedToken::Active {
                claims: Arc::new(claims),
                ttl: self.settings.ttl,
            }),
            Some(Value::Bool(false)) => Ok(IntrospectedToken::Refused(FaultKind::Inactive.into())),
            _ => Err(IntrospectionError::Garbage),
        }
    }

    fn note_answer(&self, said: &IntrospectedToken) {
        self.has_failed.store(false, Ordering::Release);
        self.pause.end();
        self.metrics.introspection(match said {
            IntrospectedToken::Active { .. } => Introspected::Active,
            IntrospectedToken::Refused(fault) if fault.kind == FaultKind::Inactive => {
                Introspected::Inactive
            }
            IntrospectedToken::Refused(_) => Introspected::Refused,
        });
    }

    /// Pauses all questions if the issuer is unreachable. Other errors may be caused by the token itself, so questions about
    /// other tokens continue, however many odd ones clients send.
    // INVARIANT: a question that reaches the issuer ends a pause, whatever its result is. Otherwise a caller who sends odd
    // tokens could prolong the pause.
    fn note_failure(&self, error: &IntrospectionError) {
        self.has_failed.store(true, Ordering::Release);
        match error.way() {
            IssuerReachability::Shut => self.pause.begin(self.clock.elapsed()),
            IssuerReachability::Open => self.pause.end(),
            IssuerReachability::Unknown => {}
        }
        self.warn(error);
    }

    fn warn(&self, error: &IntrospectionError) {
        let now = millis(self.clock.elapsed()).saturating_add(1);
        let last = self.warned_ms.load(Ordering::Relaxed);
        let is_due = last == 0 || last.saturating_add(millis(WARN_EVERY)) <= now;
        let exchanged =
            self.warned_ms
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && exchanged.is_ok() {
            tracing::warn!(
                issuer.name = self.name,
                place = self.settings.endpoint.authority(),
                error = error as &dyn std::error::Error,
                "introspection at an issuer fails: requests with its opaque tokens get 503"
            );
        }
    }
}

/// The meaning of a status between 400 and 499 (RFC 6749 section 5.2, RFC 7662 section 2.3). A refusal of the gateway as a
/// client says nothing about the token; any other is about the form of the token. The gateway sends no bearer token of its
/// own, so `invalid_token` (RFC 6750 section 3.1) is about the introspected token.
fn refusal(status: u16, body: &[u8]) -> Result<IntrospectedToken, IntrospectionError> {
    let error =
        strict_json::object(body).and_then(|body| Some(body.get("error")?.as_str()?.to_owned()));
    let is_clients = matches!(
        error.as_deref(),
        Some("invalid_client" | "unauthorized_client" | "access_denied")
    );
    let is_tokens = match status {
        400 | 403 | 413 | 414 | 422 | 431 => !is_clients,
        401 => error.as_deref() == Some("invalid_token"),
        _ => false,
    };
    if !is_tokens {
        return Err(IntrospectionError::Refusal(status));
    }
    let why = format!("it answered with status {status}");
    Ok(IntrospectedToken::Refused(FaultKind::NotAnswered.with(why)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// HTTP Basic credentials of a client, whose id and secret are form-encoded first (RFC 6749 section 2.3.1).
fn basic(client: &IssuerClient) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(String::with_capacity(8192));
    push_encoded(&mut pair, &client.id);
    pair.push(':');
    push_encoded(&mut pair, client.secret.0.expose());
    let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&field).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Appends a form-encoded value, in which everything but letters, digits and `-._~` is written as `%XX`.
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
            (401, r#"{"error":"invalid_token"}"#, true),
            (401, r#"{"error":"invalid_client"}"#, false),
            (401, "<html>invalid_token</html>", false),
            (404, "", false),
            (405, "", false),
            (429, "", false),
        ] {
            let said = refusal(status, body.as_bytes());
            assert_eq!(said.is_ok(), is_tokens, "{status} {body}");
        }
    }

    #[test]
    fn only_a_way_that_is_shut_pauses_all() {
        let io = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let cases = [
            (
                IntrospectionError::Fetch(FetchError::Connect(io())),
                IssuerReachability::Shut,
            ),
            (
                IntrospectionError::Fetch(FetchError::Tls(io())),
                IssuerReachability::Shut,
            ),
            (
                IntrospectionError::Fetch(FetchError::Resolve(io())),
                IssuerReachability::Shut,
            ),
            (
                IntrospectionError::Fetch(FetchError::NoAddress),
                IssuerReachability::Shut,
            ),
            (
                IntrospectionError::Fetch(FetchError::Status(500)),
                IssuerReachability::Open,
            ),
            (
                IntrospectionError::Fetch(FetchError::TooLarge(1)),
                IssuerReachability::Open,
            ),
            (IntrospectionError::Refusal(401), IssuerReachability::Open),
            (IntrospectionError::Garbage, IssuerReachability::Open),
            (
                IntrospectionError::Fetch(FetchError::TooSlow(PAUSE)),
                IssuerReachability::Unknown,
            ),
            (IntrospectionError::Crowded, IssuerReachability::Unknown),
        ];
        for (error, way) in cases {
            assert_eq!(error.way(), way, "{error}");
        }
    }

    #[test]
    fn in_a_pause_one_question_a_second_is_asked_until_one_arrives() {
        let pause = IssuerPause::default();
        let at = Duration::from_millis;
        assert!(pause.lets_through(at(0)) && pause.lets_through(at(0)));
        pause.begin(at(0));
        let cases = [
            (0, false),
            (999, false),
            (1000, true),
            (1000, false),
            (1999, false),
            (2500, true),
            (3499, false),
            (3500, true),
        ];
        for (now, passes) in cases {
            assert_eq!(pause.lets_through(at(now)), passes, "{now}");
        }
        // Another failure makes the next request wait for the full pause.
        pause.begin(at(3900));
        assert!(!pause.lets_through(at(4800)));
        pause.end();
        assert!(pause.lets_through(at(4800)) && pause.lets_through(at(4800)));
    }

    #[test]
    fn rfc6749_2_3_1_id_and_secret_are_encoded_before_they_are_joined() {
        let client = IssuerClient {
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
