//! `[[issuer]]`: foreign issuers whose tokens are accepted.

use std::time::Duration;

use http::HeaderName;

use crate::config::document::{ConfigNode, Value};
use crate::config::forms::{
    or_none, raw_text, seconds, some_texts, text, text_or_table, texts, visible,
};
use crate::config::headers;
use crate::config::issuer_prefixes::{PrefixKeys, PrefixRegistry, prefix};
use crate::config::issuer_source::{
    self, Introspection, KeySource, Remote, RemoteKeys, SourceKeys,
};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::config::secrets::SecretSources;
use crate::config::tokens::CLAIM;
use crate::model::access::Role;
use crate::model::algorithm::Algorithm;
use crate::model::claim_path::ClaimPath;
use crate::model::route::IdentityHeaderNames;

/// A foreign issuer whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in logs and metrics.
    pub name: String,
    /// The exact claim `iss`.
    pub issuer: String,
    /// Accepted audiences, one of which must be in the token.
    pub audience: Vec<String>,
    /// Claims that may hold the audience; the first that is present is used.
    pub audience_claims: Vec<ClaimPath>,
    /// Claims that must have these values.
    pub required_claims: Vec<(ClaimPath, ClaimValue)>,
    /// Accepted headers `typ` beside none, `JWT` and `at+jwt`, in lower case and without `application/`.
    pub typ: Vec<String>,
    /// The source of its keys.
    pub keys: KeySource,
    /// The settings by which they are fetched.
    pub remote: Remote,
    /// Introspection of its opaque tokens. At most one issuer has it.
    pub introspection: Option<Introspection>,
    /// Accepted algorithms; empty: those that its keys declare.
    pub algorithms: Vec<Algorithm>,
    /// Accepted clock difference.
    pub leeway: Duration,
    /// Claim that names the subject.
    pub subject_claim: ClaimPath,
    /// Prefix of each subject.
    pub subject_prefix: String,
    /// Claim that holds the username, if any.
    pub username_claim: Option<ClaimPath>,
    /// Prefix of each username.
    pub username_prefix: String,
    /// Claim that holds roles, if any.
    pub roles_claim: Option<ClaimPath>,
    /// Prefix of each role.
    pub roles_prefix: String,
    /// Reserved roles that its claims may assert: whole names, or prefixes followed by `*`.
    pub roles_allow: Vec<String>,
    /// Claim that holds scopes, if any.
    pub scopes_claim: Option<ClaimPath>,
    /// The only field that carries its tokens, without a scheme; `None`: they are bearer tokens in `Authorization`.
    pub header: Option<HeaderName>,
}

/// The value that a claim must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// This text, byte for byte.
    Text(String),
    /// This whole number.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
}

const TOKEN_HEADER: &str = "Authorization, or a header name such as Cf-Access-Jwt-Assertion: letters, digits and -, not one \
     that HTTP, proxies, API keys or identity headers use";
const NAME: &str = "a name: a-z or 0-9, then a-z, 0-9, - and _, at most 64";
const CLAIM_NAME: &str = "the name of a claim; dots lead into objects, quotes enclose a name that contains dots: resource_access.\"my.app\".roles";
const PREFIX: &str = "at most 64 visible ASCII characters without comma";

const CLAIM_OR_NONE: &str = "the name of a claim; dots reach into objects, quotes hold a name with dots: resource_access.\"my.app\".roles; \
     or \"\" for none";
const TYP: &str =
    "the typ of a header, such as okta-internal-at+jwt: 1 to 128 visible ASCII characters";
const REQUIRED_CLAIMS: &str = "a table of claims and what each must be equal to, such as { token_use = \"access\" }: a text, a whole \
     number, or true or false";
const ALGORITHMS: &str = "one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA; HS256 and its like only with \
     `secret_jwk_file`";
const ROLES_ALLOW: &str = "a role, or a prefix of roles followed by *";

