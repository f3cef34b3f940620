//! Whether the proxy asks at all, and whether what is allowed passes: without that nothing else can be told.

use http::HeaderName;

use crate::doctor::probe::{Outcome, Probe};
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::{Answer, Ask};
use crate::doctor::{Credential, DoctorError, Fault};
use crate::model::deny::DenyReason;

const NAME: &str = "decision";

/// How far a proxy is on its way to a right configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It asks nobody: all else follows from that.
    NotAsking,
    /// It asks, and what is allowed is refused.
    Refusing,
    /// What is allowed passes.
    Passing,
}

/// Tries what is refused and what is allowed.
///
/// # Errors
/// [`DoctorError::NoEcho`] if what is allowed goes elsewhere.
pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) -> Result<Standing, DoctorError> {
    let mut check = Check::new(NAME, probe.proxy);
    if let Some(closed) = &probe.ground.closed {
        let outcome = probe.send(&Ask::get(&closed.path)).await;
        if outcome.arrived().is_some() {
            check.found(
                Fault::NotAsked,
                format!("GET {} without a login reached the service", closed.path),
            );
            check.into(report);
            return Ok(Standing::NotAsking);
        }
        let told = format!("GET {} without a login: {}", closed.path, outcome.told());
        let is_refusal = matches!(&outcome, Outcome::Stopped(answer) if matches!(answer.status, 302 | 401 | 403));
        if is_refusal || probe.credential.is_some() {
            check.saw(told);
        } else {
            check.skipped(format!(
                "{told}, which may be the service's own: give --token or --apikey to see"
            ));
        }
    } else {
        check.skipped("no route without captures asks for a login: none was tried without one");
    }
    let carrier = probe.carrier();
    let outcome = probe.send(&carrier).await;
    let standing = match &outcome {
        Outcome::Arrived(arrival) => {
            check.saw(format!("GET {} reaches the service", carrier.target));
            let spot = probe.passing().map(|(spot, _)| spot);
            let names = spot.map(|spot| &spot.route.identity_headers);
            if let Some(names) = names
                && !arrival.has(names.method.as_str())
            {
                check.found(
                    Fault::IdentityLost,
                    format!(
                        "GET {} reached the service without {}",
                        carrier.target, names.method
                    ),
                );
            }
            Standing::Passing
        }
        Outcome::Stopped(answer) => {
            diagnose(probe, &carrier, answer, &mut check).await?;
            Standing::Refusing
        }
        Outcome::Silent => return Err(no_echo(&carrier, "there is no answer".to_owned())),
    };
    if standing == Standing::Passing {
        check_credential(probe, &mut check).await;
    }
    check.into(report);
    Ok(standing)
}

/// With a credential the closed path is open, and the service knows by whom.
async fn check_credential(probe: &Probe<'_>, check: &mut Check) {
    let (Some(closed), Some(credential)) = (&probe.ground.closed, &probe.credential) else {
        check.skipped("give --token or --apikey to see what arrives with a login");
        return;
    };
    let outcome = probe.send(&Ask::get(&closed.path).by(credential)).await;
    let Some(arrival) = outcome.arrived() else {
        let what = format!(
            "GET {} with the credential: {}",
            closed.path,
            outcome.told()
        );
        if matches!(&outcome, Outcome::Stopped(answer) if matches!(answer.status, 401 | 403)) {
            check.skipped(format!("{what}. Is it a login that may?"));
        } else {
            check.found(Fault::QuestionFailed, what);
        }
        return;
    };
    let names = &closed.route.identity_headers;
    let told = match credential {
        // Of a foreign issuer there may be no more.
        Credential::Token(_) => vec![&names.uid, &names.method],
        Credential::ApiKey(..) => vec![
            &names.uid,
            &names.username,
            &names.roles,
            &names.method,
            &names.key_id,
        ],
    };
    let lost: Vec<_> = told
        .into_iter()
        .map(HeaderName::as_str)
        .filter(|name| !arrival.has(name))
        .collect();
    if lost.is_empty() {
        check.saw("with a login the service is told whose it is");
    } else {
        let lost = lost.join(", ");
        check.found(
            Fault::IdentityLost,
            format!(
                "GET {} with a login reached the service without {lost}",
                closed.path
            ),
        );
    }
}

