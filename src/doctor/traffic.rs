//! Whether what people and programs really send passes: preflights, bodies, big cookies, WebSocket handshakes; and that
//! credentials do not.

use http::Method;

use crate::doctor::probe::{Outcome, Probe};
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::Ask;
use crate::doctor::{Credential, Fault};
use crate::model::access::Requirement;
use crate::model::credential::CredentialKind;

/// Cookies that a browser has gathered; the field is longer than what some proxies take by default.
const COOKIE_BYTES: usize = 12_000;
const BODY_BYTES: [usize; 3] = [0, 5_000, 300_000];

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("preflight", probe.proxy);
    preflight(probe, &mut check).await;
    check.into(report);
    let mut check = Check::new("body", probe.proxy);
    body(probe, &mut check).await;
    check.into(report);
    let mut check = Check::new("cookie", probe.proxy);
    cookie(probe, &mut check).await;
    check.into(report);
    let mut check = Check::new("websocket", probe.proxy);
    websocket(probe, &mut check).await;
    check.into(report);
    let mut check = Check::new("credential", probe.proxy);
    credential(probe, &mut check).await;
    check.into(report);
}

async fn preflight(probe: &Probe<'_>, check: &mut Check) {
    let Some((spot, method)) = &probe.ground.preflight else {
        check.skipped("no route has cors_preflight");
        return;
    };
    let ask = Ask::new("OPTIONS", &spot.path)
        .with("Origin", "https://doctor.invalid")
        .with("Access-Control-Request-Method", method.as_str())
        .with("Access-Control-Request-Headers", "authorization");
    let what = format!("OPTIONS {} for {method}", spot.path);
    match probe.send(&ask).await {
        Outcome::Arrived(arrival) if arrival.text("method") == "OPTIONS" => {
            check.saw(format!("{what} passes without a login"));
        }
        Outcome::Stopped(answer) if answer.status < 300 || answer.status == 404 => {
            check.skipped(format!("{what} leads to something else than the echo"));
        }
        outcome => check.found(
            Fault::PreflightBlocked,
            format!("{what}: {}", outcome.told()),
        ),
    }
}

async fn body(probe: &Probe<'_>, check: &mut Check) {
    let open = probe.ground.open.as_ref().map(|spot| (spot, None));
    let closed = probe.ground.closed.as_ref().zip(probe.credential.as_ref());
    let closed = closed.map(|(spot, credential)| (spot, Some(credential)));
    let post = open
        .into_iter()
        .chain(closed)
        .find(|(spot, _)| spot.takes(&Method::POST));
    let Some((spot, credential)) = post else {
        check.skipped("no path that the probe may POST to");
        return;
    };
    for count in BODY_BYTES {
        let ask = Ask::new("POST", &spot.path).body(vec![b'x'; count]);
        let ask = match credential {
            Some(credential) => ask.by(credential),
            None => ask,
        };
        let outcome = probe.send(&ask).await;
        let what = format!("POST {} with {count} bytes", spot.path);
        match outcome.arrived() {
            Some(arrival)
                if arrival.body_bytes() == count as u64 && arrival.text("method") == "POST" => {}
            Some(arrival) => check.found(
                Fault::BodyLost,
                format!(
                    "{what} reached the service as {} with {} bytes",
                    arrival.text("method"),
                    arrival.body_bytes()
                ),
            ),
            None => check.found(Fault::BodyLost, format!("{what}: {}", outcome.told())),
        }
    }
    check.saw(format!("POST {} arrives with its body", spot.path));
}

async fn cookie(probe: &Probe<'_>, check: &mut Check) {
    let cookie = format!("doctor={}", "x".repeat(COOKIE_BYTES));
    let outcome = probe.send(&probe.carrier().with("Cookie", &cookie)).await;
    if outcome.arrived().is_some() {
        check.saw(format!("a cookie of {COOKIE_BYTES} bytes passes"));
    } else {
        check.found(
            Fault::CookieRefused,
            format!("a cookie of {COOKIE_BYTES} bytes: {}", outcome.told()),
        );
    }
}

async fn websocket(probe: &Probe<'_>, check: &mut Check) {
    let handshake = |ask: Ask| {
        ask.with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", "ZG9vcndhcmQtZG9jdG9yIQ==")
    };
    let outcome = probe.send(&handshake(probe.carrier())).await;
    match outcome.arrived() {
        Some(arrival) if arrival.has("upgrade") && arrival.has("sec-websocket-key") => {
            check.saw("handshakes arrive as such");
        }
        // The echo speaks no WebSocket, and what a proxy makes of its 200 is its own business.
        None if matches!(&outcome, Outcome::Stopped(answer) if answer.status == 200) => {
            check.saw("handshakes arrive");
        }
        Some(_) => check.found(
            Fault::WebsocketLost,
            "a handshake reached the service without Upgrade",
        ),
        None => check.found(
            Fault::WebsocketLost,
            format!("a handshake: {}", outcome.told()),
        ),
    }
    if let Some(closed) = &probe.ground.closed {
        let outcome = probe.send(&handshake(Ask::get(&closed.path))).await;
        if outcome.arrived().is_some() {
            check.found(
                Fault::NotAsked,
                format!(
                    "a WebSocket handshake for {} without a login reached the service",
                    closed.path
                ),
            );
        }
    }
}

async fn credential(probe: &Probe<'_>, check: &mut Check) {
    let ground = &probe.ground;
    let api_key = probe.config.account.api_key_header.as_str();
    // Where anybody may, one that nobody has issued passes too.
    let open = ground.open.as_ref();
    let open = open.filter(|spot| spot.route.require == Requirement::Public);
    let unknown = open.into_iter().flat_map(|spot| {
        [("authorization", "Bearer doctor"), (api_key, "doctor")]
            .map(|(name, value)| (spot, name, Ask::get(&spot.path).with(name, value)))
    });
    let closed = ground.closed.as_ref().zip(probe.credential.as_ref());
    let known = closed.map(|(spot, credential)| {
        let name = match credential {
            Credential::Token(_) => "authorization",
            Credential::ApiKey(..) => api_key,
        };
        (spot, name, Ask::get(&spot.path).by(credential))
    });
    for (spot, name, ask) in unknown.chain(known) {
        let kind = match name {
            "authorization" => CredentialKind::Bearer,
            _ => CredentialKind::ApiKey,
        };
        if spot.route.credentials.may_pass(kind) {
            continue;
        }
        let outcome = probe.send(&ask).await;
        match outcome.arrived() {
            Some(arrival) if arrival.has(name) => check.found(
                Fault::CredentialPassed,
                format!("{name} of GET {} reached the service", spot.path),
            ),
            Some(_) => check.saw(format!("{} arrives without its {name}", spot.path)),
            None => check.skipped(format!("GET {} with {name}: {}", spot.path, outcome.told())),
        }
    }
    if probe.credential.is_none() {
        check.skipped("give --token or --apikey to see whether it stays with the proxy");
    }
}
