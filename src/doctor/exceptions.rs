//! Checks whether the proxy lets more pass than the routes do: files by their extension, well-known names, methods, and
//! paths that only resemble a public path or the gateway's own.

use http::Method;

use crate::doctor::ProxyFault;
use crate::doctor::probe::Probe;
use crate::doctor::report::Check;
use crate::doctor::wire::RawRequest;

/// Extensions of static files.
const ENDINGS: [&str; 6] = [".css", ".js", ".png", ".ico", ".html", ".woff2"];

/// Paths that are often served without a decision.
const NAMES: [&str; 7] = [
    "/favicon.ico",
    "/robots.txt",
    "/.well-known/doctor",
    "/static/doctor",
    "/assets/doctor",
    "/health",
    "/metrics",
];

pub(super) async fn check(probe: &Probe<'_>) -> Check {
    let mut check = Check::new("exceptions");
    let targets = targets(probe).into_iter();
    let mut requests: Vec<_> = targets.map(|path| (Method::GET, path)).collect();
    // Only where the echo answers: another service might do what the request asks for.
    match probe.with_login() {
        Some((path, credential))
            if probe
                .reaches(&RawRequest::get(&path.path).by(credential))
                .await =>
        {
            let methods = [Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
            requests.extend(methods.map(|method| (method, path.path.clone())));
        }
        _ => {
            check.skipped("methods: give --token or --apikey, so that the probe can check that the echo is behind a closed path");
        }
    }
    requests.retain(|(method, path)| !probe.paths.is_open(path, method));
    for (method, path) in &requests {
        let request = RawRequest::new(method.as_str(), path);
        if probe.reaches(&request).await {
            let what = format!("{method} {path} without a login reached the service");
            check.found(ProxyFault::NotAsked, what);
        }
    }
    let count = requests.len();
    check.saw(format!(
        "none of {count} endings, names and methods bypasses the question"
    ));
    check
}

fn targets(probe: &Probe<'_>) -> Vec<String> {
    let mut all: Vec<_> = NAMES.map(str::to_owned).into();
    if let Some(closed) = &probe.paths.closed {
        all.extend(ENDINGS.map(|ending| format!("{}{ending}", closed.path)));
    }
    // A prefix without a trailing slash also matches its neighbours, and some proxies ignore case.
    let open = probe.paths.open.as_ref().and_then(|path| path.folder());
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
