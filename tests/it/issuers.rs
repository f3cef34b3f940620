//! Keys of foreign issuers over the network: fetched on first use, fresh while the issuer answers, and refused for that
//! issuer alone once it has been down too long.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use crate::harness::gateway::Gateway;
use crate::harness::http::Response;
use crate::harness::issuer::{KeyServer, Says, issuer, serve_tls, set, status};
use crate::harness::routes::routes;
use crate::harness::smtp::{MailServer, Tls};
use crate::harness::tokens::{ISSUER, Signer, claims, key_set};
use crate::harness::upstream::Upstream;
use crate::harness::{at_once, now, wait_for};

const OTHER: &str = "https://other.example.test";

/// A gateway with one issuer over the network and one with a file.
struct Scene {
    upstream: Upstream,
    keys: KeyServer,
    gateway: Gateway,
    old: Signer,
    new: Signer,
    other: Signer,
    _dir: tempfile::TempDir,
}

/// `more`: further lines of the issuer over the network.
fn scene(engine: &'static str, is_up: bool, more: &str) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, other) = (Signer::es256(), Signer::eddsa(), Signer::es256());
    let file = key_set(dir.path(), "other.json", &[other.jwk("other")]);
    let upstream = Upstream::start();
    let keys = KeyServer::start(if is_up {
        set(&[old.jwk("old")])
    } else {
        status(500)
    });
    let by_file = format!(
        "jwks_file = \"{}\"\nsubject_prefix = \"other:\"",
        file.display()
    );
    let gateway = Gateway::start_on(
        engine,
        &format!(
            "{}{}{}",
            keys.config(
                "corp",
                ISSUER,
                &format!("subject_prefix = \"corp:\"\n{more}")
            ),
            issuer("other", OTHER, &by_file),
            routes(&upstream)
        ),
    );
    Scene {
        upstream,
        keys,
        gateway,
        old,
        new,
        other,
        _dir: dir,
    }
}

impl Scene {
    fn get(&self, token: &str) -> Response {
        self.gateway.get("/protected/x").bearer(token).send()
    }

    /// Returns a token that was never used before.
    fn by_old(&self) -> String {
        self.old.token("old", &claims(&json!({ "jti": jti() })))
    }

    fn by_new(&self) -> String {
        self.new.token("new", &claims(&json!({ "jti": jti() })))
    }

    fn until(&self, status: u16) -> Response {
        wait_for(&format!("a {status}"), || {
            let answer = self.get(&self.by_old());
            (answer.status == status).then_some(answer)
        })
    }

    /// Expects that everything unrelated to the issuer works.
    fn rest_works(&self) {
        self.gateway.get("/public/x").send().expect(200);
        let other = self.other.token("other", &claims(&json!({ "iss": OTHER })));
        self.get(&other).expect(200);
        assert_eq!(self.gateway.readiness().unwrap().status, 200);
    }
}

fn jti() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn the_gateway_starts_without_its_issuer_and_finds_it_later() {
    let scene = scene("memory", false, "");
    let anna = scene.gateway.person("anna");
    let away = scene.until(503);
    assert_eq!(away.code(), "issuer_unavailable");
    assert!(away.header("retry-after").is_some());
    assert_eq!(scene.gateway.degraded(), ["issuer:corp"]);
    scene.rest_works();
    scene
        .gateway
        .get_by(&anna.caller(), "/protected/x")
        .expect(200);
    let count = scene.upstream.count();
    // Tokens that no key can verify are refused, not put off.
    for bad in [
        json!({"exp": 1}),
        json!({"aud": "somebody"}),
        json!({"exp": null}),
    ] {
        let token = scene.old.token("old", &claims(&bad));
        scene.get(&token).refused_as(401);
    }
    assert_eq!(scene.upstream.count(), count);
    scene.keys.says(set(&[scene.old.jwk("old")]));
    scene.until(200);
    assert_eq!(scene.gateway.degraded(), [""; 0]);
    let taken = "doorward_issuer_fetches_total{issuer=\"corp\",outcome=\"taken\"}";
    assert_eq!(scene.gateway.metric(taken), 1);
    let unreached = "doorward_issuer_fetches_total{issuer=\"corp\",outcome=\"unreached\"}";
    assert!(0 < scene.gateway.metric(unreached));
    assert_eq!(
        scene
            .gateway
            .metric("doorward_issuer_keys{issuer=\"corp\"}"),
        1
    );
    let fetched = "doorward_issuer_keys_fetched_timestamp_seconds{issuer=\"corp\"}";
    let age = crate::harness::epoch_s() - scene.gateway.metric(fetched);
    assert!(age < 20, "{age}");
}

