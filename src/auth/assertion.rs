//! `X-Auth-Assertion`: a signed statement about the caller for an upstream, bound to one route, method and path.
//!
//! If an upstream can be reached by others than the gateway, plain identity headers prove nothing; an assertion does. A
//! copy of it is valid for the same method and path only, and for [`LIFE`] at most.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Serialize;

use crate::auth::caller::Caller;
use crate::auth::grant::{Grant, Stop, Unavailable};
use crate::auth::view::RequestView;
use crate::config::Config;
use crate::crypto::digest::sha256;
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;
use crate::model::identity::AuthnMethod;
use crate::model::route::Route;
use crate::services::Services;

/// Lifetime of an assertion.
pub const LIFE: Duration = Duration::from_secs(30);
/// The signature algorithm: a signature takes 18 µs, and the libraries of all verifiers support it.
pub const ALGORITHM: Algorithm = Algorithm::EdDSA;
/// The placeholder for an assertion when nothing is sent.
pub(crate) const UNSIGNED: HeaderValue = HeaderValue::from_static("(signed when it is sent)");

/// Time for which an assertion is reused, so that at least as much of its lifetime is left when the upstream reads it.
const REUSE: Duration = Duration::from_secs(15);
/// Capacity of the cache, in bytes of assertions and their keys: some ten thousand entries.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Overhead of an entry beyond its bytes.
const ENTRY_BYTES: usize = 350;

/// Signs assertions, and caches them by their content.
pub(crate) struct Assertions {
    config: Arc<Config>,
    services: Arc<Services>,
    /// Keyed by the whole content, so that a change is never answered from the cache.
    made: Cache<Arc<[u8]>, CachedAssertion>,
}

#[derive(Clone)]
struct CachedAssertion {
    value: HeaderValue,
    /// Time from which it is signed again.
    until: Timestamp,
}

/// The claims, named as in RFC 7519, RFC 9449 (`htm`) and RFC 8693 (`scope`) where these define one.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    iat: i64,
    exp: i64,
    route: &'a str,
    htm: &'a str,
    path_s256: String,
    auth_method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    roles: Vec<&'a str>,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
}

impl Assertions {
    pub(crate) fn new(config: Arc<Config>, services: Arc<Services>) -> Self {
        let weight = |key: &Arc<[u8]>, made: &CachedAssertion| {
            u32::try_from(key.len() + made.value.len() + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self {
            config,
            services,
            made: Cache::builder()
                .max_capacity(CACHE_BYTES)
                .weigher(weight)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// Returns the assertion about this request for the upstream of a grant.
    ///
    /// # Errors
    /// [`Unavailable::Signing`] if it cannot be signed: without it the upstream would refuse the request, or worse.
    pub(crate) fn about(&self, grant: &Grant, view: &RequestView<'_>) -> Result<HeaderValue, Stop> {
        let (caller, roles) = grant.caller_and_roles();
        let content = AssertionContent {
            route: grant.route(),
            caller: caller.map(Arc::as_ref),
            roles,
            view,
        };
        let now = self.services.clock.now();
        let key = content.key();
        let cached = self.made.get(key.as_slice());
        if let Some(made) = cached.filter(|made| now < made.until) {
            return Ok(made.value);
        }
        let value = self.sign(&content, now).ok_or(Unavailable::Signing)?;
        let made = CachedAssertion {
            value: value.clone(),
            until: now.plus(REUSE),
        };
        self.made.insert(key.into(), made);
        Ok(value)
    }

    fn sign(&self, content: &AssertionContent<'_>, now: Timestamp) -> Option<HeaderValue> {
        let caller = content.caller;
        let token = self.services.assertion_keys.sign(&Claims {
            iss: &self.config.tokens.issuer,
            aud: &self.config.upstreams.get(content.route.upstream)?.name,
            sub: caller.map(|caller| caller.identity.subject()),
            iat: now.secs(),
            exp: now.plus(LIFE).secs(),
            route: &content.route.text,
            htm: content.view.method.as_str(),
            path_s256: URL_SAFE_NO_PAD.encode(sha256(content.view.path.as_str().as_bytes())),
            auth_method: content.auth_method(),
            username: text(caller.and_then(|caller| caller.username.as_ref())),
            roles: text(content.roles)
                .into_iter()
                .flat_map(|all| all.split(' '))
                .collect(),
            scope: text(caller.and_then(|caller| caller.scopes.as_ref())).unwrap_or_default(),
            key_id: text(caller.and_then(|caller| caller.key_id.as_ref())),
        });
        let token = token.ok()?;
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(token.expose().as_bytes())).ok()
    }
}

/// The content of an assertion, except for the time.
struct AssertionContent<'a> {
    route: &'a Route,
    caller: Option<&'a Caller>,
    roles: Option<&'a HeaderValue>,
    view: &'a RequestView<'a>,
}

impl AssertionContent<'_> {
    fn auth_method(&self) -> &'static str {
        let method = self.caller.map(|caller| caller.identity.method);
        method.unwrap_or(AuthnMethod::Anonymous).as_str()
    }

