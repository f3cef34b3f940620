//! `doorward doctor forward-auth`: the configuration that a proxy in front needs, and what is wrong with the one it has.
//!
//! The probe speaks to the proxy as a stranger would, spelled byte by byte, and reads from an echo that stands in for the
//! service what came of it. The routes of the operator's own configuration say what should have come.

mod away;
mod baseline;
mod exceptions;
mod ground;
mod identity;
mod outsiders;
mod paths;
mod probe;
mod question;
mod refusals;
mod remedy;
mod report;
mod snippet;
mod traffic;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::HeaderName;
use tokio::runtime::Builder;
use url::Url;

use crate::config::Config;
use crate::doctor::baseline::Standing;
use crate::doctor::ground::Ground;
use crate::doctor::probe::Probe;
pub use crate::doctor::report::{Entry, Fault, Finding, Report};
pub use crate::doctor::snippet::Snippet;
use crate::doctor::wire::Wire;
use crate::edge::echo;
use crate::edge::listen::ListenError;
use crate::edge::listen::bind_one;
use crate::fetch::{Trust, TrustError};
use crate::model::route::IdentityHeaderNames;
use crate::model::secret::Secret;
use crate::process::{ProcessError, load, start};

/// A proxy that has a tested configuration in `config/examples/forward-auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// By `auth_request`.
    Nginx,
    /// By the `forwardAuth` middleware.
    Traefik,
    /// By `forward_auth`.
    Caddy,
    /// By `ext_authz` over HTTP.
    Envoy,
    /// By `ext_authz` over gRPC.
    EnvoyGrpc,
    /// By Lua.
    Haproxy,
}

impl Proxy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Nginx,
        Self::Traefik,
        Self::Caddy,
        Self::Envoy,
        Self::EnvoyGrpc,
        Self::Haproxy,
    ];

    /// As the command line writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
            Self::Envoy => "envoy",
            Self::EnvoyGrpc => "envoy-grpc",
            Self::Haproxy => "haproxy",
        }
    }

    /// As it writes itself.
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

    /// Reads a name of the command line.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proxy| proxy.name() == name)
    }
}

/// By what the probe is recognised where it must be.
#[derive(Debug)]
pub enum Credential {
    /// A bearer token.
    Token(Secret),
    /// An API key and the header it goes in.
    ApiKey(HeaderName, Secret),
}

/// What to probe, and how.
#[derive(Debug)]
pub struct Examination {
    /// The proxy as callers reach it: scheme, host and port.
    pub through: String,
    /// Which one it is, for the words of a remedy.
    pub proxy: Option<Proxy>,
    /// Certificates, in PEM, of who vouches for an https proxy; `None`: whom the system trusts.
    pub ca: Option<PathBuf>,
    /// A path that anybody may GET and that leads to the echo; `None`: one of the routes.
    pub open: Option<String>,
    /// A path that asks for a login and leads to the echo; `None`: one of the routes.
    pub closed: Option<String>,
    /// A caller who may GET the closed path: a bearer token.
    pub token: Option<Secret>,
    /// The same: an API key.
    pub api_key: Option<Secret>,
    /// Where to stand in for the service with an echo; `None`: one runs already.
    pub echo: Option<SocketAddr>,
    /// Standard output of the gateway as a file, to see whom it took for the caller.
    pub access_log: Option<PathBuf>,
    /// The gateway is stopped: look at nothing but whether the proxy lets anything through.
    pub while_down: bool,
}

/// Why nothing could be probed.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The configuration or the runtime.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The echo's address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The configuration reads well but its routes are in each other's way.
    #[error("the routes of the configuration are ambiguous: `doorward check` tells where")]
    Routes,
    /// The URL is none to send to.
    #[error(
        "--through takes the URL of the proxy, such as https://app.example.com: scheme, host and port"
    )]
    Through,
    /// The URL leads nowhere.
    #[error("{0} cannot be found")]
    Resolve(String, #[source] std::io::Error),
    /// Nobody answers there.
    #[error("{0} cannot be connected to")]
    Connect(String, #[source] std::io::Error),
    /// Nobody can vouch for it.
    #[error("the certificates cannot be used: {0}")]
    Trust(String),
    /// A path of the operator is not what it is for.
    #[error("{option} takes a path that {expected}, by the routes of the configuration")]
    Path {
        /// The option.
        option: &'static str,
        /// What the path must be.
        expected: &'static str,
    },
    /// Nothing passes, so nothing can be seen.
    #[error(
        "there is nothing to send: no route without captures is open to anybody, and there is no credential. Add a \
         public route for the probe (docs/doctor.md), or give --token or --apikey"
    )]
    NothingPasses,
    /// What passes does not reach an echo.
    #[error(
        "{0} does not lead to `doorward echo`: {1}. Have it stand where the proxy expects the service, as --echo ADDR \
         does for the time of the probe, or name other paths with --open and --closed"
    )]
    NoEcho(String, String),
    /// What passed at first is refused by now, so that no refusal tells anything.
    #[error(
        "GET {0} passed at first and does not any more: {1}. Does something limit requests, or has something been \
         restarted? Have it spare this address for the time of the probe"
    )]
    Unsteady(String, String),
    /// The gateway is there where it must not be.
    #[error("the gateway answers at {0}: --while-down needs it stopped")]
    NotDown(SocketAddr),
}

