//! The source of an issuer's keys.

use std::time::Duration;

use serde_json::Value;

use crate::config::KeySource;
use crate::crypto::jwks::KeySetError;
use crate::crypto::strict_json;
use crate::fetch::{FetchError, FetchResponse, Fetcher, Trust};
use crate::model::endpoint::Endpoint;
use crate::telemetry::issuer::FetchOutcome;

/// Time for which the URL from discovery is cached while keys can be fetched from it.
const DISCOVERED_FOR: Duration = Duration::from_hours(1);

/// The error of a fetch without keys. It contains nothing of the answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::issuer) enum SourceError {
    #[error("its key set URL {0}")]
    Keys(#[source] FetchError),
    #[error("its discovery URL {0}")]
    Discovery(#[source] FetchError),
    #[error("its discovery document is not a JSON object with a string jwks_uri")]
    NoDocument,
    #[error("its discovery document is for another issuer")]
    OtherIssuer,
    #[error("its discovery document has a jwks_uri on a host that is not allowed")]
    OtherHost,
    #[error("its discovery document has a jwks_uri that is not an allowed URL")]
    OtherUrl,
    #[error("the answer is not a usable key set")]
    Unusable(#[from] KeySetError),
}

impl SourceError {
    pub(in crate::issuer) const fn outcome(&self) -> FetchOutcome {
        match self {
            Self::Keys(_) | Self::Discovery(_) => FetchOutcome::Unreached,
            _ => FetchOutcome::Refused,
        }
    }
}

/// The source of an issuer's keys.
pub(in crate::issuer) enum KeySetSource {
    Url(Endpoint),
    Discovery {
        document: Endpoint,
        hosts: Vec<String>,
        issuer: String,
    },
}

/// The cached URL from discovery, and its expiry.
pub(in crate::issuer) type Discovered = Option<(Endpoint, Duration)>;

impl KeySetSource {
    /// Builds the source of an issuer; `None`: its keys are not fetched.
    pub(in crate::issuer) fn of(keys: &KeySource, issuer: &str) -> Option<Self> {
        match keys {
            KeySource::JwksUrl(endpoint) => Some(Self::Url(endpoint.clone())),
            KeySource::Discovery { document, hosts } => Some(Self::Discovery {
                document: document.clone(),
                hosts: hosts.clone(),
                issuer: issuer.to_owned(),
            }),
            KeySource::JwksFile(_) | KeySource::SecretJwkFile(_) | KeySource::Nowhere => None,
        }
    }

    /// The configured URL.
    pub(in crate::issuer) const fn place(&self) -> &Endpoint {
        match self {
            Self::Url(endpoint) => endpoint,
            Self::Discovery { document, .. } => document,
        }
    }

    /// Fetches the key set, without parsing it. `now`: time of the monotonic clock.
    pub(in crate::issuer) async fn fetch(
        &self,
        fetcher: &Fetcher,
        trust: &Trust,
        discovered: &mut Discovered,
        now: Duration,
    ) -> Result<FetchResponse, SourceError> {
        let known = discovered.take().filter(|(_, until)| now < *until);
        let (place, until) = match (self, known) {
            (Self::Url(endpoint), _) => (endpoint.clone(), now),
            (Self::Discovery { .. }, Some(known)) => known,
            (
                Self::Discovery {
                    document,
                    hosts,
                    issuer,
                },
                None,
            ) => {
                let answer = fetcher.get_from(document, trust).await;
                let answer = answer.map_err(SourceError::Discovery)?;
                let place = read_document(&answer.body, issuer, hosts)?;
                (place, now + DISCOVERED_FOR)
            }
        };
        let answer = fetcher.get_from(&place, trust).await;
        let answer = answer.map_err(SourceError::Keys)?;
        // Only the URL of a successful fetch is cached. After a failure discovery is repeated.
        *discovered = Some((place, until));
        Ok(answer)
    }
}

/// The URL of the keys in a document of OpenID Connect discovery (section 3), which must name this issuer (section 4.3) and
/// one of its hosts.
fn read_document(body: &[u8], issuer: &str, hosts: &[String]) -> Result<Endpoint, SourceError> {
    let document = strict_json::object(body).ok_or(SourceError::NoDocument)?;
    let text = |name| document.get(name).and_then(Value::as_str);
    if text("issuer") != Some(issuer) {
        return Err(SourceError::OtherIssuer);
    }
    let place = text("jwks_uri").ok_or(SourceError::NoDocument)?;
    let place = Endpoint::parse(place).ok_or(SourceError::OtherUrl)?;
    if hosts.contains(&place.host()) {
        Ok(place)
    } else {
        Err(SourceError::OtherHost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_counts_for_its_issuer_and_its_hosts_only() {
        let issuer = "https://id.test/realm";
        let hosts = ["id.test".to_owned(), "keys.test".to_owned()];
        let document = |issuer: &str, uri: &str| {
            format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}","more":[1]}}"#)
        };
        let good = [
            "https://id.test/keys",
            "https://ID.test:8443/keys?a=b",
            "https://keys.test/k",
        ];
        for uri in good {
            let body = document(issuer, uri);
            assert!(
                read_document(body.as_bytes(), issuer, &hosts).is_ok(),
                "{uri}"
            );
        }
        let cases = [
            (String::new(), "not a JSON object"),
            ("[]".to_owned(), "not a JSON object"),
            (format!(r#"{{"issuer":"{issuer}"}}"#), "not a JSON object"),
            (
                format!(r#"{{"issuer":"{issuer}","jwks_uri":7}}"#),
                "not a JSON object",
            ),
            (
                document("https://id.test/realm/", "https://id.test/keys"),
                "another issuer",
            ),
            (
                document("https://evil.test", "https://id.test/keys"),
                "another issuer",
            ),
            (
                r#"{"jwks_uri":"https://id.test/keys"}"#.to_owned(),
                "another issuer",
            ),
            (
                document(issuer, "https://evil.test/keys"),
                "a host that is not allowed",
            ),
            (
                document(issuer, "https://id.test.evil.test/keys"),
                "a host that is not allowed",
            ),
            (
                document(issuer, "http://127.0.0.1/keys"),
                "a host that is not allowed",
            ),
            (
                document(issuer, "http://id.test/keys"),
                "not an allowed URL",
            ),
            (
                document(issuer, "https://a@id.test/keys"),
                "not an allowed URL",
            ),
            (document(issuer, "file:///etc/keys"), "not an allowed URL"),
        ];
        for (body, said) in cases {
            let error = read_document(body.as_bytes(), issuer, &hosts).unwrap_err();
            assert!(error.to_string().contains(said), "{body}: {error}");
        }
    }
}