    /// Returns the cache key: the parts contain no NUL, so different contents differ.
    fn key(&self) -> Vec<u8> {
        let caller = self.caller;
        let parts: [&[u8]; 10] = [
            &self.route.upstream.to_ne_bytes(),
            self.route.text.as_bytes(),
            self.view.method.as_str().as_bytes(),
            self.view.path.as_str().as_bytes(),
            caller.map_or(&[], |caller| caller.identity.subject().as_bytes()),
            self.auth_method().as_bytes(),
            bytes(caller.and_then(|caller| caller.username.as_ref())),
            bytes(self.roles),
            bytes(caller.and_then(|caller| caller.scopes.as_ref())),
            bytes(caller.and_then(|caller| caller.key_id.as_ref())),
        ];
        let length: usize = parts.iter().map(|part| part.len() + 1).sum();
        let mut key = Vec::with_capacity(length);
        for part in parts {
            key.extend_from_slice(part);
            key.push(0);
        }
        key
    }
}

fn bytes(value: Option<&HeaderValue>) -> &[u8] {
    value.map_or(&[], HeaderValue::as_bytes)
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, Method};

    use super::*;
    use crate::config::EnvOverlay;
    use crate::model::clock::{Clock, ManualClock};
    use crate::route::normalize::canonical;

    const CONFIG: &str = r#"
        [[upstream]]
        name = "lists"
        addresses = ["127.0.0.1:9001"]
        [[upstream]]
        name = "notes"
        addresses = ["127.0.0.1:9002"]
        [[route]]
        path = "/**"
        upstream = "lists"
        require = "optional"
        [[route]]
        path = "/notes/**"
        upstream = "notes"
        require = "optional"
    "#;

    #[test]
    fn the_same_is_told_again_for_half_its_life_and_nothing_else_is() {
        let (config, _) = Config::parse(CONFIG, &EnvOverlay::default()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let same_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let services = crate::services::test_kit::services(&config, same_clock);
        let config = Arc::new(config);
        let assertions = Assertions::new(Arc::clone(&config), Arc::new(services));
        let about = |route: usize, method: &Method, path: &str, roles: Option<&'static str>| {
            let route = Arc::new(config.routes[route].clone());
            let grant = Grant::new(route, None, roles.map(HeaderValue::from_static));
            let view = RequestView {
                method,
                host: "door",
                scheme: "http",
                authority: "door",
                path: &canonical(path).unwrap().path,
                client: IpAddr::V4(Ipv4Addr::LOCALHOST),
                headers: &HeaderMap::new(),
            };
            assertions.about(&grant, &view).unwrap()
        };
        let first = about(0, &Method::GET, "/a", Some("user"));
        let others = [
            about(0, &Method::GET, "/b", Some("user")),
            about(0, &Method::HEAD, "/a", Some("user")),
            about(0, &Method::GET, "/a", Some("user admin")),
            about(0, &Method::GET, "/a", None),
            about(1, &Method::GET, "/a", Some("user")),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, first, "{index}");
        }
        clock.advance(REUSE.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(about(0, &Method::GET, "/a", Some("user")), first);
        clock.advance(Duration::from_millis(1));
        assert_ne!(about(0, &Method::GET, "/a", Some("user")), first);
    }
}