#[test]
fn an_unknown_key_is_fetched_once_by_all_who_ask_and_takes_the_old_one_with_it() {
    let scene = scene("memory", true, "");
    scene.until(200);
    let kept = scene.by_old();
    // Often enough, and at once, for the cache of each worker thread.
    for _ in 0..4 {
        assert_eq!(at_once(16, |_| scene.get(&kept).status), [200; 16]);
    }
    let before = scene.keys.count();
    // Rotated: the old key is no longer published.
    scene.keys.says(Says::Slowly(
        Duration::from_millis(200),
        json!({ "keys": [scene.new.jwk("new")] }),
    ));
    let answers = at_once(16, |_| scene.get(&scene.by_new()).status);
    assert_eq!(answers, [200; 16], "no good token is refused meanwhile");
    assert_eq!(scene.keys.count(), before + 1, "one fetch for all");
    // A token signed by the old key is void, although it was verified before.
    scene.get(&kept).refused(401, "bearer_invalid");
    assert_eq!(at_once(16, |_| scene.get(&kept).status), [401; 16]);
    // Made-up key ids cause no additional fetches, and no request waits for them.
    let start = now();
    let answers = at_once(8, |index| {
        let kids = (0..20).map(|turn| format!("made-up-{index}-{turn}"));
        let tokens = kids.map(|kid| scene.old.token(&kid, &claims(&json!({}))));
        tokens
            .map(|token| scene.get(&token).status)
            .collect::<Vec<_>>()
    });
    assert!(answers.concat().iter().all(|status| *status == 401));
    assert!(start.elapsed() < Duration::from_secs(8));
    assert_eq!(scene.keys.count(), before + 1);
    let unknown = "doorward_issuer_unknown_kids_total{issuer=\"corp\"}";
    assert!(160 <= scene.gateway.metric(unknown));
    scene.get(&scene.by_new()).expect(200);
    scene.rest_works();
}

#[test]
fn a_key_that_comes_beside_the_old_one_voids_nothing() {
    let scene = scene("memory", true, "");
    scene.until(200);
    let kept = scene.by_old();
    scene.get(&kept).expect(200);
    scene
        .keys
        .says(set(&[scene.old.jwk("old"), scene.new.jwk("new")]));
    scene.get(&scene.by_new()).expect(200);
    let misses = || scene.gateway.metric("doorward_identity_cache_misses_total");
    let before = misses();
    scene.get(&kept).expect(200);
    assert_eq!(misses(), before, "still known");
}

#[test]
fn a_token_that_nothing_could_make_good_fetches_no_keys() {
    let scene = scene("memory", true, "");
    scene.until(200);
    let before = scene.keys.count();
    for bad in [json!({"exp": 1}), json!({"aud": "x"}), json!({"nbf": 1e10})] {
        let token = scene.new.token("new", &claims(&bad));
        scene.get(&token).refused_as(401);
    }
    assert_eq!(scene.keys.count(), before);
    // One fetch is still allowed.
    scene
        .keys
        .says(set(&[scene.old.jwk("old"), scene.new.jwk("new")]));
    scene.get(&scene.by_new()).expect(200);
}

