//! What a probe has found out.

use crate::doctor::Proxy;
use crate::doctor::remedy;

/// A known mistake of a proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Requests pass without a decision.
    NotAsked,
    /// The gateway does not take questions from this proxy.
    ForwarderRefused,
    /// The question names no method.
    MethodMissing,
    /// The question names no target, or another one.
    TargetMissing,
    /// The question gets no decision, for another reason.
    QuestionFailed,
    /// A caller chooses the method that is judged.
    MethodBelieved,
    /// A caller chooses the target that is judged.
    TargetBelieved,
    /// A caller's own description of its request reaches the gateway.
    DescriptionPassed,
    /// A caller chooses its own address.
    ClientBelieved,
    /// The gateway takes the proxy for every caller.
    ClientLost,
    /// A caller's identity header reaches the service.
    IdentityForged,
    /// The same, where the gateway tells an empty value.
    IdentityLeft,
    /// The service is not told who calls.
    IdentityLost,
    /// A caller can have identity headers removed.
    IdentityDropped,
    /// A caller's credential reaches the service.
    CredentialPassed,
    /// A session cookie does not reach the gateway.
    CookieLost,
    /// A CORS preflight is refused.
    PreflightBlocked,
    /// A body does not arrive whole.
    BodyLost,
    /// A big cookie is refused.
    CookieRefused,
    /// A WebSocket handshake arrives as a plain request.
    WebsocketLost,
    /// The path that arrives is another than the one that was judged.
    PathMismatch,
    /// Outsiders reach the endpoint through the proxy.
    VerifyReachable,
    /// Outsiders reach the endpoint directly.
    VerifyOpen,
    /// An answer of the gateway with a long head does not come through.
    LongAnswerLost,
    /// A browser is not sent to the login page.
    LoginNotOffered,
    /// A refusal arrives as a fault of the proxy.
    RefusalBroken,
    /// A refusal arrives as a success.
    RefusalIsSuccess,
    /// Callers that are no browser are sent to the login page.
    ApiRedirected,
    /// A 401 does not say how to come in.
    ChallengeLost,
    /// Requests pass when no decision can be had.
    FailsOpen,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::NotAsked,
        Self::ForwarderRefused,
        Self::MethodMissing,
        Self::TargetMissing,
        Self::QuestionFailed,
        Self::MethodBelieved,
        Self::TargetBelieved,
        Self::DescriptionPassed,
        Self::ClientBelieved,
        Self::ClientLost,
        Self::IdentityForged,
        Self::IdentityLeft,
        Self::IdentityLost,
        Self::IdentityDropped,
        Self::CredentialPassed,
        Self::CookieLost,
        Self::PreflightBlocked,
        Self::BodyLost,
        Self::CookieRefused,
        Self::WebsocketLost,
        Self::PathMismatch,
        Self::VerifyReachable,
        Self::VerifyOpen,
        Self::LongAnswerLost,
        Self::LoginNotOffered,
        Self::RefusalBroken,
        Self::RefusalIsSuccess,
        Self::ApiRedirected,
        Self::ChallengeLost,
        Self::FailsOpen,
    ];

    /// The stable name of the finding: `snake_case`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::ForwarderRefused => "forwarder_refused",
            Self::MethodMissing => "method_missing",
            Self::TargetMissing => "target_missing",
            Self::QuestionFailed => "question_failed",
            Self::MethodBelieved => "method_believed",
            Self::TargetBelieved => "target_believed",
            Self::DescriptionPassed => "description_passed",
            Self::ClientBelieved => "client_believed",
            Self::ClientLost => "client_lost",
            Self::IdentityForged => "identity_forged",
            Self::IdentityLeft => "identity_left",
            Self::IdentityLost => "identity_lost",
            Self::IdentityDropped => "identity_dropped",
            Self::CredentialPassed => "credential_passed",
            Self::CookieLost => "cookie_lost",
            Self::PreflightBlocked => "preflight_blocked",
            Self::BodyLost => "body_lost",
            Self::CookieRefused => "cookie_refused",
            Self::WebsocketLost => "websocket_lost",
            Self::PathMismatch => "path_mismatch",
            Self::VerifyReachable => "verify_reachable",
            Self::VerifyOpen => "verify_open",
            Self::LongAnswerLost => "long_answer_lost",
            Self::LoginNotOffered => "login_not_offered",
            Self::RefusalBroken => "refusal_broken",
            Self::RefusalIsSuccess => "refusal_is_success",
            Self::ApiRedirected => "api_redirected",
            Self::ChallengeLost => "challenge_lost",
            Self::FailsOpen => "fails_open",
        }
    }
}

/// One mistake as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub fault: Fault,
    /// What was sent and what came of it.
    pub what: String,
    /// What an attacker, or a caller, makes of it.
    pub why: &'static str,
    /// What to change, for the proxy that was named or for all.
    pub mend: String,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Tried, and as it should be.
    Passed {
        /// The check.
        check: &'static str,
        /// What was seen.
        seen: String,
    },
    /// Tried, and wrong.
    Found(Finding),
    /// Not tried.
    Skipped {
        /// The check.
        check: &'static str,
        /// What is missing for it.
        why: String,
    },
}

/// All that a run has found out, in the order it was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One for each check, several where a check finds several mistakes.
    pub entries: Vec<Entry>,
}

impl Report {
    /// How many mistakes there are.
    #[must_use]
    pub fn findings(&self) -> usize {
        let is_found = |entry: &&Entry| matches!(entry, Entry::Found(_));
        self.entries.iter().filter(is_found).count()
    }
}

/// Collects what one check sees: mistakes, or else that all is well.
pub(super) struct Check {
    name: &'static str,
    proxy: Option<Proxy>,
    found: Vec<(Fault, Vec<String>)>,
    skipped: Vec<String>,
    seen: Vec<String>,
}

impl Check {
    pub(super) const fn new(name: &'static str, proxy: Option<Proxy>) -> Self {
        Self {
            name,
            proxy,
            found: Vec::new(),
            skipped: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Notes a mistake; several sightings of one are one finding.
    pub(super) fn found(&mut self, fault: Fault, what: impl Into<String>) {
        match self.found.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, sightings)) => sightings.push(what.into()),
            None => self.found.push((fault, vec![what.into()])),
        }
    }

    pub(super) fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    pub(super) fn skipped(&mut self, why: impl Into<String>) {
        self.skipped.push(why.into());
    }

    pub(super) fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    /// Writes the entries of this check.
    pub(super) fn into(self, report: &mut Report) {
        let check = self.name;
        if self.found.is_empty() && !self.seen.is_empty() {
            report.entries.push(Entry::Passed {
                check,
                seen: self.seen.join("; "),
            });
        }
        for (fault, sightings) in self.found {
            let (why, mend) = remedy::of(fault, self.proxy);
            report.entries.push(Entry::Found(Finding {
                fault,
                what: shortened(&sightings),
                why,
                mend,
            }));
        }
        for why in self.skipped {
            report.entries.push(Entry::Skipped { check, why });
        }
    }
}

/// The first few sightings; the rest by their number.
fn shortened(sightings: &[String]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<_> = sightings.iter().take(SHOWN).map(String::as_str).collect();
    let text = first.join("; ");
    match sightings.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}
