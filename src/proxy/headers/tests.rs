//! Tests of header fields as sent by a caller and as received by an upstream.

use proptest::prelude::*;

use super::*;
use crate::auth::cookie::CookieNames;
use crate::auth::passing::OwnTokenForms;
use crate::model::credential::{CredentialKinds, CredentialRules};
use crate::model::forwarding::ForwardingField;
use crate::model::route::{IdentityHeaderNames, Route};

fn set() -> StripSet {
    let cookies = CookieNames {
        is_secure: true,
        has_domain: true,
    };
    let forms = OwnTokenForms::without_issuers(HeaderName::from_static("x-api-key"));
    StripSet::new([], forms, cookies)
}

struct Sent<'a> {
    fields: &'a [(&'a str, &'a str)],
    target: &'a str,
    /// The host that was decided about.
    host: &'a str,
    believed: &'a [ForwardingField],
    pass_credentials: bool,
}

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            fields: &[],
            target: "/x?y=1",
            host: "a.b:80",
            believed: &[],
            pass_credentials: false,
        }
    }
}

impl Sent<'_> {
    fn edit(&self) -> Parts {
        self.try_edit(false).unwrap()
    }

    fn try_edit(&self, has_body: bool) -> Result<Parts, DenyReason> {
        let mut head = RequestHeader::build("GET", self.target.as_bytes(), None).unwrap();
        head.insert_header("Host", "a.b:80").unwrap();
        for (name, value) in self.fields {
            head.append_header((*name).to_owned(), HeaderValue::from_str(value).unwrap())
                .unwrap();
        }
        let names = IdentityHeaderNames::default();
        let strip = set();
        let pass = [CredentialKinds::NONE, CredentialKinds::ALL];
        let route = Route {
            credentials: CredentialRules {
                pass: pass[usize::from(self.pass_credentials)],
                ..CredentialRules::default()
            },
            pass_headers: vec!["x-auth-token".parse().unwrap()],
            ..Route::bare()
        };
        let forwarding = Forwarding {
            strip: &strip,
            route: &route,
            target: &Target::read(self.host.as_bytes(), b"/x?y=1").unwrap(),
            scheme: "https",
            request_id: RequestId::from_number(7),
            peer: &HeaderValue::from_static("192.0.2.1"),
            believed: self.believed.iter().copied().collect(),
        };
        let identity = [
            (&names.uid, HeaderValue::from_static("u-ours0000")),
            (&names.method, HeaderValue::from_static("jwt")),
        ];
        to_upstream(&head, &forwarding, identity, has_body)
    }

    fn values(&self, name: &str) -> Vec<String> {
        let head = self.edit();
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }
}

#[test]
fn forwarding_facts_are_replaced_unless_a_trusted_proxy_tells_them() {
    let fields = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "c.d"),
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Prefix", "/app"),
        ("X-Real-IP", "1.1.1.1"),
        ("X-Forwarded-User", "root"),
    ];
    let kept = ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip"];
    let stranger = Sent {
        fields: &fields,
        ..Sent::default()
    };
    assert_eq!(stranger.values("x-forwarded-for"), ["192.0.2.1"]);
    for name in kept.into_iter().chain(["x-forwarded-user"]) {
        assert!(stranger.values(name).is_empty(), "{name}");
    }
    let proxy = Sent {
        believed: &ForwardingField::ALL,
        ..stranger
    };
    let hops = ["6.6.6.6, 1.1.1.1, 192.0.2.1"];
    assert_eq!(proxy.values("x-forwarded-for"), hops);
    assert_eq!(
        kept.map(|name| proxy.values(name).concat()),
        ["8443", "/app", "1.1.1.1"]
    );
    assert!(proxy.values("x-forwarded-user").is_empty());
    // Each field is believed independently.
    for field in ForwardingField::ALL {
        let one = Sent {
            fields: &fields,
            believed: &[field],
            ..Sent::default()
        };
        for name in kept {
            assert_eq!(
                !one.values(name).is_empty(),
                field.name() == name,
                "{field:?} {name}"
            );
        }
        let is_chain = field == ForwardingField::For;
        assert_eq!(one.values("x-forwarded-for") == hops, is_chain, "{field:?}");
    }
    // Scheme and host are those that were decided about, whatever the fields say.
    for sent in [
        stranger_with("a.b:80", &fields),
        stranger_with("c.d", &fields),
    ] {
        assert_eq!(sent.values("x-forwarded-proto"), ["https"]);
        assert_eq!(sent.values("x-forwarded-host"), [sent.host]);
        assert_eq!(sent.values("host"), [sent.host]);
    }
}

