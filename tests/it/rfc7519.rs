//! RFC 7519 and RFC 9068: the gateway's own access tokens follow the same rules as those of any issuer.

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::routes::routes;
use crate::harness::tokens::{Signer, b64, claims_of, part};
use crate::harness::upstream::Upstream;

#[test]
fn every_own_algorithm_makes_tokens_that_its_published_key_verifies() {
    for algorithm in ["ES256", "EdDSA", "RS256", "HS256"] {
        let upstream = Upstream::start();
        let gateway = Gateway::start(&format!(
            "[tokens]\nalgorithm = \"{algorithm}\"\n{}",
            routes(&upstream)
        ));
        let anna = gateway.person("anna");
        assert_eq!(part(&anna.jwt, 0)["alg"], algorithm);
        gateway
            .get("/protected/x")
            .bearer(&anna.jwt)
            .send()
            .expect(200);
        let jwks = gateway.get("/.well-known/jwks.json").send().expect(200);
        for private in ["\"d\"", "\"p\"", "\"q\"", "\"k\"", "\"dp\"", "oct"] {
            assert!(
                !jwks.text().contains(private),
                "{algorithm}: {private} is published"
            );
        }
        if algorithm == "HS256" {
            continue;
        }
        let file = gateway.dir().join("published.json");
        std::fs::write(&file, jwks.text()).unwrap();
        let task = ["token", "verify", "--jwks", file.to_str().unwrap(), "-"];
        gateway.cli(&task, &anna.jwt).done();
        assert_eq!(jwks.json()["keys"][0]["alg"], algorithm);
    }
}

#[test]
fn section_7_2_a_changed_token_is_refused() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&routes(&upstream));
    let anna = gateway.person("anna");
    let ben = gateway.person("ben");
    let pieces: Vec<_> = anna.jwt.split('.').collect();
    let [header, claims, signature] = pieces.as_slice() else {
        panic!("three parts")
    };
    let mut forged = claims_of(&anna.jwt);
    forged["sub"] = json!(ben.uid);
    let forged = b64(forged.to_string().as_bytes());
    let mine = Signer::es256();
    let kid = part(&anna.jwt, 0)["kid"].clone();
    let own_header = json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"}).to_string();
    let text = claims_of(&anna.jwt).to_string();
    let cases = [
        format!("{header}.{forged}.{signature}"),
        format!("{header}.{claims}.{}", ben.jwt.rsplit('.').next().unwrap()),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}A"),
        format!("{header}.{claims}.{signature}=="),
        format!(".{claims}.{signature}"),
        format!("{}.{claims}.", b64(br#"{"alg":"none","typ":"at+jwt"}"#)),
        mine.token_of(&own_header, &text),
        mine.token_of(
            &json!({"alg": "ES256", "typ": "at+jwt", "jwk": mine.jwk("x")}).to_string(),
            &text,
        ),
        Signer::hs256().token_of(&own_header.replace("ES256", "HS256"), &text),
        format!(
            "{}.{claims}.{signature}",
            b64(br#"{"typ":"at+jwt","alg":"ES256"}"#)
        ),
        "x".repeat(9000),
        format!(
            "{header}.{}.{signature}",
            b64(format!("{}{}", "[".repeat(4000), "]".repeat(4000)).as_bytes())
        ),
        "..".to_owned(),
    ];
    for token in cases {
        let answer = gateway.get("/protected/x").bearer(&token).send();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "bearer_invalid"),
            "{token}"
        );
    }
    assert_eq!(upstream.count(), 0);
    gateway
        .get("/protected/x")
        .bearer(&anna.jwt)
        .send()
        .expect(200);
}

#[test]
fn a_token_of_another_gateway_is_refused() {
    let upstream = Upstream::start();
    let (one, other) = (
        Gateway::start(&routes(&upstream)),
        Gateway::start(&routes(&upstream)),
    );
    let anna = one.person("anna");
    other
        .get("/protected/x")
        .bearer(&anna.jwt)
        .send()
        .refused(401, "bearer_invalid");
}

#[test]
fn section_4_1_4_an_expired_token_has_its_own_code() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!(
        "[tokens]\naccess_ttl_s = 1\n{}",
        routes(&upstream)
    ));
    let anna = gateway.person("anna");
    let code = || gateway.get("/protected/x").bearer(&anna.jwt).send();
    let end = crate::harness::wait_for("the end of a token", || {
        Some(code()).filter(|answer| answer.status == 401)
    });
    end.refused(401, "bearer_expired");
    // The session is still alive.
    let fresh = gateway
        .refresh(&anna.refresh)
        .expect(200)
        .member("access_token");
    gateway
        .get("/protected/x")
        .bearer(&fresh)
        .send()
        .expect(200);
}
