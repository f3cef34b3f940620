//! From header fields to a credential, unverified.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use crate::auth::cookie::{CookieKind, CookieName, VALUE_BYTES_MAX};
use crate::config::Config;
use crate::crypto::token::is_api_key_form;
use crate::model::credential::{CredentialKind, CredentialKinds};
use crate::model::deny::DenyReason;

/// Longest API key that is looked at, in bytes: the longest that there are has 45.
const API_KEY_BYTES_MAX: usize = 64;

/// What clients write as Basic credentials: some pad them, some do not.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What a caller presents to be recognised. Its `Debug` shows the kind alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A bearer token in `Authorization`.
    Bearer(&'a str),
    /// A token in the field of its issuer, by the place of that field in [`Carriers`]: an edge in front attaches it to
    /// whatever a browser sends.
    Edge(usize, &'a str),
    /// An API key in its own field or as a bearer token.
    ApiKey(&'a str),
    /// An API key as the password of HTTP Basic, which browsers remember and attach.
    BasicKey(BasicKey),
    /// The value of a session cookie.
    Cookie(CookieKind, &'a str),
}

/// An API key that was taken out of Basic credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BasicKey {
    bytes: [u8; API_KEY_BYTES_MAX],
    length: usize,
}

impl BasicKey {
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; API_KEY_BYTES_MAX];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            bytes,
            length: text.len(),
        })
    }

    pub(crate) fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        // It was made of a text.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl Credential<'_> {
    /// Whether browsers, or an edge in front of them, attach it to whatever a page makes them send.
    #[must_use]
    pub const fn is_ambient(&self) -> bool {
        matches!(self, Self::Edge(..) | Self::BasicKey(_) | Self::Cookie(..))
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(..)",
            Self::Edge(..) => "Edge(..)",
            Self::ApiKey(_) => "ApiKey(..)",
            Self::BasicKey(_) => "BasicKey(..)",
            Self::Cookie(..) => "Cookie(..)",
        })
    }
}

/// The header fields that carry credentials beside `Authorization` and the cookie.
#[derive(Clone, Debug)]
pub struct Carriers {
    /// API keys.
    pub(crate) api_key: HeaderName,
    /// Tokens of issuers that have a field of their own, each field once.
    pub(crate) tokens: Vec<HeaderName>,
}

impl Carriers {
    /// Those of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let headers = config.issuers.iter().filter_map(|it| it.header.clone());
        let mut tokens: Vec<_> = headers.collect();
        tokens.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        tokens.dedup();
        Self {
            api_key: config.account.api_key_header.clone(),
            tokens,
        }
    }

    /// The kind of credential that a field of this name may carry; `None`: it carries none. An `Authorization` may carry
    /// an API key too.
    pub(crate) fn kind(&self, name: &HeaderName) -> Option<CredentialKind> {
        if *name == self.api_key {
            Some(CredentialKind::ApiKey)
        } else if *name == header::AUTHORIZATION || self.tokens.contains(name) {
            Some(CredentialKind::Bearer)
        } else {
            None
        }
    }
}

/// Finds the one credential among the header fields; `None`: none came.
///
/// Only kinds that `accept` has are looked at: a field that could hold another kind only is the application's own. An API
/// key is known by its form wherever a bearer token or a Basic password may be; an `Authorization` of any other scheme is
/// not for us and counts as none. Nothing but these fields and the one cookie, in their exact names, can carry a
/// credential. Beside a bearer token or an API key the cookie is ignored; a cookie that comes twice counts as none, since
/// nobody can tell who has set the other.
///
/// `cookie`: which cookie counts here, if any.
///
/// # Errors
/// [`DenyReason::CredentialConflict`] for two at once or one twice; [`DenyReason::BearerInvalid`],
/// [`DenyReason::ApiKeyInvalid`] and [`DenyReason::SessionEnded`] for a field that cannot hold one.
pub fn extract<'a>(
    headers: &'a HeaderMap,
    carriers: &Carriers,
    accept: CredentialKinds,
    cookie: Option<CookieName>,
) -> Result<Option<Credential<'a>>, DenyReason> {
    let takes_tokens = accept.contains(CredentialKind::Bearer);
    let takes_keys = accept.contains(CredentialKind::ApiKey);
    // Of two fields the one that counts here might not be the one that counts behind.
    if takes_tokens {
        only(headers, &header::AUTHORIZATION)?;
    }
    let api_key = match takes_keys {
        true => only(headers, &carriers.api_key)?,
        false => None,
    };
    let mut found = None;
    if takes_tokens || takes_keys {
        for field in headers.get_all(header::AUTHORIZATION) {
            if let Some(credential) = in_authorization(field, accept)? {
                add(&mut found, credential)?;
            }
        }
    }
    if let Some(field) = api_key {
        let text = field.to_str().map_err(|_| DenyReason::ApiKeyInvalid)?;
        add(&mut found, key(text)?)?;
    }
    if takes_tokens {
        for (place, name) in carriers.tokens.iter().enumerate() {
            if let Some(field) = only(headers, name)? {
                add(
                    &mut found,
                    Credential::Edge(place, visible(field.as_bytes())?),
                )?;
            }
        }
    }
    if found.is_some() || !accept.contains(CredentialKind::Cookie) {
        return Ok(found);
    }
    match cookie.and_then(|cookie| only_cookie(headers, cookie)) {
        Some(Credential::Cookie(_, text)) if VALUE_BYTES_MAX <= text.len() => {
            Err(DenyReason::SessionEnded)
        }
        found => Ok(found),
    }
}

