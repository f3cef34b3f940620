//! Checks whether a caller can influence what the gateway judges: method, target, host, scheme, and client address.

use http::Method;
use serde_json::Value;

use crate::doctor::ProxyFault;
use crate::doctor::probe::{Probe, ProbeOutcome};
use crate::doctor::report::{Check, DoctorReport};
use crate::doctor::wire::RawRequest;

/// An address of the documentation network (RFC 5737).
const FORGED_CLIENT: &str = "192.0.2.66";

/// A method that the gateway never lets through: a request that arrives with it was judged by another method.
const NEVER: &str = "CONNECT";

/// Fields that name a method.
const METHOD_FIELDS: [&str; 4] = [
    "X-Forwarded-Method",
    "X-Original-Method",
    "X_Forwarded_Method",
    "X-HTTP-Method-Override",
];

pub(super) async fn check(probe: &Probe<'_>, report: &mut DoctorReport) {
    let mut check = Check::new("question");
    methods(probe, &mut check).await;
    targets(probe, &mut check).await;
    origins(probe, &mut check).await;
    check.saw("method, host and scheme sent by a caller are ignored");
    report.add(check);
    let mut check = Check::new("client");
    client(probe, &mut check).await;
    report.add(check);
}

/// The effect of a field on a request that passes without it.
enum FieldEffect {
    /// The request passes as well.
    None,
    /// The request passes with one value and not with the other.
    Judged,
    /// The gateway refuses the request with either value.
    Refused,
}

async fn effect(probe: &Probe<'_>, name: &str, other: &str, same: &str) -> FieldEffect {
    match probe.send(&probe.carrier().with(name, other)).await {
        ProbeOutcome::Arrived(_) => FieldEffect::None,
        // A proxy may refuse such a field from a caller. Where the gateway rejects the question, nginx answers with
        // 500.
        ProbeOutcome::Stopped(answer) if answer.status == 400 && answer.code().is_none() => {
            FieldEffect::None
        }
        _ if probe.reaches(&probe.carrier().with(name, same)).await => FieldEffect::Judged,
        _ => FieldEffect::Refused,
    }
}

/// Whether a field is only compared with another one that names the method: then any other method is refused as well.
async fn is_method_compared(probe: &Probe<'_>, name: &str) -> bool {
    let passing = probe.passing();
    let takes_post = passing.is_some_and(|(path, _)| path.takes(&Method::POST));
    let reaches = probe.reaches(&probe.carrier().with(name, "POST")).await;
    takes_post && !reaches
}

async fn methods(probe: &Probe<'_>, check: &mut Check) {
    for name in METHOD_FIELDS.into_iter().take(2) {
        let what = format!("a GET is refused if its caller sends {name}: {NEVER}");
        match effect(probe, name, NEVER, "GET").await {
            FieldEffect::None => {}
            FieldEffect::Judged if !is_method_compared(probe, name).await => {
                let what = format!("{what}, but not with {name}: GET");
                check.found(ProxyFault::MethodBelieved, what);
            }
            FieldEffect::Judged | FieldEffect::Refused => {
                check.found(ProxyFault::DescriptionPassed, what);
            }
        }
    }
    let Some((path, method)) = &probe.paths.preflight else {
        return;
    };
    // Every preflight passes there.
    for name in METHOD_FIELDS {
        let path = &path.path;
        let request = RawRequest::new("POST", path)
            .with("Origin", "https://doctor.invalid")
            .with("Access-Control-Request-Method", method.as_str())
            .with(name, "OPTIONS");
        if probe.reaches(&request).await {
            let what =
                format!("POST {path} without a login and with {name}: OPTIONS reached the service");
            check.found(ProxyFault::MethodBelieved, what);
        }
    }
}

