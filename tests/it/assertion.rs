//! `X-Auth-Assertion`: the identity for an upstream, signed, and useless for any other request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::routes::{route, routes};
use crate::harness::tokens::{Signer, b64, part};
use crate::harness::tools::{node, python};
use crate::harness::upstream::Upstream;
use crate::harness::{at_once, epoch_s};

#[path = "../../docs/assertion/verify.rs"]
#[expect(unreachable_pub, reason = "an example, as others would have it")]
mod verify;

const HEADER: &str = "X-Auth-Assertion";
const TYP: &str = "doorward-assertion+jwt";

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::start();
    let with = |path: &str, require: &str| format!("{}assertion = true\n", route(path, require));
    // On disk, so that the key can be read from there.
    let text = format!(
        "{}{}{}{}",
        routes(&upstream),
        with("/told/{id}/**", "\"authenticated\""),
        with("/open/**", "\"public\""),
        with(
            "/renamed/**",
            "\"optional\"\nidentity_headers = { assertion = \"X-Vouched\" }"
        )
    );
    (upstream, Gateway::start_on("sled", &text))
}

/// Returns the assertion of the upstream's last request.
fn told(upstream: &Upstream) -> String {
    upstream.last().header(HEADER).unwrap().to_owned()
}

fn issuer(gateway: &Gateway) -> String {
    format!("http://{}", gateway.address)
}

/// Returns the published keys.
fn published(gateway: &Gateway) -> Value {
    gateway
        .get("/.well-known/jwks.json")
        .send()
        .expect(200)
        .json()
}

/// Reads the private key that signs assertions from the file that only the gateway's user can read.
fn stolen(gateway: &Gateway) -> (String, Signer) {
    let file = fs::read(gateway.dir().join("store/keys/assertion.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let keys = file["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["state"] == "active").unwrap();
    let private = STANDARD.decode(key["private"].as_str().unwrap()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(&private).unwrap();
    (key["kid"].as_str().unwrap().to_owned(), Signer::EdDsa(pair))
}

#[test]
fn an_assertion_names_caller_and_request_for_half_a_minute() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway.member("anna", "42", "member");
    gateway
        .get("/told/42/notes?page=2")
        .by(&anna.caller())
        .header(HEADER, "forged")
        .send()
        .expect(200);
    assert_eq!(
        upstream
            .last()
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(HEADER))
            .count(),
        1
    );
    let assertion = told(&upstream);
    let (header, claims) = (part(&assertion, 0), part(&assertion, 1));
    assert_eq!(header["typ"], TYP);
    assert_eq!(header["alg"], "EdDSA");
    let iat = claims["iat"].as_u64().unwrap();
    assert!(epoch_s() - iat < 20, "{claims}");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"/told/42/notes");
    let expected = json!({
        "iss": issuer(&gateway),
        "aud": "main",
        "sub": anna.uid,
        "iat": iat,
        "exp": iat + 30,
        "route": "/told/{id}/**",
        "htm": "GET",
        "path_s256": b64(digest.as_ref()),
        "auth_method": "jwt",
        "username": "anna",
        "roles": ["user", "list-42-invitee", "list-42-member"],
        "scope": upstream.last().header("X-Auth-Scopes").unwrap_or_default(),
    });
    assert_eq!(claims, expected);

    gateway.get("/open/x").send().expect(200);
    let claims = part(&told(&upstream), 1);
    assert_eq!(claims["auth_method"], "anonymous");
    assert_eq!(
        (&claims["sub"], &claims["roles"]),
        (&Value::Null, &json!([]))
    );

    gateway.get("/renamed/x").send().expect(200);
    assert!(upstream.last().header("X-Vouched").is_some());
    assert_eq!(upstream.last().header(HEADER), None);
    gateway
        .get("/protected/x")
        .bearer(&anna.jwt)
        .send()
        .expect(200);
    assert_eq!(upstream.last().header(HEADER), None);
}