/// The field of this name, which may come once.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, DenyReason> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(DenyReason::CredentialConflict),
    }
}

fn add<'a>(found: &mut Option<Credential<'a>>, another: Credential<'a>) -> Result<(), DenyReason> {
    match found.replace(another) {
        None => Ok(()),
        Some(_) => Err(DenyReason::CredentialConflict),
    }
}

/// The credential of one `Authorization` field; `None`: it is for somebody else.
fn in_authorization(
    field: &HeaderValue,
    accept: CredentialKinds,
) -> Result<Option<Credential<'_>>, DenyReason> {
    let takes_keys = accept.contains(CredentialKind::ApiKey);
    let (scheme, rest) = scheme(field.as_bytes());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return match visible(rest) {
            Ok(token) if is_api_key_form(token) => takes_keys.then(|| key(token)).transpose(),
            Ok(token) if accept.contains(CredentialKind::Bearer) => {
                Ok(Some(Credential::Bearer(token)))
            }
            Err(reason) if accept.contains(CredentialKind::Bearer) => Err(reason),
            _ => Ok(None),
        };
    }
    if !takes_keys {
        return Ok(None);
    }
    let Some(text) = basic(field.as_bytes()) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&text).unwrap_or_default();
    let password = text.split_once(':').map(|(_, password)| password);
    let key = password.filter(|password| is_api_key_form(password));
    key.map(|key| {
        let key = BasicKey::new(key).ok_or(DenyReason::ApiKeyInvalid)?;
        Ok(Credential::BasicKey(key))
    })
    .transpose()
}

/// What a Basic field holds, decoded: `user:password` (RFC 7617); `None`: it is of another scheme, or cannot be decoded.
pub(crate) fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, rest) = scheme(value);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    BASIC.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

/// The scheme of an `Authorization` field, and what follows it (RFC 9110 section 11.1).
fn scheme(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|b| *b == b' ') {
        Some(end) => value.split_at_checked(end).unwrap_or((value, &[])),
        None => (value, &[]),
    }
}

fn key(text: &str) -> Result<Credential<'_>, DenyReason> {
    if text.len() <= API_KEY_BYTES_MAX {
        Ok(Credential::ApiKey(text))
    } else {
        Err(DenyReason::ApiKeyInvalid)
    }
}

/// A token as a field holds it: visible ASCII, behind any number of spaces (RFC 6750 section 2.1).
fn visible(value: &[u8]) -> Result<&str, DenyReason> {
    let token = std::str::from_utf8(value)
        .map_err(|_| DenyReason::BearerInvalid)?
        .trim_start_matches(' ');
    // Every byte is looked at, so that no branch is taken on any: a token is long, and most hold.
    let is_visible = token
        .bytes()
        .fold(true, |all, b| all & b.is_ascii_graphic());
    if !token.is_empty() && is_visible {
        Ok(token)
    } else {
        Err(DenyReason::BearerInvalid)
    }
}

