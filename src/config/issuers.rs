//! `[[issuer]]`: foreign issuers whose tokens are accepted.

use std::time::Duration;

use http::HeaderName;

use crate::config::headers;
use crate::config::issuer_source::{self, Introspection, KeySource, Remote};
use crate::config::reader::{Reader, is_visible};
use crate::config::secrets::Surroundings;
use crate::config::tokens::{CLAIM, claim};
use crate::model::access::Role;
use crate::model::algorithm::Algorithm;
use crate::model::id::UserId;
use crate::model::route::IdentityHeaderNames;

/// A foreign issuer whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in logs and metrics.
    pub name: String,
    /// Claim `iss`, exactly.
    pub issuer: String,
    /// One of these must be in claim `aud`.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// How they are fetched, if they are.
    pub remote: Remote,
    /// Where its opaque tokens are asked about; one issuer at most has this.
    pub introspection: Option<Introspection>,
    /// Allowed algorithms; empty: those its keys declare.
    pub algorithms: Vec<Algorithm>,
    /// Clock difference allowed. Default 30 s, at most 300.
    pub leeway: Duration,
    /// Claim that names the subject.
    pub subject_claim: String,
    /// Put before each subject and username.
    pub subject_prefix: String,
    /// Claim that names the user for people; empty: none.
    pub username_claim: String,
    /// Claim that holds roles; dots reach into objects; empty: none.
    pub roles_claim: String,
    /// Put before each role.
    pub roles_prefix: String,
    /// Reserved roles that its claims may give all the same: exact, or a beginning with `*` at its end.
    pub roles_allow: Vec<String>,
    /// Claim that holds scopes; empty: none.
    pub scopes_claim: String,
    /// The field that carries its tokens bare, and no other does; `None`: `Authorization`, as bearer tokens.
    pub header: Option<HeaderName>,
}

const TOKEN_HEADER: &str = "Authorization, or a header name such as Cf-Access-Jwt-Assertion: letters, digits and -, not one \
     that HTTP, proxies, API keys or identity headers use";
const NAME: &str = "a name: a-z or 0-9, then a-z, 0-9, - and _, at most 64";

/// Reads all issuers; `own` is the issuer of the gateway's own tokens.
pub(super) fn read(
    readers: Vec<Reader<'_>>,
    own: &str,
    api_key_header: &HeaderName,
    around: Surroundings<'_>,
) -> Vec<Issuer> {
    let mut seen: Vec<(Option<String>, Option<String>)> = Vec::new();
    let mut without_prefix = 0;
    let mut introspects = false;
    let mut issuers = Vec::new();
    for mut reader in readers {
        let name = reader.required("name", NAME, name);
        let issuer = reader.required("issuer", CLAIM, claim);
        let is_other =
            |known: &Option<String>, this: &Option<String>| this.is_none() || known != this;
        if !seen.iter().all(|(known, _)| is_other(known, &name)) {
            reader.add("name", "a name that no other issuer has");
        }
        let is_own = issuer.as_deref() == Some(own);
        if is_own || !seen.iter().all(|(_, known)| is_other(known, &issuer)) {
            reader.add(
                "issuer",
                "an issuer that neither another [[issuer]] nor [tokens] has",
            );
        }
        seen.push((name.clone(), issuer.clone()));
        without_prefix += usize::from(!reader.has("subject_prefix"));
        if 1 < without_prefix && !reader.has("subject_prefix") {
            reader.add(
                "subject_prefix",
                "a prefix, since another issuer has none either: their subjects could be taken for each other \
                 (\"\" says that this is wanted)",
            );
        }
        if introspects && reader.has("introspection_url") {
            reader.add(
                "introspection_url",
                "to find it left out, since another issuer has one: an opaque token does not say whose it is",
            );
        }
        introspects |= reader.has("introspection_url");
        let header = header(&mut reader, api_key_header);
        issuers.extend(one(reader, name, issuer, header, around));
    }
    issuers
}

