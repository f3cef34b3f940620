//! Tokens of foreign issuers: their own keys, their own people, and no rights but those that the configuration allows.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::routes::{route, routes};
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, b64, claims, key_set};
use crate::harness::upstream::Upstream;

/// A gateway that accepts the tokens of some keys.
struct Corp {
    upstream: Upstream,
    gateway: Gateway,
    es: Signer,
    ed: Signer,
    rs: Signer,
    hs: Signer,
    _dir: tempfile::TempDir,
}

impl Corp {
    fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (es, ed, rs, hs) = (Signer::es256(), Signer::eddsa(), Signer::rs256(), Signer::hs256());
        let set = key_set(dir.path(), "keys.json", &[es.jwk("es"), ed.jwk("ed"), rs.jwk("rs")]);
        let secret = dir.path().join("secret.json");
        std::fs::write(&secret, hs.jwk("hs").to_string()).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let upstream = Upstream::start();
        let gateway = Gateway::start(&format!("{}{}{}{}", issuer("corp", ISSUER, "jwks_file", &set, more), issuer(
            "legacy",
            "https://legacy.example.test",
            "secret_jwk_file",
            &secret,
            "subject_prefix = \"legacy:\"",
        ), routes(&upstream), route("/dev/**", "{ any_role = [\"dev\"] }")));
        Self { upstream, gateway, es, ed, rs, hs, _dir: dir }
    }

    fn get(&self, path: &str, token: &str) -> Response {
        self.gateway.get(path).bearer(token).send()
    }

    /// A token of the corporation.
    fn token(&self, changes: &Value) -> String {
        self.es.token("es", &claims(changes))
    }
}

fn issuer(name: &str, iss: &str, source: &str, file: &PathBuf, more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = [\"{AUDIENCE}\"]\n{source} = {file:?}\n{more}\n"
    )
}

#[test]
fn each_kind_of_key_is_accepted_for_its_own_algorithm() {
    let corp = Corp::start("username_claim = \"name\"");
    for (signer, kid) in [(&corp.es, "es"), (&corp.ed, "ed"), (&corp.rs, "rs")] {
        let token = signer.token(kid, &claims(&json!({"name": "Anna", "scope": "reports:read x:y"})));
        corp.gateway.secret(&token);
        corp.get("/protected/x", &token).expect(200);
        let seen = corp.upstream.last();
        assert_eq!(seen.header("x-auth-uid"), Some("anna"));
        assert_eq!(seen.header("x-auth-username"), Some("Anna"));
        assert_eq!(seen.header("x-auth-method"), Some("jwt"));
        assert!(!seen.text().contains(&token));
        corp.get("/reports/x", &token).expect(200);
    }
    let token = corp.hs.token("hs", &claims(&json!({"iss": "https://legacy.example.test"})));
    corp.get("/protected/x", &token).expect(200);
    assert_eq!(corp.upstream.last().header("x-auth-uid"), Some("legacy:anna"));
}