async fn targets(probe: &Probe<'_>, check: &mut Check) {
    let (Some(open), Some(closed)) = (&probe.paths.open, &probe.paths.closed) else {
        check.skipped("targets: they need an open and a closed path");
        return;
    };
    let (open, closed) = (&open.path, &closed.path);
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
    check.saw("a target sent by a caller is ignored");
    for (name, value) in forms(open) {
        let once = RawRequest::get(closed).with(name, &value);
        for request in [once.clone(), once.with(name, &value)] {
            if probe.reaches(&request).await {
                let what = format!(
                    "GET {closed} with {name}: {value} reached the service without a login"
                );
                check.found(ProxyFault::TargetBelieved, what);
            }
        }
    }
    for ((name, other), (_, same)) in forms(closed).into_iter().zip(forms(open)).take(3) {
        match effect(probe, name, &other, &same).await {
            FieldEffect::None => {}
            FieldEffect::Judged if !is_target_compared(probe, name, &same).await => check.found(
                ProxyFault::TargetBelieved,
                format!("GET {open} is refused with {name}: {other}, but not with {same}"),
            ),
            FieldEffect::Judged | FieldEffect::Refused => check.found(
                ProxyFault::DescriptionPassed,
                format!("GET {open} is refused if its caller sends {name}"),
            ),
        }
    }
}

/// Whether a field is only compared with another one that names the target: then any other open target is refused too.
async fn is_target_compared(probe: &Probe<'_>, name: &str, same: &str) -> bool {
    let as_open = format!("{same}?doctor");
    !probe.reaches(&probe.carrier().with(name, &as_open)).await
}

/// Sends a host and a scheme that the gateway always rejects, which shows whether they reach it.
async fn origins(probe: &Probe<'_>, check: &mut Check) {
    let authority = probe.target.authority.as_str();
    let scheme = probe.origin.split(':').next().unwrap_or_default();
    for (name, never, same) in [
        ("X-Forwarded-Host", "a.invalid,b.invalid", authority),
        ("X-Forwarded-Proto", "gopher", scheme),
    ] {
        if !matches!(effect(probe, name, never, same).await, FieldEffect::None) {
            let what = format!("a GET is refused if its caller sends {name}: {never}");
            check.found(ProxyFault::DescriptionPassed, what);
        }
    }
}

async fn client(probe: &Probe<'_>, check: &mut Check) {
    // The gateway believes what a trusted proxy says about a caller, so the probe must not come from such an address.
    let mut target = probe.target.clone();
    let own = target.source().await.ok();
    target.source = own.and_then(|own| probe.untrusted_source(target.address, own));
    let request = probe
        .carrier()
        .with("X-Forwarded-For", FORGED_CLIENT)
        .with("X-Real-IP", FORGED_CLIENT);
    let outcome = probe.send_to(&target, &request).await;
    let Some(arrival) = outcome.arrived() else {
        let described = outcome.described();
        check.skipped(format!(
            "with X-Forwarded-For: {FORGED_CLIENT}, {described}"
        ));
        return;
    };
    let nearest = arrival.values("x-forwarded-for").last();
    let nearest = nearest.and_then(|value| value.rsplit(',').next());
    let forged = format!("X-Forwarded-For: {FORGED_CLIENT} of a caller");
    if nearest.map(str::trim) == Some(FORGED_CLIENT) {
        let what = format!("{forged} reached the service unchanged");
        check.found(ProxyFault::ClientBelieved, what);
    } else {
        check.saw("the service gets no client address chosen by the caller");
    }
    let id = arrival.values("x-request-id").next();
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        check.skipped("the service gets no X-Request-Id, so the gateway's record cannot be found");
        return;
    };
    if target.source.is_none() {
        check.skipped(
            "this machine is a trusted proxy itself: the client address cannot be tested from here",
        );
        return;
    }
    if probe.access_log.is_none() {
        check.skipped(
            "give --access-log FILE to check the client address that the gateway recorded",
        );
        return;
    }
    let Some(record) = probe.record(id).await else {
        check.skipped(format!("the access log has no record of request {id}"));
        return;
    };
    let client = record.get("client").and_then(Value::as_str);
    let client = client.unwrap_or_default();
    if client
        .parse()
        .is_ok_and(|address| probe.is_trusted(address))
    {
        let what = format!("the gateway recorded {client}, a trusted proxy, as the client address");
        check.found(ProxyFault::ClientLost, what);
    } else if client == FORGED_CLIENT {
        let what = format!("{forged} is the client address that the gateway recorded");
        check.found(ProxyFault::ClientBelieved, what);
    } else {
        check.saw(format!(
            "the gateway recorded {client} as the client address"
        ));
    }
}
