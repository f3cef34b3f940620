//! RFC 6750: the transport of a bearer token, and the challenge of a refusal.

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::upstream::Upstream;

fn challenge(gateway: &Gateway, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
    let request = fields
        .iter()
        .fold(gateway.get(path), |request, (name, value)| {
            request.header(name, *value)
        });
    let answer = request.send();
    (
        answer.status,
        answer
            .header("www-authenticate")
            .unwrap_or_default()
            .to_owned(),
    )
}

#[test]
fn section_2_1_the_scheme_ignores_case_and_the_token_is_the_only_word() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let jwt = &anna.jwt;
    for value in [
        format!("Bearer {jwt}"),
        format!("bearer {jwt}"),
        format!("BEARER {jwt}"),
        format!("  Bearer {jwt}  "),
    ] {
        assert_eq!(
            challenge(&gateway, "/protected/x", &[("Authorization", &value)]).0,
            200,
            "{value}"
        );
    }
    for value in [
        format!("Bearer{jwt}"),
        format!("Bearer {jwt}, Bearer {jwt}"),
        format!("Bearer {jwt} x"),
        format!("Bearer \"{jwt}\""),
        format!("Bearer\t{jwt}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        jwt.clone(),
        format!("Basic {jwt}"),
        format!("DPoP {jwt}"),
        format!("Token {jwt}"),
        String::new(),
    ] {
        assert_eq!(
            challenge(&gateway, "/protected/x", &[("Authorization", &value)]).0,
            401,
            "{value}"
        );
    }
}

#[test]
fn sections_2_2_and_2_3_nothing_in_body_or_query_authenticates() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let query = format!("/protected/x?access_token={}&token={}", anna.jwt, anna.jwt);
    gateway
        .get(&query)
        .send()
        .refused(401, "credential_missing");
    gateway
        .post("/protected/x")
        .form(&[("access_token", &anna.jwt)])
        .send()
        .refused(401, "credential_missing");
    for name in [
        "X-Authorization",
        "X-Access-Token",
        "X-Auth-Token",
        "Authorization2",
        "X_Authorization",
        "Proxy-Authorization",
    ] {
        let value = format!("Bearer {}", anna.jwt);
        assert_eq!(
            challenge(&gateway, "/protected/x", &[(name, &value)]).0,
            401,
            "{name}"
        );
    }
    assert_eq!(upstream.count(), 0);
    // The record does not contain the query either: the harness searches for the token.
}

#[test]
fn section_3_the_challenge_says_no_more_than_it_should() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let ended = gateway.login("anna");
    gateway
        .post("/auth/logout")
        .bearer(&ended.jwt)
        .send()
        .expect(204);
    let bearer = |token: &str| format!("Bearer {token}");
    // Without a credential there is no error code.
    for path in ["/protected/x", "/auth/me"] {
        let (status, text) = challenge(&gateway, path, &[]);
        assert_eq!(status, 401);
        assert!(
            text.starts_with("Bearer") && !text.contains("error"),
            "{text}"
        );
    }
    for token in ["nonsense", &ended.jwt] {
        for path in ["/protected/x", "/auth/me", "/optional/x"] {
            let (status, text) = challenge(&gateway, path, &[("Authorization", &bearer(token))]);
            assert!(
                status == 401 && text.contains("error=\"invalid_token\""),
                "{path}: {status} {text}"
            );
        }
    }
    let (status, text) = challenge(&gateway, "/reports/x", &[("X-Api-Key", &key.text)]);
    assert!(
        status == 403 && text.contains("error=\"insufficient_scope\""),
        "{status} {text}"
    );
    let both = [
        ("Authorization", bearer(&anna.jwt)),
        ("X-Api-Key", key.text.clone()),
    ];
    let both: Vec<_> = both
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let (status, text) = challenge(&gateway, "/protected/x", &both);
    assert!(
        status == 400 && text.contains("error=\"invalid_request\""),
        "{status} {text}"
    );
    // A missing role is not the token's fault.
    let (status, text) = challenge(
        &gateway,
        "/admin/x",
        &[("Authorization", &bearer(&anna.jwt))],
    );
    assert!(
        status == 403 && !text.contains("invalid_token"),
        "{status} {text}"
    );
    // Nothing that a caller sent is repeated.
    let (_, text) = challenge(
        &gateway,
        "/protected/x",
        &[("Authorization", "Bearer x\"y,error=z")],
    );
    assert!(!text.contains("x\"y"), "{text}");
    gateway
        .post("/auth/apikeys")
        .json(&json!({}))
        .send()
        .refused(401, "credential_missing");
}

#[test]
fn every_method_is_guarded_like_get() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get", "FOO",
    ] {
        let status = gateway.request(method, "/protected/x").send().status;
        assert!(matches!(status, 401 | 404 | 405), "{method}: {status}");
    }
    assert_eq!(upstream.count(), 0);
}
