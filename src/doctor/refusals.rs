//! Checks that each kind of caller gets a refusal it understands.

use crate::auth::cookie::CookieNames;
use crate::doctor::ProxyFault;
use crate::doctor::probe::{Probe, ProbeOutcome};
use crate::doctor::report::Check;
use crate::doctor::wire::{RawRequest, RawResponse};

/// Length of a query that becomes three times as long in the return URL of the login, the longest the gateway accepts.
const LONG_QUERY_BYTES: usize = 1_900;
const LONG_HEAD_BYTES: usize = 3 * LONG_QUERY_BYTES;

pub(super) async fn check(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("refusals");
    let Some(closed) = &probe.paths.closed else {
        check.skipped("no path that requires a login");
        return check;
    };
    let get = || RawRequest::get(&closed.path);
    let program = "a program without a login";
    if let Some(answer) = refused_program(probe, &get(), program, &mut check).await {
        if 400 <= answer.status && answer.status != 401 {
            let what = format!("{program} gets {} instead of 401", answer.described());
            check.found(ProxyFault::RefusalBroken, what);
        }
        if answer.status == 401 && answer.field("www-authenticate").is_none() {
            let what = format!("{program} gets 401 without WWW-Authenticate");
            check.found(ProxyFault::ChallengeLost, what);
        }
    }
    let malformed = get().with("Authorization", "Bearer a b c");
    refused_program(
        probe,
        &malformed,
        "a caller with a malformed credential",
        &mut check,
    )
    .await;
    let posting = RawRequest::new("POST", &closed.path).body(vec![b'x'; 5_000]);
    refused_program(probe, &posting, "a POST without a login", &mut check).await;
    let has_cookie = check_cookie(probe, get(), &mut check).await;
    let redirects = probe.config.session.login_redirect;
    let browser = "a browser without a login";
    if let Some(answer) = refused(probe, &navigation(&closed.path), browser, &mut check).await
        && redirects
    {
        if matches!(answer.status, 302 | 303 | 307) && answer.field("location").is_some() {
            check_long_answer(probe, &answer, &closed.path, &mut check).await;
        } else {
            let what = format!("{browser} gets {} and no Location", answer.described());
            check.found(ProxyFault::LoginNotOffered, what);
        }
    }
    check.saw("programs get 401");
    if has_cookie {
        check.saw("the session cookie reaches the gateway");
    }
    if redirects {
        check.saw("browsers are sent to the login page");
    }
    check
}

/// Checks that a session cookie reaches the gateway, and returns whether it does. The refusal of an unknown cookie has
/// another challenge than that of a request without a cookie (RFC 6750 section 3.1), whatever the proxy does with the
/// body.
async fn check_cookie(probe: &Probe<'_>, request: RawRequest, check: &mut Check) -> bool {
    let (listen, session) = (&probe.config.listen, &probe.config.session);
    let (name, _) = CookieNames::new(&listen.public_url, session).on_routes();
    let request = request.with("Cookie", &format!("{name}=ended"));
    let Some(answer) = refused(probe, &request, "a caller whose session has ended", check).await
    else {
        return false;
    };
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    let has_come = challenge.contains("invalid_token");
    if answer.status == 401 && challenge.starts_with("Bearer") && !has_come {
        let what = format!("a request with the cookie {name} is refused like one without it");
        check.found(ProxyFault::CookieLost, what);
    }
    has_come
}

/// Checks that an answer with a long head passes. The head is long if the caller has many roles, which no probe has, or
/// if the return URL of the login is long.
async fn check_long_answer(probe: &Probe<'_>, short: &RawResponse, path: &str, check: &mut Check) {
    let leads_back = |answer: &RawResponse| {
        let location = answer.field("location");
        location.is_some_and(|location| location.contains("rd="))
    };
    if !leads_back(short) {
        check.skipped(format!(
            "an answer with a long head: it needs {} in [session] return_to",
            probe.origin
        ));
        return;
    }
    let long = navigation(&format!("{path}?{}", "=".repeat(LONG_QUERY_BYTES)));
    match probe.send(&long).await {
        ProbeOutcome::Stopped(answer) if leads_back(&answer) => {
            check.saw(format!("an answer with a head of {LONG_HEAD_BYTES} bytes passes"));
        }
        outcome => check.found(
            ProxyFault::LongAnswerLost,
            format!(
                "a browser without a login, at a URL that makes the head of the answer {LONG_HEAD_BYTES} bytes long: {}",
                outcome.described()
            ),
        ),
    }
}

/// Builds a request like a browser's when it opens a page.
fn navigation(target: &str) -> RawRequest {
    RawRequest::get(target)
        .with("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .with("Sec-Fetch-Mode", "navigate")
}

/// Sends a request that must be refused, and returns the refusal.
async fn refused(
    probe: &Probe<'_>,
    request: &RawRequest,
    who: &str,
    check: &mut Check,
) -> Option<RawResponse> {
    let (fault, what) = match probe.send(request).await {
        ProbeOutcome::Arrived(_) => (ProxyFault::NotAsked, "reached the service".to_owned()),
        ProbeOutcome::Silent => (ProxyFault::RefusalBroken, "gets no answer".to_owned()),
        ProbeOutcome::Stopped(answer) => {
            let fault = match answer.status {
                500.. => ProxyFault::RefusalBroken,
                ..300 => ProxyFault::RefusalIsSuccess,
                _ => return Some(answer),
            };
            (fault, format!("gets {}", answer.described()))
        }
    };
    check.found(fault, format!("{who} {what}"));
    None
}

/// Sends a request that must be refused without a redirect, and returns the refusal.
async fn refused_program(
    probe: &Probe<'_>,
    request: &RawRequest,
    who: &str,
    check: &mut Check,
) -> Option<RawResponse> {
    let answer = refused(probe, request, who, check).await?;
    if answer.status < 400 {
        let what = format!("{who} gets {}", answer.described());
        check.found(ProxyFault::ApiRedirected, what);
    }
    Some(answer)
}
