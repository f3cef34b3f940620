//! Refresh tokens rotate: each has one successor, and one that is repeated too late ends its family.

use serde_json::json;

use crate::harness::at_once;
use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::tokens::claims_of;
use crate::harness::upstream::Upstream;

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    (upstream, gateway)
}

/// Whether the access token is accepted.
fn opens(gateway: &Gateway, token: &str) -> bool {
    gateway.get("/protected/x").bearer(token).send().status == 200
}

#[test]
fn refreshing_rotates_and_within_the_grace_gives_the_same_successor() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let answer = gateway.refresh(&anna.refresh).expect(200);
    assert_eq!(answer.json()["token_type"], "Bearer");
    assert_eq!(answer.json()["expires_in"], 900);
    let second = answer.member("refresh_token");
    assert_ne!(second, anna.refresh);
    assert!(opens(&gateway, &answer.member("access_token")));
    assert_eq!(
        claims_of(&answer.member("access_token"))["sid"],
        claims_of(&anna.jwt)["sid"]
    );
    assert_eq!(
        gateway
            .refresh(&anna.refresh)
            .expect(200)
            .member("refresh_token"),
        second
    );
    assert!(
        opens(&gateway, &anna.jwt),
        "the older access token lives until it expires"
    );
}

#[test]
fn fifty_refreshes_at_once_have_one_successor() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let answers = at_once(50, |_| gateway.refresh(&anna.refresh));
    let mut successors: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect(200).member("refresh_token"))
        .collect();
    successors.sort();
    successors.dedup();
    assert_eq!(successors.len(), 1);
    gateway.refresh(&successors[0]).expect(200);
}

#[test]
fn a_refresh_token_that_was_spent_before_ends_its_whole_family() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let other = gateway.login("anna");
    let second = gateway.refresh(&anna.refresh).expect(200);
    let third = gateway.refresh(&second.member("refresh_token")).expect(200);
    // The first is no longer the latest spent one, so the grace period does not apply to it.
    let reuse = gateway.refresh(&anna.refresh).expect(400);
    assert_eq!(reuse.json()["error"], "invalid_grant");
    for token in [
        &anna.jwt,
        &second.member("access_token"),
        &third.member("access_token"),
    ] {
        assert!(
            !opens(&gateway, token),
            "an access token of the family still counts"
        );
    }
    for token in [
        &second.member("refresh_token"),
        &third.member("refresh_token"),
        &anna.refresh,
    ] {
        assert_eq!(
            gateway.refresh(token).expect(400).json()["error"],
            "invalid_grant"
        );
    }
    assert!(
        opens(&gateway, &other.jwt),
        "another session of the account is not part of it"
    );
    gateway.refresh(&other.refresh).expect(200);
}

#[test]
fn the_token_endpoint_follows_oauth() {
    let (_upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let refresh = anna.refresh.as_str();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", "nonsense"),
            ],
            "invalid_grant",
        ),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", &anna.jwt),
            ],
            "invalid_grant",
        ),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (&[("refresh_token", refresh)], "invalid_request"),
        (
            &[
                ("grant_type", "password"),
                ("username", "anna"),
                ("password", "x"),
            ],
            "unsupported_grant_type",
        ),
        (
            &[("grant_type", "client_credentials")],
            "unsupported_grant_type",
        ),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh),
                ("refresh_token", refresh),
            ],
            "invalid_request",
        ),
        (&[], "invalid_request"),
    ];
    for (form, error) in cases {
        let answer = gateway.post("/auth/token").form(form).send().expect(400);
        let json = answer.json();
        assert_eq!(json["error"], *error, "{form:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(json["code"].is_string(), "{json}");
        assert_eq!(json["request_id"].as_str(), answer.header("x-request-id"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Unknown parameters are ignored; the query is not read.
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("audience", "x"),
        ("client_id", "y"),
    ];
    let answer = gateway.post("/auth/token").form(&form).send().expect(200);
    gateway.secret(&answer.member("access_token"));
    let target = format!("/auth/token?grant_type=refresh_token&refresh_token={refresh}");
    assert_eq!(
        gateway.post(&target).form(&[]).send().expect(400).json()["error"],
        "invalid_request"
    );
    let json = json!({"grant_type": "refresh_token", "refresh_token": refresh});
    assert!(matches!(
        gateway.post("/auth/token").json(&json).send().status,
        400 | 415
    ));
    gateway.get("/auth/token").send().refused_as(405);
}