/// Probes the proxy.
///
/// Sends some hundred small requests through it, none of which changes anything.
///
/// # Errors
/// [`DoctorError`] if nothing could be probed.
pub fn examine(config: &Path, examination: Examination) -> Result<Report, DoctorError> {
    let (config, _) = load(config)?;
    start(&mut Builder::new_current_thread())?.block_on(async {
        let (echo, while_down) = (examination.echo, examination.while_down);
        let probe = prepare(&config, examination).await?;
        let echo = match echo {
            Some(address) => {
                let listener = bind_one(address)?;
                let header = config.account.api_key_header.clone();
                Some(tokio::spawn(echo::serve(listener, header)))
            }
            None => None,
        };
        let examined = if while_down {
            away::examine(&probe).await
        } else {
            examine_running(&probe).await
        };
        if let Some(echo) = echo {
            echo.abort();
        }
        examined
    })
}

/// The configuration that this proxy needs for the gateway's own.
///
/// `through`: where the proxy is reached, if that is known. The secret stands in it by a place to fill only.
///
/// # Errors
/// [`DoctorError`] if the gateway's configuration cannot be used, or the URL.
pub fn snippet(config: &Path, proxy: Proxy, through: Option<&str>) -> Result<Snippet, DoctorError> {
    let (config, _) = load(config)?;
    let port = through.map(Way::parse).transpose()?.map(|way| way.port);
    Ok(snippet::write(&config, proxy, port))
}

async fn examine_running(probe: &Probe<'_>) -> Result<Report, DoctorError> {
    let mut report = Report::default();
    let standing = baseline::check(probe, &mut report).await?;
    let mut skip = |why: &str| {
        report.entries.push(Entry::Skipped {
            check: "rest",
            why: why.to_owned(),
        });
    };
    match standing {
        Standing::NotAsking => skip("the proxy asks nobody: mend that first"),
        Standing::Refusing => skip("nothing passes: mend that first"),
        Standing::Passing => {
            identity::check(probe, &mut report).await;
            probe.still_passes().await?;
            question::check(probe, &mut report).await;
            probe.still_passes().await?;
            exceptions::check(probe, &mut report).await;
            paths::check(probe, &mut report).await;
            probe.still_passes().await?;
            traffic::check(probe, &mut report).await;
            refusals::check(probe, &mut report).await;
        }
    }
    outsiders::check(probe, standing, &mut report).await;
    if standing == Standing::Passing {
        probe.still_passes().await?;
    }
    report.entries.push(Entry::Skipped {
        check: "away",
        why: "whether anything passes without the gateway: stop it and run this with --while-down"
            .to_owned(),
    });
    Ok(report)
}

async fn prepare(config: &Config, examination: Examination) -> Result<Probe<'_>, DoctorError> {
    let way = Way::parse(&examination.through)?;
    let bare = way.host.trim_start_matches('[').trim_end_matches(']');
    let tls = if way.scheme == "https" {
        Some((bare.to_owned(), trust(examination.ca.as_deref())?))
    } else {
        None
    };
    let wire = connect(&way, bare, tls).await?;
    let ground = Ground::find(
        config,
        &way.host,
        examination.open.as_deref(),
        examination.closed.as_deref(),
    )?;
    let token = examination.token.map(Credential::Token);
    let header = || config.account.api_key_header.clone();
    let api_key = examination
        .api_key
        .map(|key| Credential::ApiKey(header(), key));
    let probe = Probe {
        config,
        proxy: examination.proxy,
        wire,
        origin: format!("{}://{}", way.scheme, way.authority),
        ground,
        credential: token.or(api_key),
        identity: identity_names(config),
        access_log: examination.access_log,
    };
    if probe.passing().is_none() {
        return Err(DoctorError::NothingPasses);
    }
    Ok(probe)
}

/// A way to the first address of the proxy's name that can be spoken to.
async fn connect(way: &Way, host: &str, tls: Option<(String, Trust)>) -> Result<Wire, DoctorError> {
    let resolved = tokio::net::lookup_host((host, way.port)).await;
    let resolved =
        resolved.map_err(|source| DoctorError::Resolve(way.authority.clone(), source))?;
    let mut failed = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in resolved {
        let wire = Wire {
            address,
            authority: way.authority.clone(),
            source: None,
            tls: tls.clone(),
        };
        match wire.check().await {
            Ok(()) => return Ok(wire),
            Err(error) => failed = error,
        }
    }
    Err(DoctorError::Connect(way.authority.clone(), failed))
}

/// Whom to believe that the proxy is who it says.
fn trust(ca: Option<&Path>) -> Result<Trust, DoctorError> {
    let unusable = |error: TrustError| DoctorError::Trust(error.to_string());
    let Some(ca) = ca else {
        return Trust::of_system().map_err(unusable);
    };
    let pem = std::fs::read(ca).map_err(|error| {
        DoctorError::Trust(format!(
            "{} cannot be read ({})",
            ca.display(),
            error.kind()
        ))
    })?;
    Trust::of_pem(&pem).map_err(unusable)
}

/// A URL taken apart.
struct Way {
    scheme: String,
    /// With brackets where it is an IPv6 address.
    host: String,
    port: u16,
    /// Host and port, as `Host` names them.
    authority: String,
}

impl Way {
    fn parse(through: &str) -> Result<Self, DoctorError> {
        let url = Url::parse(through).map_err(|_| DoctorError::Through)?;
        let is_plain = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty();
        let host = url
            .host_str()
            .filter(|_| is_plain)
            .ok_or(DoctorError::Through)?;
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: host.to_owned(),
            port: url.port_or_known_default().ok_or(DoctorError::Through)?,
            authority: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
        })
    }
}

/// What the routes call their identity headers, and the default names.
fn identity_names(config: &Config) -> Vec<HeaderName> {
    let default = IdentityHeaderNames::default();
    let of_routes = config.routes.iter().map(|route| &route.identity_headers);
    let names: BTreeSet<_> = of_routes
        .chain([&default])
        .flat_map(IdentityHeaderNames::all)
        .map(|name| name.as_str().to_owned())
        .collect();
    names
        .iter()
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect()
}