fn stranger_with<'a>(host: &'a str, fields: &'a [(&'a str, &'a str)]) -> Sent<'a> {
    Sent {
        fields,
        host,
        ..Sent::default()
    }
}

#[test]
fn what_a_trusted_proxy_tells_must_read_well() {
    let cases = [
        ("X-Forwarded-Port", "443", true),
        ("X-Forwarded-Port", "0", false),
        ("X-Forwarded-Port", "65536", false),
        ("X-Forwarded-Port", "+443", false),
        ("X-Forwarded-Port", "443, 80", false),
        ("X-Forwarded-Prefix", "/a/b", true),
        ("X-Forwarded-Prefix", "//evil.test", false),
        ("X-Forwarded-Prefix", "/a/../b", false),
        ("X-Forwarded-Prefix", "http://evil.test", false),
        ("X-Forwarded-Prefix", "/a, /b", false),
        ("X-Forwarded-Prefix", "/<script>", false),
        ("X-Real-IP", "2001:db8::1", true),
        ("X-Real-IP", "a", false),
        ("X-Real-IP", "1.1.1.1, 2.2.2.2", false),
    ];
    for (name, value, stays) in cases {
        for count in [1, 2] {
            let fields = vec![(name, value); count];
            let sent = Sent {
                fields: &fields,
                believed: &ForwardingField::ALL,
                ..Sent::default()
            };
            let left = sent.values(&name.to_ascii_lowercase());
            assert_eq!(
                left.len(),
                usize::from(stays && count == 1),
                "{name}: {value}"
            );
        }
    }
}

#[test]
fn an_application_has_what_its_route_lists() {
    let fields = [
        ("X-Auth-Token", "t"),
        ("X_Auth_Token", "forged"),
        ("X-User-Id", "7"),
        ("X-Username", "anna"),
    ];
    let sent = stranger_with("a.b:80", &fields);
    for (name, wanted) in [
        ("x-auth-token", "t"),
        ("x-user-id", "7"),
        ("x-username", "anna"),
    ] {
        assert_eq!(sent.values(name), [wanted]);
    }
    assert!(sent.values("x_auth_token").is_empty());
}

#[test]
fn credentials_and_our_cookies_end_here() {
    let fields = [
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "k"),
        ("Proxy-Authorization", "Basic x"),
        ("Cookie", "a=1; __Host-doorward=s; b=2"),
        ("Cookie", "doorward_session=s;c=3; __Secure-doorward=s"),
    ];
    let sent = Sent {
        fields: &fields,
        ..Sent::default()
    };
    for name in ["authorization", "x-api-key", "proxy-authorization"] {
        assert!(sent.values(name).is_empty(), "{name}");
    }
    assert_eq!(sent.values("cookie"), ["a=1; b=2; c=3"]);

    let passing = Sent {
        fields: &fields,
        pass_credentials: true,
        ..Sent::default()
    };
    assert_eq!(passing.values("authorization"), ["Bearer x"]);
    assert_eq!(passing.values("x-api-key"), ["k"]);
    assert!(passing.values("proxy-authorization").is_empty());
    // Of the gateway's cookies, a route may receive only the one that routes read.
    assert_eq!(
        passing.values("cookie"),
        ["a=1; b=2; c=3; __Secure-doorward=s"]
    );

    for (cookie, left) in [
        ("doorward_session=s", vec![]),
        ("a=doorward_session", vec!["a=doorward_session"]),
        ("a=1;b=2", vec!["a=1;b=2"]),
    ] {
        let fields = [("Cookie", cookie)];
        let sent = Sent {
            fields: &fields,
            ..Sent::default()
        };
        assert_eq!(sent.values("cookie"), left, "{cookie}");
    }
}

