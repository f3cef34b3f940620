//! Checks that identity headers of a caller do not reach the service, in any spelling.

use http::HeaderName;

use crate::doctor::ProxyFault;
use crate::doctor::probe::{EchoedRequest, Probe, ProbeOutcome};
use crate::doctor::report::Check;
use crate::doctor::snippet::titled;
use crate::doctor::wire::RawRequest;
use crate::model::route::Route;

/// The value of every forged header. It can be read as a role and as a uid.
const CLAIMED: &str = "u-claimed-by-doctor";

/// The echo's replacement for a credential.
const REDACTED: &str = "(redacted)";

/// Spells a header in a way that a lenient server may mistake for the plain one.
type Spell = fn(&str) -> Vec<(String, &'static str)>;

/// The spellings that are tried, and how a report describes them.
const SPELLINGS: [(&str, Spell); 10] = [
    ("as it is written", |name| claimed([titled(name)])),
    ("in lower case", |name| claimed([name.to_ascii_lowercase()])),
    ("in upper case", |name| claimed([name.to_ascii_uppercase()])),
    ("twice", |name| claimed([titled(name), titled(name)])),
    ("empty and then again", |name| {
        vec![(titled(name), ""), (titled(name), CLAIMED)]
    }),
    ("with _ for -", |name| {
        claimed([titled(name).replace('-', "_")])
    }),
    ("with _ for the last -", |name| {
        claimed([with_last(name, '_')])
    }),
    ("with . for -", |name| {
        claimed([titled(name).replace('-', ".")])
    }),
    ("with ~ for -", |name| {
        claimed([titled(name).replace('-', "~")])
    }),
    ("with - and with _ at once", |name| {
        claimed([titled(name), name.replace('-', "_")])
    }),
];

fn claimed<const COUNT: usize>(names: [String; COUNT]) -> Vec<(String, &'static str)> {
    names.map(|name| (name, CLAIMED)).into()
}

fn with_last(name: &str, separator: char) -> String {
    let titled = titled(name);
    match titled.rsplit_once('-') {
        Some((begin, end)) => format!("{begin}{separator}{end}"),
        None => titled,
    }
}

/// A request that passes, and its caller.
struct Claimant<'a> {
    request: RawRequest,
    route: &'a Route,
    who: &'static str,
}

pub(super) async fn check(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("identity");
    let mut names = probe.identity.clone();
    let mut claimants = Vec::new();
    for (path, credential) in probe.all_passing() {
        let claimant = Claimant {
            request: RawRequest::get(&path.path).by(credential),
            route: &path.route,
            who: match credential {
                None => "an anonymous caller",
                Some(_) => "a caller with a login",
            },
        };
        if credential.is_some() {
            names.extend(copies(probe, &claimant).await);
        }
        claimants.push(claimant);
    }
    let mut tried = 0;
    for claimant in &claimants {
        for spelling in &SPELLINGS {
            tried += claim(probe, claimant, &names, spelling, &mut check).await;
        }
        check_dropped(probe, claimant, &mut check).await;
    }
    if !check.has_found() {
        check.saw(format!(
            "no claimed identity reaches the service: {} headers, {} spellings, {tried} requests",
            names.len(),
            SPELLINGS.len()
        ));
    }
    check
}

/// Returns other names under which the proxy passes the caller's uid or username to the service, which may trust them
/// too.
async fn copies(probe: &Probe<'_>, claimant: &Claimant<'_>) -> Vec<HeaderName> {
    let outcome = probe.send(&claimant.request).await;
    let Some(arrival) = outcome.arrived() else {
        return Vec::new();
    };
    let names = &claimant.route.identity_headers;
    let originals = [names.uid.as_str(), names.username.as_str()];
    let originals = originals.into_iter().flat_map(|name| arrival.values(name));
    let originals: Vec<_> = originals.filter(|value| !value.is_empty()).collect();
    let copied = arrival
        .fields()
        .filter(|(_, value)| originals.contains(value));
    copied
        .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok())
        .filter(|name| !probe.identity.contains(name))
        .collect()
}

