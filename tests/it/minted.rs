//! Tokens of independent libraries are accepted, in every algorithm.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use aws_lc_rs::rand;
use serde_json::{Map, Value, json};

use crate::harness::gateway::Gateway;
use crate::harness::issuer::issuer;
use crate::harness::routes::routes;
use crate::harness::tokens::{ISSUER, b64, claims, key_set};
use crate::harness::tools::{harness_file, node, python};
use crate::harness::upstream::Upstream;

/// Runs a program with this input and returns its output.
pub(crate) fn minted(mut program: Command, asked: &Value) -> Vec<Value> {
    let mut child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(asked.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_library_is_understood_in_each_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let mut hmac = Map::new();
    let mut config = String::new();
    for (alg, length) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let mut secret = vec![0; length];
        rand::fill(&mut secret).unwrap();
        let jwk = json!({"kty": "oct", "kid": alg, "alg": alg, "k": b64(&secret)});
        let file = dir.path().join(alg);
        std::fs::write(&file, jwk.to_string()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let iss = format!("https://{alg}.example.test");
        let source = format!(
            "secret_jwk_file = \"{}\"\nsubject_prefix = \"{alg}:\"",
            file.display()
        );
        config.push_str(&issuer(&alg.to_lowercase(), &iss, &source));
        hmac.insert(alg.to_owned(), json!({"iss": iss, "jwk": jwk}));
    }
    let asked = json!({"claims": claims(&json!({})), "hmac": hmac});
    let mut with_python = Command::new(python("python"));
    with_python.arg(harness_file("mint.py"));
    let mut with_node = node();
    with_node.arg(harness_file("mint.mjs")).arg(".");
    let mut all = minted(with_python, &asked);
    all.extend(minted(with_node, &asked));
    assert_eq!(all.len(), 4 * 12);

    let keys: Vec<_> = all
        .iter()
        .filter_map(|one| one.get("jwk"))
        .cloned()
        .collect();
    let file = key_set(dir.path(), "keys.json", &keys);
    let source = format!(
        "jwks_file = \"{}\"\nsubject_prefix = \"corp:\"",
        file.display()
    );
    config.push_str(&issuer("corp", ISSUER, &source));
    let upstream = Upstream::start();
    let gateway = Gateway::start(&format!("{config}{}", routes(&upstream)));
    for one in &all {
        let about = format!("{} {}", one["library"], one["alg"]);
        let token = one["token"].as_str().unwrap();
        let answer = gateway.get("/protected/x").bearer(token).send();
        assert_eq!(answer.status, 200, "{about}");
        // The same token without its last byte is refused.
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let cut = format!("{signed}.{}", &signature[..signature.len() - 4]);
        let answer = gateway.get("/protected/x").bearer(&cut).send();
        assert_eq!(answer.status, 401, "{about}");
    }
}
