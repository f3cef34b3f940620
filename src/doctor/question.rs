//! Whether a caller has a say in what is judged: method, target, host, scheme, and its own address.

use std::net::IpAddr;

use http::Method;

use crate::doctor::Fault;
use crate::doctor::probe::{Outcome, Probe};
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::Ask;

/// An address of nobody (RFC 5737).
const FORGED_CLIENT: &str = "192.0.2.66";

/// A method that the gateway never lets through: what arrives in spite of it was judged by another.
const NEVER: &str = "CONNECT";

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("question", probe.proxy);
    methods(probe, &mut check).await;
    targets(probe, &mut check).await;
    origins(probe, &mut check).await;
    check.saw("a caller's own method, host and scheme take no part");
    check.into(report);
    let mut check = Check::new("client", probe.proxy);
    client(probe, &mut check).await;
    check.into(report);
}

/// What a field does to a request that passes without it.
enum Effect {
    /// It passes all the same.
    None,
    /// It passes with one value and not with the other.
    Judged,
    /// The field reaches the gateway, which refuses it.
    Refused,
}

async fn effect(probe: &Probe<'_>, name: &str, other: &str, same: &str) -> Effect {
    match probe.send(&probe.carrier().with(name, other)).await {
        Outcome::Arrived(_) => Effect::None,
        // A proxy that takes no such field from callers is fine.
        Outcome::Stopped(answer)
            if is_refused_by_proxy(answer.status, answer.code().as_deref()) =>
        {
            Effect::None
        }
        Outcome::Stopped(_) | Outcome::Silent => {
            match probe.send(&probe.carrier().with(name, same)).await {
                Outcome::Arrived(_) => Effect::Judged,
                Outcome::Stopped(_) | Outcome::Silent => Effect::Refused,
            }
        }
    }
}

/// Whether a field is only held against another one that says the method: then none that is allowed helps it.
async fn differs_only(probe: &Probe<'_>, name: &str) -> bool {
    let takes_post = probe
        .passing()
        .is_some_and(|(spot, _)| spot.takes(&Method::POST));
    let outcome = probe.send(&probe.carrier().with(name, "POST")).await;
    takes_post && outcome.arrived().is_none()
}

/// A refusal in the name of the request itself; nginx writes 500 where the gateway finds fault with the question.
fn is_refused_by_proxy(status: u16, code: Option<&str>) -> bool {
    status == 400 && code.is_none()
}

async fn methods(probe: &Probe<'_>, check: &mut Check) {
    for name in ["X-Forwarded-Method", "X-Original-Method"] {
        let what = format!("{name}: {NEVER} of a caller");
        match effect(probe, name, NEVER, "GET").await {
            Effect::None => {}
            Effect::Judged if differs_only(probe, name).await => {
                check.found(
                    Fault::DescriptionPassed,
                    format!("{what} has its GET refused"),
                );
            }
            Effect::Judged => check.found(
                Fault::MethodBelieved,
                format!("{what} has its GET refused, and {name}: GET does not"),
            ),
            Effect::Refused => check.found(
                Fault::DescriptionPassed,
                format!("{what} has its GET refused"),
            ),
        }
    }
    let Some((spot, method)) = &probe.ground.preflight else {
        return;
    };
    // As a preflight everything passes there.
    for name in [
        "X-Forwarded-Method",
        "X-Original-Method",
        "X_Forwarded_Method",
        "X-HTTP-Method-Override",
    ] {
        let ask = Ask::new("POST", &spot.path)
            .with("Origin", "https://doctor.invalid")
            .with("Access-Control-Request-Method", method.as_str())
            .with(name, "OPTIONS");
        if probe.reaches(&ask).await {
            check.found(
                Fault::MethodBelieved,
                format!(
                    "POST {} without a login and with {name}: OPTIONS reached the service",
                    spot.path
                ),
            );
        }
    }
}

