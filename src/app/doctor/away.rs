//! Whether anything passes while no decision can be had. The gateway is stopped for it, by the operator; its place is
//! taken by answers that must not open anything.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::app::AppError;
use crate::app::doctor::outsiders::reachable;
use crate::app::doctor::probe::Probe;
use crate::app::doctor::report::{Check, Report};
use crate::app::doctor::wire::{Ask, Wire};
use crate::app::doctor::{DoctorError, Fault};
use crate::app::listen::{accept, bind_one};

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
    let Some(listen) = probe.config.listen.addresses.first().copied() else {
        return Ok(report);
    };
    let address = reachable(listen);
    let wire = Wire {
        address,
        authority: address.to_string(),
        source: None,
    };
    if wire.source().await.is_ok() {
        return Err(DoctorError::NotDown(address));
    }
    passes(probe, "the gateway is away", &mut check).await;
    stand_in(probe, listen, &mut check).await?;
    check.saw("nothing passes when the gateway is away, fails, hangs up or speaks in tongues");
    check.into(&mut report);
    Ok(report)
}

async fn stand_in(
    probe: &Probe<'_>,
    listen: SocketAddr,
    check: &mut Check,
) -> Result<(), DoctorError> {
    let all = ANSWERS
        .iter()
        .map(|(state, answer)| (Some(*state), *answer));
    for (state, answer) in [(None, ALLOWS)].into_iter().chain(all) {
        let listener = bind_one(listen).map_err(AppError::from)?;
        let serving = tokio::spawn(serve(listener, answer));
        if let Some(state) = state {
            passes(probe, state, check).await;
        } else {
            seen_when_allowed(probe).await?;
        }
        serving.abort();
        // The address is free again only when the task is gone.
        let _ = serving.await;
    }
    Ok(())
}

/// A proxy that has just missed the gateway may take a moment to try again.
async fn seen_when_allowed(probe: &Probe<'_>) -> Result<(), DoctorError> {
    const TRIES: usize = 15;
    let carrier = probe.carrier();
    let mut told = String::new();
    for _ in 0..TRIES {
        let outcome = probe.send(&carrier).await;
        if outcome.arrived().is_some() {
            return Ok(());
        }
        told = outcome.told();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let what = format!("GET {}", carrier.target);
    Err(DoctorError::NoEcho(
        what,
        format!("{told}, even when every question is answered with 200"),
    ))
}

async fn passes(probe: &Probe<'_>, state: &str, check: &mut Check) {
    let ground = &probe.ground;
    for spot in [&ground.open, &ground.closed].into_iter().flatten() {
        if probe.send(&Ask::get(&spot.path)).await.arrived().is_some() {
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
