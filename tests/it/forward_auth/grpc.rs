//! Envoy's questions over gRPC, sent by a client of the tests and by a real Envoy with a careless configuration. The
//! promises behind an Envoy that is configured as in the example are tested in `promises`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use serde_json::Value;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::forward_auth::promises::from_elsewhere;
use crate::forward_auth::proxies::{self, Behind};
use crate::harness::gateway::Gateway;
use crate::harness::people::{Caller, Person};
use crate::harness::request::Request as CallerRequest;
use crate::harness::routes::{route, routes};
use crate::harness::upstream::{Exchange, Upstream};
use crate::harness::{SOON, free_port, now, run, wait_for};

const SECRET: &str = "change-me-change-me";
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Another address of this machine, which no configuration here trusts.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// A gateway that answers over gRPC.
struct Scene {
    gateway: Gateway,
    grpc: SocketAddr,
    anna: Person,
    _upstream: Upstream,
}

impl Scene {
    fn start(more: &str) -> Self {
        Self::with("", more)
    }

    /// Starts it with more lines in `[listen]`.
    fn listening(listen: &str) -> Self {
        Self::with(listen, "")
    }

    fn with(listen: &str, more: &str) -> Self {
        let upstream = Upstream::start();
        let grpc = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let gateway = Gateway::start(&format!(
            "[listen]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n{listen}\
             [forward_auth]\nsecret = \"{SECRET}\"\ngrpc_address = \"{grpc}\"\n{}{more}",
            routes(&upstream)
        ));
        gateway.secret(SECRET);
        let anna = gateway.person("anna");
        gateway.secret(&anna.jwt);
        Self {
            gateway,
            grpc,
            anna,
            _upstream: upstream,
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.anna.jwt)
    }

    /// Asks as an allowed proxy.
    fn ask(&self, question: CheckRequest) -> Told {
        self.ask_as(LOOPBACK, &[SECRET], question)
    }

    fn ask_as(&self, from: IpAddr, secrets: &[&str], question: CheckRequest) -> Told {
        let answer = run(async {
            let mut client = AuthorizationClient::new(self.connect(from).await);
            client.check(with_secrets(secrets, question)).await
        });
        Told::read(answer.unwrap().into_inner())
    }

    async fn connect(&self, from: IpAddr) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.local_address(Some(from)).connect().await.unwrap()
    }

    fn record(&self, told: &Told) -> Value {
        self.gateway.record(told.field("x-request-id").unwrap())
    }
}

fn with_secrets(secrets: &[&str], question: CheckRequest) -> tonic::Request<CheckRequest> {
    let mut request = tonic::Request::new(question);
    for secret in secrets {
        request
            .metadata_mut()
            .append("x-doorward-secret", secret.parse().unwrap());
    }
    request
}

/// A question as Envoy asks it with `encode_raw_headers`.
fn question(method: &str, path: &str, fields: &[(&str, &str)]) -> CheckRequest {
    let pseudo = [
        (":method", method),
        (":path", path),
        (":authority", "a.test"),
        (":scheme", "http"),
    ];
    let raw = pseudo
        .iter()
        .chain(fields)
        .map(|(name, value)| HeaderValue {
            key: name.to_ascii_lowercase(),
            raw_value: value.as_bytes().to_vec(),
            ..HeaderValue::default()
        });
    let http = HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        host: "a.test".to_owned(),
        scheme: "http".to_owned(),
        header_map: Some(HeaderMap {
            headers: raw.collect(),
        }),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source("192.0.2.7")),
            request: Some(Request {
                http: Some(http),
                ..Request::default()
            }),
            ..AttributeContext::default()
        }),
    }
}

fn source(address: &str) -> Peer {
    let socket = SocketAddress {
        address: address.to_owned(),
        ..SocketAddress::default()
    };
    Peer {
        address: Some(Address {
            address: Some(Kind::SocketAddress(socket)),
        }),
        ..Peer::default()
    }
}

fn http_of(question: &mut CheckRequest) -> &mut HttpRequest {
    let request = question.attributes.as_mut().unwrap().request.as_mut();
    request.unwrap().http.as_mut().unwrap()
}

/// The decision as Envoy would carry it out.
#[derive(Debug)]
struct Told {
    passes: bool,
    status: i32,
    fields: Vec<(String, String)>,
    removed: Vec<String>,
    body: String,
}

