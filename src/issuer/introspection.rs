//! Opaque tokens: the issuer is asked what they are worth (RFC 7662).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde_json::{Map, Value};
use tokio::sync::{OnceCell, Semaphore};
use zeroize::Zeroizing;

use crate::config::{Client, Introspection};
use crate::crypto::{strict_json, token};
use crate::fetch::{FetchError, Fetcher, Trust};
use crate::issuer::IssuerDown;
use crate::model::account::Digest;
use crate::model::clock::Clock;
use crate::telemetry::issuer::{Introspected, IssuerMetrics};

/// A question may take this long; the request that needs it waits.
const FETCHER: Fetcher = Fetcher {
    timeout: Duration::from_secs(2),
    body_bytes_max: 64 * 1024,
};
/// Questions at once: what is slow must not pile up.
const AT_ONCE_MAX: usize = 32;
/// How long a token that is not active is not asked about again.
const INACTIVE_FOR: Duration = Duration::from_secs(10);
/// Tokens that are remembered as not active.
const INACTIVE_MAX: u64 = 100_000;
/// After a question failed nothing is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// An issuer that fails is told of no more often than this.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// What an issuer says of a token; `None`: it is not active.
type Said = Option<Arc<Map<String, Value>>>;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the introspection endpoint {0}")]
    Fetch(#[source] FetchError),
    #[error("what came is no answer to an introspection")]
    Garbage,
    #[error("there are too many questions at once")]
    Crowded,
}

/// Asks one issuer about opaque tokens, one question for each token at a time.
pub(in crate::issuer) struct Introspector {
    name: String,
    settings: Introspection,
    authorization: Option<HeaderValue>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    metrics: IssuerMetrics,
    at_once: Semaphore,
    /// Questions under way, and those whose answer was that the token is not active.
    asked: Cache<Digest, Arc<OnceCell<Result<Said, IssuerDown>>>>,
    /// When a question failed last, and when that was told, in milliseconds of the clock and one more; 0: not since the
    /// last that did not.
    failed_ms: AtomicU64,
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
            at_once: Semaphore::new(AT_ONCE_MAX),
            asked: Cache::builder()
                .max_capacity(INACTIVE_MAX)
                .time_to_live(INACTIVE_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            failed_ms: AtomicU64::new(0),
            told_ms: AtomicU64::new(0),
        }
    }

    /// How long an answer that a token is active counts at most.
    pub(in crate::issuer) const fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// Whether the last question failed.
    pub(in crate::issuer) fn is_degraded(&self) -> bool {
        self.failed_ms.load(Ordering::Acquire) != 0
    }

    /// What the issuer says of a token now, or said within the last seconds if that was that it is not active.
    pub(in crate::issuer) async fn ask(&self, text: &str) -> Result<Said, IssuerDown> {
        let digest = token::digest(text);
        let cell = self.asked.get_with_by_ref(&digest, Arc::default);
        let said = cell.get_or_init(|| self.question(text)).await.clone();
        if !matches!(said, Ok(None)) {
            // An active one is remembered by who decides, with all that hangs on it; a failure by none.
            self.asked.invalidate(&digest);
        }
        said
    }

    async fn question(&self, text: &str) -> Result<Said, IssuerDown> {
        if self.has_just_failed() {
            return Err(IssuerDown);
        }
        match self.fetch(text).await {
            Ok(said) => {
                self.failed_ms.store(0, Ordering::Release);
                let result = if said.is_some() {
                    Introspected::Active
                } else {
                    Introspected::Inactive
                };
                self.metrics.introspection(result);
                Ok(said)
            }
            Err(error) => {
                self.metrics.introspection(Introspected::Failed);
                self.note_failure(&error);
                Err(IssuerDown)
            }
        }
    }

    async fn fetch(&self, text: &str) -> Result<Said, AskError> {
        let turn = tokio::time::timeout(FETCHER.timeout, self.at_once.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(AskError::Crowded);
        };
        let mut form = String::with_capacity(text.len() + 64);
        form.push_str("token_type_hint=access_token&token=");
        push_encoded(&mut form, text);
        let authorization = self.authorization.as_ref();
        let answer = FETCHER
            .post_form(&self.settings.endpoint, &self.trust, authorization, form)
            .await
            .map_err(AskError::Fetch)?;
        let claims = strict_json::object(&answer.body).ok_or(AskError::Garbage)?;
        match claims.get("active") {
            Some(Value::Bool(true)) => Ok(Some(Arc::new(claims))),
            Some(Value::Bool(false)) => Ok(None),
            _ => Err(AskError::Garbage),
        }
    }

    fn has_just_failed(&self) -> bool {
        let failed = self.failed_ms.load(Ordering::Acquire);
        failed != 0 && self.now_ms() < failed.saturating_add(millis(PAUSE))
    }

    fn note_failure(&self, error: &AskError) {
        let now = self.now_ms();
        self.failed_ms.store(now, Ordering::Release);
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
                "an issuer cannot be asked about its tokens: they get 503"
            );
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.clock.elapsed()).saturating_add(1)
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