#[test]
fn no_token_chooses_its_algorithm_or_its_key() {
    let corp = Corp::start("");
    let mine = Signer::es256();
    let claims = claims(&json!({})).to_string();
    let legacy = claims.replace(ISSUER, "https://legacy.example.test");
    let public = serde_json::to_vec(&corp.rs.jwk("rs")).unwrap();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string();
    let good = corp.es.token_of(&header("ES256", "es"), &claims);
    corp.get("/protected/x", &good).expect(200);
    let (message, _) = good.rsplit_once('.').unwrap();
    let with = |extra: &Value| {
        let mut header = json!({"alg": "ES256", "kid": "es", "typ": "JWT"});
        header.as_object_mut().unwrap().append(&mut extra.as_object().unwrap().clone());
        header.to_string()
    };
    let cases = [
        ("none", format!("{}.{}.", b64(br#"{"alg":"none"}"#), b64(claims.as_bytes()))),
        ("None", format!("{}.{}.", b64(br#"{"alg":"None","kid":"es"}"#), b64(claims.as_bytes()))),
        ("no signature", format!("{message}.")),
        ("the public key as HMAC secret", Signer::Hs256(public).token_of(&header("HS256", "rs"), &claims)),
        ("HMAC at an issuer of public keys", corp.hs.token_of(&header("HS256", "hs"), &claims)),
        ("a public key at an issuer of HMAC", corp.es.token_of(&header("ES256", "es"), &legacy)),
        ("another algorithm than the key's", corp.rs.token_of(&header("PS256", "rs"), &claims)),
        ("RS384", corp.rs.token_of(&header("RS384", "rs"), &claims)),
        ("the key of another kid", corp.rs.token_of(&header("RS256", "es"), &claims)),
        ("a stranger's key", mine.token_of(&header("ES256", "es"), &claims)),
        ("a stranger's key, unknown kid", mine.token_of(&header("ES256", "mine"), &claims)),
        ("a stranger's key in the header", mine.token_of(&with(&json!({"jwk": mine.jwk("es")})), &claims)),
        ("a URL of keys", mine.token_of(&with(&json!({"jku": "http://127.0.0.1:1/keys"})), &claims)),
        ("crit", corp.es.token_of(&with(&json!({"crit": ["x"], "x": 1})), &claims)),
        ("b64", corp.es.token_of(&with(&json!({"b64": false, "crit": ["b64"]})), &claims)),
        ("another kind of token", corp.es.token_of(&with(&json!({"typ": "secevent+jwt"})), &claims)),
        ("alg twice", corp.es.token_of(r#"{"alg":"none","alg":"ES256","kid":"es"}"#, &claims)),
        ("alg no text", corp.es.token_of(r#"{"alg":["ES256"],"kid":"es"}"#, &claims)),
        ("kid no text", corp.es.token_of(r#"{"alg":"ES256","kid":7}"#, &claims)),
        ("a path as kid", corp.es.token_of(&header("ES256", "../../etc/passwd"), &claims)),
        ("iss twice", corp.es.token_of(&header("ES256", "es"), &claims.replacen('{', r#"{"iss":"x","#, 1))),
        ("sub twice", corp.es.token_of(&header("ES256", "es"), &claims.replacen('{', r#"{"sub":"admin","#, 1))),
        ("claims no object", corp.es.token_of(&header("ES256", "es"), "[]")),
        ("four parts", format!("{good}.x")),
        ("padding", format!("{good}=")),
        ("a changed signature", format!("{message}.{}", b64(&[0; 64]))),
    ];
    for (about, token) in cases {
        assert_eq!(corp.get("/protected/x", &token).code(), "bearer_invalid", "{about}");
        corp.get("/optional/x", &token).refused(401, "bearer_invalid");
    }
    assert_eq!(corp.upstream.count(), 1);
}

#[test]
fn a_token_counts_only_from_its_issuer_for_us_and_in_its_time() {
    let corp = Corp::start("");
    let now = crate::harness::epoch_s();
    let cases = [
        (json!({"iss": "https://id.example.test/"}), "bearer_invalid"),
        (json!({"iss": "https://ID.example.test"}), "bearer_invalid"),
        (json!({"iss": "https://legacy.example.test"}), "bearer_invalid"),
        (json!({"iss": format!("http://{}", corp.gateway.address)}), "bearer_invalid"),
        (json!({"iss": null}), "bearer_invalid"),
        (json!({"iss": [ISSUER]}), "bearer_invalid"),
        (json!({"aud": "other"}), "bearer_invalid"),
        (json!({"aud": null}), "bearer_invalid"),
        (json!({"aud": []}), "bearer_invalid"),
        (json!({"aud": {"x": AUDIENCE}}), "bearer_invalid"),
        (json!({"exp": now - 100}), "bearer_expired"),
        (json!({"exp": null}), "bearer_invalid"),
        (json!({"exp": (now + 300).to_string()}), "bearer_invalid"),
        (json!({"nbf": now + 100}), "bearer_invalid"),
        (json!({"iat": now + 100}), "bearer_invalid"),
        (json!({"sub": null}), "bearer_invalid"),
        (json!({"sub": ""}), "bearer_invalid"),
        (json!({"sub": 7}), "bearer_invalid"),
        (json!({"sub": "anna\r\nX-Auth-Roles: admin"}), "bearer_invalid"),
        (json!({"sub": "anna,ben"}), "bearer_invalid"),
        (json!({"sub": "u-abcdefgh"}), "bearer_invalid"),
    ];
    for (changes, code) in cases {
        corp.get("/protected/x", &corp.token(&changes)).refused(401, code);
    }
    for good in [json!({"aud": ["other", AUDIENCE]}), json!({"exp": now - 20}), json!({"nbf": now + 20, "iat": now + 20}), json!({"exp": now + 60})] {
        corp.get("/protected/x", &corp.token(&good)).expect(200);
    }
    assert_eq!(corp.upstream.count(), 4);
}

#[test]
fn roles_come_from_the_claim_and_reserved_ones_only_where_allowed() {
    let roles = json!({"realm": {"roles": ["dev", "admin", "user", "pwchange", "list-4-2-member", "list-1-public", "a b", "x,admin", 5]}});
    let corp = Corp::start("roles_claim = \"realm.roles\"");
    let token = corp.token(&roles);
    corp.get("/dev/x", &token).expect(200);
    assert_eq!(corp.upstream.last().header("x-auth-roles"), Some("dev"));
    corp.get("/admin/x", &token).refused(403, "role_missing");
    corp.get("/member/4-2/x", &token).refused(403, "role_missing");

    let corp = Corp::start("roles_claim = \"realm.roles\"\nroles_allow = [\"admin\", \"list-4-*\"]");
    let token = corp.token(&roles);
    corp.get("/admin/x", &token).expect(200);
    corp.get("/member/4-2/x", &token).expect(200);
    corp.get("/invitee/4-2/x", &token).refused(403, "role_missing");
    corp.get("/member/2/x", &token).refused(403, "role_missing");
    // The role's name opens no administration: that is an account's alone.
    corp.get("/auth/accounts", &token).refused_as(403);
    // A text of several is one role, or none.
    for text in ["dev admin", "dev,admin", "admin\n"] {
        let token = corp.token(&json!({"realm": {"roles": text}}));
        corp.get("/admin/x", &token).refused(403, "role_missing");
        corp.get("/dev/x", &token).refused(403, "role_missing");
    }

    let corp = Corp::start("roles_prefix = \"corp:\"\nroles_claim = \"groups\"");
    corp.get("/dev/x", &corp.token(&json!({"groups": ["dev", "admin"]}))).refused(403, "role_missing");
    corp.get("/protected/x", &corp.token(&json!({"groups": ["dev", "admin"]}))).expect(200);
    assert_eq!(corp.upstream.last().header("x-auth-roles"), Some("corp:admin corp:dev"));
}

#[test]
fn a_foreign_identity_has_no_account_here() {
    let corp = Corp::start("");
    let token = corp.token(&json!({"scope": "auth:admin auth:members reports:read"}));
    let me = corp.get("/auth/me", &token).expect(200).json();
    assert_eq!((&me["uid"], &me["method"]), (&json!("anna"), &json!("jwt")));
    corp.get("/auth/roles", &token).expect(200);
    for path in ["/auth/apikeys", "/auth/sessions", "/auth/accounts", "/auth/members/list/1"] {
        corp.get(path, &token).refused_as(403);
    }
    for (method, path) in [("POST", "/auth/logout"), ("POST", "/auth/apikeys"), ("PUT", "/auth/members/list/1/u-abcdefgh")] {
        let answer = corp.gateway.request(method, path).bearer(&token).json(&json!({})).send();
        assert!(matches!(answer.status, 400 | 401 | 403), "{path}: {}", answer.status);
    }
    corp.get("/protected/x", &token).expect(200);
    let scopes = corp.upstream.last().header("x-auth-scopes").unwrap().to_owned();
    assert_eq!(scopes, "reports:read", "the gateway's own scopes are nobody else's to give");
}