impl Told {
    fn read(answer: CheckResponse) -> Self {
        let passes = answer.status.is_some_and(|status| status.code == 0);
        let (status, options, removed, body) = match answer.http_response.unwrap() {
            HttpResponse::OkResponse(ok) => (200, ok.headers, ok.headers_to_remove, String::new()),
            HttpResponse::DeniedResponse(denied) => {
                let status = denied.status.unwrap().code;
                (status, denied.headers, Vec::new(), denied.body)
            }
            HttpResponse::ErrorResponse(error) => panic!("{error:?}"),
        };
        assert_eq!(passes, status == 200);
        let fields = options.into_iter().map(|option| {
            // Envoy overwrites any value, also with an empty one.
            assert_eq!(option.append_action, 2, "{option:?}");
            assert!(option.keep_empty_value, "{option:?}");
            let field = option.header.unwrap();
            (field.key, field.value)
        });
        let fields = fields.collect();
        Self {
            passes,
            status,
            fields,
            removed,
            body,
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    #[track_caller]
    fn is_refused(&self, status: i32, code: &str) {
        assert!(!self.passes, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)));
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"].as_str(), self.field("x-request-id"));
        assert_eq!(self.field("cache-control"), Some("no-store"));
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let challenge = self.field("www-authenticate").unwrap_or_default();
        assert!(status != 401 || challenge.starts_with("Bearer"), "{self:?}");
        assert_eq!(self.field("retry-after").is_some(), status == 503);
    }
}

