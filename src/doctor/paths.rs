//! Whether the path that arrives is the one that was judged, to every reader.

use http::Method;

use crate::doctor::Fault;
use crate::doctor::probe::Probe;
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::Ask;

/// A path that every hop must leave as it is.
const PLAIN: &str = "a%20b;c=d/~e";

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("paths", probe.proxy);
    as_sent(probe, &mut check).await;
    around(probe, &mut check).await;
    check.into(report);
}

async fn as_sent(probe: &Probe<'_>, check: &mut Check) {
    let Some((spot, credential)) = probe.passing() else {
        return;
    };
    let Some(folder) = spot.folder() else {
        return;
    };
    let path = format!("{folder}/{PLAIN}");
    let ask = Ask::get(&format!("{path}?q=%2e%2e/"));
    let ask = match credential {
        Some(credential) => ask.by(credential),
        None => ask,
    };
    let outcome = probe.send(&ask).await;
    let Some(arrival) = outcome.arrived() else {
        check.found(
            Fault::PathMismatch,
            format!("GET {path}: {}", outcome.told()),
        );
        return;
    };
    let (arrived, query) = (arrival.text("path"), arrival.text("query"));
    if arrived == path && query == "q=%2e%2e/" {
        check.saw(format!("{path} arrives as it was sent"));
    } else {
        check.found(
            Fault::PathMismatch,
            format!("GET {path}?q=%2e%2e/ reached the service as {arrived}?{query}"),
        );
    }
}

/// Ways to what is not public from what is, and from the gateway's own pages; and back.
async fn around(probe: &Probe<'_>, check: &mut Check) {
    let ground = &probe.ground;
    let folder = ground.open.as_ref().and_then(|spot| spot.folder());
    let (Some(folder), Some(closed)) = (folder, &ground.closed) else {
        check.skipped("tricks: they need an open path of a route /**, or /x/**, and a closed one");
        return;
    };
    let is_inside = |reading: &str| {
        reading
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let leads_out = |reading: &String| {
        if folder.is_empty() {
            ground.is_closed(reading)
        } else {
            !is_inside(reading) && !ground.is_open(reading, &Method::GET)
        }
    };
    let prefix = &probe.config.listen.auth_prefix;
    let mut tricks = tricks(folder, &closed.path);
    tricks.extend(self::tricks(prefix, &closed.path));
    let count = tricks.len();
    for target in tricks {
        let outcome = probe.send(&Ask::get(&target)).await;
        let Some(arrival) = outcome.arrived() else {
            continue;
        };
        let path = arrival.text("path");
        if let Some(reading) = readings(path).into_iter().find(leads_out) {
            check.found(
                Fault::PathMismatch,
                format!("GET {target} without a login reached the service as {path}, which can be read as {reading}"),
            );
        }
    }
    if !check.has_found() {
        check.saw(format!(
            "none of {count} tricks leads out of {folder}/** or {prefix}/**"
        ));
    }
}

fn tricks(open: &str, closed: &str) -> Vec<String> {
    let closed = closed.trim_start_matches('/');
    let up = open.matches('/').count();
    let out = |dots: &str, slash: &str| format!("{dots}{slash}").repeat(up);
    let mut all = vec![
        format!("{open}/x/..;/../{closed}"),
        format!("{open}/;/../{}{closed}", "../".repeat(up)),
        format!("/{open}/../{closed}"),
        format!("//{closed}"),
        format!("{open}//../{}{closed}", "../".repeat(up)),
        format!("{open}/..%00/{closed}"),
        format!("{open}/%c0%ae%c0%ae/{closed}"),
        format!("/{closed}#{open}/x"),
        format!("/{closed}?{open}/x"),
        format!("/{closed}/..;{open}/x"),
    ];
    for (dots, slash) in [
        ("..", "/"),
        ("%2e%2e", "/"),
        (".%2E", "/"),
        ("..", "%2f"),
        ("..", "%2F"),
        ("..", "%5c"),
        ("..", "\\"),
        ("..;", "/"),
        ("..;a=b", "/"),
        ("%252e%252e", "/"),
        ("..", "%252f"),
    ] {
        all.push(format!("{open}/{}{closed}", out(dots, slash)));
        // The other way: what begins as the closed path and ends as the open one.
        let back = format!("{dots}{slash}").repeat(closed.matches('/').count() + 1);
        all.push(format!(
            "/{closed}/{back}{}/x",
            open.trim_start_matches('/')
        ));
    }
    all
}

/// What lenient servers make of a path: as it is, and decoded once or twice, `\` as `/`, without parameters, dots resolved.
fn readings(path: &str) -> Vec<String> {
    let once = decoded(path);
    let twice = decoded(&once);
    let mut all = vec![path.to_owned()];
    for text in [path, &once, &twice] {
        let slashed = text.replace('\\', "/");
        let bare: Vec<_> = slashed
            .split('/')
            .map(|segment| segment.split(';').next().unwrap_or_default())
            .collect();
        all.push(resolved(&slashed));
        all.push(resolved(&bare.join("/")));
    }
    all
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let escape = behind.get(..2).filter(|_| *first == b'%');
        let value = escape
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(value) = value {
            bytes.push(value);
            rest = behind.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leads_out(path: &str) -> bool {
        let is_in = |reading: &String| reading == "/public" || reading.starts_with("/public/");
        !readings(path).iter().all(is_in)
    }

    #[test]
    fn every_trick_leads_out_to_some_reader_or_is_a_query() {
        for target in tricks("/public", "/doctor") {
            let (path, _) = target.split_once(['?', '#']).unwrap_or((&target, ""));
            // These two are dots to readers of overlong UTF-8 and to those that stop at a NUL.
            if path.contains("%c0") || path.contains("%00") {
                continue;
            }
            assert!(leads_out(path), "{target}");
        }
        for deep in tricks("/a/b", "/c/d") {
            assert!(deep.starts_with('/'), "{deep}");
        }
    }

    #[test]
    fn honest_paths_stay_inside() {
        for path in [
            "/public/x",
            "/public/a%20b;c=d/~e",
            "/public/a/../b",
            "/public",
        ] {
            assert!(!leads_out(path), "{path}");
        }
    }
}