async fn targets(probe: &Probe<'_>, check: &mut Check) {
    let ground = &probe.ground;
    let (Some(open), Some(closed)) = (&ground.open, &ground.closed) else {
        check.skipped(
            "targets: an open and a closed path are needed, to see one pass for the other",
        );
        return;
    };
    let forms = |path: &str| {
        let url = format!("{}{path}", probe.origin);
        [
            ("X-Forwarded-Uri", path.to_owned()),
            ("X-Original-URI", path.to_owned()),
            ("X-Original-URL", url.clone()),
            ("X_Forwarded_Uri", path.to_owned()),
            ("X_Original_URL", url),
            ("X-Rewrite-URL", path.to_owned()),
        ]
    };
    check.saw("a caller's own target takes no part");
    for (name, value) in forms(&open.path) {
        for count in [1, 2] {
            let ask = (0..count).fold(Ask::get(&closed.path), |ask, _| ask.with(name, &value));
            if probe.reaches(&ask).await {
                check.found(
                    Fault::TargetBelieved,
                    format!(
                        "GET {} with {name}: {value} reached the service without a login",
                        closed.path
                    ),
                );
            }
        }
    }
    for ((name, other), (_, same)) in forms(&closed.path)
        .into_iter()
        .zip(forms(&open.path))
        .take(3)
    {
        match effect(probe, name, &other, &same).await {
            Effect::None => {}
            Effect::Judged if !is_compared_only(probe, name, &same).await => check.found(
                Fault::TargetBelieved,
                format!(
                    "GET {} is refused with {name}: {other}, and not with {same}",
                    open.path
                ),
            ),
            Effect::Judged | Effect::Refused => check.found(
                Fault::DescriptionPassed,
                format!("GET {} is refused with {name} of a caller", open.path),
            ),
        }
    }
}

/// Whether a target is only held against another one that is described: then one that is as open does not help it either.
async fn is_compared_only(probe: &Probe<'_>, name: &str, same: &str) -> bool {
    let as_open = format!("{same}?doctor");
    let outcome = probe.send(&probe.carrier().with(name, &as_open)).await;
    outcome.arrived().is_none()
}

/// Host and scheme: a value that no question may hold shows whether it gets there.
async fn origins(probe: &Probe<'_>, check: &mut Check) {
    for (name, never) in [
        ("X-Forwarded-Host", "a.invalid,b.invalid"),
        ("X-Forwarded-Proto", "gopher"),
    ] {
        let same = if name == "X-Forwarded-Host" {
            probe.wire.authority.as_str()
        } else {
            probe.origin.split(':').next().unwrap_or_default()
        };
        if !matches!(effect(probe, name, never, same).await, Effect::None) {
            check.found(
                Fault::DescriptionPassed,
                format!("{name}: {never} of a caller has its GET refused"),
            );
        }
    }
}

async fn client(probe: &Probe<'_>, check: &mut Check) {
    // The gateway believes a trusted proxy what it says of others, and so it would believe a probe from such an address.
    let mut wire = probe.wire.clone();
    let own = wire.source().await.ok();
    wire.source = own.and_then(|own| probe.stranger(wire.address, own));
    let ask = probe
        .carrier()
        .with("X-Forwarded-For", FORGED_CLIENT)
        .with("X-Real-IP", FORGED_CLIENT);
    let outcome = probe.send_by(&wire, &ask).await;
    let Some(arrival) = outcome.arrived() else {
        check.skipped(format!(
            "with X-Forwarded-For: {FORGED_CLIENT}, {}",
            outcome.told()
        ));
        return;
    };
    let nearest = arrival
        .values("x-forwarded-for")
        .last()
        .and_then(|value| value.rsplit(',').next())
        .map(str::trim);
    if nearest == Some(FORGED_CLIENT) {
        check.found(
            Fault::ClientBelieved,
            format!("X-Forwarded-For: {FORGED_CLIENT} of a caller reached the service as it was"),
        );
    } else {
        check.saw("the service is not told an address that the caller chose");
    }
    let Some(id) = arrival
        .values("x-request-id")
        .next()
        .filter(|id| !id.is_empty())
    else {
        check.skipped("the service gets no X-Request-Id, so the gateway's record cannot be found");
        return;
    };
    if wire.source.is_none() {
        check.skipped("this machine is a trusted proxy itself: whom the gateway takes for a caller is not to be seen from here");
        return;
    }
    if probe.access_log.is_none() {
        check.skipped("give --access-log FILE to see whom the gateway took for the caller");
        return;
    }
    let Some(record) = probe.record(id).await else {
        check.skipped(format!("the access log has no record of request {id}"));
        return;
    };
    let told = |name: &str| {
        let value = record.get(name).and_then(serde_json::Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let client = told("client");
    let address = client.parse::<IpAddr>();
    if address.is_ok_and(|address| probe.is_trusted(address)) {
        check.found(
            Fault::ClientLost,
            format!("the gateway took {client}, a trusted proxy, for the caller"),
        );
    } else if client == FORGED_CLIENT {
        check.found(
            Fault::ClientBelieved,
            format!("X-Forwarded-For: {FORGED_CLIENT} of a caller is its address to the gateway"),
        );
    } else {
        check.saw(format!("the gateway took {client} for the caller"));
    }
}