keys! { pub(super) IssuerKeys = "issuer[]", and [SourceKeys, RemoteKeys, PrefixKeys]; {
    /// Its name in logs and metrics: a-z, 0-9, - and _.
    name: String = text(NAME, name);
    /// Its exact claim iss, which neither another issuer nor the gateway has.
    issuer: String = text(CLAIM, visible::<512>);
    /// Accepted audiences; the audience of a token must include one of them.
    audience: Vec<String> = some_texts(CLAIM, visible::<512>);
    /// Claims that may hold the audience; only the first that is present counts. Also "client_id" or "azp", for issuers whose
    /// access tokens have no aud.
    audience_claims: Vec<ClaimPath> = some_texts(CLAIM_NAME, ClaimPath::parse);
    /// Claims and the values that they must have (texts, whole numbers or flags), such as { token_use = "access" }.
    required_claims: Value = text_or_table(REQUIRED_CLAIMS, None);
    /// Accepted header types (typ) of its access tokens beside none, JWT and at+jwt, such as "okta-internal-at+jwt".
    typ: Vec<String> = texts(TYP, |text: &str| visible::<128>(text).map(|typ| media_type(&typ))) => Vec::new();
    /// Accepted algorithms. Default: those that its keys declare; HS256 and the like only with secret_jwk_file. An RSA key
    /// that declares none accepts those of RS* and PS* that are listed here, or else RS256.
    algorithms: Vec<Algorithm> = some_texts(ALGORITHMS, Algorithm::parse);
    /// Accepted clock difference in seconds, at most 300.
    leeway_s: Duration = seconds(0..=300) => Duration::from_secs(30);
    /// Claim that names the subject. In all names of claims, dots reach into objects, and quotes enclose a name with dots:
    /// 'resource_access."my.app".roles'. A claim with the whole name takes precedence, so "https://example.com/roles" needs
    /// no quotes.
    subject_claim: ClaimPath = text(CLAIM_NAME, ClaimPath::parse);
    /// Claim that holds the username; "": none, and no X-Auth-Username.
    username_claim: Option<ClaimPath> = or_none(text(CLAIM_OR_NONE, ClaimPath::parse)) => None;
    /// Claim that holds roles: an array of texts, a text separated by spaces or commas, or an object whose names are roles
    /// (unless their values are false or null); "": none. A value that cannot be a role is omitted, and `doorward explain`
    /// names it.
    roles_claim: Option<ClaimPath> = or_none(text(CLAIM_OR_NONE, ClaimPath::parse)) => ClaimPath::parse("groups");
    /// Prefix of each role of this issuer.
    roles_prefix: String = text(PREFIX, prefix) => String::new();
    /// Reserved roles (admin, user, pwchange, <resource>-<id>-<level>, in any case) that its claims may assert: "admin",
    /// "list-*".
    roles_allow: Vec<String> = texts(ROLES_ALLOW, allowed) => Vec::new();
    /// Claim that holds scopes, in the same forms; "": none. No issuer can assert auth:*.
    scopes_claim: Option<ClaimPath> = or_none(text(CLAIM_OR_NONE, ClaimPath::parse)) => ClaimPath::parse("scope");
    /// Field that carries its tokens. A name other than Authorization is a field that an edge in front sets, such as
    /// Cf-Access-Jwt-Assertion or X-Goog-IAP-JWT-Assertion, with the token alone as its value: this issuer's tokens are
    /// accepted in that field only, and no other tokens are. A request with an API key or a bearer token as well is refused.
    header: String = raw_text(TOKEN_HEADER);
}}

/// Reads all issuers. `own` is the issuer of the gateway's own tokens.
pub(super) fn read(
    readers: Vec<SectionReader<'_>>,
    own: &str,
    api_key_header: &HeaderName,
    sources: SecretSources<'_>,
) -> Vec<Issuer> {
    let mut seen: Vec<(Option<String>, Option<String>)> = Vec::new();
    let mut prefixes = PrefixRegistry::default();
    let mut introspects = false;
    let mut issuers = Vec::new();
    for mut reader in readers {
        let name = reader.required(&IssuerKeys::name);
        let issuer = reader.required(&IssuerKeys::issuer);
        let is_other =
            |known: &Option<String>, this: &Option<String>| this.is_none() || known != this;
        if !seen.iter().all(|(known, _)| is_other(known, &name)) {
            reader.add(&IssuerKeys::name, "a name that no other issuer has");
        }
        let is_own = issuer.as_deref() == Some(own);
        if is_own || !seen.iter().all(|(_, known)| is_other(known, &issuer)) {
            reader.add(
                &IssuerKeys::issuer,
                "an issuer that neither another [[issuer]] nor [tokens] has",
            );
        }
        seen.push((name.clone(), issuer.clone()));
        if introspects && reader.has(&SourceKeys::introspection_url) {
            reader.add(
                &SourceKeys::introspection_url,
                "no value, since another issuer has one: an opaque token does not name its issuer",
            );
        }
        introspects |= reader.has(&SourceKeys::introspection_url);
        let header = header(&mut reader, api_key_header);
        issuers.extend(one(reader, (name, issuer, header), &mut prefixes, sources));
    }
    issuers
}

