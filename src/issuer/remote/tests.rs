use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::model::clock::ManualClock;
use crate::model::endpoint::Endpoint;
use crate::telemetry::metrics::Metrics;

const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn key(kid: &str) -> serde_json::Value {
    json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": kid, "alg": "ES256"})
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn keys(kids: &[&str]) -> String {
    let keys: Vec<_> = kids.iter().map(|kid| key(kid)).collect();
    ok(&json!({ "keys": keys }).to_string())
}

/// A server that answers each request with the current bytes.
struct Server {
    says: Arc<StdMutex<String>>,
    asked: Arc<AtomicUsize>,
    keys: Arc<RemoteKeys>,
    clock: Arc<ManualClock>,
    course: FetchState,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(says: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let says = Arc::new(StdMutex::new(says.to_owned()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shared, counted) = (Arc::clone(&says), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let bytes = shared.lock().unwrap().clone();
                let _ = stream.write_all(bytes.as_bytes()).await;
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000_000)));
        let source = KeySetSource::Url(Endpoint::parse(&url).unwrap());
        let keys = RemoteKeys::new(RemoteKeysParts {
            name: "corp".to_owned(),
            kept: KeySetFile::new((&dir.path().join("jwks"), true), "corp", "iss", url),
            source,
            algorithms: Vec::new(),
            stale_max: Duration::from_hours(1),
            trust: Trust::of_system().unwrap(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            metrics: Metrics::new().issuers.of("corp"),
        });
        Self {
            says,
            asked,
            keys: Arc::new(keys),
            clock,
            course: FetchState::default(),
            _dir: dir,
        }
    }

    fn says(&self, bytes: &str) {
        bytes.clone_into(&mut self.says.lock().unwrap());
    }

    async fn turn(&mut self) -> Duration {
        self.keys.turn(&mut self.course).await
    }

    fn kids(&self) -> Vec<String> {
        let held = self.keys.usable();
        let keys = held.iter().flat_map(|held| held.keys.keys());
        keys.filter_map(|key| key.kid().map(str::to_owned))
            .collect()
    }
}

#[tokio::test]
async fn nothing_but_a_usable_set_takes_the_place_of_the_last_one() {
    let mut server = Server::start(&keys(&["a"])).await;
    server.turn().await;
    assert_eq!(server.kids(), ["a"]);
    let secret = json!({"keys": [{"kty": "oct", "kid": "b", "k": "AAAA"}]});
    let private = {
        let mut key = key("b");
        key["d"] = json!("AAAA");
        json!({ "keys": [key] })
    };
    let long = format!(
        "{{\"keys\":[{}],\"pad\":\"{}\"}}",
        key("b"),
        "x".repeat(1 << 20)
    );
    let many: Vec<_> = (0..101).map(|n| key(&n.to_string())).collect();
    let bad = [
        String::new(),
        "garbage".to_owned(),
        ok(""),
        ok("null"),
        ok("{}"),
        ok("{\"keys\":[]}"),
        ok("{\"keys\":{}}"),
        ok(&key("b").to_string()),
        ok(&json!([key("b")]).to_string()),
        ok(&json!({ "keys": many }).to_string()),
        ok(&secret.to_string()),
        ok(&private.to_string()),
        ok(&long),
        ok(&format!(
            "{{\"keys\":{}{}}}",
            "[".repeat(20_000),
            "]".repeat(20_000)
        )),
        keys(&["b"]).replace("200 OK", "500 No"),
        keys(&["b"]).replace("200 OK", "203 Other"),
        keys(&["b"]).replace("200 OK", "301 Moved\r\nLocation: /b"),
        // The header promises more bytes than are sent.
        keys(&["b"]).replacen("Content-Length: 1", "Content-Length: 9", 1),
    ];
    for answer in bad {
        server.says(&answer);
        let pause = server.turn().await;
        assert_eq!(server.kids(), ["a"], "{answer:.80}");
        assert!(server.keys.is_degraded(), "{answer:.80}");
        assert!(pause <= Duration::from_secs(30));
    }
    server.says(&keys(&["b"]));
    server.turn().await;
    assert_eq!(server.kids(), ["b"]);
    assert!(!server.keys.is_degraded());
    // A refused set was not written to disk either.
    let kept = server.keys.parts.kept.read(server.clock.now()).unwrap();
    assert!(kept.document.contains("\"b\"") && !kept.document.contains("\"oct\""));
}

#[tokio::test]
async fn a_generation_moves_when_a_key_goes_and_time_ends_them_all() {
    let mut server = Server::start(&keys(&["a"])).await;
    let mut generations = Vec::new();
    for kids in [
        ["a"].as_slice(),
        &["a", "b"],
        &["a", "b"],
        &["b"],
        &["b", "a"],
    ] {
        server.says(&keys(kids));
        server.turn().await;
        let held = server.keys.usable().unwrap();
        assert!(server.keys.is_current(held.generation, server.clock.now()));
        generations.push(held.generation);
    }
    assert_eq!(generations, [0, 0, 0, 1, 1]);
    assert!(!server.keys.is_current(0, server.clock.now()));
    server.says("");
    server.clock.advance(Duration::from_secs(3599));
    server.turn().await;
    assert!(server.keys.is_current(1, server.clock.now()));
    server.clock.advance(Duration::from_secs(1));
    assert!(!server.keys.is_current(1, server.clock.now()));
    assert!(server.keys.held().await.is_none());
    server.says(&keys(&["b"]));
    server.turn().await;
    assert!(server.keys.held().await.is_some());
}

#[tokio::test]
async fn a_missing_key_is_looked_for_each_30_s_and_a_known_gap_not_until_the_next_fetch() {
    let mut server = Server::start(&keys(&["a"])).await;
    server.turn().await;
    let shared = Arc::clone(&server.keys);
    let fetching = tokio::spawn(async move { shared.keep_fresh().await });
    let asked = || server.asked.load(Ordering::SeqCst);
    // The task begins with a fetch.
    while asked() < 2 {
        tokio::task::yield_now().await;
    }
    while server.keys.progress.borrow().ended < 2 {
        tokio::task::yield_now().await;
    }
    assert!(server.keys.refetched("x").await.is_none());
    assert_eq!(asked(), 3);
    // In between, no request causes a fetch or waits for one.
    for kid in ["x", "y", "z"] {
        assert!(server.keys.refetched(kid).await.is_none());
    }
    assert_eq!(asked(), 3);
    server.clock.advance(Duration::from_secs(30));
    // The id is known to be missing, and nothing was fetched since.
    assert!(server.keys.refetched("x").await.is_none());
    assert_eq!(asked(), 3);
    server.says(&keys(&["a", "y"]));
    let found = server.keys.refetched("y").await;
    assert!(found.is_some_and(|held| held.keys.has_kid("y")));
    assert_eq!(asked(), 4);
    fetching.abort();
}

#[tokio::test]
async fn all_who_miss_a_key_at_once_get_it() {
    let mut server = Server::start(&keys(&["a"])).await;
    server.turn().await;
    server.says(&keys(&["b"]));
    let keys = Arc::clone(&server.keys);
    // The second request arrives when the fetch is requested but has not begun.
    let (first, second, _) = tokio::join!(
        biased;
        keys.refetched("b"),
        keys.refetched("b"),
        server.turn(),
    );
    assert!(first.is_some() && second.is_some());
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    // The third request saw the previous set, and asks after it was replaced.
    assert!(keys.refetched("b").await.is_some());
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
}