/// Forges every identity header at once and, if that is refused, one by one. Returns the number of requests.
async fn claim(
    probe: &Probe<'_>,
    claimant: &Claimant<'_>,
    names: &[HeaderName],
    (spelling, spell): &(&str, Spell),
    check: &mut Check,
) -> usize {
    let claiming = |names: &[HeaderName]| {
        let fields = names.iter().flat_map(|name| spell(name.as_str()));
        let request = claimant.request.clone();
        fields.fold(request, |request, (name, value)| request.with(&name, value))
    };
    let mut tried = 1;
    let mut arrivals = Vec::new();
    match probe.send(&claiming(names)).await {
        ProbeOutcome::Arrived(arrival) => arrivals.push(arrival),
        ProbeOutcome::Stopped(_) | ProbeOutcome::Silent => {
            for name in names {
                tried += 1;
                let outcome = probe.send(&claiming(std::slice::from_ref(name))).await;
                arrivals.extend(outcome.arrived().cloned());
            }
        }
    }
    let route = claimant.route;
    let arrived = arrivals.iter().flat_map(|arrival| arrived(arrival, route));
    let mut names: Vec<_> = arrived.collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return tried;
    }
    // The gateway always sends the method. If the proxy replaced it, it left the others because their values are empty.
    let always_sent = route.identity_headers.method.as_str();
    let is_known = |name: &String| probe.identity.iter().any(|known| known == name.as_str());
    let is_left = |name: &String| is_known(name) && name != always_sent;
    let fault = if names.iter().all(is_left) {
        ProxyFault::IdentityLeft
    } else {
        ProxyFault::IdentityForged
    };
    let (names, who) = (names.join(", "), claimant.who);
    check.found(
        fault,
        format!("{names} of {who}, {spelling}, reached the service"),
    );
    tried
}

/// Returns the names of the headers that arrived with the forged value.
fn arrived(arrival: &EchoedRequest, route: &Route) -> Vec<String> {
    let hides = route.identity_headers.assertion.as_str();
    let is_claim = |name: &str, value: &str| {
        // The echo redacts the assertion, and the gateway sends none on this route.
        let is_hidden = name == hides && value == REDACTED && !route.assertion;
        value.contains(CLAIMED) || is_hidden
    };
    let fields = arrival.fields();
    let claims = fields.filter(|(name, value)| is_claim(name, value));
    claims.map(|(name, _)| name.to_owned()).collect()
}

/// Names every identity header in `Connection`: a proxy removes those fields on the way (RFC 9110 section 7.6.1), but
/// it must not remove identity headers.
async fn check_dropped(probe: &Probe<'_>, claimant: &Claimant<'_>, check: &mut Check) {
    let names = &claimant.route.identity_headers;
    let method = names.method.as_str();
    let has_method = |outcome: ProbeOutcome| outcome.arrived().map(|arrival| arrival.has(method));
    if has_method(probe.send(&claimant.request).await) != Some(true) {
        return;
    }
    let titles = names.all().map(|name| titled(name.as_str()));
    let connection = format!("close, {}", titles.join(", "));
    let request = claimant.request.clone().with("Connection", &connection);
    if has_method(probe.send(&request).await) == Some(false) {
        let who = claimant.who;
        let what = format!("{method} of {who} did not reach the service when Connection named it");
        check.found(ProxyFault::IdentityDropped, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_differ_from_each_other() {
        let mut all: Vec<_> = SPELLINGS
            .iter()
            .map(|(_, spell)| spell("x-auth-uid"))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SPELLINGS.len());
        assert_eq!(titled("x-auth-key-id"), "X-Auth-Key-Id");
        assert_eq!(with_last("x-auth-uid", '_'), "X-Auth_Uid");
    }
}