#[test]
fn questions_are_decided_and_recorded_as_the_requests_that_they_are_about() {
    let scene = Scene::start("");
    let key = scene.gateway.key(&scene.anna, &[]);
    let bearer = scene.bearer();
    let by_anna = [("Authorization", bearer.as_str())];
    let allowed = scene.ask(question("POST", "/protected/a%20b?c=d", &by_anna));
    assert!(allowed.passes, "{allowed:?}");
    for (name, value) in [
        ("x-auth-uid", scene.anna.uid.as_str()),
        ("x-auth-username", "anna"),
        ("x-auth-roles", "user"),
        ("x-auth-method", "jwt"),
        ("x-auth-key-id", ""),
        ("x-auth-assertion", ""),
    ] {
        assert_eq!(allowed.field(name), Some(value), "{name}");
    }
    let record = scene.record(&allowed);
    for (member, value) in [
        ("client", "192.0.2.7"),
        ("method", "POST"),
        ("host", "a.test"),
        ("path", "/protected/a%20b"),
        ("route", "/protected/**"),
        ("outcome", "allowed"),
        ("subject", scene.anna.uid.as_str()),
        ("method_authn", "jwt"),
    ] {
        assert_eq!(record[member], value, "{record}");
    }
    assert_eq!(record["status"], 200);

    let anonymous = scene.ask(question("GET", "/public/x", &[]));
    assert_eq!(anonymous.field("x-auth-method"), Some("anonymous"));
    assert_eq!(anonymous.field("x-auth-uid"), Some(""));
    let by_key = [("X-Api-Key", key.text.as_str())];
    let keyed = scene.ask(question("GET", "/protected/x", &by_key));
    assert_eq!(keyed.field("x-auth-key-id"), Some(key.id.as_str()));

    let twice = [by_anna[0], by_key[0]];
    for (method, path, fields, status, code) in [
        ("GET", "/protected/x", &[][..], 401, "credential_missing"),
        ("GET", "/nowhere", &by_anna[..], 403, "no_route"),
        ("GET", "/admin/x", &by_anna, 403, "role_missing"),
        ("GET", "/protected/x", &twice, 401, "credential_conflict"),
        ("GET", "/public/../protected/x", &[], 403, "path_refused"),
        ("GET", "/public/%2e%2e/x", &[], 403, "path_refused"),
        ("GET", "x", &[], 403, "path_refused"),
        ("TRACE", "/public/x", &[], 403, "method_refused"),
        ("G T", "/public/x", &[], 401, "request_malformed"),
    ] {
        let refused = scene.ask(question(method, path, fields));
        refused.is_refused(status, code);
        let record = scene.record(&refused);
        assert_eq!(
            (&record["outcome"], &record["reason"]),
            (&"denied".into(), &code.into())
        );
        assert_eq!(record["status"], status);
    }
    let page = scene.ask(question("GET", "/protected/x", &[("Accept", "text/html")]));
    assert_eq!((page.passes, page.status), (false, 302));
    let login = format!("http://{}/auth/login", scene.gateway.address);
    assert_eq!(page.field("location"), Some(login.as_str()));
    let metrics = scene.gateway.admin_get("/metrics").text().to_owned();
    let counted = "doorward_requests_total{outcome=\"allowed\",status=\"2xx\"} 3";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn only_trusted_proxies_that_show_the_secret_may_ask() {
    let scene = Scene::start("");
    let ask =
        |from, secrets: &[&str]| scene.ask_as(from, secrets, question("GET", "/public/x", &[]));
    assert!(ask(LOOPBACK, &[SECRET]).passes);
    for (from, secrets) in [
        (STRANGER, &[SECRET][..]),
        (LOOPBACK, &[]),
        (LOOPBACK, &[""]),
        (LOOPBACK, &["change-me-change-mf"]),
        (LOOPBACK, &[SECRET, SECRET]),
        (LOOPBACK, &[SECRET, "x"]),
    ] {
        let refused = ask(from, secrets);
        refused.is_refused(403, "forwarder_refused");
        let record = scene.record(&refused);
        assert_eq!(record["reason"], "forwarder_refused");
        let fault = if from == LOOPBACK {
            "secret"
        } else {
            "address"
        };
        assert_eq!(record["fault"], fault);
        assert_eq!(record["client"], from.to_string());
    }
}

/// A change that makes a sound question unsound.
type Change = fn(&mut HttpRequest);

/// Changes after which Envoy describes no request, or more than one.
const UNSOUND: [(&str, Change); 9] = [
    ("no path", |http| http.path.clear()),
    ("no method", |http| http.method.clear()),
    ("another scheme", |http| "ftp".clone_into(&mut http.scheme)),
    ("two hosts", |http| has_host(http, "a.test,b.test")),
    ("a second target", |http| "a".clone_into(&mut http.query)),
    ("a fragment", |http| "a".clone_into(&mut http.fragment)),
    ("another path", |http| {
        "/public/y".clone_into(&mut http.path);
    }),
    ("another method", |http| "POST".clone_into(&mut http.method)),
    ("fields twice", |http| {
        http.headers.insert("a".to_owned(), "b".to_owned());
    }),
];

/// Changes after which Envoy's caller describes no request, or more than one.
const UNSOUND_BY_CALLER: [(&str, Change); 4] = [
    ("no host", |http| has_host(http, "")),
    ("a name that is none", |http| push(http, "a b", "c")),
    ("a value that is none", |http| push(http, "a", "b\nc")),
    ("another host", |http| push(http, "host", "b.test")),
];

#[test]
fn a_question_must_describe_exactly_one_request() {
    let scene = Scene::start("");
    let bearer = scene.bearer();
    let sound = || question("GET", "/protected/x", &[("Authorization", &bearer)]);
    assert!(scene.ask(sound()).passes);
    let cases = [
        (&UNSOUND[..], 400, "forward_malformed"),
        (&UNSOUND_BY_CALLER[..], 401, "request_malformed"),
    ];
    for (changes, status, code) in cases {
        for (what, change) in changes {
            let mut asked = sound();
            change(http_of(&mut asked));
            eprintln!("{what}");
            scene.ask(asked).is_refused(status, code);
        }
    }
    scene
        .ask(CheckRequest::default())
        .is_refused(400, "forward_malformed");
    for name in [
        "X_Auth_Uid",
        "x-auth_roles",
        "X.Auth.Uid",
        "X_Forwarded_Uri",
        "X-Original_Method",
        "x__auth__uid",
    ] {
        let asked = question("GET", "/public/x", &[(name, "forged")]);
        scene.ask(asked).is_refused(400, "forward_malformed");
    }
    for (name, status, code) in [
        ("X~Auth~Uid", 401, "header_name_refused"),
        ("X!Harmless", 401, "header_name_refused"),
        ("X-HTTP-Method-Override", 403, "method_override_refused"),
        ("X_HTTP_Method", 403, "method_override_refused"),
    ] {
        let asked = question("POST", "/public/x", &[(name, "DELETE")]);
        scene.ask(asked).is_refused(status, code);
    }
    // Then the host is that of the public URL.
    let mut asked = sound();
    http_of(&mut asked).scheme.clear();
    assert!(scene.ask(asked).passes);
}

#[test]
fn described_heads_have_the_limits_of_any_other() {
    let scene = Scene::start("");
    let many: Vec<_> = (0..101).map(|_| ("a", "b")).collect();
    let long = "x".repeat(40_000);
    let target = format!("/public/{long}");
    for (asked, code) in [
        (question("GET", "/public/x", &many), "head_too_large"),
        (
            question("GET", "/public/x", &[("a", &long)]),
            "head_too_large",
        ),
        (question("GET", &target, &[("a", "b")]), "head_too_large"),
        (question("GET", &target[..9000], &[]), "target_too_long"),
    ] {
        scene.ask(asked).is_refused(401, code);
    }
}

fn push(http: &mut HttpRequest, name: &str, value: &str) {
    let field = HeaderValue {
        key: name.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    http.header_map.as_mut().unwrap().headers.push(field);
}

/// Sets the host in both places.
fn has_host(http: &mut HttpRequest, host: &str) {
    host.clone_into(&mut http.host);
    let fields = &mut http.header_map.as_mut().unwrap().headers;
    fields.retain(|field| field.key != ":authority");
    push(http, ":authority", host);
}

#[test]
fn fields_that_no_caller_may_send_are_removed() {
    let scene = Scene::start(
        "[[route]]\npath = \"/as-they-came/**\"\nupstream = \"main\"\nrequire = \"public\"\npass_credentials = true\n",
    );
    let bearer = scene.bearer();
    let forged = [
        ("X-Auth-Uid", "forged"),
        ("X-Auth-Uid", "forged"),
        ("X-Auth-Request-User", "forged"),
        ("Remote-User", "forged"),
        ("X_Forwarded_Groups", "forged"),
        ("Client-Cert", "forged"),
        ("X-User-Id", "7"),
        ("X-Original-URL", "http://a.test/public/x"),
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Forwarded-Host", "b.test"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Doorward-Secret", "forged"),
        ("X-Request-Id", "forged"),
        ("Accept", "*/*"),
        ("X-Api_Key", "forged"),
        ("Authorization", bearer.as_str()),
        ("Cookie", "a=b; doorward_session=forged"),
        ("Cookie", "c=d"),
    ];
    let told = scene.ask(question("GET", "/protected/x", &forged));
    assert_eq!(told.field("x-auth-uid"), Some(scene.anna.uid.as_str()));
    assert_eq!(told.field("cookie"), Some("a=b; c=d"));
    let mut removed = told.removed.clone();
    removed.sort_unstable();
    assert_eq!(
        removed,
        [
            "authorization",
            "client-cert",
            "remote-user",
            "x-api_key",
            "x-auth-request-user",
            "x-doorward-secret",
            "x-forwarded-host",
            "x-forwarded-uri",
            "x-original-url",
            "x_forwarded_groups",
        ]
    );
    // Where the route passes it on, the caller's credential stays, but in no other spelling.
    let told = scene.ask(question("GET", "/as-they-came/x", &forged));
    assert!(
        !told.removed.contains(&"authorization".to_owned()),
        "{told:?}"
    );
    assert!(told.removed.contains(&"x-api_key".to_owned()), "{told:?}");
    // A field that contained only the gateway's cookie is removed entirely, and others stay unchanged.
    let told = scene.ask(question(
        "GET",
        "/public/x",
        &[("Cookie", "doorward_session=x")],
    ));
    assert_eq!(
        (told.field("cookie"), told.removed.as_slice()),
        (None, &["cookie".to_owned()][..])
    );
    let told = scene.ask(question("GET", "/public/x", &[("Cookie", "a=b")]));
    assert_eq!(
        (told.field("cookie"), told.removed.as_slice()),
        (None, &[][..])
    );
}

#[test]
fn the_client_is_the_peer_of_envoy_unless_that_is_a_trusted_proxy() {
    let default = Scene::start("");
    let listed = Scene::listening(
        "trusted_headers = [\"X-Forwarded-For\", \"X-Forwarded-Proto\", \"X-Forwarded-Host\"]\n",
    );
    let forwarded = ("X-Forwarded-For", "198.51.100.1, 203.0.113.9");
    for (scene, from, client, keeps_host) in [
        (&listed, Some("192.0.2.7"), "192.0.2.7", false),
        (&listed, Some("::ffff:192.0.2.7"), "192.0.2.7", false),
        (&listed, Some("10.0.0.9"), "203.0.113.9", true),
        // A local socket: the address that Envoy has written counts.
        (&listed, None, "203.0.113.9", true),
        (&default, Some("10.0.0.9"), "203.0.113.9", false),
    ] {
        let mut asked = question(
            "GET",
            "/public/x",
            &[forwarded, ("X-Forwarded-Host", "b.test")],
        );
        asked.attributes.as_mut().unwrap().source = from.map(source);
        let told = scene.ask(asked);
        let record = scene.record(&told);
        let host = if keeps_host { "b.test" } else { "a.test" };
        assert_eq!(
            (&record["client"], &record["host"]),
            (&client.into(), &host.into()),
            "{from:?}"
        );
        let keeps = !told.removed.contains(&"x-forwarded-host".to_owned());
        assert_eq!(keeps, keeps_host, "{from:?}");
    }
}

/// Sends a gRPC call by hand: exactly these frames.
async fn call(grpc: SocketAddr, path: &str, frames: &[u8], ends: bool) -> (Bytes, String) {
    let socket = tokio::net::TcpStream::connect(grpc).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{grpc}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-doorward-secret", SECRET);
    let mut sender = sender.ready().await.unwrap();
    let (answer, mut body) = sender
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    body.send_data(Bytes::copy_from_slice(frames), ends)
        .unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let message = body.data().await.map(Result::unwrap).unwrap_or_default();
    let trailers = if head.headers.contains_key("grpc-status") {
        head.headers
    } else {
        body.trailers().await.unwrap().unwrap()
    };
    let status = trailers["grpc-status"].to_str().unwrap().to_owned();
    drop(sender);
    connection.abort();
    (message, status)
}

#[test]
fn calls_have_limits_and_health_is_reported() {
    let scene = Scene::start("[limits]\nhead_timeout_ms = 300\n");
    let check = "/envoy.service.auth.v3.Authorization/Check";
    run(async {
        let health = call(scene.grpc, "/grpc.health.v1.Health/Check", &[0; 5], true).await;
        assert_eq!(
            health,
            (Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), "0".to_owned())
        );
        let (_, status) = call(scene.grpc, "/grpc.health.v1.Health/Watch", &[0; 5], true).await;
        assert_eq!(status, "12", "unimplemented");
        // A question that never arrives, and one that never ends.
        for frames in [&[][..], &[0, 0, 0, 0, 9, 1]] {
            let (_, status) = call(scene.grpc, check, frames, false).await;
            assert_eq!(status, "4", "deadline exceeded");
        }
        let (_, status) = call(scene.grpc, check, &[0, 0, 0, 0, 1, 0xff], true).await;
        assert_eq!(status, "13", "no message");
        let too_large = question("GET", "/public/x", &[("a", &"x".repeat(300_000))]);
        let mut client = AuthorizationClient::new(scene.connect(LOOPBACK).await);
        let error: Status = client
            .check(with_secrets(&[SECRET], too_large))
            .await
            .unwrap_err();
        assert_eq!(error.code(), tonic::Code::OutOfRange, "{error:?}");
    });
    let metrics = scene.gateway.admin_get("/metrics").text().to_owned();
    let counted = "doorward_requests_total{outcome=\"aborted\",status=\"none\"} 5";
    assert!(metrics.contains(counted), "{metrics}");
    // A connection that sends nothing, or something other than HTTP/2, is closed.
    for said in ["", "GET /public/x HTTP/1.1\r\nHost: a.test\r\n\r\n"] {
        let mut socket = std::net::TcpStream::connect(scene.grpc).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket.write_all(said.as_bytes()).unwrap();
        let ended = socket.read_to_end(&mut Vec::new());
        let is_open = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.is_err_and(|error| is_open(&error)), "{said:?}");
    }
}

