//! From header fields to a credential, unverified.

use http::{HeaderMap, HeaderName, header};

use crate::auth::cookie::{CookieKind, CookieName, VALUE_BYTES_MAX};
use crate::model::deny::DenyReason;

/// Longest API key that is looked at, in bytes.
const API_KEY_BYTES_MAX: usize = 96;

/// What a caller presents to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A bearer token.
    Bearer(&'a str),
    /// An API key.
    ApiKey(&'a str),
    /// The value of a session cookie.
    Cookie(CookieKind, &'a str),
}

/// Finds the one credential among the header fields; `None`: none came.
///
/// An `Authorization` of another scheme than Bearer is not for us and counts as none. Nothing but these two fields and the
/// one cookie, in their exact names, can carry a credential. Beside a bearer token or an API key the cookie is ignored; a
/// cookie that comes twice counts as none, since nobody can tell who has set the other.
///
/// `cookie`: which cookie counts here, if any.
///
/// # Errors
/// [`DenyReason::CredentialConflict`] for two at once or one twice; [`DenyReason::BearerInvalid`],
/// [`DenyReason::ApiKeyInvalid`] and [`DenyReason::SessionEnded`] for a field that cannot hold one.
pub fn extract<'a>(
    headers: &'a HeaderMap,
    api_key_header: &HeaderName,
    cookie: Option<CookieName>,
) -> Result<Option<Credential<'a>>, DenyReason> {
    let authorization = only(headers, &header::AUTHORIZATION)?;
    let api_key = only(headers, api_key_header)?;
    let bearer = match authorization {
        Some(value) => bearer(value.as_bytes())?,
        None => None,
    };
    match (bearer, api_key) {
        (Some(_), Some(_)) => Err(DenyReason::CredentialConflict),
        (Some(token), None) => Ok(Some(Credential::Bearer(token))),
        (None, Some(key)) => match key.to_str() {
            Ok(text) if text.len() <= API_KEY_BYTES_MAX => Ok(Some(Credential::ApiKey(text))),
            _ => Err(DenyReason::ApiKeyInvalid),
        },
        (None, None) => match cookie.and_then(|cookie| only_cookie(headers, cookie)) {
            Some(Credential::Cookie(_, text)) if VALUE_BYTES_MAX <= text.len() => {
                Err(DenyReason::SessionEnded)
            }
            found => Ok(found),
        },
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

fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a http::HeaderValue>, DenyReason> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        Err(DenyReason::CredentialConflict)
    } else {
        Ok(first)
    }
}

/// The token of a Bearer field (RFC 6750 section 2.1, scheme without case as RFC 9110 section 11.1 has it); `None` for
/// another scheme.
fn bearer(value: &[u8]) -> Result<Option<&str>, DenyReason> {
    let (scheme, rest) = match value.iter().position(|b| *b == b' ') {
        Some(end) => value.split_at_checked(end).unwrap_or((value, &[])),
        None => (value, [].as_slice()),
    };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token = std::str::from_utf8(rest)
        .map_err(|_| DenyReason::BearerInvalid)?
        .trim_start_matches(' ');
    // Every byte is looked at, so that no branch is taken on any: a token is long, and most hold.
    let is_visible = token
        .bytes()
        .fold(true, |all, b| all & b.is_ascii_graphic());
    let is_token = !token.is_empty() && is_visible;
    if is_token {
        Ok(Some(token))
    } else {
        Err(DenyReason::BearerInvalid)
    }
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

    fn extracted(map: &HeaderMap) -> Result<Option<Credential<'_>>, DenyReason> {
        let cookie = Some(("doorward_session", CookieKind::Own));
        extract(map, &HeaderName::from_static("x-api-key"), cookie)
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
            extract(&map, &HeaderName::from_static("x-api-key"), None),
            Ok(None)
        );
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