/// Why an allowed request is refused. What the proxy leaves out of its question can be told by adding it.
async fn diagnose(
    probe: &Probe<'_>,
    carrier: &Ask,
    answer: &Answer,
    check: &mut Check,
) -> Result<(), DoctorError> {
    let told = format!("GET {}: the answer is {}", carrier.target, answer.told());
    let code = answer.code();
    let is_code = |wanted: DenyReason| code.as_deref() == Some(wanted.code());
    if is_code(DenyReason::ForwarderRefused) || (code.is_none() && answer.status == 403) {
        let nobody = probe.config.listen.trusted_proxies.is_empty();
        let more = if nobody {
            "; [listen] trusted_proxies is empty, so that nobody may ask"
        } else {
            ""
        };
        check.found(Fault::ForwarderRefused, format!("{told}{more}"));
        return Ok(());
    }
    let is_open = probe
        .passing()
        .is_some_and(|(_, credential)| credential.is_none());
    let asks_for_login =
        is_code(DenyReason::CredentialMissing) || (answer.status == 401 && code.is_none());
    if is_open && asks_for_login {
        check.found(
            Fault::TargetMissing,
            format!("{told}, though anybody may: it is judged as another path"),
        );
        return Ok(());
    }
    // What a proxy says when there is no service behind it, or when it knows no such path.
    let is_elsewhere = answer.status < 400 || matches!(answer.status, 404 | 405 | 502 | 503 | 504);
    let by_service = code
        .as_deref()
        .is_none_or(|code| code.starts_with("upstream_"));
    if is_elsewhere && by_service {
        let who = if 500 <= answer.status {
            ", as it may be when the proxy cannot reach the service, or the gateway"
        } else {
            ""
        };
        return Err(no_echo(
            carrier,
            format!("the answer is {}{who}", answer.told()),
        ));
    }
    if !heal(probe, carrier, &told, check).await {
        check.found(Fault::QuestionFailed, told);
    }
    Ok(())
}

/// Adds what the question may lack; gives whether that lets the request pass.
async fn heal(probe: &Probe<'_>, carrier: &Ask, told: &str, check: &mut Check) -> bool {
    let url = format!("{}{}", probe.origin, carrier.target);
    let methods = [("X-Forwarded-Method", "GET"), ("X-Original-Method", "GET")];
    let target = carrier.target.as_str();
    let targets = [
        ("X-Forwarded-Uri", target),
        ("X-Original-URI", target),
        ("X-Original-URL", url.as_str()),
    ];
    for (name, value) in methods {
        if probe.reaches(&carrier.clone().with(name, value)).await {
            check.found(
                Fault::MethodMissing,
                format!("{told}, but it reached the service once the caller added {name}: {value}"),
            );
            return true;
        }
    }
    for (name, value) in targets {
        if probe.reaches(&carrier.clone().with(name, value)).await {
            check.found(
                Fault::TargetMissing,
                format!("{told}, but it reached the service once the caller added {name}"),
            );
            return true;
        }
        for (method_name, method) in methods {
            let both = carrier.clone().with(name, value).with(method_name, method);
            if probe.reaches(&both).await {
                let what = format!(
                    "{told}, but it reached the service once the caller added {name} and {method_name}"
                );
                check.found(Fault::TargetMissing, what.clone());
                check.found(Fault::MethodMissing, what);
                return true;
            }
        }
    }
    false
}

fn no_echo(carrier: &Ask, why: String) -> DoctorError {
    DoctorError::NoEcho(format!("GET {}", carrier.target), why)
}
