//! A certified OpenID provider, independent of this project: found by discovery, followed through a rotation, asked
//! about its opaque tokens.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::gateway::Gateway;
use crate::harness::http;
use crate::harness::issuer::issuer;
use crate::harness::routes::routes;
use crate::harness::tools::{harness_file, node};
use crate::harness::upstream::Upstream;
use crate::harness::{free_port, wait_for};

const CLIENT: (&str, &str) = ("door", "a-secret-of-the-provider");
const ALGORITHMS: [&str; 5] = ["RS256", "PS384", "ES256", "ES384", "EdDSA"];

/// The provider; it ends when its standard input is closed.
struct Provider {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Provider {
    fn start() -> Self {
        let port = free_port();
        let mut child = node()
            .arg(harness_file("provider.mjs"))
            .args([".", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut provider = Self {
            child,
            stdin,
            stdout,
            address,
        };
        provider.hear("ready");
        provider
    }

    /// Reads lines until one contains that word; the provider prints notices of its own.
    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            let count = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(count, 0, "the provider has ended");
        }
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{word}").unwrap();
        self.hear("done");
    }

    fn iss(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Posts a form as the provider's client.
fn post(address: SocketAddr, target: &str, form: &str) -> http::Response {
    let basic = STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
    let length = form.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{form}"
    );
    http::send(address, request).pop().unwrap()
}

/// Returns a new token of a kind.
fn token(address: SocketAddr, kind: &str) -> String {
    let form = format!("grant_type=client_credentials&scope=reports:read&resource=urn:door:{kind}");
    post(address, "/token", &form)
        .expect(200)
        .member("access_token")
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn its_keys_are_found_followed_and_given_up() {
    let mut provider = Provider::start();
    let address = provider.address;
    let upstream = Upstream::start();
    let corp = issuer("corp", &provider.iss(), "discovery = true");
    let gateway = Gateway::start(&format!("{corp}{}", routes(&upstream)));
    let get = |token: &str| gateway.get("/reports/x").bearer(token).send().status;
    wait_for("its keys", || {
        (get(&token(address, "ES256")) == 200).then_some(())
    });
    for alg in ALGORITHMS {
        assert_eq!(get(&token(address, alg)), 200, "{alg}");
        assert_eq!(upstream.last().header("x-auth-uid"), Some("door"), "{alg}");
    }
    // Rotation under traffic: each token is new, and none is refused, whichever key signed it.
    let kept = token(address, "ES256");
    let is_over = AtomicBool::new(false);
    let (before, refused) = std::thread::scope(|scope| {
        let traffic: Vec<_> = (0..4)
            .map(|thread| {
                let (is_over, get) = (&is_over, &get);
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while !is_over.load(Ordering::Acquire) || statuses.len() < 10 {
                        let alg = ALGORITHMS[(thread + statuses.len()) % ALGORITHMS.len()];
                        statuses.push(get(&token(address, alg)));
                    }
                    statuses
                })
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        provider.tell("rotate");
        let new = wait_for("a token of a new key", || {
            let token = token(address, "ES256");
            let kid = crate::harness::tokens::part(&token, 0)["kid"].clone();
            (kid == "1-ES256").then_some(token)
        });
        assert_eq!(get(&new), 200);
        std::thread::sleep(std::time::Duration::from_millis(300));
        is_over.store(true, Ordering::Release);
        let all: Vec<_> = traffic
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let refused = all.iter().filter(|status| **status != 200).count();
        (all.len(), refused)
    });
    assert_eq!(refused, 0, "of {before}");
    assert_eq!(get(&kept), 200);
    // While the provider is down, tokens it has signed are still accepted.
    provider.tell("stop");
    assert_eq!(get(&kept), 200);
}

#[test]
fn its_opaque_tokens_are_asked_about() {
    let provider = Provider::start();
    let address = provider.address;
    let upstream = Upstream::start();
    let corp = issuer(
        "corp",
        &provider.iss(),
        &format!(
            "discovery = true\nsubject_claim = \"client_id\"\nintrospection_url = \"{}/token/introspection\"\n\
             client_id = \"{}\"\nclient_secret = \"{}\"\nintrospection_ttl_s = 1",
            provider.iss(),
            CLIENT.0,
            CLIENT.1
        ),
    );
    let gateway = Gateway::start(&format!("{corp}{}", routes(&upstream)));
    gateway.secret(CLIENT.1);
    let get = |token: &str| gateway.get("/reports/x").bearer(token).send();
    let opaque = token(address, "opaque");
    assert!(!opaque.contains('.'), "{opaque}");
    gateway.secret(&opaque);
    get(&opaque).expect(200);
    assert_eq!(upstream.last().header("x-auth-uid"), Some("door"));
    assert_eq!(
        upstream.last().header("x-auth-scopes"),
        Some("reports:read")
    );
    wait_for("its keys", || {
        (get(&token(address, "ES256")).status == 200).then_some(())
    });
    get("not-one-of-its-tokens").refused(401, "bearer_invalid");
    // After its revocation it is refused soon.
    let revoked = post(address, "/token/revocation", &format!("token={opaque}"));
    assert_eq!(revoked.status, 200);
    wait_for("its end", || (get(&opaque).status == 401).then_some(()));
}
