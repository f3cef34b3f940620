//! Tests of the fields that hold a credential, and of those that are ignored.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::auth::test_kit;
use crate::crypto::token::SessionCookie;
use crate::model::credential::CredentialKind::{ApiKey, Bearer, Cookie, Mtls};

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

fn carriers() -> CredentialFields {
    CredentialFields {
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
    // A password of another form is not a credential, and neither is a field that cannot be read.
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

/// The accepted kinds of a route, the header fields, and the extracted credential.
type Case<'a> = (
    &'a [CredentialKind],
    &'a [(&'a str, &'a str)],
    Result<Option<Credential<'a>>, DenyReason>,
);

fn check(cases: &[Case<'_>]) {
    for (accept, fields, wanted) in cases {
        let kinds = accept.iter().copied().collect();
        let map = headers(fields);
        assert_eq!(accepted(&map, kinds), *wanted, "{accept:?} {fields:?}");
    }
}

const CONFLICT: Result<Option<Credential<'_>>, DenyReason> = Err(DenyReason::CredentialConflict);
const EDGE: &str = "cf-access-jwt-assertion";
const OURS: (&str, &str) = ("cookie", "doorward_session=x");

#[test]
fn where_cookies_count_alone_all_else_is_the_applications_own() {
    let cookie = Ok(Some(Credential::Cookie(CookieKind::Own, "x")));
    let auth = |value| ("authorization", value);
    check(&[
        (&[Cookie], &[auth("Bearer a b"), OURS], cookie),
        (
            &[Cookie],
            &[auth("Bearer a"), auth("Basic b"), OURS],
            cookie,
        ),
        (
            &[Cookie],
            &[("x-api-key", "k"), ("x-api-key", "l"), (EDGE, ""), OURS],
            cookie,
        ),
        (&[Cookie], &[auth("Bearer dwk_k")], Ok(None)),
        (
            &[Mtls],
            &[auth("Bearer a"), ("x-api-key", "k"), OURS],
            Ok(None),
        ),
    ]);
}

#[test]
fn where_keys_count_other_tokens_are_the_applications_own() {
    let basic_key = basic_field("anna:dwk_k");
    let basic = ("authorization", basic_key.as_str());
    let auth = |value| ("authorization", value);
    let own = ("x-api-key", "k");
    check(&[
        (
            &[ApiKey],
            &[auth("Bearer app"), own],
            Ok(Some(Credential::ApiKey("k"))),
        ),
        (
            &[ApiKey],
            &[auth("Bearer"), own],
            Ok(Some(Credential::ApiKey("k"))),
        ),
        (
            &[ApiKey],
            &[auth("Bearer app"), auth("Bearer dwk_k")],
            Ok(Some(Credential::ApiKey("dwk_k"))),
        ),
        (&[ApiKey], &[auth("Bearer dwk_k"), own], CONFLICT),
        (&[ApiKey], &[basic, own], CONFLICT),
        (&[ApiKey], &[basic, auth("Bearer dwk_k")], CONFLICT),
        (
            &[ApiKey],
            &[(EDGE, "a"), own, OURS],
            Ok(Some(Credential::ApiKey("k"))),
        ),
        (&[ApiKey], &[OURS], Ok(None)),
    ]);
}

#[test]
fn where_tokens_count_keys_are_the_applications_own() {
    let basic_key = basic_field("anna:dwk_k");
    let auth = |value| ("authorization", value);
    let token = Ok(Some(Credential::Bearer("a")));
    check(&[
        (
            &[Bearer],
            &[auth("Bearer dwk_k"), ("x-api-key", "k")],
            Ok(None),
        ),
        (&[Bearer], &[auth(&basic_key)], Ok(None)),
        (&[Bearer], &[auth("Bearer a"), ("x-api-key", "k")], token),
        (&[Bearer], &[auth("Bearer a"), auth("Basic b")], CONFLICT),
    ]);
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

/// A credential is text that its field may hold and that occurs in the field; a cookie counts once, whatever other
/// cookies are sent. Each line is a field, such as `cookie: a=b`.
#[test]
fn fuzz_cookie() {
    doorward_fuzz::check("cookie", |bytes| {
        let map = test_kit::fields(bytes);
        let found = extracted(&map);
        let is_there = |text: &str| {
            let mut values = map.values().map(HeaderValue::as_bytes);
            text.is_empty()
                || values.any(|value| value.windows(text.len()).any(|it| it == text.as_bytes()))
        };
        let is_visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        match found {
            Ok(Some(Credential::Bearer(text) | Credential::Edge(_, text))) => {
                assert!(!text.is_empty() && is_visible(text) && is_there(text));
            }
            Ok(Some(Credential::ApiKey(text))) => {
                assert!(text.len() <= API_KEY_BYTES_MAX && is_there(text));
            }
            Ok(Some(Credential::BasicKey(key))) => assert!(is_api_key_form(key.text())),
            Ok(Some(Credential::Cookie(kind, text))) => {
                assert_eq!(kind, CookieKind::Own);
                assert!(text.len() < VALUE_BYTES_MAX && is_there(text));
                assert!(text.trim_ascii() == text && !text.contains([';', '\r', '\n', '\0']));
                if SessionCookie::parse(text).is_some() {
                    assert!(is_visible(text) && !text.contains([',', '"', '\\']));
                }
                let mut more = map.clone();
                more.append(header::COOKIE, HeaderValue::from_static("other=1"));
                assert_eq!(extracted(&more), found);
                more.append(
                    header::COOKIE,
                    HeaderValue::from_static("doorward_session=2"),
                );
                assert_eq!(extracted(&more), Ok(None), "nobody knows who set the other");
            }
            Ok(None) | Err(_) => {}
        }
        // A field that is not a credential has no effect.
        let mut more = map.clone();
        more.append("x-other", HeaderValue::from_static("Bearer a.b.c"));
        assert_eq!(extracted(&more), found);
    });
}
