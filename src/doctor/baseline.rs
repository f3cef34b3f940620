//! Checks that the proxy asks for decisions, and that allowed requests pass. All other checks depend on both.

use http::HeaderName;

use crate::doctor::probe::{Probe, ProbeOutcome};
use crate::doctor::report::{Check, DoctorReport};
use crate::doctor::wire::{RawRequest, RawResponse};
use crate::doctor::{DoctorError, ProbeCredential, ProxyFault};
use crate::model::deny::DenyReason;

/// How much of the configuration works, which decides which checks make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// The proxy does not ask, and every other fault follows from that.
    NotAsking,
    /// It asks, and allowed requests are refused.
    Refusing,
    /// Allowed requests pass.
    Passing,
}

/// Sends requests that must be refused and requests that must pass.
///
/// # Errors
/// [`DoctorError::NoEcho`] if allowed requests do not reach the echo.
pub(super) async fn check(
    probe: &Probe<'_>,
    report: &mut DoctorReport,
) -> Result<Baseline, DoctorError> {
    let mut check = Check::new("decision");
    let baseline = if is_asking(probe, &mut check).await {
        check_allowed(probe, &mut check).await?
    } else {
        Baseline::NotAsking
    };
    report.add(check);
    Ok(baseline)
}

/// Whether a request without a login is kept from the closed path.
async fn is_asking(probe: &Probe<'_>, check: &mut Check) -> bool {
    let Some(closed) = &probe.paths.closed else {
        check.skipped("requests without a login: no route without captures requires one");
        return true;
    };
    let what = format!("GET {} without a login", closed.path);
    let outcome = probe.send(&RawRequest::get(&closed.path)).await;
    if outcome.arrived().is_some() {
        check.found(ProxyFault::NotAsked, format!("{what} reached the service"));
        return false;
    }
    let what = format!("{what}: {}", outcome.described());
    if outcome.is_stopped_by(&[302, 401, 403]) || probe.credential.is_some() {
        check.saw(what);
    } else {
        check.skipped(format!(
            "{what}, which may come from the service itself: give --token or --apikey to find out"
        ));
    }
    true
}

async fn check_allowed(probe: &Probe<'_>, check: &mut Check) -> Result<Baseline, DoctorError> {
    let carrier = probe.carrier();
    let what = format!("GET {}", carrier.target);
    let arrival = match probe.send(&carrier).await {
        ProbeOutcome::Arrived(arrival) => arrival,
        ProbeOutcome::Stopped(answer) => {
            diagnose(probe, &carrier, &answer, check).await?;
            return Ok(Baseline::Refusing);
        }
        ProbeOutcome::Silent => {
            return Err(DoctorError::NoEcho(what, "there is no answer".to_owned()));
        }
    };
    check.saw(format!("{what} reaches the service"));
    if let Some((path, _)) = probe.passing() {
        let method = &path.route.identity_headers.method;
        if !arrival.has(method.as_str()) {
            let what = format!("{what} reached the service without {method}");
            check.found(ProxyFault::IdentityLost, what);
        }
    }
    check_credential(probe, check).await;
    Ok(Baseline::Passing)
}

/// Checks that the credential opens the closed path, and that the service gets the identity.
async fn check_credential(probe: &Probe<'_>, check: &mut Check) {
    let Some((closed, credential)) = probe.with_login() else {
        check.skipped("give --token or --apikey to see what arrives with a login");
        return;
    };
    let outcome = probe
        .send(&RawRequest::get(&closed.path).by(credential))
        .await;
    let Some(arrival) = outcome.arrived() else {
        let what = format!(
            "GET {} with the credential: {}",
            closed.path,
            outcome.described()
        );
        if outcome.is_stopped_by(&[401, 403]) {
            check.skipped(format!(
                "{what}. Check that the credential is allowed to GET this path"
            ));
        } else {
            check.found(ProxyFault::QuestionFailed, what);
        }
        return;
    };
    let names = &closed.route.identity_headers;
    let mut expected = vec![&names.uid, &names.method];
    // A token of a foreign issuer may have none of the others.
    if matches!(credential, ProbeCredential::ApiKey(..)) {
        expected = vec![
            &names.uid,
            &names.username,
            &names.roles,
            &names.method,
            &names.key_id,
        ];
    }
    let lost = expected.into_iter().map(HeaderName::as_str);
    let lost: Vec<_> = lost.filter(|name| !arrival.has(name)).collect();
    if lost.is_empty() {
        check.saw("with a login the service gets the caller's identity");
    } else {
        let (path, lost) = (&closed.path, lost.join(", "));
        let what = format!("GET {path} with a login reached the service without {lost}");
        check.found(ProxyFault::IdentityLost, what);
    }
}