/// The cookie of that name (RFC 6265 section 5.4; in HTTP/2 it may come in several fields).
fn only_cookie(headers: &HeaderMap, (name, kind): CookieName) -> Option<Credential<'_>> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let mut values = pairs.filter_map(|pair| {
        let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.trim_ascii_start().strip_prefix(b"=")
    });
    let first = values.next()?;
    if values.next().is_some() {
        return None;
    }
    // What is no text is no value of ours, but it is there.
    let text = std::str::from_utf8(first.trim_ascii()).unwrap_or_default();
    Some(Credential::Cookie(kind, text))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    fn carriers() -> Carriers {
        Carriers {
            api_key: HeaderName::from_static("x-api-key"),
            tokens: vec![HeaderName::from_static("cf-access-jwt-assertion")],
        }
    }

    fn extracted(map: &HeaderMap) -> Result<Option<Credential<'_>>, DenyReason> {
        accepted(map, CredentialKinds::ALL)
    }

    fn accepted(
        map: &HeaderMap,
        accept: CredentialKinds,
    ) -> Result<Option<Credential<'_>>, DenyReason> {
        let cookie = Some(("doorward_session", CookieKind::Own));
        extract(map, &carriers(), accept, cookie)
    }

    fn basic_field(text: &str) -> String {
        format!("Basic {}", BASIC.encode(text))
    }

    #[test]
    fn one_credential_is_found() {
        let cases = [
            (
                &[("authorization", "Bearer a.b.c")][..],
                Some(Credential::Bearer("a.b.c")),
            ),
            (
                &[("authorization", "bEARER  a.b.c")],
                Some(Credential::Bearer("a.b.c")),
            ),
            (&[("x-api-key", "dwk_1")], Some(Credential::ApiKey("dwk_1"))),
            (
                &[("authorization", "Basic dTpw"), ("x-api-key", "dwk_1")],
                Some(Credential::ApiKey("dwk_1")),
            ),
            (&[("authorization", "Basic dTpw")], None),
            (&[("authorization", "a.b.c")], None),
            (&[("authorization", "Bearer: a.b.c")], None),
            (
                &[
                    ("authorization_", "Bearer a.b.c"),
                    ("x_api_key", "dwk_1"),
                    ("proxy-authorization", "Bearer a"),
                ],
                None,
            ),
            (&[], None),
        ];
        for (fields, credential) in cases {
            assert_eq!(extracted(&headers(fields)), Ok(credential), "{fields:?}");
        }
    }

    #[test]
    fn two_credentials_and_broken_ones_are_refused() {
        let long = "x".repeat(97);
        let cases = [
            (
                &[("authorization", "Bearer a"), ("x-api-key", "k")][..],
                DenyReason::CredentialConflict,
            ),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
                DenyReason::CredentialConflict,
            ),
            (
                &[("authorization", "Basic a"), ("authorization", "Bearer a")],
                DenyReason::CredentialConflict,
            ),
            (
                &[("x-api-key", "k"), ("x-api-key", "k")],
                DenyReason::CredentialConflict,
            ),
            (&[("authorization", "Bearer")], DenyReason::BearerInvalid),
            (&[("authorization", "Bearer  ")], DenyReason::BearerInvalid),
            (
                &[("authorization", "Bearer a b")],
                DenyReason::BearerInvalid,
            ),
            (
                &[("authorization", "Bearer \u{e9}")],
                DenyReason::BearerInvalid,
            ),
            (&[("x-api-key", &long)], DenyReason::ApiKeyInvalid),
        ];
        for (fields, reason) in cases {
            assert_eq!(extracted(&headers(fields)), Err(reason), "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_counts_once_and_alone() {
        let own = |text| Some(Credential::Cookie(CookieKind::Own, text));
        let cases = [
            (&[("cookie", "doorward_session=x")][..], own("x")),
            (&[("cookie", "a=b; doorward_session=x; c=d")], own("x")),
            (
                &[("cookie", "a=b"), ("cookie", "doorward_session=x")],
                own("x"),
            ),
            (&[("cookie", "a=b;doorward_session = x ;")], own("x")),
            (&[("cookie", "doorward_session=")], own("")),
            (&[("cookie", "doorward_session=x=y")], own("x=y")),
            (
                &[("cookie", "doorward_session=x; doorward_session=x")],
                None,
            ),
            (
                &[
                    ("cookie", "doorward_session=x"),
                    ("cookie", "doorward_session=y"),
                ],
                None,
            ),
            (&[("cookie", "doorward_session=x; doorward_session=")], None),
            (
                &[(
                    "cookie",
                    "Doorward_session=x; xdoorward_session=y; doorward_session2=z",
                )],
                None,
            ),
            (
                &[("cookie", "__Host-doorward=x; __Secure-doorward=y")],
                None,
            ),
            (&[("cookie", "a=doorward_session=x")], None),
            (&[("cookie", "doorward_session")], None),
            (&[("cookie2", "doorward_session=x")], None),
            (
                &[
                    ("cookie", "doorward_session=x"),
                    ("authorization", "Bearer t"),
                ],
                Some(Credential::Bearer("t")),
            ),
            (
                &[("cookie", "doorward_session=x"), ("x-api-key", "k")],
                Some(Credential::ApiKey("k")),
            ),
            (
                &[
                    ("cookie", "doorward_session=x"),
                    ("authorization", "Basic dTpw"),
                ],
                own("x"),
            ),
        ];
        for (fields, credential) in cases {
            assert_eq!(extracted(&headers(fields)), Ok(credential), "{fields:?}");
        }
        let long = format!("doorward_session={}", "x".repeat(200));
        let refused = extracted(&headers(&[("cookie", &long)])).map(|_| ());
        assert_eq!(refused, Err(DenyReason::SessionEnded));
        let map = headers(&[("cookie", "doorward_session=x")]);
        assert_eq!(
            extract(&map, &carriers(), CredentialKinds::ALL, None),
            Ok(None)
        );
    }

    #[test]
    fn an_api_key_is_known_by_its_form_in_bearer_and_basic() {
        let key = "dwk_abcd1234.xxxxxxxxxxxxxxxxxxxxxxxxxxx9cXdb";
        let imported = format!("-b_d1234.{}", "-x_9".repeat(8));
        for key in [key, &imported, "dwk_mistyped"] {
            let field = format!("bearer {key}");
            let map = headers(&[("authorization", &field)]);
            assert_eq!(extracted(&map), Ok(Some(Credential::ApiKey(key))), "{key}");
            for user in ["", "abcd1234", "anna", "\u{e4}"] {
                let field = basic_field(&format!("{user}:{key}"));
                let unpadded = field.trim_end_matches('=');
                for field in [
                    field.as_str(),
                    unpadded,
                    &field.replacen("Basic", "bASIC", 1),
                ] {
                    let map = headers(&[("authorization", field)]);
                    let wanted = BasicKey::new(key).map(Credential::BasicKey);
                    assert_eq!(extracted(&map), Ok(wanted), "{user} {key}");
                }
            }
        }
        let long = format!("anna:dwk_{}", "x".repeat(API_KEY_BYTES_MAX));
        let map = [("authorization", basic_field(&long))];
        let map = headers(&map.each_ref().map(|(name, value)| (*name, value.as_str())));
        assert_eq!(extracted(&map), Err(DenyReason::ApiKeyInvalid));
        // A password of another form is nobody's credential here, and neither is what cannot be read.
        for other in [
            basic_field("anna:secret"),
            basic_field("dwk_abcd1234.x"),
            basic_field("dwk_abcd1234.x:"),
            basic_field("anna:x:dwk_abcd1234.x"),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            "Basic dwk_abcd1234.x".to_owned(),
            "Basic \u{e9}".to_owned(),
        ] {
            let map = headers(&[("authorization", &other)]);
            assert_eq!(extracted(&map), Ok(None), "{other}");
        }
    }

    #[test]
    fn a_field_of_an_issuer_carries_a_bare_token() {
        let edge = "cf-access-jwt-assertion";
        let conflict = Err(DenyReason::CredentialConflict);
        let cases = [
            (
                &[(edge, "a.b.c")][..],
                Ok(Some(Credential::Edge(0, "a.b.c"))),
            ),
            (
                &[(edge, "a.b.c"), ("cookie", "doorward_session=x")],
                Ok(Some(Credential::Edge(0, "a.b.c"))),
            ),
            (&[(edge, "")], Err(DenyReason::BearerInvalid)),
            (&[(edge, "Bearer a.b.c")], Err(DenyReason::BearerInvalid)),
            (&[(edge, "a"), (edge, "a")], conflict),
            (&[(edge, "a"), ("authorization", "Bearer b")], conflict),
            (&[(edge, "a"), ("authorization", "Bearer dwk_b")], conflict),
            (&[(edge, "a"), ("x-api-key", "dwk_b")], conflict),
        ];
        for (fields, wanted) in cases {
            assert_eq!(extracted(&headers(fields)), wanted, "{fields:?}");
        }
    }

    #[test]
    fn what_a_route_does_not_accept_is_neither_looked_at_nor_a_conflict() {
        use CredentialKind::{ApiKey, Bearer, Cookie, Mtls};
        let basic_key = basic_field("anna:dwk_k");
        let key = |text| Ok(Some(Credential::ApiKey(text)));
        let cookie = Ok(Some(Credential::Cookie(CookieKind::Own, "x")));
        let conflict = Err(DenyReason::CredentialConflict);
        let edge = "cf-access-jwt-assertion";
        let ours = ("cookie", "doorward_session=x");
        type Case<'a> = (
            &'a [CredentialKind],
            &'a [(&'a str, &'a str)],
            Result<Option<Credential<'a>>, DenyReason>,
        );
        let cases: &[Case<'_>] = &[
            (&[Cookie], &[("authorization", "Bearer a b"), ours], cookie),
            (
                &[Cookie],
                &[
                    ("authorization", "Bearer a"),
                    ("authorization", "Basic b"),
                    ours,
                ],
                cookie,
            ),
            (
                &[Cookie],
                &[("x-api-key", "k"), ("x-api-key", "l"), (edge, ""), ours],
                cookie,
            ),
            (&[Cookie], &[("authorization", "Bearer dwk_k")], Ok(None)),
            (
                &[ApiKey],
                &[("authorization", "Bearer app"), ("x-api-key", "k")],
                key("k"),
            ),
            (
                &[ApiKey],
                &[("authorization", "Bearer"), ("x-api-key", "k")],
                key("k"),
            ),
            (
                &[ApiKey],
                &[
                    ("authorization", "Bearer app"),
                    ("authorization", "Bearer dwk_k"),
                ],
                key("dwk_k"),
            ),
            (
                &[ApiKey],
                &[("authorization", "Bearer dwk_k"), ("x-api-key", "k")],
                conflict,
            ),
            (
                &[ApiKey],
                &[("authorization", &basic_key), ("x-api-key", "k")],
                conflict,
            ),
            (
                &[ApiKey],
                &[
                    ("authorization", &basic_key),
                    ("authorization", "Bearer dwk_k"),
                ],
                conflict,
            ),
            (
                &[ApiKey],
                &[(edge, "a"), ("x-api-key", "k"), ours],
                key("k"),
            ),
            (&[ApiKey], &[ours], Ok(None)),
            (
                &[Bearer],
                &[("authorization", "Bearer dwk_k"), ("x-api-key", "k")],
                Ok(None),
            ),
            (&[Bearer], &[("authorization", &basic_key)], Ok(None)),
            (
                &[Bearer],
                &[("authorization", "Bearer a"), ("x-api-key", "k")],
                Ok(Some(Credential::Bearer("a"))),
            ),
            (
                &[Bearer],
                &[("authorization", "Bearer a"), ("authorization", "Basic b")],
                conflict,
            ),
            (
                &[Mtls],
                &[("authorization", "Bearer a"), ("x-api-key", "k"), ours],
                Ok(None),
            ),
        ];
        for (accept, fields, wanted) in cases {
            let accept_set = accept.iter().copied().collect();
            let map = headers(fields);
            assert_eq!(accepted(&map, accept_set), *wanted, "{accept:?} {fields:?}");
        }
    }

    #[test]
    fn only_what_is_attached_unasked_is_ambient() {
        let key = BasicKey::new("dwk_k").unwrap();
        for ambient in [
            Credential::Edge(0, "a"),
            Credential::BasicKey(key),
            Credential::Cookie(CookieKind::Domain, "a"),
        ] {
            assert!(ambient.is_ambient(), "{ambient:?}");
        }
        assert!(!Credential::Bearer("a").is_ambient());
        assert!(!Credential::ApiKey("a").is_ambient());
    }

    proptest! {
        #[test]
        fn any_fields_give_an_answer(values in proptest::collection::vec("[ -~]{0,40}", 0..3), keys in proptest::collection::vec("[ -~]{0,120}", 0..3)) {
            let mut map = HeaderMap::new();
            for value in &values {
                map.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            for key in &keys {
                map.append(HeaderName::from_static("x-api-key"), HeaderValue::from_str(key).unwrap());
            }
            let found = extracted(&map);
            if 1 < values.len() || 1 < keys.len() {
                prop_assert_eq!(found, Err(DenyReason::CredentialConflict));
            }
        }
    }
}