#[test]
fn the_matched_target_is_the_one_sent() {
    for target in ["/x?y=1", "/%78?y=1", "http://a.b:80/x?y=1"] {
        let head = Sent {
            target,
            ..Sent::default()
        }
        .edit();
        assert_eq!(head.uri, "/x?y=1", "{target}");
    }
}

#[test]
fn answers_carry_no_identity_and_none_of_our_cookies() {
    let mut headers = fields(&[
        ("X-Auth-Uid", "u-forged00"),
        ("x_auth_roles", "admin"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", " __host-doorward=x; Path=/"),
        ("Set-Cookie", "=__host-Doorward=evil; Path=/"),
        ("Set-Cookie", " = = doorward_session=evil"),
        ("Set-Cookie", "doorward_session ; Path=/"),
        ("Set-Cookie", "b=2"),
        ("Set-Cookie", "__Host-doorward=x; Path=/; Secure"),
        ("Set-Cookie", "__Secure-doorward=x; Domain=example.com"),
        ("Set-Cookie", "doorward_session =x"),
        // Without a name, the value comes back as if it had one.
        ("Set-Cookie", "=__Host-doorward=x; Path=/"),
        ("Set-Cookie", " = =doorward_session=x"),
        ("Set-Cookie", "doorward_session; a=b"),
        ("Set-Cookie", "c=doorward_session=x"),
        ("X-Request-Id", "theirs"),
        ("Keep-Alive", "timeout=5"),
    ]);
    cleaned(&mut headers, 200);
    let mut left: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("set-cookie", "c=doorward_session=x"),
            ("x-request-id", "0000000000000007")
        ]
    );
}

#[test]
fn answers_end_in_one_way() {
    let cases: [(&[(&str, &str)], bool); 9] = [
        (&[], true),
        (&[("Content-Length", "5")], true),
        (&[("Transfer-Encoding", "Chunked")], true),
        (&[("Content-Length", "5"), ("Content-Length", "5")], false),
        (&[("Content-Length", "5, 5")], false),
        (
            &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
            true,
        ),
        (&[("Transfer-Encoding", "gzip, chunked")], false),
        (&[("Transfer-Encoding", "x")], false),
        (
            &[
                ("Transfer-Encoding", "chunked"),
                ("Transfer-Encoding", "chunked"),
            ],
            false,
        ),
    ];
    for (fields, is_sound) in cases {
        let mut headers = super::tests::fields(fields);
        let is_once = frame_once(&mut headers, Version::HTTP_11);
        assert_eq!(is_once, is_sound, "{fields:?}");
        let has_both =
            headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING);
        assert!(!has_both, "{fields:?}");
    }
}

#[test]
fn answers_of_http_1_0_have_no_chunks() {
    let mut headers = fields(&[("Transfer-Encoding", "chunked")]);
    assert!(frame_once(&mut headers, Version::HTTP_11));
    assert!(!frame_once(&mut headers, Version::HTTP_10));
}

#[test]
fn answers_without_a_body_tell_no_length() {
    for (status, length) in [(200, true), (204, false), (103, false), (304, true)] {
        let mut headers = fields(&[("Content-Length", "5")]);
        cleaned(&mut headers, status);
        assert_eq!(headers.contains_key(CONTENT_LENGTH), length, "{status}");
    }
}

#[test]
fn what_an_answer_names_in_connection_ends_here() {
    let mut headers = fields(&[
        ("Connection", "close, X-Hop"),
        ("Connection", "content-length,x-request-id"),
        ("X-Hop", "1"),
        ("X-Stays", "1"),
        ("Trailer", "X-End"),
        ("Content-Length", "5"),
    ]);
    cleaned(&mut headers, 200);
    for (name, stays) in [
        ("x-hop", false),
        ("connection", false),
        ("trailer", false),
        ("x-stays", true),
        ("content-length", true),
        ("x-request-id", true),
    ] {
        assert_eq!(headers.contains_key(name), stays, "{name}");
    }
}

fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    list.iter().map(field).collect()
}

fn cleaned(headers: &mut HeaderMap, status: u16) {
    let status = StatusCode::from_u16(status).unwrap();
    to_caller(headers, status, &set(), RequestId::from_number(7));
}