/// Finds out why an allowed request is refused. Parts missing from the question are found by adding them.
async fn diagnose(
    probe: &Probe<'_>,
    carrier: &RawRequest,
    answer: &RawResponse,
    check: &mut Check,
) -> Result<(), DoctorError> {
    let what = format!(
        "GET {}: the answer is {}",
        carrier.target,
        answer.described()
    );
    let code = answer.code();
    let is_code = |wanted: DenyReason| code.as_deref() == Some(wanted.code());
    if is_code(DenyReason::ForwarderRefused) || (code.is_none() && answer.status == 403) {
        let more = if probe.config.listen.trusted_proxies.is_empty() {
            "; [listen] trusted_proxies is empty, so every question is refused"
        } else {
            ""
        };
        check.found(ProxyFault::ForwarderRefused, format!("{what}{more}"));
        return Ok(());
    }
    let requires_login =
        is_code(DenyReason::CredentialMissing) || (answer.status == 401 && code.is_none());
    if probe.paths.open.is_some() && requires_login {
        let what = format!(
            "{what}, although the path needs no login: the gateway decides about another path"
        );
        check.found(ProxyFault::TargetMissing, what);
        return Ok(());
    }
    // The answers of a proxy that cannot reach the service, or that does not know the path.
    let is_elsewhere = answer.status < 400 || matches!(answer.status, 404 | 405 | 502 | 503 | 504);
    let is_of_service = |code: &str| code.starts_with("upstream_");
    if is_elsewhere && code.as_deref().is_none_or(is_of_service) {
        let hint = if 500 <= answer.status {
            ", as when the proxy cannot reach the service or the gateway"
        } else {
            ""
        };
        return Err(DoctorError::NoEcho(
            format!("GET {}", carrier.target),
            format!("the answer is {}{hint}", answer.described()),
        ));
    }
    if !heal(probe, carrier, &what, check).await {
        check.found(ProxyFault::QuestionFailed, what);
    }
    Ok(())
}

/// Adds what the question may lack, and returns whether the request then passes.
async fn heal(probe: &Probe<'_>, carrier: &RawRequest, what: &str, check: &mut Check) -> bool {
    let url = format!("{}{}", probe.origin, carrier.target);
    let methods = [("X-Forwarded-Method", "GET"), ("X-Original-Method", "GET")];
    let target = carrier.target.as_str();
    let targets = [
        ("X-Forwarded-Uri", target),
        ("X-Original-URI", target),
        ("X-Original-URL", url.as_str()),
    ];
    let what = format!("{what}, but it reached the service once the caller added");
    for (name, value) in methods {
        if probe.reaches(&carrier.clone().with(name, value)).await {
            check.found(ProxyFault::MethodMissing, format!("{what} {name}: {value}"));
            return true;
        }
    }
    for (name, value) in targets {
        let with_target = carrier.clone().with(name, value);
        if probe.reaches(&with_target).await {
            check.found(ProxyFault::TargetMissing, format!("{what} {name}"));
            return true;
        }
        for (method_name, method) in methods {
            if probe
                .reaches(&with_target.clone().with(method_name, method))
                .await
            {
                let what = format!("{what} {name} and {method_name}");
                check.found(ProxyFault::TargetMissing, what.clone());
                check.found(ProxyFault::MethodMissing, what);
                return true;
            }
        }
    }
    false
}
