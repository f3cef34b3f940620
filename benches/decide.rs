//! The cost of a decision with warm caches: `cargo bench --bench decide`.
//!
//! Each case is one call of `Authorizer::decide`, including reading the identity headers of the grant as the proxy
//! does. Allocations are counted too: none may grow with the number of roles.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use divan::{AllocProfiler, Bencher, black_box};
use doorward::account::Accounts;
use doorward::account::call::Call;
use doorward::account::login::SessionCarrier;
use doorward::account::register::NewPerson;
use doorward::auth::grant::Decision;
use doorward::auth::view::RequestView;
use doorward::config::{Config, EnvOverlay};
use doorward::model::access::{Membership, Name, ResourceId};
use doorward::model::account::Account;
use doorward::model::api_key::NewKey;
use doorward::model::field::Checked;
use doorward::model::path::CanonicalPath;
use doorward::model::secret::Secret;
use doorward::route::normalize::canonical;
use doorward::snapshot::Snapshot;
use doorward::store::MembershipChange;
use doorward::telemetry::output::{AuditOutput, Output};
use http::{HeaderMap, HeaderValue, Method};

#[global_allocator]
static ALLOCATOR: AllocProfiler<mimalloc::MiMalloc> = AllocProfiler::new(mimalloc::MiMalloc);

const CONFIG: &str = r#"
[store]
engine = "memory"
path = "target/bench-decide"
[mail]
transport = "stdout"
[[upstream]]
name = "echo"
addresses = ["builtin:echo"]
[[route]]
path = "/public/**"
upstream = "echo"
require = "public"
[[route]]
path = "/hello/**"
upstream = "echo"
require = "authenticated"
[[route]]
path = "/told/**"
upstream = "echo"
require = "authenticated"
assertion = true
[[route]]
path = "/lists/{id}/**"
upstream = "echo"
require = { any_role = ["admin", "list-{id}-member"] }
[[route]]
path = "/events/{id}/**"
upstream = "echo"
require = { any_role = ["admin", "event-{id}-member"] }
[[role_source]]
resources = ["event"]
url = "http://SOURCE/m?uid={uid}&id={id}"
ttl_s = 86400
"#;

/// The answer of the role source in [`CONFIG`] to every query.
const ANSWER: &str = r#"[{"resource":"event","id":"7","level":"manager"}]"#;

/// Starts a role source on its own port; it ends with the process.
fn source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let length = ANSWER.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{ANSWER}"
            )
            .unwrap();
        }
    });
    address
}

const PASSWORD: &str = "correct horse battery";

/// A gateway in memory with one account that has a login, an API key and some memberships.
struct Setup {
    snapshot: Snapshot,
    bearer: HeaderMap,
    api_key: HeaderMap,
    /// Header fields with an API key that is bound to networks.
    bound_key: HeaderMap,
}

/// Returns the header fields of a small request with one credential.
fn headers(name: &'static str, credential: &str) -> HeaderMap {
    HeaderMap::from_iter([
        (
            http::header::HOST,
            HeaderValue::from_static("api.example.com"),
        ),
        (http::header::USER_AGENT, HeaderValue::from_static("bench")),
        (
            http::HeaderName::from_static(name),
            HeaderValue::from_str(credential).unwrap(),
        ),
    ])
}

/// Creates an API key and returns the header fields of a request with it.
async fn key(accounts: &Accounts, owner: &Account, wanted: NewKey) -> HeaderMap {
    let created = accounts
        .create_api_key_for(&Call::cli(), owner, wanted)
        .await
        .unwrap();
    headers("x-api-key", created.secret.expose())
}

