//! Tokens of foreign issuers: their own keys, their own people, and only the rights that the configuration allows.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::routes::{route, routes};
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, b64, claims, key_set};
use crate::harness::upstream::Upstream;

/// A gateway that accepts tokens signed with some keys.
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
    /// Starts it with a second issuer.
    fn start(more: &str) -> Self {
        Self::started(&format!("subject_prefix = \"corp:\"\n{more}"), true)
    }

    /// Starts it with this issuer only.
    fn alone(more: &str) -> Self {
        Self::started(more, false)
    }

    fn started(more: &str, has_legacy: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (es, ed, rs, hs) = (
            Signer::es256(),
            Signer::eddsa(),
            Signer::rs256(),
            Signer::hs256(),
        );
        let set = key_set(
            dir.path(),
            "keys.json",
            &[es.jwk("es"), ed.jwk("ed"), rs.jwk("rs")],
        );
        let secret = dir.path().join("secret.json");
        std::fs::write(&secret, hs.jwk("hs").to_string()).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let upstream = Upstream::start();
        let legacy = issuer(
            "legacy",
            "https://legacy.example.test",
            "secret_jwk_file",
            &secret,
            "subject_prefix = \"legacy:\"",
        );
        let gateway = Gateway::start(&format!(
            "{}{}{}{}",
            issuer("corp", ISSUER, "jwks_file", &set, more),
            if has_legacy { legacy.as_str() } else { "" },
            routes(&upstream),
            route("/dev/**", "{ any_role = [\"dev\"] }")
        ));
        Self {
            upstream,
            gateway,
            es,
            ed,
            rs,
            hs,
            _dir: dir,
        }
    }

    fn get(&self, path: &str, token: &str) -> Response {
        self.gateway.get(path).bearer(token).send()
    }

    /// Returns a token of the corporation.
    fn token(&self, changes: &Value) -> String {
        self.es.token("es", &claims(changes))
    }
}

fn issuer(name: &str, iss: &str, source: &str, file: &Path, more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{iss}\"\naudience = [\"{AUDIENCE}\"]\n{source} = \"{}\"\n{more}\n",
        file.display()
    )
}

#[test]
fn each_kind_of_key_is_accepted_for_its_own_algorithm() {
    let corp = Corp::start("username_claim = \"name\"");
    for (signer, kid) in [(&corp.es, "es"), (&corp.ed, "ed"), (&corp.rs, "rs")] {
        let token = signer.token(
            kid,
            &claims(&json!({"name": "Anna", "scope": "reports:read x:y"})),
        );
        corp.gateway.secret(&token);
        corp.get("/protected/x", &token).expect(200);
        let seen = corp.upstream.last();
        assert_eq!(seen.header("x-auth-uid"), Some("corp:anna"));
        assert_eq!(seen.header("x-auth-username"), Some("corp:Anna"));
        assert_eq!(seen.header("x-auth-method"), Some("jwt"));
        assert!(!seen.text().contains(&token));
        corp.get("/reports/x", &token).expect(200);
    }
    let token = corp.hs.token(
        "hs",
        &claims(&json!({"iss": "https://legacy.example.test"})),
    );
    corp.get("/protected/x", &token).expect(200);
    assert_eq!(
        corp.upstream.last().header("x-auth-uid"),
        Some("legacy:anna")
    );
}

/// Returns the header of a token with that algorithm and key.
fn header(alg: &str, kid: &str) -> String {
    json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string()
}

/// Returns the header of a good token with one field added or replaced.
fn header_with(name: &str, value: &Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": "es", "typ": "JWT"});
    header[name] = value.clone();
    header.to_string()
}

/// Expects every one of them to be refused, wherever credentials are read.
fn refuse_all(corp: &Corp, cases: &[(&str, String)]) {
    for (about, token) in cases {
        let answer = corp.get("/protected/x", token);
        assert_eq!(answer.code(), "bearer_invalid", "{about}");
        let answer = corp.get("/optional/x", token);
        answer.refused(401, "bearer_invalid");
    }
    assert_eq!(corp.upstream.count(), 0);
}

