//! `doorward doctor forward-auth`: the configuration that a proxy in front needs, and the faults of the one it has.
//!
//! The probe sends requests to the proxy as an outsider would, written byte by byte, and an echo in place of the
//! service answers with what arrived. The operator's routes define what should have arrived.

mod away;
mod baseline;
mod exceptions;
mod identity;
mod outsiders;
mod paths;
mod probe;
mod probe_paths;
mod question;
mod refusals;
mod remedy;
mod report;
mod snippet;
mod traffic;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser};
use http::HeaderName;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use url::Url;

use crate::config::Config;
use crate::doctor::baseline::Baseline;
use crate::doctor::probe::Probe;
use crate::doctor::probe_paths::ProbePaths;
use crate::doctor::report::Check;
pub use crate::doctor::report::{CheckResult, DoctorReport, Finding, ProxyFault};
pub use crate::doctor::snippet::Snippet;
use crate::doctor::wire::ProbeTarget;
use crate::edge::echo;
use crate::edge::listen::ListenError;
use crate::edge::listen::bind_one;
use crate::fetch::{Trust, TrustError};
use crate::model::route::IdentityHeaderNames;
use crate::model::secret::Secret;
use crate::process::{ProcessError, load, start};

/// A proxy that has a tested configuration in `config/examples/forward-auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proxy {
    /// Asks by `auth_request`.
    Nginx,
    /// Asks by the `forwardAuth` middleware.
    Traefik,
    /// Asks by `forward_auth`.
    Caddy,
    /// Asks by `ext_authz` over HTTP.
    Envoy,
    /// Asks by `ext_authz` over gRPC.
    EnvoyGrpc,
    /// Asks by a Lua action.
    Haproxy,
}

impl Proxy {
    /// All proxies, in the order in which the command line lists them.
    pub const ALL: [Self; 6] = [
        Self::Nginx,
        Self::Traefik,
        Self::Caddy,
        Self::Envoy,
        Self::EnvoyGrpc,
        Self::Haproxy,
    ];

    /// Returns the name of the product, as its makers write it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Traefik => "Traefik",
            Self::Caddy => "Caddy",
            Self::Envoy | Self::EnvoyGrpc => "Envoy",
            Self::Haproxy => "HAProxy",
        }
    }
}

