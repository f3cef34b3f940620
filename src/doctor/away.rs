//! Checks that nothing passes while no decision can be made. The operator stops the gateway for this check, and a
//! stand-in at its address returns answers that must not let anything pass.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::doctor::outsiders::reachable;
use crate::doctor::probe::Probe;
use crate::doctor::probe_paths::ProbePath;
use crate::doctor::report::{Check, DoctorReport};
use crate::doctor::wire::{ProbeTarget, RawRequest};
use crate::doctor::{DoctorError, Proxy, ProxyFault};
use crate::edge::listen::{accept, bind_one};

macro_rules! answer {
    ($head:literal) => {
        concat!(
            "HTTP/1.1 ",
            $head,
            "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    };
}

/// The stand-in's answers, and how a report describes them.
const ANSWERS: [(&str, &str); 8] = [
    ("it answers 500", answer!("500 Internal Server Error")),
    (
        "it answers 503",
        answer!("503 Service Unavailable\r\nRetry-After: 1"),
    ),
    ("it answers 404", answer!("404 Not Found")),
    ("it answers 400", answer!("400 Bad Request")),
    ("it answers 429", answer!("429 Too Many Requests")),
    (
        "it answers with something other than HTTP",
        "220 mail.invalid ESMTP\r\n",
    ),
    ("it closes the connection within its answer", "HTTP/1.1 2"),
    ("it closes the connection without an answer", ""),
];

/// Allows everything, to verify that the echo would see what passes.
const ALLOWS: &str = answer!("200 OK\r\nX-Auth-Method: anonymous");

/// # Errors
/// [`DoctorError::NotDown`] while the gateway runs; [`DoctorError::NoEcho`] if no request reaches the echo even though
/// every question is answered with 200.
pub(super) async fn examine(
    probe: &Probe<'_>,
    report: &mut DoctorReport,
) -> Result<(), DoctorError> {
    let mut check = Check::new("away");
    // No answer of the stand-in allows a request over gRPC.
    let over_grpc = probe.config.forward_auth.grpc_address;
    let over_grpc = over_grpc.filter(|_| probe.proxy == Some(Proxy::EnvoyGrpc));
    let over_http = || probe.config.listen.addresses.first().copied();
    let Some(listen) = over_grpc.or_else(over_http) else {
        return Ok(());
    };
    let address = reachable(listen);
    if ProbeTarget::plain(address).source().await.is_ok() {
        return Err(DoctorError::NotDown(address));
    }
    expect_nothing_passes(probe, "the gateway is down", &mut check).await;
    if over_grpc.is_some() {
        check.skipped("whether the echo is behind the proxy cannot be checked here: run the probe without --while-down too");
    } else {
        expect_echo(probe, listen).await?;
    }
    for (state, answer) in ANSWERS {
        let serving = tokio::spawn(serve(bind_one(listen)?, answer));
        expect_nothing_passes(probe, state, &mut check).await;
        end(serving).await;
    }
    check.saw("nothing passes when the gateway is down, fails, closes connections or does not answer in HTTP");
    report.add(check);
    Ok(())
}

/// Stops a stand-in and waits until its address is free again.
async fn end(serving: JoinHandle<()>) {
    serving.abort();
    let _ = serving.await;
}

/// Checks that requests reach the echo if every question is answered with 200. Tries several times, since a proxy may
/// not ask again at once after a failure.
async fn expect_echo(probe: &Probe<'_>, listen: SocketAddr) -> Result<(), DoctorError> {
    const TRIES: usize = 15;
    let serving = tokio::spawn(serve(bind_one(listen)?, ALLOWS));
    let carrier = probe.carrier();
    let mut outcome = probe.send(&carrier).await;
    for _ in 1..TRIES {
        if outcome.arrived().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        outcome = probe.send(&carrier).await;
    }
    end(serving).await;
    if outcome.arrived().is_some() {
        return Ok(());
    }
    let (path, described) = (carrier.target, outcome.described());
    Err(DoctorError::NoEcho(
        format!("GET {path}"),
        format!("{described}, even when every question is answered with 200"),
    ))
}

async fn expect_nothing_passes(probe: &Probe<'_>, state: &str, check: &mut Check) {
    let paths = [&probe.paths.open, &probe.paths.closed];
    for ProbePath { path, .. } in paths.into_iter().flatten() {
        if probe.reaches(&RawRequest::get(path)).await {
            let what = format!("GET {path} without a login reached the service when {state}");
            check.found(ProxyFault::FailsOpen, what);
        }
    }
}

/// Returns this answer to every question.
async fn serve(listener: TcpListener, answer: &'static str) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = accept(&listener).await;
        connections.spawn(async move {
            let mut head = vec![0; 64 * 1024];
            // The answer does not depend on the question, and need not be received.
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}
