//! Opaque tokens of a foreign issuer: the issuer is asked about them, and never about the gateway's own secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::issuer::{KeyServer, issuer};
use crate::harness::routes::routes;
use crate::harness::tokens::{AUDIENCE, ISSUER, Signer, claims};
use crate::harness::upstream::Upstream;
use crate::harness::{at_once, now, wait_for};

const SECRET: &str = "s3cr%t:of-the client"; // spaces and colons are encoded in transit
const DOWN: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";

/// The tokens that the issuer knows, and its way of answering.
#[derive(Default)]
struct Desk {
    tokens: BTreeMap<String, Value>,
    raw: Option<String>,
    /// The answer about tokens that begin with `odd`.
    odd: String,
    delay: Duration,
}

/// An issuer that answers about tokens.
struct Introspector {
    upstream: Upstream,
    desk: Arc<Mutex<Desk>>,
}

impl Introspector {
    fn start() -> Self {
        let desk: Arc<Mutex<Desk>> = Arc::default();
        let shared = Arc::clone(&desk);
        let upstream = Upstream::serving(move |exchange| {
            exchange.close = true;
            let body = String::from_utf8(exchange.body()).unwrap();
            let form: BTreeMap<_, _> = url::form_urlencoded::parse(body.as_bytes())
                .into_owned()
                .collect();
            let (raw, delay, known) = {
                let desk = shared.lock().unwrap();
                let known = desk.tokens.get(&form["token"]).cloned();
                let odd = form["token"].starts_with("odd").then(|| desk.odd.clone());
                (desk.raw.clone().or(odd), desk.delay, known)
            };
            std::thread::sleep(delay);
            match raw {
                Some(raw) => exchange.write(raw),
                None => {
                    exchange.answer(&known.unwrap_or(json!({"active": false})).to_string());
                }
            }
        });
        Self { upstream, desk }
    }

    /// Registers an active token, with some claims changed or, where null, removed.
    fn knows(&self, token: &str, changes: &Value) {
        let mut all = claims(changes);
        all["active"] = changes.get("active").cloned().unwrap_or(json!(true));
        let mut desk = self.desk.lock().unwrap();
        desk.tokens.insert(token.to_owned(), all);
    }

    fn forgets(&self, token: &str) {
        self.desk.lock().unwrap().tokens.remove(token);
    }

    /// Answers everything with these bytes from now on.
    fn says(&self, raw: Option<&str>) {
        self.desk.lock().unwrap().raw = raw.map(str::to_owned);
    }

    fn count(&self) -> usize {
        self.upstream.count()
    }

    fn config(&self, more: &str) -> String {
        let url = format!("http://{}/introspect", self.upstream.address);
        let client = format!(
            "client_id = \"door:ward\"\nclient_secret = \"{}\"",
            secret()
        );
        issuer(
            "corp",
            ISSUER,
            &format!("introspection_url = \"{url}\"\n{client}\n{more}"),
        )
    }
}

/// Visible characters only.
fn secret() -> String {
    SECRET.replace(' ', "+")
}

struct Scene {
    upstream: Upstream,
    issuer: Introspector,
    gateway: Gateway,
}

fn scene(more: &str) -> Scene {
    let (upstream, issuer) = (Upstream::start(), Introspector::start());
    let gateway = Gateway::start(&format!("{}{}", issuer.config(more), routes(&upstream)));
    gateway.secret(&secret());
    Scene {
        upstream,
        issuer,
        gateway,
    }
}

impl Scene {
    fn get(&self, path: &str, token: &str) -> Response {
        self.gateway.get(path).bearer(token).send()
    }

    fn metric(&self, result: &str) -> u64 {
        let name =
            format!("doorward_issuer_introspections_total{{issuer=\"corp\",result=\"{result}\"}}");
        self.gateway.metric(&name)
    }
}

#[test]
fn an_active_token_is_asked_about_once_and_held_to_its_scopes_each_time() {
    let scene = scene("subject_prefix = \"corp:\"");
    let (token, other) = ("opaque-token-of-anna", "opaque-token-of-ben");
    scene.gateway.secret(token);
    scene.issuer.knows(
        token,
        &json!({"scope": "reports:read", "groups": ["admin", "dev"]}),
    );
    scene
        .issuer
        .knows(other, &json!({"sub": "ben", "scope": "x"}));
    for _ in 0..3 {
        scene.get("/protected/x", token).expect(200);
        scene.get("/reports/x", token).expect(200);
        scene.get("/admin/x", token).refused(403, "role_missing");
        scene.get("/protected/x", other).expect(200);
        scene.get("/reports/x", other).refused(403, "scope_missing");
    }
    let seen = scene.upstream.seen();
    assert_eq!(seen.len(), 9);
    let first = &seen[0];
    assert_eq!(first.header("x-auth-uid"), Some("corp:anna"));
    assert_eq!(first.header("x-auth-roles"), Some("dev"));
    assert_eq!(first.header("x-auth-method"), Some("jwt"));
    assert!(!first.text().contains(token));

    assert_eq!(scene.issuer.count(), 2, "one question for each token");
    let asked = &scene.issuer.upstream.seen()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/introspect")
    );
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        format!("token_type_hint=access_token&token={token}")
    );
    let basic = STANDARD.encode("door%3Award:s3cr%25t%3Aof-the%2Bclient");
    assert_eq!(
        asked.header("authorization"),
        Some(format!("Basic {basic}").as_str())
    );
    assert_eq!((scene.metric("active"), scene.metric("failed")), (2, 0));
    let me = scene.get("/auth/me", token).expect(200).json();
    assert_eq!(me["uid"], "corp:anna");
}