impl fmt::Display for Proxy {
    /// Writes the name that the command line accepts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A credential that the probe sends where a route requires one.
#[derive(Debug)]
pub enum ProbeCredential {
    /// A bearer token.
    Token(Secret),
    /// An API key, with the header that carries it.
    ApiKey(HeaderName, Secret),
}

/// The options of a probe.
#[derive(Debug, Args)]
pub struct ProbeOptions {
    /// Probes the proxy that callers reach at this URL: scheme, host and port.
    #[arg(long, value_name = "URL", required_unless_present = "proxy")]
    pub through: Option<String>,
    /// Prints the configuration for nginx, traefik, caddy, envoy, envoy-grpc or haproxy, and names its lines in the remedies.
    #[arg(long, value_name = "NAME", value_parser = proxy)]
    pub proxy: Option<Proxy>,
    /// CA certificates in PEM for an https proxy; default: those that the system trusts.
    #[arg(long, value_name = "FILE", requires = "through")]
    pub ca: Option<PathBuf>,
    /// Path that needs no login to GET, with the echo behind it; default: one of the public routes.
    #[arg(long, value_name = "PATH")]
    pub open: Option<String>,
    /// Path that requires a login, with the echo behind it; default: one of the other routes.
    #[arg(long, value_name = "PATH")]
    pub closed: Option<String>,
    /// Serves the echo at this address during the probe, where the proxy expects the service.
    #[arg(long, value_name = "ADDR")]
    pub echo: Option<SocketAddr>,
    /// Bearer token of a caller who may GET the closed path; `-` reads it from standard input.
    #[arg(long, value_name = "TOKEN", conflicts_with = "api_key", value_parser = StringValueParser::new().map(Secret::new))]
    pub token: Option<Secret>,
    /// API key of such a caller; `-` reads it from standard input.
    #[arg(long = "apikey", value_name = "KEY", value_parser = StringValueParser::new().map(Secret::new))]
    pub api_key: Option<Secret>,
    /// File with the gateway's standard output: shows which client address it recorded.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// The gateway is stopped: checks only whether the proxy lets anything through.
    #[arg(long, requires = "through")]
    pub while_down: bool,
}

fn proxy(name: &str) -> Result<Proxy, String> {
    let mut proxies = Proxy::ALL.into_iter();
    let found = proxies.find(|proxy| proxy.to_string() == name);
    found.ok_or_else(|| {
        format!(
            "one of {}",
            Proxy::ALL.map(|proxy| proxy.to_string()).join(", ")
        )
    })
}

/// The reason why the probe could not run.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The configuration or the runtime failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The echo cannot listen on its address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A template of a proxy's configuration failed.
    #[error("the configuration of the proxy cannot be written")]
    Template(#[from] minijinja::Error),
    /// Two routes match the same request.
    #[error("the routes of the configuration are ambiguous: `doorward check` shows where")]
    Routes,
    /// The URL is not a server's.
    #[error(
        "--through takes the URL of the proxy, such as https://app.example.com: scheme, host and port"
    )]
    Through,
    /// The name of the proxy has no address.
    #[error("cannot resolve {0}")]
    Resolve(String, #[source] std::io::Error),
    /// The proxy accepts no connection.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    /// The certificate authorities cannot be read.
    #[error("the certificates cannot be used: {0}")]
    Trust(String),
    /// A path that the operator named belongs to the wrong kind of route.
    #[error("{option} needs a path that, by the routes of the configuration, {expected}")]
    Path {
        /// The option of the command line.
        option: &'static str,
        /// What the path must be.
        expected: &'static str,
    },
    /// No request passes, so no check shows anything.
    #[error(
        "no request can pass: no route without captures is open without a login, and no credential is given. Add a \
         public route for the probe (docs/doctor.md), or give --token or --apikey"
    )]
    NothingPasses,
    /// Requests that pass do not reach an echo.
    #[error(
        "{0} does not lead to `doorward echo`: {1}. Run it where the proxy expects the service, as --echo ADDR \
         does during the probe, or choose other paths with --open and --closed"
    )]
    NoEcho(String, String),
    /// A request that passed at first is refused later, so no refusal shows anything.
    #[error(
        "GET {0} passed at first and no longer does: {1}. Is there a rate limit, or was something \
         restarted? Exempt this address from limits during the probe"
    )]
    Unsteady(String, String),
    /// The gateway is running although the operator says that it is stopped.
    #[error("the gateway answers at {0}: stop it first, as --while-down requires")]
    NotDown(SocketAddr),
}

/// Probes the proxy with a few hundred small requests, none of which changes anything.
///
/// # Errors
/// [`DoctorError`] if the probe could not run.
pub fn examine(config: &Path, options: ProbeOptions) -> Result<DoctorReport, DoctorError> {
    let (config, _) = load(config)?;
    start(&mut Builder::new_current_thread())?.block_on(async {
        let (echo, while_down) = (options.echo, options.while_down);
        let probe = prepare(&config, options).await?;
        let echo = match echo {
            Some(address) => {
                let header = config.account.api_key_header.clone();
                Some(tokio::spawn(echo::serve(bind_one(address)?, header)))
            }
            None => None,
        };
        let mut report = DoctorReport::new(probe.proxy);
        let examined = if while_down {
            away::examine(&probe, &mut report).await
        } else {
            examine_running(&probe, &mut report).await
        };
        if let Some(echo) = echo {
            echo.abort();
        }
        examined.map(|()| report)
    })
}

/// Writes a proxy's configuration for this gateway. It has a placeholder instead of the secret.
///
/// `through`: the URL of the proxy, if it is known.
///
/// # Errors
/// [`DoctorError`] if the gateway's configuration or the URL cannot be used.
pub fn snippet(config: &Path, proxy: Proxy, through: Option<&str>) -> Result<Snippet, DoctorError> {
    let (config, _) = load(config)?;
    let url = through.map(parse_url).transpose()?;
    let port = url.and_then(|url| url.port_or_known_default());
    snippet::write(&config, proxy, port)
}