#[test]
fn the_last_good_keys_serve_while_the_issuer_is_away_and_not_for_ever() {
    let scene = scene("memory", true, "stale_max_s = 4");
    scene.until(200);
    let kept = scene.by_old();
    scene.get(&kept).expect(200);
    scene.keys.says(Says::Nothing);
    wait_for("a failed fetch", || {
        (scene.gateway.degraded() == ["issuer:corp"]).then_some(())
    });
    scene.get(&scene.by_old()).expect(200);
    let closed = scene.until(503);
    assert_eq!(closed.code(), "issuer_unavailable");
    // A cached result is not used longer than its key.
    scene.get(&kept).refused(503, "issuer_unavailable");
    scene.rest_works();
    scene.keys.says(set(&[scene.old.jwk("old")]));
    scene.until(200);
    scene.get(&kept).expect(200);
}

#[test]
fn a_restart_while_the_issuer_is_away_finds_the_last_good_keys() {
    let scene = scene("sled", true, "");
    scene.until(200);
    let file = scene.gateway.dir().join("store/jwks/corp.jwks");
    wait_for("the saved keys", || file.exists().then_some(()));
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    scene.gateway.stop();
    scene.keys.says(status(503));
    scene.gateway.run();
    scene.get(&scene.by_old()).expect(200);
    wait_for("a failed fetch", || {
        (scene.gateway.degraded() == ["issuer:corp"]).then_some(())
    });
    scene.get(&scene.by_old()).expect(200);
    // A damaged file is ignored, and affects nothing else.
    scene.gateway.stop();
    let text = std::fs::read_to_string(&file).unwrap();
    let x = scene.old.jwk("old")["x"].as_str().unwrap().to_owned();
    let forged = text.replace(&x, scene.other.jwk("old")["x"].as_str().unwrap());
    assert_ne!(forged, text);
    std::fs::write(&file, forged).unwrap();
    scene.gateway.run();
    scene.until(503);
    scene.rest_works();
    scene.keys.says(set(&[scene.old.jwk("old")]));
    scene.until(200);
}

#[test]
fn explain_finds_the_keys_where_no_gateway_runs() {
    let scene = scene("memory", true, "");
    let token = scene.by_old();
    let kept = scene.gateway.dir().join("store/jwks/corp.jwks");
    wait_for("the saved keys", || kept.exists().then_some(()));
    scene.gateway.stop();
    std::fs::remove_file(kept).unwrap();
    let before = scene.keys.count();
    let explain = ["explain", "GET", "/protected/x", "--token", &token];
    let said = scene.gateway.command(&explain).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.starts_with("allow"), "{text}");
    assert_eq!(scene.keys.count(), before + 1);
}

#[test]
fn a_reload_keeps_the_state_of_an_unchanged_issuer() {
    let scene = scene("memory", true, "");
    scene.until(200);
    let before = scene.keys.count();
    let reload = |issuers: &str, count: usize| {
        scene
            .gateway
            .configure(&format!("{issuers}{}", routes(&scene.upstream)));
        scene.gateway.reload();
        let line = "configuration reloaded";
        wait_for(line, || {
            (scene.gateway.stderr().matches(line).count() == count).then_some(())
        });
    };
    let corp = |more| scene.keys.config("corp", ISSUER, more);
    // Even while its issuer is down, and with another meaning of its claims.
    scene.keys.says(Says::Nothing);
    reload(&corp("subject_prefix = \"corp:\""), 1);
    scene.get(&scene.by_old()).expect(200);
    assert_eq!(
        scene.upstream.last().header("x-auth-uid"),
        Some("corp:anna")
    );
    assert_eq!(scene.keys.count(), before, "nothing was fetched");
    // A different key set under the same name comes only from the new URL.
    let moved = KeyServer::with(&[scene.new.jwk("new")]);
    reload(&moved.config("corp", ISSUER, ""), 2);
    wait_for("a fetch", || {
        (scene.get(&scene.by_new()).status == 200).then_some(())
    });
    scene.get(&scene.by_old()).refused(401, "bearer_invalid");
    reload("", 3);
    scene.get(&scene.by_new()).refused(401, "bearer_invalid");
    let metrics = scene.gateway.admin_get("/metrics");
    assert!(!metrics.text().contains("issuer=\"corp\""));
    let count = moved.count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(moved.count(), count);
}

