//! The caller's credentials that an upstream receives.
//!
//! The gateway's credentials are recognised by their form, whatever field carries them: a field that a route leaves to
//! its application may still hold one, and no upstream may act with it unless the route says so.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName};
use serde_json::Value;

use crate::auth::extract::{CredentialFields, basic};
use crate::config::Config;
use crate::crypto::token::{is_api_key_form, is_own_form};
use crate::model::credential::{CredentialKind, CredentialKinds, CredentialRules};

/// The forms of the credentials that the gateway accepts.
#[derive(Debug)]
pub struct OwnTokenForms {
    carriers: CredentialFields,
    /// Claims `iss` of the gateway's own tokens and of those of configured issuers.
    issuers: Vec<String>,
}

impl OwnTokenForms {
    /// Creates the forms of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let foreign = config.issuers.iter().map(|issuer| issuer.issuer.clone());
        let own = std::iter::once(config.tokens.issuer.clone());
        Self {
            carriers: CredentialFields::new(config),
            issuers: own.chain(foreign).collect(),
        }
    }

    /// Creates the forms of a configuration without issuers.
    #[cfg(test)]
    pub(crate) fn without_issuers(api_key: HeaderName) -> Self {
        let tokens = Vec::new();
        Self {
            carriers: CredentialFields { api_key, tokens },
            issuers: Vec::new(),
        }
    }

    /// Returns the fields that carry credentials besides `Authorization`.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        std::iter::once(&self.carriers.api_key).chain(&self.carriers.tokens)
    }

    /// Whether all fields of this name are withheld from the upstream of a route with these rules, because one of them
    /// holds something that the upstream must not receive. Fields that carry no credential are never withheld here.
    #[must_use]
    pub fn withholds(
        &self,
        name: &HeaderName,
        headers: &HeaderMap,
        rules: CredentialRules,
    ) -> bool {
        let Some(carried) = self.carriers.kind(name) else {
            return false;
        };
        let mut values = headers.get_all(name).iter();
        values.any(|value| !self.passes(value.as_bytes(), carried, rules))
    }

    fn passes(&self, value: &[u8], carried: CredentialKind, rules: CredentialRules) -> bool {
        // No search is needed where nothing may pass, which is almost everywhere.
        if rules.pass == CredentialKinds::NONE && !rules.may_pass(carried) {
            return false;
        }
        let mut is_ours = false;
        let decoded = basic(value);
        for text in std::iter::once(value).chain(decoded.as_deref().map(Vec::as_slice)) {
            for piece in pieces(text) {
                match self.owned(piece) {
                    TokenOwner::No => {}
                    TokenOwner::As(kind) if rules.pass.contains(kind) => is_ours = true,
                    TokenOwner::As(_) | TokenOwner::Secret => return false,
                }
            }
        }
        is_ours || rules.may_pass(carried)
    }

    fn owned(&self, piece: &str) -> TokenOwner {
        if is_api_key_form(piece) {
            TokenOwner::As(CredentialKind::ApiKey)
        } else if is_own_form(piece) {
            TokenOwner::Secret
        } else if self.names_issuer(piece) {
            TokenOwner::As(CredentialKind::Bearer)
        } else {
            TokenOwner::No
        }
    }

    /// Whether a part of a text reads as the claims of an accepted issuer, whatever surrounds the token. Nothing of it
    /// is verified.
    fn names_issuer(&self, text: &str) -> bool {
        let is_ours = |part: &str| {
            let claims = URL_SAFE_NO_PAD.decode(part).ok();
            let claims = claims.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
            let named = claims
                .as_ref()
                .and_then(|claims| claims.get("iss")?.as_str());
            named.is_some_and(|named| self.issuers.iter().any(|issuer| issuer == named))
        };
        text.contains('.') && text.split('.').any(is_ours)
    }
}

/// The owner of a text.
enum TokenOwner {
    /// The gateway's, of a kind that a route may pass on.
    As(CredentialKind),
    /// The gateway's, and never passed on: a refresh token, a one-time token, the value of a cookie.
    Secret,
    No,
}