#[test]
fn an_assertion_is_reused_only_for_the_same_request() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    let ask = |method: &str, path: &str| {
        gateway
            .request(method, path)
            .by(&anna.caller())
            .send()
            .expect(200);
        told(&upstream)
    };
    let first = ask("GET", "/told/42/a");
    assert_eq!(ask("GET", "/told/42/a?other=query"), first);
    assert_ne!(ask("GET", "/told/42/b"), first);
    assert_ne!(ask("POST", "/told/42/a"), first);
    gateway.member("anna", "42", "member");
    let roles = &part(&ask("GET", "/told/42/a"), 1)["roles"];
    assert_eq!(*roles, json!(["user", "list-42-invitee", "list-42-member"]));
    let key = gateway.key(&anna, &[]);
    gateway.get_by(&key.caller(), "/told/42/a").expect(200);
    let claims = part(&told(&upstream), 1);
    assert_eq!(claims["auth_method"], "apikey");
    assert_eq!(claims["key_id"], json!(key.id));
}

#[test]
fn it_opens_nothing_at_the_gateway() {
    let (upstream, gateway) = gateway();
    let root = gateway.administrator("root");
    gateway.get_by(&root.caller(), "/told/1/a").expect(200);
    let assertion = told(&upstream);
    gateway
        .get("/told/1/a")
        .bearer(&assertion)
        .send()
        .refused(401, "bearer_invalid");
    gateway
        .get("/auth/me")
        .bearer(&assertion)
        .send()
        .refused_as(401);
    let answer = gateway
        .post("/auth/introspect")
        .by(&root.caller())
        .form(&[("token", &assertion)])
        .send()
        .expect(200);
    assert_eq!(answer.json(), json!({"active": false}));
}