fn one(
    mut reader: Reader<'_>,
    name: Option<String>,
    issuer: Option<String>,
    header: Option<HeaderName>,
    around: Surroundings<'_>,
) -> Option<Issuer> {
    let audience = reader.required_texts("audience", CLAIM, claim);
    let keys = issuer_source::key_source(&mut reader, issuer.as_deref());
    let remote = issuer_source::remote(&mut reader);
    let introspection = issuer_source::introspection(&mut reader, name.as_deref(), around);
    let algorithms = algorithms(&mut reader, keys.as_ref());
    let leeway = reader.seconds("leeway_s", 0..=300);
    let subject_claim = reader.text("subject_claim", "the name of a claim", |text| {
        claim_name(text).filter(|name| !name.is_empty())
    });
    let subject_prefix = reader.text(
        "subject_prefix",
        "at most 64 visible ASCII characters without comma, and not a beginning of our own uids, u-",
        |text| prefix(text).filter(|prefix| !speaks_for_ours(prefix)),
    );
    let mut optional_claim = |key: &str, default: &str| {
        reader
            .text(key, "the name of a claim, or \"\" for none", claim_name)
            .unwrap_or_else(|| default.to_owned())
    };
    let username_claim = optional_claim("username_claim", "");
    let roles_claim = optional_claim("roles_claim", "groups");
    let scopes_claim = optional_claim("scopes_claim", "scope");
    let roles_prefix = reader.text(
        "roles_prefix",
        "at most 64 visible ASCII characters without comma",
        prefix,
    );
    let roles_allow = roles_allow(&mut reader);
    reader.finish();
    Some(Issuer {
        name: name?,
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        remote,
        introspection,
        algorithms,
        leeway: leeway.unwrap_or(Duration::from_secs(30)),
        subject_claim: subject_claim.unwrap_or_else(|| "sub".to_owned()),
        subject_prefix: subject_prefix.unwrap_or_default(),
        username_claim,
        roles_claim,
        roles_prefix: roles_prefix.unwrap_or_default(),
        roles_allow,
        scopes_claim,
        header,
    })
}

/// Where its tokens come: a field of their own, or `Authorization`.
fn header(reader: &mut Reader<'_>, api_key_header: &HeaderName) -> Option<HeaderName> {
    let identity = IdentityHeaderNames::default();
    let is_free = |name: &HeaderName| name != api_key_header && !identity.all().contains(&name);
    reader
        .text("header", TOKEN_HEADER, |text| {
            if text.eq_ignore_ascii_case("authorization") {
                return Some(None);
            }
            headers::name(text).filter(is_free).map(Some)
        })
        .flatten()
}

fn algorithms(reader: &mut Reader<'_>, keys: Option<&KeySource>) -> Vec<Algorithm> {
    let fits = |algorithm: Algorithm| match keys {
        Some(KeySource::SecretJwkFile(_)) => algorithm.is_hmac(),
        Some(_) => !algorithm.is_hmac(),
        None => true,
    };
    let expected = match keys {
        Some(KeySource::SecretJwkFile(_)) => "one of HS256, HS384, HS512, since the key is secret",
        _ => {
            "one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA; HS256 and its like only with \
             `secret_jwk_file`"
        }
    };
    reader
        .some_texts("algorithms", expected, |text| {
            Algorithm::parse(text).filter(|algorithm| fits(*algorithm))
        })
        .unwrap_or_default()
}

fn roles_allow(reader: &mut Reader<'_>) -> Vec<String> {
    let allow = reader
        .texts(
            "roles_allow",
            "a role, or the beginning of roles and a * at its end",
            |text| {
                let beginning = text.strip_suffix('*').unwrap_or(text);
                let fits = text == "*" || Role::parse(beginning).is_ok();
                (fits && !beginning.contains('*')).then(|| text.to_owned())
            },
        )
        .unwrap_or_default();
    if allow.iter().any(|entry| entry == "*") {
        reader.warn(
            "roles_allow",
            "the reserved roles that this issuer may give: * is all of them, admin too",
        );
    }
    allow
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    fits.then(|| text.to_owned())
}

fn claim_name(text: &str) -> Option<String> {
    let fits = text.len() <= 128 && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn prefix(text: &str) -> Option<String> {
    let fits = text.is_empty() || (is_visible(text, 64) && !text.contains(','));
    fits.then(|| text.to_owned())
}

/// Whether a subject behind this prefix could read as a uid of ours: no issuer speaks for our people.
fn speaks_for_ours(prefix: &str) -> bool {
    !prefix.is_empty() && (prefix.starts_with(UserId::PREFIX) || UserId::PREFIX.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_makes_a_subject_ours() {
        for bad in ["u", "u-", "u-corp-"] {
            assert!(speaks_for_ours(bad), "{bad}");
        }
        for good in ["", "corp:", "user-", "x-u-"] {
            assert!(!speaks_for_ours(good), "{good}");
        }
    }

    #[test]
    fn names_and_prefixes_keep_their_rules() {
        for bad in ["", "Corp", "-a", "a b", "a.b"] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert!(name("corp-1_x").is_some());
        for bad in ["a,b", "a b", &"x".repeat(65)] {
            assert_eq!(prefix(bad), None, "{bad}");
        }
    }
}