/// Returns the parts of a value that could be a credential: runs of the bytes that the gateway's credentials consist
/// of.
fn pieces(value: &[u8]) -> impl Iterator<Item = &str> {
    let is_own = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let runs = value
        .split(move |b| !is_own(b))
        .filter(|run| !run.is_empty());
    runs.filter_map(|run| std::str::from_utf8(run).ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;
    use serde_json::json;

    use super::*;
    use CredentialKind::{ApiKey, Bearer, Cookie};

    const EDGE: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");
    const KEY: HeaderName = HeaderName::from_static("x-api-key");

    fn forms() -> OwnTokenForms {
        OwnTokenForms {
            carriers: CredentialFields {
                api_key: KEY,
                tokens: vec![EDGE],
            },
            issuers: vec!["https://own".to_owned(), "https://corp".to_owned()],
        }
    }

    fn jwt(issuer: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({"alg": "ES256"}));
        format!(
            "{header}.{}.c2ln",
            part(&json!({"iss": issuer, "sub": "a"}))
        )
    }

    fn basic_field(text: &str) -> String {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        format!("Basic {encoded}")
    }

    fn passes(
        name: &HeaderName,
        value: &str,
        accept: &[CredentialKind],
        pass: &[CredentialKind],
    ) -> bool {
        let rules = CredentialRules {
            accept: accept.iter().copied().collect(),
            pass: pass.iter().copied().collect(),
        };
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(name.clone(), value)]);
        !forms().withholds(name, &headers, rules)
    }

    #[test]
    fn a_token_is_known_whatever_stands_around_it() {
        let own = jwt("https://own");
        for text in [format!("{own}."), format!(".{own}"), format!("x.{own}.y")] {
            let field = format!("Bearer {text}");
            assert!(!passes(&AUTHORIZATION, &field, &[Cookie], &[]), "{text}");
        }
    }

    #[test]
    fn what_is_ours_passes_by_its_kind_and_not_by_its_field() {
        let key = "dwk_abcd1234.xxxxxxxxxxxxxxxxxxxxxxxxxxx9cXdb";
        let imported = format!("-b_d1234.{}", "-x_9".repeat(8));
        let (own, corp) = (jwt("https://own"), jwt("https://corp"));
        let secrets = ["dwr_s.x", "dwo_x", "dws_s.x"];
        let carried = |text: &str| {
            [
                (AUTHORIZATION, format!("Bearer {text}")),
                (AUTHORIZATION, format!("bearer   {text}")),
                (AUTHORIZATION, format!("Token token=\"{text}\"")),
                (AUTHORIZATION, text.to_owned()),
                (AUTHORIZATION, format!("Bearer app, Bearer {text}")),
                (AUTHORIZATION, basic_field(&format!("anna:{text}"))),
                (AUTHORIZATION, basic_field(&format!("{text}:"))),
                (KEY, text.to_owned()),
                (EDGE, text.to_owned()),
            ]
        };
        let ours = [
            (key, ApiKey),
            (&imported, ApiKey),
            (&own, Bearer),
            (&corp, Bearer),
        ];
        for (text, kind) in ours {
            let other = if kind == ApiKey { Bearer } else { ApiKey };
            for (name, value) in carried(text) {
                // The form decides, both where all of these kinds are accepted and where only cookies are.
                for accept in [&[Bearer, ApiKey, Cookie][..], &[Cookie]] {
                    assert!(!passes(&name, &value, accept, &[]), "{name}: {value}");
                    assert!(
                        !passes(&name, &value, accept, &[other, Cookie]),
                        "{name}: {value}"
                    );
                    assert!(passes(&name, &value, accept, &[kind]), "{name}: {value}");
                }
            }
        }
        for text in secrets {
            for (name, value) in carried(text) {
                assert!(
                    !passes(&name, &value, &[Cookie], &[Bearer, ApiKey, Cookie]),
                    "{name}: {value}"
                );
            }
        }
    }

    #[test]
    fn what_is_the_applications_own_passes_where_its_kind_does_not_count() {
        let foreign = jwt("https://elsewhere");
        let authorization = [
            format!("Bearer {foreign}"),
            "Bearer opaque".to_owned(),
            basic_field("anna:secret"),
            "Digest username=\"anna\"".to_owned(),
            "Negotiate YII=".to_owned(),
            String::new(),
        ];
        for value in authorization {
            let name = &AUTHORIZATION;
            assert!(
                !passes(name, &value, &[Bearer, ApiKey, Cookie], &[]),
                "{value}"
            );
            assert!(
                !passes(name, &value, &[Bearer], &[ApiKey, Cookie]),
                "{value}"
            );
            assert!(passes(name, &value, &[ApiKey, Cookie], &[]), "{value}");
            assert!(passes(name, &value, &[Cookie], &[]), "{value}");
            assert!(
                passes(name, &value, &[Bearer, ApiKey], &[Bearer]),
                "{value}"
            );
        }
        assert!(passes(&KEY, "app-key", &[Bearer, Cookie], &[]));
        assert!(passes(&KEY, "app-key", &[ApiKey], &[ApiKey]));
        assert!(!passes(&KEY, "app-key", &[ApiKey], &[Bearer]));
        assert!(!passes(&EDGE, &foreign, &[Bearer], &[ApiKey]));
        assert!(passes(&EDGE, &foreign, &[Cookie], &[]));
        let x = HeaderName::from_static("x-other");
        assert!(
            passes(&x, "dwk_x", &[Bearer], &[]),
            "no field of credentials"
        );
    }

    #[test]
    fn one_value_of_ours_keeps_all_of_its_name_back() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer app"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer dwk_x"));
        let rules = CredentialRules {
            accept: CredentialKinds::NONE.with(Cookie),
            pass: CredentialKinds::NONE,
        };
        assert!(forms().withholds(&AUTHORIZATION, &headers, rules));
    }
}