async fn examine_running(probe: &Probe<'_>, report: &mut DoctorReport) -> Result<(), DoctorError> {
    let baseline = baseline::check(probe, report).await?;
    let mut rest = Check::new("rest");
    match baseline {
        Baseline::NotAsking => rest.skipped("the proxy does not ask the gateway: fix that first"),
        Baseline::Refusing => rest.skipped("nothing passes: fix that first"),
        Baseline::Passing => {
            report.add(identity::check(probe).await);
            probe.still_passes().await?;
            question::check(probe, report).await;
            probe.still_passes().await?;
            report.add(exceptions::check(probe).await);
            report.add(paths::check(probe).await);
            probe.still_passes().await?;
            traffic::check(probe, report).await;
            report.add(refusals::check(probe).await);
        }
    }
    report.add(rest);
    report.add(outsiders::through(probe, baseline).await);
    report.add(outsiders::past(probe).await);
    if baseline == Baseline::Passing {
        probe.still_passes().await?;
    }
    let mut away = Check::new("away");
    away.skipped(
        "whether anything passes while the gateway is down: stop it and run this with --while-down",
    );
    report.add(away);
    Ok(())
}

async fn prepare(config: &Config, options: ProbeOptions) -> Result<Probe<'_>, DoctorError> {
    let url = parse_url(options.through.as_deref().ok_or(DoctorError::Through)?)?;
    let host = url.host_str().ok_or(DoctorError::Through)?;
    let tls = match url.scheme() {
        "https" => Some(trust(options.ca.as_deref())?),
        _ => None,
    };
    let target = connect(&url, host, tls).await?;
    let (open, closed) = (options.open.as_deref(), options.closed.as_deref());
    let paths = ProbePaths::find(config, host, open, closed)?;
    let header = config.account.api_key_header.clone();
    let api_key = options
        .api_key
        .map(|key| ProbeCredential::ApiKey(header, key));
    let probe = Probe {
        config,
        proxy: options.proxy,
        target,
        origin: url.origin().ascii_serialization(),
        paths,
        credential: options.token.map(ProbeCredential::Token).or(api_key),
        identity: identity_names(config),
        access_log: options.access_log,
    };
    if probe.passing().is_none() {
        return Err(DoctorError::NothingPasses);
    }
    Ok(probe)
}

/// Finds the first address of the proxy that accepts connections.
async fn connect(url: &Url, host: &str, trust: Option<Trust>) -> Result<ProbeTarget, DoctorError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().ok_or(DoctorError::Through)?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let resolved = tokio::net::lookup_host((bare, port)).await;
    let resolved = resolved.map_err(|source| DoctorError::Resolve(authority.clone(), source))?;
    let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in resolved {
        let target = ProbeTarget {
            address,
            authority: authority.clone(),
            source: None,
            tls: trust.clone().map(|trust| (bare.to_owned(), trust)),
        };
        match target.check().await {
            Ok(()) => return Ok(target),
            Err(error) => failed = error,
        }
    }
    Err(DoctorError::Connect(authority, failed))
}

/// Returns the certificate authorities that verify the proxy.
fn trust(ca: Option<&Path>) -> Result<Trust, DoctorError> {
    let unusable = |error: TrustError| DoctorError::Trust(error.to_string());
    let Some(ca) = ca else {
        return Trust::of_system().map_err(unusable);
    };
    let pem = std::fs::read(ca).map_err(|error| {
        let (file, kind) = (ca.display(), error.kind());
        DoctorError::Trust(format!("{file} cannot be read ({kind})"))
    })?;
    Trust::of_pem(&pem).map_err(unusable)
}

/// Parses the URL of a server.
fn parse_url(through: &str) -> Result<Url, DoctorError> {
    let url = Url::parse(through).map_err(|_| DoctorError::Through)?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.path() == "/"
        && url.query().is_none()
        && url.username().is_empty();
    is_plain.then_some(url).ok_or(DoctorError::Through)
}

/// Returns the default names of identity headers and those set by routes, in alphabetical order.
fn identity_names(config: &Config) -> Vec<HeaderName> {
    let default = IdentityHeaderNames::default();
    let of_routes = config.routes.iter().map(|route| &route.identity_headers);
    let names = of_routes
        .chain([&default])
        .flat_map(IdentityHeaderNames::all);
    let sorted: BTreeMap<_, _> = names.map(|name| (name.as_str(), name)).collect();
    sorted.into_values().cloned().collect()
}
