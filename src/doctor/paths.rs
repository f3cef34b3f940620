//! Checks that the service receives the path that was judged, even if it interprets the path differently.

use http::Method;

use crate::doctor::ProxyFault;
use crate::doctor::probe::Probe;
use crate::doctor::report::Check;
use crate::doctor::wire::RawRequest;
use crate::route::escape;

/// The end of a path that every hop must leave unchanged.
const PLAIN: &str = "a%20b;c=d/~e";
const QUERY: &str = "q=%2e%2e/";
/// Spellings of `../`.
const UP: [&str; 11] = [
    "../",
    "%2e%2e/",
    ".%2E/",
    "..%2f",
    "..%2F",
    "..%5c",
    "..\\",
    "..;/",
    "..;a=b/",
    "%252e%252e/",
    "..%252f",
];

pub(super) async fn check(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("paths");
    as_sent(probe, &mut check).await;
    around(probe, &mut check).await;
    check
}

async fn as_sent(probe: &Probe<'_>, check: &mut Check) {
    let Some((path, credential)) = probe.passing() else {
        return;
    };
    let Some(folder) = path.folder() else {
        return;
    };
    let path = format!("{folder}/{PLAIN}");
    let request = RawRequest::get(&format!("{path}?{QUERY}")).by(credential);
    let outcome = probe.send(&request).await;
    let Some(arrival) = outcome.arrived() else {
        let what = format!("GET {path}: {}", outcome.described());
        check.found(ProxyFault::PathMismatch, what);
        return;
    };
    let (arrived, query) = (arrival.text("path"), arrival.text("query"));
    if arrived == path && query == QUERY {
        check.saw(format!("{path} arrives as it was sent"));
    } else {
        let what = format!("GET {path}?{QUERY} reached the service as {arrived}?{query}");
        check.found(ProxyFault::PathMismatch, what);
    }
}

/// Tries to get from a public path, or from the gateway's own, to one that is not public, and vice versa.
async fn around(probe: &Probe<'_>, check: &mut Check) {
    let paths = &probe.paths;
    let folder = paths.open.as_ref().and_then(|path| path.folder());
    let (Some(folder), Some(closed)) = (folder, &paths.closed) else {
        check.skipped("path tricks: they need a closed path, and an open path of a route such as /** or /x/**");
        return;
    };
    let is_inside = |reading: &str| {
        let rest = reading.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let leads_out = |reading: &String| {
        if folder.is_empty() {
            paths.is_closed(reading)
        } else {
            !is_inside(reading) && !paths.is_open(reading, &Method::GET)
        }
    };
    let prefix = &probe.config.listen.auth_prefix;
    let mut targets = tricks(folder, &closed.path);
    targets.extend(tricks(prefix, &closed.path));
    for target in &targets {
        let outcome = probe.send(&RawRequest::get(target)).await;
        let Some(arrival) = outcome.arrived() else {
            continue;
        };
        let path = arrival.text("path");
        if let Some(reading) = readings(path).into_iter().find(leads_out) {
            check.found(
                ProxyFault::PathMismatch,
                format!("GET {target} without a login reached the service as {path}, which a service may read as {reading}"),
            );
        }
    }
    if !check.has_found() {
        let count = targets.len();
        check.saw(format!(
            "none of {count} tricks leads out of {folder}/** or {prefix}/**"
        ));
    }
}

/// Spellings of a path that a lenient proxy may read as `open` and a lenient server as `closed`, or vice versa.
fn tricks(open: &str, closed: &str) -> Vec<String> {
    let (closed, inner) = (closed.trim_start_matches('/'), open.trim_start_matches('/'));
    let up = open.matches('/').count();
    let back = closed.matches('/').count() + 1;
    let dots = "../".repeat(up);
    let mut all = vec![
        format!("{open}/x/..;/../{closed}"),
        format!("{open}/;/../{dots}{closed}"),
        format!("/{open}/../{closed}"),
        format!("//{closed}"),
        format!("{open}//../{dots}{closed}"),
        format!("{open}/..%00/{closed}"),
        format!("{open}/%c0%ae%c0%ae/{closed}"),
        format!("/{closed}#{open}/x"),
        format!("/{closed}?{open}/x"),
        format!("/{closed}/..;{open}/x"),
    ];
    for step in UP {
        all.push(format!("{open}/{}{closed}", step.repeat(up)));
        // Vice versa: begins like the closed path and ends like the open one.
        all.push(format!("/{closed}/{}{inner}/x", step.repeat(back)));
    }
    all
}

/// Returns the paths that lenient servers may read: as it is, decoded once or twice, with `\` as `/`, without
/// parameters, and with dots resolved.
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
    String::from_utf8_lossy(&escape::decoded(text.as_bytes())).into_owned()
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
            // These two are dots to readers that accept overlong UTF-8 or stop at a NUL.
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
