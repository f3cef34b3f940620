//! Whether each kind of caller is told the refusal that it understands.

use crate::auth::cookie::CookieNames;
use crate::doctor::Fault;
use crate::doctor::probe::{Outcome, Probe};
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::{Answer, Ask};

/// A query of which each byte is three in the way back from the login. A longer URL is not led back to.
const LONG_QUERY_BYTES: usize = 1_900;
const LONG_HEAD_BYTES: usize = 3 * LONG_QUERY_BYTES;

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("refusals", probe.proxy);
    let Some(closed) = &probe.ground.closed else {
        check.skipped("no path that asks for a login");
        check.into(report);
        return;
    };
    let get = || Ask::get(&closed.path);
    let program = "a program without a login";
    if let Some(answer) = refused(probe, &get(), program, &mut check).await {
        program_is_told(&answer, program, &mut check);
        if 400 <= answer.status && answer.status != 401 {
            check.found(
                Fault::RefusalBroken,
                format!("{program} gets {} and not 401", answer.told()),
            );
        }
        if answer.status == 401 && answer.field("www-authenticate").is_none() {
            check.found(
                Fault::ChallengeLost,
                format!("{program} gets 401 without WWW-Authenticate"),
            );
        }
    }
    let malformed = get().with("Authorization", "Bearer a b c");
    let posting = Ask::new("POST", &closed.path).body(vec![b'x'; 5_000]);
    for (ask, who) in [
        (malformed, "a caller with a malformed credential"),
        (posting, "a POST without a login"),
    ] {
        if let Some(answer) = refused(probe, &ask, who, &mut check).await {
            program_is_told(&answer, who, &mut check);
        }
    }
    let has_cookie = with_cookie(probe, get(), &mut check).await;
    let who = "a browser without a login";
    if let Some(answer) = refused(probe, &navigation(&closed.path), who, &mut check).await {
        let is_redirect =
            matches!(answer.status, 302 | 303 | 307) && answer.field("location").is_some();
        if probe.config.session.login_redirect && !is_redirect {
            check.found(
                Fault::LoginNotOffered,
                format!("{who} gets {} and no Location", answer.told()),
            );
        }
        if probe.config.session.login_redirect && is_redirect {
            long_answer(probe, &answer, &closed.path, &mut check).await;
        }
    }
    check.saw("programs get 401");
    if has_cookie {
        check.saw("the session cookie takes part");
    }
    if probe.config.session.login_redirect {
        check.saw("browsers are sent to the login page");
    }
    check.into(report);
}

/// Whether a session cookie reaches the gateway. One that is none is refused otherwise than no cookie at all, which shows
/// in the challenge (RFC 6750 section 3.1) whatever the proxy makes of the body.
async fn with_cookie(probe: &Probe<'_>, ask: Ask, check: &mut Check) -> bool {
    let (listen, session) = (&probe.config.listen, &probe.config.session);
    let (name, _) = CookieNames::new(&listen.public_url, session).on_routes();
    let who = "a caller whose session has ended";
    let ask = ask.with("Cookie", &format!("{name}=ended"));
    let Some(answer) = refused(probe, &ask, who, check).await else {
        return false;
    };
    let challenge = answer.field("www-authenticate").unwrap_or_default();
    let has_come = challenge.contains("invalid_token");
    if answer.status == 401 && challenge.starts_with("Bearer") && !has_come {
        check.found(
            Fault::CookieLost,
            format!("a request with the cookie {name} is refused as one without"),
        );
    }
    has_come
}

/// Whether a long head of an answer comes through. A long list of roles makes one, which no probe has; the way back from
/// the login makes one too.
async fn long_answer(probe: &Probe<'_>, short: &Answer, path: &str, check: &mut Check) {
    let leads_back = |answer: &Answer| {
        answer
            .field("location")
            .is_some_and(|to| to.contains("rd="))
    };
    if !leads_back(short) {
        check.skipped(format!(
            "an answer with a long head: a login leads back to {} only if [session] return_to has it",
            probe.origin
        ));
        return;
    }
    let long = navigation(&format!("{path}?{}", "=".repeat(LONG_QUERY_BYTES)));
    match probe.send(&long).await {
        Outcome::Stopped(answer) if leads_back(&answer) => {
            check.saw(format!("an answer with a head of {LONG_HEAD_BYTES} bytes comes through"));
        }
        outcome => check.found(
            Fault::LongAnswerLost,
            format!(
                "a browser without a login, at a URL that makes the head of the answer {LONG_HEAD_BYTES} bytes long: {}",
                outcome.told()
            ),
        ),
    }
}

/// As a browser opens a page.
fn navigation(target: &str) -> Ask {
    Ask::get(target)
        .with("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .with("Sec-Fetch-Mode", "navigate")
}

/// A refusal that is one; what else it can be is noted.
async fn refused(probe: &Probe<'_>, ask: &Ask, who: &str, check: &mut Check) -> Option<Answer> {
    match probe.send(ask).await {
        Outcome::Arrived(_) => {
            check.found(Fault::NotAsked, format!("{who} reached the service"));
            None
        }
        Outcome::Silent => {
            check.found(Fault::RefusalBroken, format!("{who} gets no answer"));
            None
        }
        Outcome::Stopped(answer) if 500 <= answer.status => {
            check.found(
                Fault::RefusalBroken,
                format!("{who} gets {}", answer.told()),
            );
            None
        }
        Outcome::Stopped(answer) if answer.status < 300 => {
            check.found(
                Fault::RefusalIsSuccess,
                format!("{who} gets {}", answer.told()),
            );
            None
        }
        Outcome::Stopped(answer) => Some(answer),
    }
}

fn program_is_told(answer: &Answer, who: &str, check: &mut Check) {
    if answer.status < 400 {
        check.found(
            Fault::ApiRedirected,
            format!("{who} gets {}", answer.told()),
        );
    }
}