#[test]
fn fields_about_the_callers_connection_end_here() {
    let about_it = [
        ("Connection", "keep-alive, X-Hop, Cookie"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Trailer", "x-end"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "x"),
        ("X-Hop", "1"),
        ("Cookie", "a=1"),
    ];
    let sent = stranger_with("a.b:80", &about_it);
    for (name, _) in about_it {
        assert!(sent.values(&name.to_ascii_lowercase()).is_empty(), "{name}");
    }
    let with_body = sent.try_edit(true).unwrap();
    assert_eq!(with_body.headers.get(TRANSFER_ENCODING).unwrap(), "chunked");
    let known = [("Content-Length", "5")];
    let with_body = stranger_with("a.b:80", &known).try_edit(true).unwrap();
    assert!(!with_body.headers.contains_key(TRANSFER_ENCODING));
}

#[test]
fn connection_names_few_fields_and_none_that_tell_where_a_request_came_from() {
    let many = ["x"; 10].join(",");
    for bad in [
        "Host",
        "x-Forwarded-For",
        "X-Forwarded-Proto",
        "a b",
        "\"X-A\"",
        ":path",
        &many,
    ] {
        let named = [("Connection", bad)];
        let refused = stranger_with("a.b:80", &named).try_edit(false).err();
        assert_eq!(refused, Some(DenyReason::RequestMalformed), "{bad}");
    }
    // A field that it names is not believed either.
    let fields = [("Connection", "X-Real-IP"), ("X-Real-IP", "1.1.1.1")];
    let sent = Sent {
        fields: &fields,
        believed: &ForwardingField::ALL,
        ..Sent::default()
    };
    assert!(sent.values("x-real-ip").is_empty());
}

#[test]
fn a_websocket_is_the_only_switch_that_is_asked_for() {
    for (upgrade, passes) in [("WebSocket", true), ("h2c", false), ("websocket, x", false)] {
        let fields = [
            ("Connection", "Upgrade, X-Hop"),
            ("Upgrade", upgrade),
            ("X-Hop", "1"),
        ];
        let sent = stranger_with("a.b:80", &fields);
        let wanted: &[&str] = if passes { &["websocket"] } else { &[] };
        assert_eq!(sent.values("upgrade"), wanted, "{upgrade}");
        let wanted: &[&str] = if passes { &["Upgrade"] } else { &[] };
        assert_eq!(sent.values("connection"), wanted, "{upgrade}");
        assert!(sent.values("x-hop").is_empty());
    }
}

fn spelled(name: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(0..6_u8, name.len()).prop_map(move |how| {
        let spell = |(byte, how): (char, u8)| match (byte, how) {
            ('-', 1) => '_',
            ('-', 2) => '.',
            ('-', 3) => '~',
            ('-', 4) => '+',
            (letter, 5) => letter.to_ascii_uppercase(),
            (letter, _) => letter,
        };
        name.chars().zip(how).map(spell).collect()
    })
}

proptest! {
    /// Whatever is sent, upstreams receive exactly one of each identity field, set by the gateway.
    #[test]
    fn identity_is_ours_whatever_is_sent(
        names in proptest::collection::vec(
            prop_oneof![
                spelled("x-auth-uid"), spelled("x-auth-roles"), spelled("x-auth-method"), spelled("x-auth-key-id"),
                spelled("remote-user"), spelled("x-forwarded-user"), spelled("x-request-id"), spelled("accept"),
            ],
            0..12,
        ),
        is_trusted: bool,
        pass_credentials: bool,
    ) {
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "forged")).collect();
        let believed: &[_] = if is_trusted { &ForwardingField::ALL } else { &[] };
        let sent = Sent { fields: &fields, believed, pass_credentials, ..Sent::default() };
        let head = sent.edit();
        for (name, value) in &head.headers {
            if name != "accept" {
                prop_assert_ne!(value, "forged", "{}", name);
            }
        }
        prop_assert_eq!(sent.values("x-auth-uid"), ["u-ours0000"]);
        prop_assert_eq!(sent.values("x-auth-method"), ["jwt"]);
        prop_assert_eq!(sent.values("x-request-id"), ["0000000000000007"]);
        prop_assert!(sent.values("x-auth-roles").is_empty());
    }
}
