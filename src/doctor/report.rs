//! The findings of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::doctor::{Proxy, remedy};

/// A known mistake in the configuration of a proxy in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyFault {
    /// Requests pass without a decision.
    NotAsked,
    /// The gateway accepts no questions from this proxy.
    ForwarderRefused,
    /// The question names no method.
    MethodMissing,
    /// The question names no target, or the wrong one.
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
    /// The gateway mistakes the proxy for every caller.
    ClientLost,
    /// A caller's identity header reaches the service.
    IdentityForged,
    /// A caller's identity header reaches the service where the gateway's own value is empty.
    IdentityLeft,
    /// Identity headers do not reach the service.
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
    /// A long cookie is refused.
    CookieRefused,
    /// A WebSocket handshake arrives as a plain request.
    WebsocketLost,
    /// The service gets a different path from the one that was judged.
    PathMismatch,
    /// Outsiders reach the endpoint through the proxy.
    VerifyReachable,
    /// Outsiders reach the endpoint directly.
    VerifyOpen,
    /// An answer of the gateway with a long head is lost.
    LongAnswerLost,
    /// A browser is not redirected to the login page.
    LoginNotOffered,
    /// A refusal arrives as an error of the proxy.
    RefusalBroken,
    /// A refusal arrives as a success.
    RefusalIsSuccess,
    /// Callers other than browsers are redirected to the login page.
    ApiRedirected,
    /// A 401 arrives without its challenge.
    ChallengeLost,
    /// Requests pass while the gateway is down.
    FailsOpen,
}

impl fmt::Display for ProxyFault {
    /// Writes the stable code of the finding, in `snake_case`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// One fault as it was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The fault.
    pub fault: ProxyFault,
    /// The requests that showed it, and their outcome.
    pub what: String,
    /// The harm that an attacker can do, or that a caller suffers.
    pub why: &'static str,
    /// What to change, in the words of the proxy if it is known.
    pub mend: String,
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// Everything is as it should be.
    Passed {
        /// The name of the check.
        check: &'static str,
        /// What was observed.
        seen: String,
    },
    /// Something is wrong.
    Found(Finding),
    /// Part of the check was not possible.
    Skipped {
        /// The name of the check.
        check: &'static str,
        /// What it needs.
        why: String,
    },
}

/// All results of a run, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorReport {
    /// One entry for each check, several if it finds several faults.
    pub entries: Vec<CheckResult>,
    proxy: Option<Proxy>,
}

impl DoctorReport {
    /// Creates an empty report, with remedies for this proxy.
    pub(super) const fn new(proxy: Option<Proxy>) -> Self {
        Self {
            entries: Vec::new(),
            proxy,
        }
    }

    /// Returns the number of faults.
    #[must_use]
    pub fn findings(&self) -> usize {
        let is_found = |entry: &&CheckResult| matches!(entry, CheckResult::Found(_));
        self.entries.iter().filter(is_found).count()
    }

    /// Adds the entries of a check.
    pub(super) fn add(&mut self, observed: Check) {
        let check = observed.name;
        if observed.found.is_empty() && !observed.seen.is_empty() {
            let seen = observed.seen.join("; ");
            self.entries.push(CheckResult::Passed { check, seen });
        }
        for (fault, sightings) in observed.found {
            let (why, mend) = remedy::of(fault, self.proxy);
            let what = shortened(&sightings);
            self.entries.push(CheckResult::Found(Finding {
                fault,
                what,
                why,
                mend,
            }));
        }
        for why in observed.skipped {
            self.entries.push(CheckResult::Skipped { check, why });
        }
    }
}

/// Collects the observations of one check.
pub(super) struct Check {
    name: &'static str,
    found: Vec<(ProxyFault, Vec<String>)>,
    skipped: Vec<String>,
    seen: Vec<String>,
}

impl Check {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            found: Vec::new(),
            skipped: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Adds a sighting of a fault; all sightings of a fault are one finding.
    pub(super) fn found(&mut self, fault: ProxyFault, what: impl Into<String>) {
        match self.found.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, sightings)) => sightings.push(what.into()),
            None => self.found.push((fault, vec![what.into()])),
        }
    }

    /// Adds a passed observation. It is reported only if the check finds no fault.
    pub(super) fn saw(&mut self, what: impl Into<String>) {
        self.seen.push(what.into());
    }

    /// Adds something that could not be checked.
    pub(super) fn skipped(&mut self, why: impl Into<String>) {
        self.skipped.push(why.into());
    }

    pub(super) fn has_found(&self) -> bool {
        !self.found.is_empty()
    }
}

/// Returns the first few sightings, and the number of the others.
fn shortened(sightings: &[String]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<_> = sightings.iter().take(SHOWN).map(String::as_str).collect();
    let text = first.join("; ");
    match sightings.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}