#[test]
fn a_question_in_flight_ends_and_no_connection_holds_the_drain_up() {
    let ((go, wait), (tell, told)) = (channel::<()>(), channel::<()>());
    let (wait, tell) = (Mutex::new(wait), Mutex::new(tell));
    let source = Upstream::serving(move |exchange: &mut Exchange| {
        tell.lock().unwrap().send(()).unwrap();
        wait.lock().unwrap().recv_timeout(SOON).unwrap();
        exchange.answer("[{\"resource\": \"event\", \"id\": \"7\", \"level\": \"member\"}]");
    });
    let scene = Scene::start(&format!(
        "[[role_source]]\nresources = [\"event\"]\nurl = \"http://{}/{{uid}}/{{resource}}/{{id}}\"\n{}",
        source.address,
        route("/events/{id}/**", "{ any_role = [\"event-{id}-member\"] }")
    ));
    let bearer = scene.bearer();
    let asked = question("GET", "/events/7/x", &[("Authorization", &bearer)]);
    // Its connections stay open until the end of the test, and are served.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let idle = runtime.block_on(scene.connect(LOOPBACK));
    let mut client = AuthorizationClient::new(runtime.block_on(scene.connect(LOOPBACK)));
    let mut same = client.clone();
    let in_flight = runtime.spawn(async move { same.check(with_secrets(&[SECRET], asked)).await });
    told.recv_timeout(SOON).unwrap();
    scene.gateway.signal(rustix::process::Signal::TERM);
    wait_for("the listener to close", || {
        std::net::TcpStream::connect(scene.grpc)
            .is_err()
            .then_some(())
    });
    go.send(()).unwrap();
    let answer = runtime.block_on(in_flight).unwrap().unwrap();
    let told = Told::read(answer.into_inner());
    assert!(told.passes, "{told:?}");
    let start = now();
    assert_eq!(scene.gateway.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "it waited for nothing"
    );
    let after = question("GET", "/public/x", &[]);
    let refused = runtime.block_on(client.check(with_secrets(&[SECRET], after)));
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    drop(idle);
}

