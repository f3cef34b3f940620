//! Whether the proxy spares more than the routes do: files by their ending, well-known names, methods, and what only looks
//! like a public path or like the gateway's own.

use http::Method;

use crate::doctor::Fault;
use crate::doctor::probe::Probe;
use crate::doctor::report::{Check, Report};
use crate::doctor::wire::Ask;

/// Endings that pass for files of no account.
const ENDINGS: [&str; 6] = [".css", ".js", ".png", ".ico", ".html", ".woff2"];

/// What is often served without asking.
const NAMES: [&str; 7] = [
    "/favicon.ico",
    "/robots.txt",
    "/.well-known/doctor",
    "/static/doctor",
    "/assets/doctor",
    "/health",
    "/metrics",
];

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    let mut check = Check::new("exceptions", probe.proxy);
    let ground = &probe.ground;
    let targets = targets(probe);
    let mut asks: Vec<_> = targets
        .into_iter()
        .map(|path| (Method::GET, path))
        .collect();
    // Only where the echo is known to stand: another service might do what it is told.
    let closed = ground.closed.as_ref().zip(probe.credential.as_ref());
    match closed {
        Some((spot, credential)) if probe.reaches(&Ask::get(&spot.path).by(credential)).await => {
            let methods = [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
            asks.extend(methods.map(|method| (method, spot.path.clone())));
        }
        _ => {
            check.skipped("methods: it takes a login to see that the echo stands at a closed path");
        }
    }
    asks.retain(|(method, path)| !ground.is_open(path, method));
    let count = asks.len();
    for (method, path) in asks {
        if probe.reaches(&Ask::new(method.as_str(), &path)).await {
            check.found(
                Fault::NotAsked,
                format!("{method} {path} without a login reached the service"),
            );
        }
    }
    check.saw(format!(
        "none of {count} endings, names and methods is spared"
    ));
    check.into(report);
}

fn targets(probe: &Probe<'_>) -> Vec<String> {
    let mut all: Vec<_> = NAMES.map(str::to_owned).into();
    if let Some(closed) = &probe.ground.closed {
        all.extend(ENDINGS.map(|ending| format!("{}{ending}", closed.path)));
    }
    // A prefix without a slash at its end takes in its neighbours, and some compare without case.
    let open = probe.ground.open.as_ref().and_then(|spot| spot.folder());
    let prefix = probe.config.listen.auth_prefix.as_str();
    for folder in open.into_iter().chain([prefix]) {
        if !folder.is_empty() {
            all.push(format!("{folder}x/doctor"));
            all.push(format!("{folder}.doctor"));
            all.push(format!("{}/doctor", folder.to_ascii_uppercase()));
        }
    }
    all
}