#[test]
fn no_token_chooses_its_key_or_its_algorithm() {
    let corp = Corp::start("");
    let claims = claims(&json!({})).to_string();
    let legacy = claims.replace(ISSUER, "https://legacy.example.test");
    let (mine, public) = (
        Signer::es256(),
        serde_json::to_vec(&corp.rs.jwk("rs")).unwrap(),
    );
    let unsigned = |header: &[u8]| format!("{}.{}.", b64(header), b64(claims.as_bytes()));
    let of = |signer: &Signer, alg, kid| signer.token_of(&header(alg, kid), &claims);
    let jwk = header_with("jwk", &mine.jwk("es"));
    let jku = header_with("jku", &json!("http://127.0.0.1:1/keys"));
    let cases = [
        ("none", unsigned(br#"{"alg":"none"}"#)),
        ("None", unsigned(br#"{"alg":"None","kid":"es"}"#)),
        ("no alg", unsigned(br#"{"kid":"es"}"#)),
        (
            "HMAC of a public key",
            of(&Signer::Hs256(public), "HS256", "rs"),
        ),
        ("another issuer's HMAC", of(&corp.hs, "HS256", "hs")),
        (
            "a public key for HMAC",
            corp.es.token_of(&header("ES256", "es"), &legacy),
        ),
        ("not the key's algorithm", of(&corp.rs, "PS256", "rs")),
        ("a longer digest", of(&corp.rs, "RS384", "rs")),
        ("the key of another kid", of(&corp.rs, "RS256", "es")),
        ("a stranger's key", of(&mine, "ES256", "es")),
        ("a stranger's kid", of(&mine, "ES256", "mine")),
        ("a path as kid", of(&corp.es, "ES256", "../../etc/passwd")),
        (
            "a stranger's key in the header",
            mine.token_of(&jwk, &claims),
        ),
        (
            "a place of keys in the header",
            mine.token_of(&jku, &claims),
        ),
    ];
    refuse_all(&corp, &cases);
    // With a known key these fields are ignored.
    for (name, value) in [
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!(["MIIC"])),
        ("jwk", mine.jwk("es")),
    ] {
        let good = corp.es.token_of(&header_with(name, &value), &claims);
        corp.get("/protected/x", &good).expect(200);
    }
}

#[test]
fn odd_tokens_are_refused_though_their_signature_is_right() {
    let corp = Corp::start("");
    let claims = claims(&json!({})).to_string();
    let with_header = |header: &str| corp.es.token_of(header, &claims);
    let with_claims = |claims: &str| corp.es.token_of(&header("ES256", "es"), claims);
    let twice = |member: &str| with_claims(&claims.replacen('{', member, 1));
    let good = with_claims(&claims);
    let (message, _) = good.rsplit_once('.').unwrap();
    let b64_off = r#"{"alg":"ES256","kid":"es","b64":false,"crit":["b64"]}"#;
    let cases = [
        ("crit", with_header(&header_with("crit", &json!(["exp"])))),
        ("b64", with_header(b64_off)),
        (
            "another kind",
            with_header(&header_with("typ", &json!("secevent+jwt"))),
        ),
        (
            "alg twice",
            with_header(r#"{"alg":"none","alg":"ES256","kid":"es"}"#),
        ),
        (
            "alg no text",
            with_header(r#"{"alg":["ES256"],"kid":"es"}"#),
        ),
        ("kid no text", with_header(r#"{"alg":"ES256","kid":7}"#)),
        ("header no object", with_header("[]")),
        ("iss twice", twice(r#"{"iss":"x","#)),
        ("sub twice", twice(r#"{"sub":"admin","#)),
        ("claims no object", with_claims("[]")),
        ("claims no JSON", with_claims("x")),
        ("claims and more", with_claims(&format!("{claims}{{}}"))),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("padding", format!("{good}=")),
        ("another signature", format!("{message}.{}", b64(&[0; 64]))),
    ];
    refuse_all(&corp, &cases);
    corp.get("/protected/x", &good).expect(200);
}

#[test]
fn a_token_counts_only_from_its_issuer_for_us_and_in_its_time() {
    let corp = Corp::start("");
    let now = crate::harness::epoch_s();
    let cases = [
        (json!({"iss": "https://id.example.test/"}), "bearer_invalid"),
        (json!({"iss": "https://ID.example.test"}), "bearer_invalid"),
        (
            json!({"iss": "https://legacy.example.test"}),
            "bearer_invalid",
        ),
        (
            json!({"iss": format!("http://{}", corp.gateway.address)}),
            "bearer_invalid",
        ),
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
        (
            json!({"sub": "anna\r\nX-Auth-Roles: admin"}),
            "bearer_invalid",
        ),
        (json!({"sub": "anna,ben"}), "bearer_invalid"),
        (json!({"cnf": {"jkt": "x"}}), "bearer_invalid"),
        (json!({"cnf": {"x5t#S256": "x"}}), "bearer_invalid"),
        (json!({"cnf": "x"}), "bearer_invalid"),
    ];
    for (changes, code) in cases {
        corp.get("/protected/x", &corp.token(&changes))
            .refused(401, code);
    }
    for good in [
        json!({"aud": ["other", AUDIENCE]}),
        json!({"exp": now - 20}),
        json!({"nbf": now + 20, "iat": now + 20}),
        json!({"exp": now + 60}),
    ] {
        corp.get("/protected/x", &corp.token(&good)).expect(200);
    }
    assert_eq!(corp.upstream.count(), 4);
}

#[test]
fn an_issuer_cannot_claim_uids_or_usernames_of_this_gateway() {
    let corp = Corp::alone("username_claim = \"preferred_username\"");
    for sub in ["u-abcdefgh", "U-abcdefgh", "u-"] {
        let token = corp.token(&json!({ "sub": sub }));
        corp.get("/protected/x", &token)
            .refused(401, "bearer_invalid");
    }
    let boss = corp.gateway.person("boss");
    corp.gateway
        .get_by(&boss.caller(), "/protected/x")
        .expect(200);
    assert_eq!(corp.upstream.last().header("x-auth-username"), Some("boss"));
    for (name, seen) in [
        ("boss", Some("corp:boss")),
        ("BOSS", Some("corp:BOSS")),
        ("u-abcdefgh", Some("corp:u-abcdefgh")),
        ("b\u{f6}ss", None),
        ("boss\r\nX-Auth-Roles: admin", None),
        ("", None),
    ] {
        let token = corp.token(&json!({ "preferred_username": name }));
        corp.get("/protected/x", &token).expect(200);
        assert_eq!(corp.upstream.last().header("x-auth-username"), seen);
        assert_eq!(corp.upstream.last().header("x-auth-uid"), Some("anna"));
    }
    let silent = Corp::alone("");
    let token = silent.token(&json!({"preferred_username": "boss", "name": "boss"}));
    silent.get("/protected/x", &token).expect(200);
    assert_eq!(silent.upstream.last().header("x-auth-username"), None);
    // A choice of the configuration.
    let bare = Corp::alone("username_claim = \"name\"\nusername_prefix = \"\"");
    bare.get("/protected/x", &bare.token(&json!({"name": "boss"})))
        .expect(200);
    assert_eq!(bare.upstream.last().header("x-auth-username"), Some("boss"));
    let token = bare.token(&json!({"name": "U-boss"}));
    bare.get("/protected/x", &token)
        .refused(401, "bearer_invalid");
}

#[test]
fn roles_come_from_the_claim_and_reserved_ones_only_where_allowed() {
    let roles = json!({"realm": {"roles": ["dev", "admin", "user", "pwchange", "list-4-2-member", "list-1-public", "a b", "x,admin", 5]}});
    let corp = Corp::start("roles_claim = \"realm.roles\"");
    let token = corp.token(&roles);
    corp.get("/dev/x", &token).expect(200);
    assert_eq!(corp.upstream.last().header("x-auth-roles"), Some("dev"));
    corp.get("/admin/x", &token).refused(403, "role_missing");
    corp.get("/member/4-2/x", &token)
        .refused(403, "role_missing");

    let corp =
        Corp::start("roles_claim = \"realm.roles\"\nroles_allow = [\"admin\", \"list-4-*\"]");
    let token = corp.token(&roles);
    corp.get("/admin/x", &token).expect(200);
    corp.get("/member/4-2/x", &token).expect(200);
    corp.get("/invitee/4-2/x", &token)
        .refused(403, "role_missing");
    corp.get("/member/2/x", &token).refused(403, "role_missing");
    // The role's name does not make an administrator: only an account can be one.
    corp.get("/auth/accounts", &token).refused_as(403);
    // A string may contain several roles; each array item is one role or none.
    for listed in [
        json!("dev admin"),
        json!("dev,admin"),
        json!({"dev": {}, "admin": {}}),
    ] {
        let token = corp.token(&json!({"realm": {"roles": listed}}));
        corp.get("/admin/x", &token).expect(200);
        corp.get("/dev/x", &token).expect(200);
    }
    for listed in [
        json!(["dev admin"]),
        json!(["dev,admin"]),
        json!("admin\ndev"),
        json!(["Admin"]),
    ] {
        let token = corp.token(&json!({"realm": {"roles": listed}}));
        corp.get("/admin/x", &token).refused(403, "role_missing");
        corp.get("/dev/x", &token).refused(403, "role_missing");
    }

    let corp = Corp::start("roles_prefix = \"corp:\"\nroles_claim = \"groups\"");
    corp.get("/dev/x", &corp.token(&json!({"groups": ["dev", "admin"]})))
        .refused(403, "role_missing");
    corp.get(
        "/protected/x",
        &corp.token(&json!({"groups": ["dev", "admin"]})),
    )
    .expect(200);
    assert_eq!(
        corp.upstream.last().header("x-auth-roles"),
        Some("corp:admin corp:dev")
    );
}

#[test]
fn a_foreign_identity_has_no_account_here() {
    let corp = Corp::alone("");
    let token = corp.token(&json!({"scope": "auth:admin AUTH:members reports:read"}));
    let me = corp.get("/auth/me", &token).expect(200).json();
    assert_eq!((&me["uid"], &me["method"]), (&json!("anna"), &json!("jwt")));
    corp.get("/auth/roles", &token).expect(200);
    for path in [
        "/auth/apikeys",
        "/auth/sessions",
        "/auth/accounts",
        "/auth/members/list/1",
    ] {
        corp.get(path, &token).refused_as(403);
    }
    for (method, path) in [
        ("POST", "/auth/logout"),
        ("POST", "/auth/apikeys"),
        ("PUT", "/auth/members/list/1/u-abcdefgh"),
    ] {
        let answer = corp
            .gateway
            .request(method, path)
            .bearer(&token)
            .json(&json!({}))
            .send();
        assert!(
            matches!(answer.status, 400 | 401 | 403),
            "{path}: {}",
            answer.status
        );
    }
    corp.get("/protected/x", &token).expect(200);
    let scopes = corp
        .upstream
        .last()
        .header("x-auth-scopes")
        .unwrap()
        .to_owned();
    assert_eq!(
        scopes, "reports:read",
        "the gateway's own scopes are nobody else's to give"
    );
}

/// Returns a token for each kind of fault, by the fault's code; the issuer requires `token_use` to be `access`.
fn faulty(corp: &Corp) -> Vec<(&'static str, String)> {
    let now = crate::harness::epoch_s();
    let token = |changes: &Value| {
        let mut all = json!({"token_use": "access"});
        let members = all.as_object_mut().unwrap();
        members.append(&mut changes.as_object().unwrap().clone());
        corp.token(&all)
    };
    let claims = claims(&json!({"token_use": "access"})).to_string();
    let (mine, long) = (Signer::es256(), "x".repeat(40_000));
    let with_header = |header: &str| corp.es.token_of(header, &claims);
    let encrypted = b64(br#"{"alg":"dir","enc":"A256GCM"}"#);
    vec![
        ("too_long", token(&json!({ "x": long }))),
        ("malformed", "a.b.c".to_owned()),
        ("malformed", "a.b.c.d.e".to_owned()),
        ("encrypted", format!("{encrypted}.AAAA.AAAA.AAAA.AAAA")),
        ("header", with_header(&header_with("crit", &json!(["exp"])))),
        (
            "type",
            with_header(&header_with("typ", &json!("secevent+jwt"))),
        ),
        ("issuer_missing", token(&json!({"iss": null}))),
        (
            "issuer_unknown",
            token(&json!({"iss": "https://evil.test"})),
        ),
        ("key_unknown", with_header(&header("ES256", "no"))),
        ("algorithm", with_header(&header("ES384", "es"))),
        ("algorithm", with_header(&header("none", "es"))),
        ("signature", mine.token_of(&header("ES256", "es"), &claims)),
        ("audience", token(&json!({"aud": "other\u{1b}[2J"}))),
        ("expired", token(&json!({"exp": now - 100}))),
        ("not_yet_valid", token(&json!({"nbf": now + 100}))),
        ("claim_missing", token(&json!({"exp": null}))),
        ("claim_missing", token(&json!({"sub": null}))),
        ("claim_invalid", token(&json!({"sub": "a b"}))),
        ("claim_required", token(&json!({"token_use": "id"}))),
        ("sender_bound", token(&json!({"cnf": {"jkt": "x"}}))),
        ("not_access", token(&json!({"typ": "Refresh"}))),
        ("opaque", "opaque-token".to_owned()),
        ("own_form", format!("dwr_{}", "x".repeat(43))),
    ]
}

#[test]
fn only_operators_see_why_a_token_is_refused() {
    let corp =
        Corp::start("required_claims = { token_use = \"access\" }\n[log]\nlevel = \"debug\"");
    let cases = faulty(&corp);
    for (fault, token) in &cases {
        let code = match *fault {
            "expired" => "bearer_expired",
            _ => "bearer_invalid",
        };
        let told = format!("{code}: {fault}: ");
        let verified = corp.gateway.cli(&["token", "verify", "-"], token).with(3);
        assert!(
            verified.stdout.starts_with(&format!("refused: {told}")),
            "{fault}: {}",
            verified.stdout
        );
        assert!(!verified.all().contains(token.as_str()), "{fault}");
        let explain = ["explain", "GET", "/protected/x", "--token", "-"];
        let explained = corp.gateway.cli(&explain, token).with(3);
        assert!(explained.stdout.contains(&told), "{}", explained.stdout);
        assert!(!explained.stdout.contains('\u{1b}'));
        if *fault == "too_long" {
            assert_eq!(corp.get("/protected/x", token).status, 431);
            continue;
        }
        let answer = corp.get("/protected/x", token);
        answer.refused(401, code);
        let said = answer.text();
        assert!(!said.contains(&told) && !said.contains("corp"), "{said}");
        let recorded = format!("\"fault\":\"{fault}\"");
        crate::harness::wait_for("the record", || {
            corp.gateway.stdout().contains(&recorded).then_some(())
        });
        let metric = format!("doorward_bearer_tokens_refused_total{{fault=\"{fault}\"}}");
        assert!(0 < corp.gateway.metric(&metric), "{fault}");
        let logged = format!("\"{fault}\"");
        let stderr = corp.gateway.stderr();
        assert!(
            stderr.contains(&logged) || stderr.contains(&format!("fault={fault}")),
            "{fault} is not in the log"
        );
    }
    let expected = "aud is \"other\\u{1b}[2J\", expected one of doorward-tests, issuer corp";
    let token = corp.token(&json!({"token_use": "access", "aud": "other\u{1b}[2J"}));
    let verified = corp.gateway.cli(&["token", "verify", "-"], &token).with(3);
    assert!(verified.stdout.contains(expected), "{}", verified.stdout);
}

#[test]
fn explain_names_the_roles_that_are_missing_and_those_that_are_there() {
    let corp = Corp::start("roles_claim = \"roles\"\nroles_allow = [\"list-*\"]");
    let token = corp.token(&json!({
        "roles": ["dev", "list-7-member", "list-42-invitee", "admin", "Not A Role"], "scope": "reports:write x"
    }));
    let explain = |path: &str| {
        let task = ["explain", "GET", path, "--token", "-"];
        corp.gateway.cli(&task, &token).with(3).stdout
    };
    let told = explain("/member/42/x");
    let expected = "role_missing: needs one of the roles list-42-member; the caller has list-42-invitee, dev, list-7-member";
    assert!(told.contains(expected), "{told}");
    for left_out in [
        "role \"admin\": reserved, and not in roles_allow",
        "role \"Not A Role\": not 1 to 255",
    ] {
        assert!(told.contains(left_out), "{told}");
    }
    let told = explain("/both/7/x");
    let expected = "scope_missing: needs the scopes reports:read; the caller has reports:write, x";
    assert!(told.contains(expected), "{told}");
    corp.get("/protected/x", &token).expect(200);
    let left_out = "doorward_issuer_values_left_out_total{issuer=\"corp\"}";
    assert_eq!(corp.gateway.metric(left_out) % 2, 0);
    let line = "claims of an issuer's tokens contain unusable values";
    for n in 0..3 {
        let other = corp.token(&json!({"roles": ["Not A Role"], "jti": n}));
        corp.get("/protected/x", &other).expect(200);
    }
    assert_eq!(corp.gateway.stderr().matches(line).count(), 1);
}