impl Setup {
    fn new(memberships: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let text = CONFIG.replace("SOURCE", &source().to_string());
            let (config, _) =
                Config::parse(&text, &EnvOverlay::from_pairs::<String, String>([])).unwrap();
            let output = Output::start(AuditOutput::Stderr).unwrap();
            let services = doorward::snapshot::services::open(
                &config,
                doorward::snapshot::services::StoreAccess::Made,
                output,
            )
            .await
            .unwrap();
            let store = Arc::clone(&services.store);
            let snapshot = Snapshot::build(Arc::new(config), services).unwrap();
            let accounts = &snapshot.accounts;
            let person = NewPerson::parse("anna@example.org", "anna", "Anna").unwrap();
            let password = || Secret::new(PASSWORD.to_owned());
            let account = accounts
                .create(&Call::cli(), person, false, Some(password()))
                .await
                .unwrap();
            for number in 0..memberships {
                let membership = Membership {
                    resource: Name::parse("list").unwrap(),
                    id: ResourceId::parse(&number.to_string()).unwrap(),
                    level: Name::parse("manager").unwrap(),
                };
                assert_eq!(
                    store
                        .set_membership(&account.uid, membership, None)
                        .await
                        .unwrap(),
                    MembershipChange::Done
                );
            }
            let opened = accounts
                .login(&Call::cli(), "anna", password(), SessionCarrier::Program)
                .await
                .unwrap();
            // Read again, because each membership has advanced its generation.
            let account = store.account(&account.uid).await.unwrap().unwrap();
            let networks = ["192.0.2.0/24", "2001:db8::/32", "127.0.0.0/8"];
            let bound = NewKey {
                allow_from: Some(Checked::of(networks.map(str::to_owned).to_vec())),
                ..NewKey::default()
            };
            let bound_key = key(accounts, &account, bound).await;
            let api_key = key(accounts, &account, NewKey::default()).await;
            let bearer = headers(
                "authorization",
                &format!("Bearer {}", opened.access_token.expose()),
            );
            Self {
                snapshot,
                bearer,
                api_key,
                bound_key,
            }
        })
    }

    fn decide(&self, path: &CanonicalPath, headers: &HeaderMap) -> usize {
        let view = RequestView {
            method: &Method::GET,
            host: "api.example.com",
            scheme: "http",
            authority: "api.example.com",
            path,
            headers,
            client: std::net::IpAddr::from([127, 0, 0, 1]),
        };
        let Poll::Ready(Decision::Allow(grant)) = pin!(self.snapshot.authorizer.decide(&view))
            .poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("refused, or waited for something")
        };
        grant
            .identity_headers()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum()
    }

    fn bench(&self, bencher: Bencher<'_, '_>, path: &str, headers: &HeaderMap) {
        let path = canonical(path).unwrap().path;
        // The first decision verifies the credential and fills the caches.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let view = RequestView {
            method: &Method::GET,
            host: "api.example.com",
            scheme: "http",
            authority: "api.example.com",
            path: &path,
            headers,
            client: std::net::IpAddr::from([127, 0, 0, 1]),
        };
        let warm = runtime.block_on(self.snapshot.authorizer.decide(&view));
        assert!(matches!(warm, Decision::Allow(_)));
        bencher.bench_local(|| self.decide(black_box(&path), black_box(headers)));
    }
}

/// No credential is read.
#[divan::bench]
fn public(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(0);
    setup.bench(bencher, "/public/x", &HeaderMap::new());
}

/// An ES256 token of the gateway, verified before.
#[divan::bench(args = [0, 10_000])]
fn jwt_hit(bencher: Bencher<'_, '_>, memberships: usize) {
    let setup = Setup::new(memberships);
    setup.bench(bencher, "/hello/world", &setup.bearer);
}

/// The same, with an assertion from the cache.
#[divan::bench]
fn asserted(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(0);
    setup.bench(bencher, "/told/world", &setup.bearer);
}

/// An API key verified before.
#[divan::bench(args = [0, 10_000])]
fn api_key_hit(bencher: Bencher<'_, '_>, memberships: usize) {
    let setup = Setup::new(memberships);
    setup.bench(bencher, "/hello/world", &setup.api_key);
}

/// An API key bound to networks, verified before.
#[divan::bench]
fn bound_api_key_hit(bencher: Bencher<'_, '_>) {
    let setup = Setup::new(0);
    setup.bench(bencher, "/hello/world", &setup.bound_key);
}

/// A role from a role source, in the cache.
#[divan::bench(args = [0, 10_000])]
fn sourced_role(bencher: Bencher<'_, '_>, memberships: usize) {
    let setup = Setup::new(memberships);
    setup.bench(bencher, "/events/7/items", &setup.bearer);
}

/// A role bound to the resource of the path, with this many memberships.
#[divan::bench(args = [43, 10_000])]
fn resource_role(bencher: Bencher<'_, '_>, memberships: usize) {
    let setup = Setup::new(memberships);
    setup.bench(bencher, "/lists/42/items", &setup.bearer);
}

/// From the received path to the canonical form that is matched.
#[divan::bench(args = ["/lists/42/items", "/a/b/c/d/e/f/g/h?x=1", "/caf%c3%a9/%7Eanna"])]
fn canonical_path(target: &str) -> usize {
    canonical(black_box(target)).unwrap().path.as_str().len()
}

fn main() {
    divan::main();
}
