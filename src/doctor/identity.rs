//! Whether an identity that a caller claims reaches the service, in any spelling.

use http::HeaderName;

use crate::doctor::Fault;
use crate::doctor::probe::{Arrival, Outcome, Probe};
use crate::doctor::report::{Check, Report};
use crate::doctor::snippet::titled;
use crate::doctor::wire::Ask;
use crate::model::route::Route;

/// What is claimed. It reads like a role and like a uid.
const CLAIMED: &str = "u-claimed-by-doctor";

/// What the echo shows in place of a credential.
const REDACTED: &str = "(redacted)";

/// A way to write a header that a careless reader takes for the plain one.
struct Spelling {
    told: &'static str,
    spell: fn(&str) -> Vec<(String, &'static str)>,
}

const SPELLINGS: [Spelling; 10] = [
    Spelling {
        told: "as it is written",
        spell: |name| vec![(titled(name), CLAIMED)],
    },
    Spelling {
        told: "in lower case",
        spell: |name| vec![(name.to_ascii_lowercase(), CLAIMED)],
    },
    Spelling {
        told: "in upper case",
        spell: |name| vec![(name.to_ascii_uppercase(), CLAIMED)],
    },
    Spelling {
        told: "twice",
        spell: |name| vec![(titled(name), CLAIMED), (titled(name), CLAIMED)],
    },
    Spelling {
        told: "empty and then again",
        spell: |name| vec![(titled(name), ""), (titled(name), CLAIMED)],
    },
    Spelling {
        told: "with _ for -",
        spell: |name| vec![(titled(name).replace('-', "_"), CLAIMED)],
    },
    Spelling {
        told: "with _ for the last -",
        spell: |name| vec![(with_last(name, '_'), CLAIMED)],
    },
    Spelling {
        told: "with . for -",
        spell: |name| vec![(titled(name).replace('-', "."), CLAIMED)],
    },
    Spelling {
        told: "with ~ for -",
        spell: |name| vec![(titled(name).replace('-', "~"), CLAIMED)],
    },
    Spelling {
        told: "plain and with _ at once",
        spell: |name| vec![(titled(name), CLAIMED), (name.replace('-', "_"), CLAIMED)],
    },
];

fn with_last(name: &str, separator: char) -> String {
    let titled = titled(name);
    match titled.rsplit_once('-') {
        Some((begin, end)) => format!("{begin}{separator}{end}"),
        None => titled,
    }
}

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("identity", probe.proxy);
    let open = probe.ground.open.as_ref();
    let anonymous = open.map(|spot| (Ask::get(&spot.path), &spot.route, "an anonymous caller"));
    let closed = probe.ground.closed.as_ref().zip(probe.credential.as_ref());
    let known = closed.map(|(spot, credential)| {
        (
            Ask::get(&spot.path).by(credential),
            &spot.route,
            "a caller with a login",
        )
    });
    let mut names = probe.identity.clone();
    if let Some((ask, route, _)) = &known {
        names.extend(copies(probe, ask, route).await);
    }
    let mut tried = 0;
    for (ask, route, who) in anonymous.into_iter().chain(known) {
        for spelling in &SPELLINGS {
            tried += claim(probe, &ask, route, &names, (who, spelling), &mut check).await;
        }
        dropped(probe, &ask, route, who, &mut check).await;
    }
    if !check.has_found() {
        check.saw(format!(
            "no claimed identity reaches the service: {} headers, {} spellings, {tried} requests",
            names.len(),
            SPELLINGS.len()
        ));
    }
    check.into(report);
}

/// Other names under which the proxy tells the service who calls: what it has copied there is as good as the original.
async fn copies(probe: &Probe<'_>, ask: &Ask, route: &Route) -> Vec<HeaderName> {
    let outcome = probe.send(ask).await;
    let Some(arrival) = outcome.arrived() else {
        return Vec::new();
    };
    let names = &route.identity_headers;
    let told: Vec<_> = [&names.uid, &names.username]
        .into_iter()
        .flat_map(|name| arrival.values(name.as_str()))
        .filter(|value| !value.is_empty())
        .collect();
    let copied = arrival
        .fields()
        .filter(|(_, value)| told.contains(value))
        .filter_map(|(name, _)| HeaderName::from_bytes(name.as_bytes()).ok());
    copied
        .filter(|name| !probe.identity.contains(name))
        .collect()
}

