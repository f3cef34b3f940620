//! Whether anything passes while no decision can be had. The gateway is stopped for it, by the operator; its place is
//! taken by answers that must not open anything.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::doctor::outsiders::reachable;
use crate::doctor::probe::Probe;
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::{Ask, Wire};
use crate::doctor::{DoctorError, Fault, Proxy};
use crate::edge::listen::{accept, bind_one};

/// What stands in for the gateway, and how a report names it.
const ANSWERS: [(&str, &str); 8] = [
    (
        "it answers 500",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "it answers 503",
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "it answers 404",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "it answers 400",
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "it answers 429",
        "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "it answers with something else than HTTP",
        "220 mail.invalid ESMTP\r\n",
    ),
    ("it breaks off", "HTTP/1.1 2"),
    ("it hangs up", ""),
];

/// Allows everything: shows that what is let through would be seen.
const ALLOWS: &str =
    "HTTP/1.1 200 OK\r\nX-Auth-Method: anonymous\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// # Errors
/// [`DoctorError::NotDown`] while the gateway runs; [`DoctorError::NoEcho`] if nothing is seen even when all is allowed.
pub(super) async fn examine(probe: &Probe<'_>) -> Result<Report, DoctorError> {
    let mut report = Report::default();
    let mut check = Check::new("away", probe.proxy);
    // Over gRPC no answer of the stand-in is one that allows.
    let over_grpc = probe.config.forward_auth.grpc_address;
    let over_grpc = over_grpc.filter(|_| probe.proxy == Some(Proxy::EnvoyGrpc));
    let over_http = || probe.config.listen.addresses.first().copied();
    let Some(listen) = over_grpc.or_else(over_http) else {
        return Ok(report);
    };
    let address = reachable(listen);
    let wire = Wire {
        address,
        authority: address.to_string(),
        source: None,
        tls: None,
    };
    if wire.source().await.is_ok() {
        return Err(DoctorError::NotDown(address));
    }
    passes(probe, "the gateway is away", &mut check).await;
    if over_grpc.is_some() {
        check.skipped("that the echo stands behind the proxy is not seen here: probe it without --while-down too");
    } else {
        seen_when_allowed(probe, listen).await?;
    }
    for (state, answer) in ANSWERS {
        let serving = stand_in(listen, answer)?;
        passes(probe, state, &mut check).await;
        end(serving).await;
    }
    check.saw("nothing passes when the gateway is away, fails, hangs up or speaks in tongues");
    check.into(&mut report);
    Ok(report)
}

/// Takes the gateway's place.
fn stand_in(listen: SocketAddr, answer: &'static str) -> Result<JoinHandle<()>, DoctorError> {
    let listener = bind_one(listen)?;
    Ok(tokio::spawn(serve(listener, answer)))
}

/// Ends a stand-in. The address is free again only when its task is gone.
async fn end(serving: JoinHandle<()>) {
    serving.abort();
    let _ = serving.await;
}

/// Shows that what passes would be seen. A proxy that has just missed the gateway may take a moment to try again.
async fn seen_when_allowed(probe: &Probe<'_>, listen: SocketAddr) -> Result<(), DoctorError> {
    const TRIES: usize = 15;
    let serving = stand_in(listen, ALLOWS)?;
    let carrier = probe.carrier();
    let mut told = None;
    for _ in 0..TRIES {
        let outcome = probe.send(&carrier).await;
        if outcome.arrived().is_some() {
            told = None;
            break;
        }
        told = Some(outcome.told());
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    end(serving).await;
    match told {
        None => Ok(()),
        Some(told) => Err(DoctorError::NoEcho(
            format!("GET {}", carrier.target),
            format!("{told}, even when every question is answered with 200"),
        )),
    }
}

async fn passes(probe: &Probe<'_>, state: &str, check: &mut Check) {
    let ground = &probe.ground;
    for spot in [&ground.open, &ground.closed].into_iter().flatten() {
        if probe.reaches(&Ask::get(&spot.path)).await {
            check.found(
                Fault::FailsOpen,
                format!(
                    "GET {} without a login reached the service when {state}",
                    spot.path
                ),
            );
        }
    }
}

/// Gives every question the same answer.
async fn serve(listener: TcpListener, answer: &'static str) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = accept(&listener).await;
        connections.spawn(async move {
            let mut head = vec![0; 64 * 1024];
            // Whatever was asked, and whoever does not wait for the answer.
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}
