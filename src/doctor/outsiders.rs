//! Whether strangers can ask the gateway themselves, through the proxy or past it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::doctor::Fault;
use crate::doctor::baseline::Standing;
use crate::doctor::probe::Probe;
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::{Answer, Ask, Wire};
use crate::model::deny::DenyReason;

pub(super) async fn check(probe: &Probe<'_>, standing: Standing, report: &mut Report) {
    let mut check = Check::new("verify", probe.proxy);
    if standing == Standing::Refusing {
        check.skipped(
            "every request gets the answer of a question that was refused: mend that first",
        );
    } else {
        through(probe, &mut check).await;
    }
    check.into(report);
    let mut check = Check::new("gateway", probe.proxy);
    past(probe, &mut check).await;
    check.into(report);
}

/// Whether it is the endpoint that answered: nothing else says these, or tells an identity.
fn is_endpoint(probe: &Probe<'_>, answer: &Answer) -> bool {
    let code = answer.code();
    let tells = || {
        let names = probe.identity.iter();
        answer.status == 200
            && names
                .map(|name| answer.field(name.as_str()))
                .any(|field| field.is_some())
    };
    let refusals = [DenyReason::ForwarderRefused, DenyReason::ForwardMalformed];
    refusals
        .iter()
        .any(|reason| code.as_deref() == Some(reason.code()))
        || tells()
}

async fn through(probe: &Probe<'_>, check: &mut Check) {
    let prefix = &probe.config.listen.auth_prefix;
    let inner = prefix.trim_start_matches('/');
    let target = probe.carrier().target;
    let paths = [
        format!("{prefix}/verify"),
        format!("{prefix}/verify/"),
        format!("{prefix}/verify{target}"),
        format!("{prefix}/verify?x"),
        format!("{prefix}/%76erify"),
        format!("{prefix}//verify"),
        format!("{prefix}/./verify"),
        format!("//{inner}/verify"),
        format!("{prefix}/x/../verify"),
    ];
    for path in &paths {
        let Some(answer) = probe.wire.send(&Ask::get(path)).await else {
            continue;
        };
        if is_endpoint(probe, &answer) {
            check.found(
                Fault::VerifyReachable,
                format!(
                    "GET {path} reaches the gateway: the answer is {}",
                    answer.told()
                ),
            );
        }
    }
    let described = Ask::get(&format!("{prefix}/verify"))
        .with("X-Forwarded-Method", "GET")
        .with("X-Forwarded-Uri", &target);
    if let Some(answer) = probe.wire.send(&described).await
        && answer.status == 200
        && is_endpoint(probe, &answer)
    {
        check.found(
            Fault::VerifyReachable,
            format!("GET {prefix}/verify with X-Forwarded-Uri: {target} gets a decision"),
        );
    }
    check.saw(format!(
        "{prefix}/verify is not to be reached through the proxy"
    ));
}

/// Asks the gateway itself, from an address that may not.
async fn past(probe: &Probe<'_>, check: &mut Check) {
    let Some(address) = probe
        .config
        .listen
        .addresses
        .first()
        .copied()
        .map(reachable)
    else {
        return;
    };
    let mut wire = Wire {
        address,
        authority: address.to_string(),
        source: None,
        tls: None,
    };
    let Ok(own) = wire.source().await else {
        check.skipped(format!(
            "the gateway cannot be reached at {address} from here"
        ));
        return;
    };
    wire.source = probe.stranger(address, own);
    if wire.source.is_none() {
        check.skipped(format!(
            "this machine ({own}) is a trusted proxy itself: nothing can be told of others from here"
        ));
        return;
    }
    let asked = Ask::get(&format!("{}/verify", probe.config.listen.auth_prefix))
        .with("X-Forwarded-Method", "GET")
        .with("X-Forwarded-Uri", &probe.carrier().target);
    match wire.send(&asked).await {
        Some(answer) if answer.status == 403 => {
            check.saw("the gateway answers no question from elsewhere");
        }
        Some(answer) => check.found(
            Fault::VerifyOpen,
            format!(
                "the gateway at {address} answers {} to a question from {}",
                answer.told(),
                wire.source.unwrap_or(own)
            ),
        ),
        None => check.skipped(format!("the gateway at {address} does not answer")),
    }
    if probe.config.forward_auth.secret.is_none() {
        check.skipped(
            "[forward_auth] secret is not set: whoever gets to speak from a trusted address may ask (advice, no finding)",
        );
    }
}

/// Where to connect for a listening address.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let ip = match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, address.port())
    } else {
        address
    }
}
