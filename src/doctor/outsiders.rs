//! Checks that outsiders cannot ask the gateway for decisions, through the proxy or past it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::doctor::ProxyFault;
use crate::doctor::baseline::Baseline;
use crate::doctor::probe::Probe;
use crate::doctor::report::Check;
use crate::doctor::wire::{ProbeTarget, RawRequest, RawResponse};
use crate::model::deny::DenyReason;

/// Whether an answer comes from the endpoint for decisions: no other endpoint returns these codes or identity headers.
fn is_endpoint(probe: &Probe<'_>, answer: &RawResponse) -> bool {
    let code = answer.code();
    let mut names = probe.identity.iter();
    let refusals = [DenyReason::ForwarderRefused, DenyReason::ForwardMalformed];
    let is_refusal = refusals
        .iter()
        .any(|reason| code.as_deref() == Some(reason.code()));
    let is_grant = answer.status == 200 && names.any(|name| answer.field(name.as_str()).is_some());
    is_refusal || is_grant
}

/// Builds a question about the request that passes.
fn question(probe: &Probe<'_>) -> RawRequest {
    RawRequest::get(&format!("{}/verify", probe.config.listen.auth_prefix))
        .with("X-Forwarded-Method", "GET")
        .with("X-Forwarded-Uri", &probe.carrier().target)
}

/// Asks the gateway through the proxy.
pub(super) async fn through(probe: &Probe<'_>, baseline: Baseline) -> Check {
    let mut check = Check::new("verify");
    if baseline == Baseline::Refusing {
        check.skipped("every request gets the answer to a refused question: fix that first");
        return check;
    }
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
        let answer = probe.target.send(&RawRequest::get(path)).await;
        if let Some(answer) = answer.filter(|answer| is_endpoint(probe, answer)) {
            let answer = answer.described();
            let what = format!("GET {path} reaches the gateway: the answer is {answer}");
            check.found(ProxyFault::VerifyReachable, what);
        }
    }
    let answer = probe.target.send(&question(probe)).await;
    if answer.is_some_and(|answer| answer.status == 200 && is_endpoint(probe, &answer)) {
        let what = format!("GET {prefix}/verify with X-Forwarded-Uri: {target} gets a decision");
        check.found(ProxyFault::VerifyReachable, what);
    }
    check.saw(format!(
        "{prefix}/verify cannot be reached through the proxy"
    ));
    check
}

/// Asks the gateway directly, from an address that is not a trusted proxy's.
pub(super) async fn past(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("gateway");
    let Some(listen) = probe.config.listen.addresses.first() else {
        return check;
    };
    let address = reachable(*listen);
    let mut target = ProbeTarget::plain(address);
    let Ok(own) = target.source().await else {
        check.skipped(format!(
            "the gateway cannot be reached at {address} from here"
        ));
        return check;
    };
    let Some(source) = probe.untrusted_source(address, own) else {
        check.skipped(format!(
            "this machine ({own}) is a trusted proxy itself: questions from other addresses cannot be tested from here"
        ));
        return check;
    };
    target.source = Some(source);
    match target.send(&question(probe)).await {
        Some(answer) if answer.status == 403 => {
            check.saw("the gateway refuses questions from other addresses");
        }
        Some(answer) => {
            let answer = answer.described();
            let what =
                format!("the gateway at {address} answers {answer} to a question from {source}");
            check.found(ProxyFault::VerifyOpen, what);
        }
        None => check.skipped(format!("the gateway at {address} does not answer")),
    }
    if probe.config.forward_auth.secret.is_none() {
        check.skipped(
            "[forward_auth] secret is not set: anything that can send from a trusted address may ask (advice, not a mistake)",
        );
    }
    check
}

/// Returns the address to connect to for a listening address.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