#[test]
fn inactive_and_foreign_tokens_are_refused_and_not_asked_about_again_at_once() {
    let scene = scene("");
    let cases = [
        ("unknown", None),
        ("inactive", Some(json!({"active": false}))),
        ("another-audience", Some(json!({"aud": "other"}))),
        ("no-audience", Some(json!({"aud": null}))),
        ("another-issuer", Some(json!({"iss": "https://evil.test"}))),
        ("expired", Some(json!({"exp": 1000}))),
        ("not-yet", Some(json!({"nbf": 1e10}))),
        ("no-subject", Some(json!({"sub": null}))),
        ("ours", Some(json!({"sub": "u-abcdefgh"}))),
        ("refresh", Some(json!({"token_use": "refresh_token"}))),
        ("bound", Some(json!({"token_type": "DPoP"}))),
    ];
    for (token, known) in &cases {
        if let Some(known) = known {
            scene.issuer.knows(token, known);
        }
        scene.get("/protected/x", token).refused_as(401);
        scene.get("/optional/x", token).refused_as(401);
    }
    assert_eq!(scene.upstream.count(), 0);
    let before = scene.issuer.count();
    for _ in 0..5 {
        scene
            .get("/protected/x", "unknown")
            .refused(401, "bearer_invalid");
        scene
            .get("/protected/x", "inactive")
            .refused(401, "bearer_invalid");
    }
    assert_eq!(scene.issuer.count(), before);
    // The issuer may omit these.
    scene
        .issuer
        .knows("bare", &json!({"iss": null, "exp": null, "iat": null}));
    scene.get("/protected/x", "bare").expect(200);
}

#[test]
fn many_who_ask_at_once_cause_one_question() {
    let scene = scene("");
    scene.issuer.knows("crowd", &json!({}));
    scene.issuer.desk.lock().unwrap().delay = Duration::from_millis(300);
    let answers = at_once(16, |_| scene.get("/protected/x", "crowd").status);
    assert_eq!(answers, [200; 16]);
    let answers = at_once(16, |_| scene.get("/protected/x", "nobody").status);
    assert_eq!(answers, [401; 16]);
    assert_eq!(scene.issuer.count(), 2);
}

#[test]
fn without_a_usable_answer_the_token_is_refused_and_nothing_else_suffers() {
    let scene = scene("introspection_ttl_s = 1");
    let anna = scene.gateway.person("anna");
    scene.issuer.knows("good", &json!({}));
    scene.get("/protected/x", "good").expect(200);
    let head = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let cases = [
        DOWN.to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
        "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
        head(""),
        head("true"),
        head("[{\"active\":true}]"),
        head("{\"active\":\"true\",\"sub\":\"anna\",\"aud\":\"doorward-tests\"}"),
        head("{\"sub\":\"anna\"}"),
        head("{\"active\":false,\"active\":true}"),
        head(&format!(
            "{{\"active\":true,\"x\":\"{}\"}}",
            "x".repeat(70_000)
        )),
        String::new(),
    ];
    for (index, raw) in cases.iter().enumerate() {
        scene.issuer.says(Some(raw));
        let token = format!("fresh-{index}");
        scene.issuer.knows(&token, &json!({}));
        let failed = scene.metric("failed");
        // After a failed question, the token is not asked about again immediately.
        wait_for("a question", || {
            let answer = scene.get("/protected/x", &token);
            answer.refused(503, "issuer_unavailable");
            assert!(answer.header("retry-after").is_some());
            (failed < scene.metric("failed")).then_some(())
        });
    }
    // The cached answer has expired.
    wait_for("the end of what was remembered", || {
        (scene.get("/protected/x", "good").status == 503).then_some(())
    });
    let count = scene.upstream.count();
    scene
        .get("/protected/x", "good")
        .refused(503, "issuer_unavailable");
    assert_eq!(scene.upstream.count(), count);
    assert_eq!(scene.gateway.degraded(), ["issuer:corp"]);
    scene.gateway.get("/public/x").send().expect(200);
    scene
        .gateway
        .get_by(&anna.caller(), "/protected/x")
        .expect(200);
    scene.issuer.says(None);
    wait_for("an answer", || {
        (scene.get("/protected/x", "good").status == 200).then_some(())
    });
    assert_eq!(scene.gateway.degraded(), [""; 0]);
}