fn one(
    mut reader: SectionReader<'_>,
    (name, issuer, header): (Option<String>, Option<String>, Option<HeaderName>),
    prefixes: &mut PrefixRegistry,
    sources: SecretSources<'_>,
) -> Option<Issuer> {
    let audience = reader.required(&IssuerKeys::audience);
    let audience_claims = reader.take(&IssuerKeys::audience_claims);
    let required_claims = required_claims(&mut reader);
    let typ = reader.get(&IssuerKeys::typ);
    let keys = issuer_source::key_source(&mut reader, issuer.as_deref());
    let remote = issuer_source::remote(&mut reader);
    let introspection = issuer_source::introspection(&mut reader, name.as_deref(), sources);
    let algorithms = algorithms(&mut reader, keys.as_ref());
    let leeway = reader.get(&IssuerKeys::leeway_s);
    let subject_claim = reader.take(&IssuerKeys::subject_claim);
    let username_claim = reader.get(&IssuerKeys::username_claim);
    let roles_claim = reader.get(&IssuerKeys::roles_claim);
    let scopes_claim = reader.get(&IssuerKeys::scopes_claim);
    let names = prefixes.read(&mut reader, name.as_deref(), username_claim.is_some());
    let roles_prefix = reader.get(&IssuerKeys::roles_prefix);
    let roles_allow = roles_allow(&mut reader);
    reader.finish();
    Some(Issuer {
        name: name?,
        issuer: issuer?,
        audience: audience?,
        audience_claims: audience_claims.or_else(|| Some(vec![ClaimPath::parse("aud")?]))?,
        required_claims,
        typ,
        keys: keys?,
        remote,
        introspection,
        algorithms,
        leeway,
        subject_claim: subject_claim.or_else(|| ClaimPath::parse("sub"))?,
        subject_prefix: names.subject,
        username_claim,
        username_prefix: names.username,
        roles_claim,
        roles_prefix,
        roles_allow,
        scopes_claim,
        header,
    })
}

fn required_claims(reader: &mut SectionReader<'_>) -> Vec<(ClaimPath, ClaimValue)> {
    let key = &IssuerKeys::required_claims;
    let table = match reader.take(key) {
        None => return Vec::new(),
        Some(Value::Table(table)) => table,
        Some(_) => {
            reader.add(key, REQUIRED_CLAIMS);
            return Vec::new();
        }
    };
    let read = |(name, node): (String, ConfigNode)| {
        let value = match node.value {
            Value::Text(text) => ClaimValue::Text(text),
            Value::Integer(number) => ClaimValue::Integer(number),
            Value::Flag(flag) => ClaimValue::Flag(flag),
            Value::List(_) | Value::Table(_) | Value::Other => return None,
        };
        Some((ClaimPath::parse(&name)?, value))
    };
    let claims: Option<Vec<_>> = table.entries.into_iter().map(read).collect();
    if claims.is_none() {
        reader.add(key, REQUIRED_CLAIMS);
    }
    claims.unwrap_or_default()
}

/// Normalises a header `typ` for comparison: in lower case, and without the `application/` that may be omitted
/// (RFC 7515 section 4.1.9).
#[must_use]
pub fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ).to_owned()
}

/// Reads the field that carries its tokens.
fn header(reader: &mut SectionReader<'_>, api_key_header: &HeaderName) -> Option<HeaderName> {
    let identity = IdentityHeaderNames::default();
    let is_free = |name: &HeaderName| name != api_key_header && !identity.all().contains(&name);
    reader
        .text(&IssuerKeys::header, |text| {
            if text.eq_ignore_ascii_case("authorization") {
                return Some(None);
            }
            headers::name(text).filter(is_free).map(Some)
        })
        .flatten()
}

fn algorithms(reader: &mut SectionReader<'_>, keys: Option<&KeySource>) -> Vec<Algorithm> {
    let fits = |algorithm: Algorithm| match keys {
        Some(KeySource::SecretJwkFile(_)) => algorithm.is_hmac(),
        Some(_) => !algorithm.is_hmac(),
        None => true,
    };
    let expected = match keys {
        Some(KeySource::SecretJwkFile(_)) => "one of HS256, HS384, HS512, since the key is secret",
        _ => ALGORITHMS,
    };
    let form = some_texts(expected, |text: &str| {
        Algorithm::parse(text).filter(|algorithm| fits(*algorithm))
    });
    let algorithms = reader.take_as(&IssuerKeys::algorithms, &form);
    algorithms.unwrap_or_default()
}

fn roles_allow(reader: &mut SectionReader<'_>) -> Vec<String> {
    let allow = reader.get(&IssuerKeys::roles_allow);
    if allow.iter().any(|entry| entry == "*") {
        reader.warn(
            &IssuerKeys::roles_allow,
            "the reserved roles that this issuer may assign: * means all of them, including admin",
        );
    }
    allow
}

fn allowed(text: &str) -> Option<String> {
    let beginning = text.strip_suffix('*').unwrap_or(text);
    let fits = text == "*" || Role::parse(beginning).is_ok();
    (fits && !beginning.contains('*')).then(|| text.to_owned())
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