/// Mistakes that operators make, all at once.
const CARELESS: [(&str, &str); 4] = [
    (
        "headers_with_underscores_action: REJECT_REQUEST",
        "headers_with_underscores_action: ALLOW",
    ),
    ("encode_raw_headers: true", "encode_raw_headers: false"),
    ("use_remote_address: true", "use_remote_address: false"),
    ("failure_mode_allow: false", "failure_mode_allow: true"),
];

#[test]
fn an_envoy_that_is_set_up_carelessly_lets_no_more_through() {
    let careless = |mut text: String| {
        for (careful, careless) in CARELESS {
            assert!(text.contains(careful), "{careful}");
            text = text.replace(careful, careless);
        }
        text
    };
    let behind = Behind::start_with(proxies::Kind::EnvoyGrpc, &careless);
    let anna = behind.anna.caller();
    let send = |request: CallerRequest<'_>| {
        let count = behind.upstream.count();
        let answer = request.send();
        (answer, behind.upstream.count() != count)
    };
    for name in ["X_Auth_Uid", "X-Auth_Uid", "x.auth.uid"] {
        let (answer, reached) = send(behind.get("/x").by(&anna).header(name, "forged"));
        assert_eq!((answer.status, reached), (400, false), "{name}");
    }
    let doubled = behind.get("/optional/x").header("X-Auth-Uid", "forged");
    let (answer, reached) = send(doubled.header("x-auth-uid", "forged"));
    assert_eq!((answer.status, reached), (200, true));
    assert!(!behind.upstream.last().text().contains("forged"));
    let (answer, reached) = send(behind.get("/x").by(&anna).by(&anna));
    assert_eq!((answer.status, reached), (401, false));
    for field in ["Remote_User", "X-Original-Url", "X_Rewrite_Url"] {
        let request = behind.get("/x").by(&anna).header(field, "/public/forged");
        assert_eq!(send(request).0.status, 200, "{field}");
        assert!(!behind.upstream.last().text().contains("forged"), "{field}");
    }
    // A forwarded address from a proxy that is not trusted does not count.
    let forged = behind
        .get("/x")
        .by(&Caller::Anonymous)
        .header("X-Forwarded-For", "192.0.2.66");
    let answer = forged.send_on(&mut from_elsewhere(behind.proxy));
    let record = behind
        .gateway
        .record(answer.header("x-request-id").unwrap());
    assert_eq!(record["client"], STRANGER.to_string(), "{record}");
    // The decision fails, and that is an answer too, not a failure that Envoy could be configured to allow.
    let (answer, reached) = send(behind.get("/events/1/x").by(&anna));
    assert_eq!((answer.status, reached), (503, false), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
}