#[test]
fn a_token_that_was_taken_back_ends_with_the_time_of_its_answer() {
    let scene = scene("introspection_ttl_s = 1");
    scene.issuer.knows("taken-back", &json!({}));
    scene.get("/protected/x", "taken-back").expect(200);
    scene.issuer.forgets("taken-back");
    let start = now();
    wait_for("a refusal", || {
        (scene.get("/protected/x", "taken-back").status == 401).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(3));

    let scene = self::scene("introspection_ttl_s = 0");
    scene.issuer.knows("each-time", &json!({}));
    for _ in 0..3 {
        scene.get("/protected/x", "each-time").expect(200);
    }
    assert_eq!(scene.issuer.count(), 3);
    scene.issuer.forgets("each-time");
    scene
        .get("/protected/x", "each-time")
        .refused(401, "bearer_invalid");
}

#[test]
fn nothing_of_our_own_form_is_shown_to_the_issuer() {
    let scene = scene("");
    let gateway = &scene.gateway;
    let anna = gateway.person("anna");
    let key = gateway.key(&anna, &[]);
    let reset = gateway.forgot("anna");
    let confirm = gateway.register("ben");
    let login = gateway
        .post("/auth/login")
        .header("Origin", format!("http://{}", gateway.address))
        .form(&[
            ("username", "anna"),
            ("password", &crate::harness::people::password_of("anna")),
        ])
        .send()
        .expect(303);
    let cookie = login.header("set-cookie").unwrap();
    let cookie = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let parts: Vec<_> = anna.jwt.split('.').collect();
    let cut = parts[..2].join(".");
    let ours = [
        key.text[..key.text.len() - 1].to_owned(),
        anna.refresh.clone(),
        reset,
        confirm,
        cookie,
        format!("{}x", anna.jwt),
        format!("{cut}."),
        format!("abcdefgh.{}", "x".repeat(32)),
        "dwk_".to_owned(),
    ];
    for text in ours {
        assert_eq!(scene.get("/protected/x", &text).status, 401, "{text}");
        scene.get("/auth/me", &text).refused_as(401);
    }
    // A JWT is verified by the issuer that it names.
    let signer = Signer::es256();
    for iss in [json!("https://evil.test"), json!(null), json!(7)] {
        let token = signer.token("k", &claims(&json!({ "iss": iss })));
        scene
            .get("/protected/x", &token)
            .refused(401, "bearer_invalid");
    }
    assert_eq!(scene.issuer.count(), 0);
    assert_eq!(scene.upstream.count(), 0);
}

#[test]
fn an_opaque_token_may_fill_the_head() {
    let scene = scene("");
    let long = "x".repeat(30_000);
    scene.issuer.knows(&long, &json!({}));
    scene.get("/protected/x", &long).expect(200);
    let longer = "x".repeat(33_000);
    assert_eq!(scene.get("/protected/x", &longer).status, 431);
    assert_eq!(scene.issuer.count(), 1);
}

#[test]
fn errors_caused_by_a_tokens_text_affect_only_that_token() {
    let scene = scene("");
    let refusal = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut number = 0;
    let mut good = || {
        number += 1;
        let good = format!("good-{number}");
        scene.issuer.knows(&good, &json!({}));
        scene.get("/protected/x", &good).expect(200);
    };
    let refused = [
        refusal("400", ""),
        refusal("400", "{\"error\":\"invalid_request\"}"),
        refusal("403", "<html>blocked</html>"),
        refusal("413", ""),
        refusal("422", "{}"),
        refusal("401", "{\"error\":\"invalid_token\"}"),
    ];
    for (index, answer) in refused.iter().enumerate() {
        scene.issuer.desk.lock().unwrap().odd.clone_from(answer);
        let odd = format!("odd-{index}");
        scene
            .get("/protected/x", &odd)
            .refused(401, "bearer_invalid");
        good();
        let count = scene.issuer.count();
        scene
            .get("/protected/x", &odd)
            .refused(401, "bearer_invalid");
        assert_eq!(scene.issuer.count(), count, "asked again at once");
    }
    assert_eq!((scene.metric("refused"), scene.metric("failed")), (6, 0));
    assert_eq!(scene.gateway.degraded(), [""; 0]);
    // Possible faults of the issuer yield 503 for this token, and for no other.
    let troubled = [
        DOWN.to_owned(),
        refusal("401", ""),
        refusal("400", "{\"error\":\"invalid_client\"}"),
        refusal("429", ""),
        refusal("200", "<html>"),
        String::new(),
    ];
    for (index, answer) in troubled.iter().enumerate() {
        scene.issuer.desk.lock().unwrap().odd.clone_from(answer);
        for again in 0..3 {
            let odd = format!("odd-troubled-{index}-{again}");
            scene
                .get("/protected/x", &odd)
                .refused(503, "issuer_unavailable");
            good();
        }
    }
    // Active tokens for another audience are asked about no more often than inactive ones.
    scene.issuer.knows("other", &json!({"aud": "other"}));
    let count = scene.issuer.count();
    for _ in 0..5 {
        scene
            .get("/protected/x", "other")
            .refused(401, "bearer_invalid");
    }
    assert_eq!(scene.issuer.count(), count + 1);
}

/// A gateway that trusts the client addresses it is sent.
fn scene_of_networks() -> Scene {
    let (upstream, issuer) = (Upstream::start(), Introspector::start());
    let trusted = "[listen]\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
    let gateway = Gateway::start(&format!(
        "{trusted}{}{}",
        issuer.config(""),
        routes(&upstream)
    ));
    gateway.secret(&secret());
    Scene {
        upstream,
        issuer,
        gateway,
    }
}

#[test]
fn odd_tokens_of_two_client_networks_disturb_no_third() {
    let scene = scene_of_networks();
    let get = |network: &str, token: &str| {
        let request = scene.gateway.get("/protected/x").bearer(token);
        request.header("X-Forwarded-For", network).send().status
    };
    let unauthorized = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
    let garbage = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    for (index, answer) in [DOWN, unauthorized, garbage, ""].into_iter().enumerate() {
        answer.clone_into(&mut scene.issuer.desk.lock().unwrap().odd);
        for round in 0..3 {
            for place in 1..=2 {
                let odd = format!("odd-{index}-{round}-{place}");
                assert_eq!(get(&format!("192.0.2.{place}"), &odd), 503, "{odd}");
            }
            let good = format!("good-{index}-{round}");
            scene.issuer.knows(&good, &json!({}));
            assert_eq!(get("192.0.2.3", &good), 200, "{good}");
            // Nor do callers disturb each other's.
            let own = format!("own-{index}-{round}");
            scene.issuer.knows(&own, &json!({}));
            assert_eq!(get("192.0.2.1", &own), 200, "{own}");
        }
    }
}

#[test]
fn one_client_networks_junk_leaves_places_for_others() {
    let scene = scene_of_networks();
    let (issuer, gateway) = (&scene.issuer, &scene.gateway);
    issuer.knows("good", &json!({}));
    issuer.desk.lock().unwrap().delay = Duration::from_millis(1500);
    let get = |network: &str, token: &str| {
        let request = gateway.get("/protected/x").bearer(token);
        request.header("X-Forwarded-For", network).send().status
    };
    std::thread::scope(|scope| {
        for index in 0..40 {
            let get = &get;
            scope.spawn(move || get("192.0.2.1", &format!("junk-{index}")));
        }
        wait_for("questions about junk", || {
            (8 <= issuer.count()).then_some(())
        });
        let good = scope.spawn(|| get("192.0.2.2", "good"));
        let about_good = || {
            let seen = issuer.upstream.seen();
            let is_good = |body: &[u8]| String::from_utf8_lossy(body).ends_with("token=good");
            seen.iter().position(|asked| is_good(&asked.body))
        };
        let place = wait_for("the other's question", about_good);
        assert_eq!(
            place, 8,
            "it was asked about before any of the junk was answered"
        );
        assert_eq!(good.join().unwrap(), 200);
    });
}

#[test]
fn a_jwt_is_verified_with_keys_and_introspected_without_them() {
    let signer = Signer::es256();
    let token = signer.token("k", &claims(&json!({})));
    // Without a key set.
    let scene = scene("");
    scene.issuer.knows(&token, &json!({}));
    scene.get("/protected/x", &token).expect(200);
    assert_eq!(scene.issuer.count(), 1);
    // With a key set.
    let keys = KeyServer::with(&[signer.jwk("k")]);
    let with_keys = format!("jwks_url = \"http://{}/jwks\"", keys.address());
    let scene = self::scene(&with_keys);
    scene.issuer.knows(&token, &json!({}));
    scene.issuer.knows("opaque", &json!({"aud": [AUDIENCE]}));
    wait_for("keys", || {
        (scene.get("/protected/x", &token).status == 200).then_some(())
    });
    let forged = Signer::es256().token("k", &claims(&json!({})));
    scene.issuer.knows(&forged, &json!({}));
    scene
        .get("/protected/x", &forged)
        .refused(401, "bearer_invalid");
    assert_eq!(scene.issuer.count(), 0);
    scene.get("/protected/x", "opaque").expect(200);
    assert_eq!(scene.issuer.count(), 1);
}