#[test]
fn its_keys_are_published_ahead_and_rotate_with_the_others() {
    let (upstream, gateway) = gateway();
    let kids = || -> Vec<String> {
        let keys = published(&gateway);
        let keys = keys["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let signer = |path: &str| {
        gateway.get(path).send().expect(200);
        part(&told(&upstream), 0)["kid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = signer("/open/1");
    let before = kids();
    assert_eq!(before.len(), 4, "two that sign, two that will");
    assert!(before.contains(&first));
    gateway.cli(&["keys", "rotate"], "").done();
    let second = signer("/open/2");
    assert_ne!(second, first);
    assert!(before.contains(&second), "published before it signed");
    assert!(kids().contains(&first), "what it signed is still read");
    let list = gateway.cli(&["keys", "list"], "").done().all();
    for word in [&first, &second, "access_token", "assertion"] {
        assert!(list.contains(word), "{word}: {list}");
    }
}

#[test]
fn explain_names_it_and_signs_nothing() {
    let (_upstream, gateway) = gateway();
    let told = gateway.cli(&["explain", "GET", "/open/x"], "").done().all();
    assert!(
        told.to_lowercase()
            .contains("x-auth-assertion: (signed when it is sent)"),
        "{told}"
    );
}

/// A supposed assertion, and the request that it came with.
struct Case {
    what: &'static str,
    assertion: String,
    method: &'static str,
    path: &'static str,
    counts: bool,
}

/// Cases that verifiers must distinguish. The wrong ones are signed with the right key, except the last two.
fn cases(gateway: &Gateway, good: &str, access_token: &str) -> Vec<Case> {
    let (kid, key) = stolen(gateway);
    let (header, claims) = (part(good, 0), part(good, 1));
    assert_eq!(header["kid"], json!(kid));
    let signed = |header: &Value, name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        key.token_of(&header.to_string(), &claims.to_string())
    };
    let typ = json!({"alg": "EdDSA", "kid": kid, "typ": "JWT"});
    let case = |what, assertion: String| Case {
        what,
        assertion,
        method: "GET",
        path: "/told/42/notes",
        counts: false,
    };
    let good_case = || Case {
        counts: true,
        ..case("as it came", good.to_owned())
    };
    vec![
        good_case(),
        Case {
            what: "another path",
            counts: false,
            path: "/told/42/note",
            ..good_case()
        },
        Case {
            what: "with the query",
            counts: false,
            path: "/told/42/notes?page=2",
            ..good_case()
        },
        Case {
            what: "another method",
            counts: false,
            method: "DELETE",
            ..good_case()
        },
        case("another upstream", signed(&header, "aud", json!("other"))),
        case(
            "another issuer",
            signed(&header, "iss", json!("http://evil.test")),
        ),
        // Most libraries allow a leeway of a minute.
        case("expired", signed(&header, "exp", json!(epoch_s() - 90))),
        case("another kind", signed(&typ, "aud", json!("main"))),
        case("an access token", access_token.to_owned()),
        case("a bit off", {
            let mut text = good.to_owned();
            let last = text.len() - 5;
            let other = if text.as_bytes()[last] == b'A' {
                "B"
            } else {
                "A"
            };
            text.replace_range(last..=last, other);
            text
        }),
    ]
}

fn judged(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim() {
        "counts" => true,
        "refused" => false,
        other => panic!("{other} {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs/assertion")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// Returns an example with the test's gateway in place of the one it names.
fn adapted(name: &str, gateway: &Gateway) -> String {
    let text = example(name).replace("http://127.0.0.1:8080", &issuer(gateway));
    text.replace("\"lists\"", "\"main\"")
}

/// Builds the example in Go.
fn built_go(dir: &Path) -> PathBuf {
    let source = dir.join("go");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("verify.go"), example("verify.go")).unwrap();
    fs::write(source.join("main.go"), GO).unwrap();
    let program = dir.join("verify-go");
    let build = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .args(["verify.go", "main.go"])
        .current_dir(source)
        .envs([
            ("GO111MODULE", "off"),
            ("GOFLAGS", ""),
            ("CGO_ENABLED", "0"),
        ])
        .env("GOCACHE", dir.join("cache"))
        .status();
    assert!(build.unwrap().success());
    program
}

#[test]
fn the_documented_verifiers_accept_only_right_assertions() {
    let (upstream, gateway) = gateway();
    let anna = gateway.person("anna");
    gateway
        .get("/told/42/notes")
        .by(&anna.caller())
        .send()
        .expect(200);
    let cases = cases(&gateway, &told(&upstream), &anna.jwt);

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("verify.py"), adapted("verify.py", &gateway)).unwrap();
    fs::write(dir.path().join("ask.py"), PYTHON).unwrap();
    let program = built_go(dir.path());
    // A module finds its packages in its own directory.
    let mjs = format!("{}\n{NODE}", adapted("verify.mjs", &gateway));
    let keys = published(&gateway).to_string();

    let run = |index: usize| {
        let Case {
            what,
            assertion,
            method,
            path,
            counts,
        } = &cases[index];
        let request = [assertion.as_str(), method, path];
        let mut by_python = Command::new(python("python"));
        by_python.arg(dir.path().join("ask.py")).args(request);
        let mut by_node = node();
        by_node
            .args(["--input-type=module", "--eval", &mjs, "--"])
            .args(request);
        let mut by_go = Command::new(&program);
        by_go
            .args([keys.as_str(), &issuer(&gateway), "main"])
            .args(request);
        for (language, command) in [
            ("python", &mut by_python),
            ("node", &mut by_node),
            ("go", &mut by_go),
        ] {
            assert_eq!(
                judged(&command.output().unwrap()),
                *counts,
                "{language}: {what}"
            );
        }
        let keys = serde_json::from_str(&keys).unwrap();
        let claims = verify::verify(&keys, &issuer(&gateway), "main", assertion, method, path);
        assert_eq!(claims.is_some(), *counts, "rust: {what}");
        if let Some(claims) = claims {
            assert_eq!(claims.sub.as_deref(), Some(anna.uid.as_str()));
            assert_eq!(claims.roles, ["user"]);
        }
    };
    at_once(cases.len(), run);
}

const PYTHON: &str = "import sys
from jwt import PyJWTError
from verify import verify
try:
    verify(*sys.argv[1:])
    print('counts')
except PyJWTError:
    print('refused')
";

const NODE: &str = "
const [assertion, method, path] = process.argv.slice(-3);
try {
  await verify(assertion, method, path);
  console.log('counts');
} catch (error) {
  console.log(error instanceof Error ? 'refused' : 'broken');
}
";

const GO: &str = "package main

import (
\t\"encoding/json\"
\t\"fmt\"
\t\"os\"
)

func main() {
\tvar keys KeySet
\tif json.Unmarshal([]byte(os.Args[1]), &keys) != nil {
\t\tpanic(\"keys\")
\t}
\tif _, err := Verify(keys, os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]); err != nil {
\t\tfmt.Println(\"refused\")
\t} else {
\t\tfmt.Println(\"counts\")
\t}
}
";