/// Claims every identity header at once and, if that is refused, one after the other; gives the number of requests.
async fn claim(
    probe: &Probe<'_>,
    ask: &Ask,
    route: &Route,
    names: &[HeaderName],
    (who, spelling): (&str, &Spelling),
    check: &mut Check,
) -> usize {
    let claimed = |names: &[HeaderName]| {
        let fields = names
            .iter()
            .flat_map(|name| (spelling.spell)(name.as_str()));
        fields.fold(ask.clone(), |ask, (name, value)| ask.with(&name, value))
    };
    let mut tried = 1;
    let mut arrivals = Vec::new();
    match probe.send(&claimed(names)).await {
        Outcome::Arrived(arrival) => arrivals.push(arrival),
        Outcome::Stopped(_) | Outcome::Silent => {
            for name in names {
                tried += 1;
                if let Outcome::Arrived(arrival) =
                    probe.send(&claimed(std::slice::from_ref(name))).await
                {
                    arrivals.push(arrival);
                }
            }
        }
    }
    let mut names: Vec<_> = arrivals
        .iter()
        .flat_map(|arrival| arrived(arrival, route))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return tried;
    }
    // The gateway always tells the method: where this one was replaced, the others were left for want of a value.
    let always_told = route.identity_headers.method.as_str();
    let is_known = |name: &String| probe.identity.iter().any(|known| known == name.as_str());
    let only_where_empty = names
        .iter()
        .all(|name| is_known(name) && name != always_told);
    let fault = if only_where_empty {
        Fault::IdentityLeft
    } else {
        Fault::IdentityForged
    };
    let names = names.join(", ");
    check.found(
        fault,
        format!("{names} of {who}, {}, reached the service", spelling.told),
    );
    tried
}

/// The names under which a claim arrived.
fn arrived(arrival: &Arrival, route: &Route) -> Vec<String> {
    let hides = route.identity_headers.assertion.as_str();
    let is_claim = |name: &str, value: &str| {
        // The echo shows no assertion, and the gateway tells none on this route.
        let is_hidden = name == hides && value == REDACTED && !route.assertion;
        value.contains(CLAIMED) || is_hidden
    };
    let fields = arrival
        .fields()
        .filter(|(name, value)| is_claim(name, value));
    fields.map(|(name, _)| name.to_owned()).collect()
}

/// What `Connection` names is dropped on the way (RFC 9110 section 7.6.1), and must not be an identity header.
async fn dropped(probe: &Probe<'_>, ask: &Ask, route: &Route, who: &str, check: &mut Check) {
    let method = route.identity_headers.method.as_str();
    let told = |outcome: &Outcome| outcome.arrived().map(|arrival| arrival.has(method));
    if told(&probe.send(ask).await) != Some(true) {
        return;
    }
    let names: Vec<_> = route
        .identity_headers
        .all()
        .map(|name| titled(name.as_str()))
        .into();
    let connection = format!("close, {}", names.join(", "));
    let outcome = probe
        .send(&ask.clone().with("Connection", &connection))
        .await;
    let method = route.identity_headers.method.as_str();
    if outcome
        .arrived()
        .is_some_and(|arrival| !arrival.has(method))
    {
        check.found(
            Fault::IdentityDropped,
            format!("{method} of {who} did not reach the service when Connection named it"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_differ_from_each_other() {
        let mut all: Vec<_> = SPELLINGS
            .iter()
            .map(|spelling| (spelling.spell)("x-auth-uid"))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SPELLINGS.len());
        assert_eq!(titled("x-auth-key-id"), "X-Auth-Key-Id");
        assert_eq!(with_last("x-auth-uid", '_'), "X-Auth_Uid");
    }
}