#[test]
fn discovery_names_the_keys_on_the_hosts_of_the_issuer_only() {
    let signer = Signer::es256();
    let keys = KeyServer::with(&[signer.jwk("k")]);
    let port = keys.address().port();
    let iss = format!("http://127.0.0.1:{port}/realm");
    let name = |jwks_uri: String| {
        let document = json!({ "issuer": iss, "jwks_uri": jwks_uri });
        keys.says_at(
            "/realm/.well-known/openid-configuration",
            Says::Json(document, ""),
        );
    };
    let upstream = Upstream::start();
    let start = |more: &str| {
        let corp = issuer("corp", &iss, &format!("discovery = true\n{more}"));
        Gateway::start(&format!("{corp}{}", routes(&upstream)))
    };
    let token = signer.token("k", &claims(&json!({ "iss": iss })));
    let get = |gateway: &Gateway| gateway.get("/protected/x").bearer(&token).send().status;

    name(format!("http://127.0.0.1:{port}/keys"));
    let gateway = start("");
    wait_for("keys", || (get(&gateway) == 200).then_some(()));
    let targets: Vec<_> = keys.upstream.seen().into_iter().map(|s| s.target).collect();
    assert_eq!(
        targets,
        ["/realm/.well-known/openid-configuration", "/keys"]
    );

    name(format!("http://localhost:{port}/elsewhere"));
    let gateway = start("");
    wait_for("a refusal", || {
        gateway
            .stderr()
            .contains("that is not allowed")
            .then_some(())
    });
    assert_eq!(get(&gateway), 503);
    let refused = "doorward_issuer_fetches_total{issuer=\"corp\",outcome=\"refused\"}";
    assert!(0 < gateway.metric(refused));
    let asked = |path: &str| keys.upstream.seen().iter().any(|seen| seen.target == path);
    assert!(!asked("/elsewhere"));

    let gateway = start("jwks_hosts = [\"localhost\"]");
    wait_for("keys", || (get(&gateway) == 200).then_some(()));
    assert!(asked("/elsewhere"));
}

#[test]
fn an_issuer_proves_by_tls_who_it_is() {
    // Used only for its certificates.
    let authorities = MailServer::prepare(Tls::Required);
    let signer = Signer::es256();
    let document = json!({ "keys": [signer.jwk("k")] });
    let serve = |identity| serve_tls(&authorities.authority(identity), &document);
    let upstream = Upstream::start();
    let token = signer.token("k", &claims(&json!({})));
    let cases = [
        ("127.0.0.1", "server", "ca", 200),
        ("127.0.0.1", "server", "other", 503),
        ("127.0.0.1", "stranger", "ca", 503),
        ("localhost", "server", "ca", 503),
    ];
    for (host, identity, authority, status) in cases {
        let port = serve(identity).port();
        let corp = issuer(
            "corp",
            ISSUER,
            &format!(
                "jwks_url = \"https://{host}:{port}/jwks\"\nca_file = \"{}\"",
                authorities.authority(authority).display()
            ),
        );
        let gateway = Gateway::start(&format!("{corp}{}", routes(&upstream)));
        let get = || gateway.get("/protected/x").bearer(&token).send().status;
        let about = format!("{host} {identity} {authority}");
        if status == 503 {
            wait_for(&about, || {
                gateway
                    .stderr()
                    .contains("failed the TLS handshake")
                    .then_some(())
            });
        }
        wait_for(&about, || (get() == status).then_some(()));
    }
}

#[test]
fn a_broken_ca_file_prevents_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, "hello").unwrap();
    let gateway = Gateway::prepare(
        "memory",
        &issuer(
            "corp",
            ISSUER,
            &format!(
                "jwks_url = \"https://id.example.test/jwks\"\nca_file = \"{}\"",
                file.display()
            ),
        ),
    );
    let checked = gateway.command(&["check"]).output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(!checked.status.success());
    assert!(
        said.contains("issuer \"corp\"") && said.contains("it contains no certificate"),
        "{said}"
    );
}
