//! Checks that real traffic passes: preflights, bodies, long cookies, WebSocket handshakes; and that credentials are
//! kept from the service.

use http::Method;

use crate::doctor::probe::{Probe, ProbeOutcome};
use crate::doctor::report::{Check, DoctorReport};
use crate::doctor::wire::RawRequest;
use crate::doctor::{ProbeCredential, ProxyFault};
use crate::model::access::Requirement;
use crate::model::credential::CredentialKind;

/// Length of a cookie field beyond the default limit of some proxies.
const COOKIE_BYTES: usize = 12_000;
const BODY_BYTES: [usize; 3] = [0, 5_000, 300_000];

pub(super) async fn check(probe: &Probe<'_>, report: &mut DoctorReport) {
    report.add(preflight(probe).await);
    report.add(body(probe).await);
    report.add(cookie(probe).await);
    report.add(websocket(probe).await);
    report.add(credential(probe).await);
}

async fn preflight(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("preflight");
    let Some((path, method)) = &probe.paths.preflight else {
        check.skipped("no route has cors_preflight");
        return check;
    };
    let request = RawRequest::new("OPTIONS", &path.path)
        .with("Origin", "https://doctor.invalid")
        .with("Access-Control-Request-Method", method.as_str())
        .with("Access-Control-Request-Headers", "authorization");
    let what = format!("OPTIONS {} for {method}", path.path);
    match probe.send(&request).await {
        ProbeOutcome::Arrived(arrival) if arrival.text("method") == "OPTIONS" => {
            check.saw(format!("{what} passes without a login"));
        }
        ProbeOutcome::Stopped(answer) if answer.status < 300 || answer.status == 404 => {
            check.skipped(format!("{what} does not reach the echo"));
        }
        outcome => {
            let what = format!("{what}: {}", outcome.described());
            check.found(ProxyFault::PreflightBlocked, what);
        }
    }
    check
}

async fn body(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("body");
    let mut passing = probe.all_passing();
    let Some((path, credential)) = passing.find(|(path, _)| path.takes(&Method::POST)) else {
        check.skipped("no path that the probe may POST to");
        return check;
    };
    let post = format!("POST {}", path.path);
    for count in BODY_BYTES {
        let request = RawRequest::new("POST", &path.path).body(vec![b'x'; count]);
        let outcome = probe.send(&request.by(credential)).await;
        let what = format!("{post} with {count} bytes");
        let Some(arrival) = outcome.arrived() else {
            let what = format!("{what}: {}", outcome.described());
            check.found(ProxyFault::BodyLost, what);
            continue;
        };
        let (method, arrived) = (arrival.text("method"), arrival.body_bytes());
        if (method, arrived) != ("POST", count as u64) {
            let what = format!("{what} reached the service as {method} with {arrived} bytes");
            check.found(ProxyFault::BodyLost, what);
        }
    }
    check.saw(format!("{post} arrives with its body"));
    check
}

async fn cookie(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("cookie");
    let cookie = format!("doctor={}", "x".repeat(COOKIE_BYTES));
    let outcome = probe.send(&probe.carrier().with("Cookie", &cookie)).await;
    let what = format!("a cookie of {COOKIE_BYTES} bytes");
    if outcome.arrived().is_some() {
        check.saw(format!("{what} passes"));
    } else {
        let what = format!("{what}: {}", outcome.described());
        check.found(ProxyFault::CookieRefused, what);
    }
    check
}

async fn websocket(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("websocket");
    let handshake = |request: RawRequest| {
        request
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", "ZG9vcndhcmQtZG9jdG9yIQ==")
    };
    let outcome = probe.send(&handshake(probe.carrier())).await;
    match outcome.arrived() {
        Some(arrival) if arrival.has("upgrade") && arrival.has("sec-websocket-key") => {
            check.saw("WebSocket handshakes arrive unchanged");
        }
        Some(_) => check.found(
            ProxyFault::WebsocketLost,
            "a WebSocket handshake reached the service without Upgrade",
        ),
        // The echo does not support WebSocket, and a proxy may answer anything to its 200.
        None if outcome.is_stopped_by(&[200]) => check.saw("WebSocket handshakes arrive"),
        None => {
            let what = format!("a WebSocket handshake: {}", outcome.described());
            check.found(ProxyFault::WebsocketLost, what);
        }
    }
    if let Some(closed) = &probe.paths.closed {
        let path = &closed.path;
        if probe.reaches(&handshake(RawRequest::get(path))).await {
            let what =
                format!("a WebSocket handshake for {path} without a login reached the service");
            check.found(ProxyFault::NotAsked, what);
        }
    }
    check
}

async fn credential(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("credential");
    let api_key = probe.config.account.api_key_header.as_str();
    let (bearer, by_key) = (CredentialKind::Bearer, CredentialKind::ApiKey);
    // A public path can be requested with an unknown credential.
    let open = probe.paths.open.iter();
    let open = open.filter(|path| path.route.require == Requirement::Public);
    let unknown = open.flat_map(|path| {
        let get = RawRequest::get(&path.path);
        let with_token = get.clone().with("authorization", "Bearer doctor");
        [
            (path, bearer, with_token),
            (path, by_key, get.with(api_key, "doctor")),
        ]
    });
    let known = probe.with_login().map(|(path, credential)| {
        let kind = match credential {
            ProbeCredential::Token(_) => bearer,
            ProbeCredential::ApiKey(..) => by_key,
        };
        (path, kind, RawRequest::get(&path.path).by(credential))
    });
    for (path, kind, request) in unknown.chain(known) {
        if path.route.credentials.may_pass(kind) {
            continue;
        }
        let name = if kind == bearer {
            "authorization"
        } else {
            api_key
        };
        let outcome = probe.send(&request).await;
        let path = &path.path;
        match outcome.arrived() {
            Some(arrival) if arrival.has(name) => {
                let what = format!("{name} of GET {path} reached the service");
                check.found(ProxyFault::CredentialPassed, what);
            }
            Some(_) => check.saw(format!("{path} arrives without its {name}")),
            None => {
                let described = outcome.described();
                check.skipped(format!("GET {path} with {name}: {described}"));
            }
        }
    }
    if probe.credential.is_none() {
        check.skipped(
            "give --token or --apikey to check that the credential does not reach the service",
        );
    }
    check
}
