//! Floor 6: a configuration made ready to serve.

mod outbox;
mod record;
pub mod services;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use crate::account::Accounts;
use crate::auth::Authorizer;
use crate::auth::asked::{ForwardAuthQuestion, ForwardedDecision};
use crate::auth::grant::Stop;
use crate::auth::passing::OwnTokenForms;
use crate::auth::strip::StripSet;
use crate::auth::view::OwnView;
use crate::config::{Config, JWKS_PATH};
use crate::issuer::{self, IssuerError};
use crate::mail;
use crate::model::access::Requirement;
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::identity::Identity;
use crate::model::path::CanonicalPath;
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Route;
use crate::route::normalize::reads_one_way;
use crate::route::own::OwnPaths;
use crate::route::table::{CAPTURES_MAX, RouteTable, TableError};
use crate::telemetry::log::{self, with_causes};

pub use crate::services::Services;
pub use crate::snapshot::record::RequestEnd;

/// Longest body that the gateway's own endpoints take, in bytes. The longest that makes sense, a password of 256
/// characters twice with a token, has 3 KiB.
pub const OWN_BODY_BYTES_MAX: usize = 64 * 1024;

/// The forward-auth path, after the prefix of the gateway's own endpoints.
pub const FORWARD_AUTH_PATH: &str = "/verify";

/// A configuration made ready to serve: a request sees exactly one.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Arc<Config>,
    /// The decision point.
    pub authorizer: Authorizer,
    /// The account use cases.
    pub accounts: Accounts,
    /// The services that outlive it.
    pub services: Arc<Services>,
    /// The header names that no caller may set.
    pub strip: StripSet,
    own: Arc<OwnPaths>,
}

/// A problem that prevents a valid configuration from being used: its place, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}")]
pub struct SnapshotProblem {
    /// The place in the configuration.
    pub at: String,
    /// The expected value.
    pub expected: String,
}

impl Snapshot {
    /// Makes a configuration ready to serve: compiles the routes. `services` has the mailer, role sources and issuers
    /// of this configuration.
    ///
    /// Used at startup, at each reload and by `check`.
    ///
    /// # Errors
    /// All [`SnapshotProblem`]s found; then nothing has changed.
    pub fn build(
        config: Arc<Config>,
        services: Arc<Services>,
    ) -> Result<Self, Vec<SnapshotProblem>> {
        let PreparedConfig { routes, table, own } = prepare(&config)?;
        let authorizer = Authorizer::new(routes, table, &config, &services);
        Ok(Self {
            strip: StripSet::new(
                &config.routes,
                OwnTokenForms::new(&config),
                authorizer.cookies(),
            ),
            authorizer,
            own,
            accounts: Accounts::new(Arc::clone(&config), Arc::clone(&services)),
            config,
            services,
        })
    }

    /// Whether the gateway itself answers this path on this host: its own endpoints and its published keys.
    ///
    /// `host`: lower case, without port and trailing dot.
    #[must_use]
    pub fn serves_itself(&self, host: &str, path: &CanonicalPath) -> bool {
        self.own.serves(host, path.as_str())
    }

    /// Whether every reader reads a path of the gateway's own endpoints in the same way. No endpoint needs another
    /// path.
    #[must_use]
    pub fn is_clear(&self, path: &CanonicalPath) -> bool {
        self.is_question(path.as_str()) || reads_one_way(path)
    }

    /// Whether this is a path of forward-auth, which proxies request under any host.
    #[must_use]
    pub fn is_question(&self, path: &str) -> bool {
        self.own.is_question(path)
    }
}

/// Returns the paths that the gateway answers itself.
fn own_paths(config: &Config) -> Arc<OwnPaths> {
    let listen = &config.listen;
    Arc::new(OwnPaths::new(
        &listen.auth_prefix,
        FORWARD_AUTH_PATH,
        JWKS_PATH,
        &listen.auth_hosts,
    ))
}

/// Returns the problems that prevent a valid configuration from being used; opens no store, so that it can run
/// anywhere.
#[must_use]
pub fn obstacles(config: &Config) -> Vec<SnapshotProblem> {
    let mut obstacles: Vec<_> = issuer::check(&config.issuers)
        .into_iter()
        .map(|(name, error)| issuer_obstacle(&name, &error))
        .collect();
    obstacles.extend(prepare(config).err().unwrap_or_default());
    if config.audit.required && !log::lets_audit_pass(&config.log.level) {
        obstacles.push(SnapshotProblem {
            at: "log.level".to_owned(),
            expected:
                "a level that includes audit events, since audit.required is true: info,audit=info"
                    .to_owned(),
        });
    }
    obstacles
}

/// Returns the problem of an issuer that cannot be used, by its name.
#[must_use]
pub fn issuer_obstacle(name: &str, error: &IssuerError) -> SnapshotProblem {
    let wanted = match error {
        IssuerError::Read { .. } => "a file that can be read",
        IssuerError::Keys { .. } => "a file with usable keys",
        IssuerError::Authorities { .. } => "a ca_file with certificates in PEM",
        IssuerError::NoAuthorities | IssuerError::Tls(_) => "CA certificates to verify it with",
    };
    SnapshotProblem {
        at: format!("issuer \"{name}\""),
        expected: format!("{wanted}: {}", with_causes(error)),
    }
}

/// The parts of a configuration that are prepared without the store.
struct PreparedConfig {
    routes: Vec<Arc<Route>>,
    table: RouteTable,
    own: Arc<OwnPaths>,
}

/// Builds the table of routes, and checks the mail settings.
fn prepare(config: &Config) -> Result<PreparedConfig, Vec<SnapshotProblem>> {
    let mut obstacles = Vec::new();
    let routes: Vec<_> = config.routes.iter().cloned().map(Arc::new).collect();
    let own = own_paths(config);
    let table = table_of(config, &routes, &own).unwrap_or_else(|errors| {
        obstacles.extend(errors.iter().map(|error| table_obstacle(config, error)));
        RouteTable::default()
    });
    let public_url = &config.listen.public_url.text;
    for (at, expected) in mail::check(&config.mail, public_url) {
        let at = at.to_owned();
        obstacles.push(SnapshotProblem { at, expected });
    }
    if obstacles.is_empty() {
        Ok(PreparedConfig { routes, table, own })
    } else {
        Err(obstacles)
    }
}

fn table_of(
    config: &Config,
    routes: &[Arc<Route>],
    own: &Arc<OwnPaths>,
) -> Result<RouteTable, Vec<TableError>> {
    RouteTable::build(routes, &config.upstreams, own)
}

/// Builds the route table of a configuration alone, to find the route of a path.
///
/// # Errors
/// The same as [`RouteTable::build`].
pub fn route_table(config: &Config, routes: &[Arc<Route>]) -> Result<RouteTable, Vec<TableError>> {
    table_of(config, routes, &own_paths(config))
}

/// Returns notes on behaviour that operators may not expect: pairs of routes that are both checked for one request, and
/// scopes as the only requirement.
#[must_use]
pub fn notes(config: &Config) -> Vec<String> {
    let routes: Vec<_> = config.routes.iter().cloned().map(Arc::new).collect();
    let Ok(table) = route_table(config, &routes) else {
        return Vec::new();
    };
    let note = |(first, second): (usize, usize)| {
        let path = &config.routes.get(first)?.text;
        let wide = &config.routes.get(second)?.text;
        Some(format!(
            "route[{first}].path: {path} with a trailing slash matches route[{second}], {wide}, and services often treat \
             both alike: requests for either must meet the requirements of both, unless a route for {path}/** has \
             the same requirement as the route for {path}"
        ))
    };
    let pairs = table.slash_pairs(&routes).into_iter().filter_map(note);
    pairs.chain(scopes_alone(config)).collect()
}

/// Returns notes on routes that require scopes only, which exclude no login; public gateways have a warning for that.
fn scopes_alone(config: &Config) -> impl Iterator<Item = String> {
    let is_noted = config.listen.public_url.is_loopback;
    let routes = config.routes.iter().enumerate().filter(move |_| is_noted);
    let alone = routes.filter(|(_, route)| match &route.require {
        Requirement::Rights { any_role, .. } => any_role.is_empty(),
        Requirement::Public | Requirement::Optional | Requirement::Authenticated => false,
    });
    alone.map(|(index, route)| {
        format!(
            "route[{index}].require: every login has all declared scopes, so {} is open to everyone who logs in; use any_role to restrict \
             people",
            route.text
        )
    })
}

fn table_obstacle(config: &Config, error: &TableError) -> SnapshotProblem {
    let text = |place: usize| {
        config
            .routes
            .get(place)
            .map_or("", |route| route.text.as_str())
    };
    match *error {
        TableError::Ambiguous { first, second } => SnapshotProblem {
            at: format!("route[{second}].path"),
            expected: format!(
                "a pattern, host or method that distinguishes it from route[{first}]: {} and {} can match one request equally well",
                text(second),
                text(first)
            ),
        },
        TableError::CaseAlone { first, second } => SnapshotProblem {
            at: format!("route[{second}].path"),
            expected: format!(
                "literals that differ from those of route[{first}] in more than case ({} and {}), or `case_sensitive = true` \
                 at the upstreams of both",
                text(second),
                text(first)
            ),
        },
        TableError::TooManyCaptures { route } => SnapshotProblem {
            at: format!("route[{route}].path"),
            expected: format!("at most {CAPTURES_MAX} captures"),
        },
    }
}

/// The snapshot that new requests use.
#[derive(Debug)]
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Starts with a snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// Returns the current snapshot, for one whole request.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Replaces the snapshot for new requests; those in flight keep theirs.
    pub fn replace(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

/// The gateway's own endpoints, as called by the proxy: in process.
#[async_trait]
pub trait OwnEndpoints: std::fmt::Debug + Send + Sync {
    /// Answers a request, which has a [`RequestScope`] as an extension.
    async fn answer(&self, request: Request<Bytes>) -> Response<Body>;

    /// Renders a refusal as a page for a human; `None` if there is no page for it.
    fn page(&self, refusal: &ShownRefusal<'_>) -> Option<RefusalPage>;

    /// Answers a forward-auth request at [`FORWARD_AUTH_PATH`].
    async fn verify(
        &self,
        question: &ForwardAuthQuestion<'_>,
        id: RequestId,
        snapshot: &Snapshot,
    ) -> (Response<Body>, ForwardedDecision);
}

/// The content of a refusal for a human.
#[derive(Clone, Copy, Debug)]
pub struct ShownRefusal<'a> {
    /// Status of the response.
    pub status: u16,
    /// Its stable code.
    pub code: ErrorCode,
    /// A short fixed sentence.
    pub title: &'static str,
    /// Seconds until a retry is worthwhile, if known.
    pub retry_after_s: Option<u32>,
    /// The request's id.
    pub id: RequestId,
    /// The logged-in user, as far as known.
    pub person: Option<&'a str>,
    /// The requested origin, and the requested path and query.
    pub asked: (&'a str, &'a str),
    /// All header fields as the caller sent them.
    pub headers: &'a HeaderMap,
    /// The configuration that the request uses.
    pub snapshot: &'a Snapshot,
}

/// A self-contained page.
#[derive(Clone, Debug)]
pub struct RefusalPage {
    /// The HTML.
    pub html: String,
    /// Its header fields in addition to those of every response: the media type and the content policy.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// The context of a request to the gateway's own endpoints beyond its HTTP: an extension of each request.
#[derive(Clone, Debug)]
pub struct RequestScope {
    /// The request's id.
    pub id: RequestId,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The origin that the request was sent to, as browsers write it.
    pub origin: String,
    /// The configuration that this request uses.
    pub snapshot: Arc<Snapshot>,
    /// The notes for its access record.
    pub notes: Arc<EndpointNotes>,
}

impl RequestScope {
    /// Authenticates the caller like [`Authorizer::recognise`], and notes the result for the access record.
    ///
    /// # Errors
    /// The same as [`Authorizer::recognise`], without the details that callers must not learn.
    pub async fn recognise(&self, view: &OwnView<'_>) -> Result<Option<Arc<Identity>>, Stop> {
        match self.snapshot.authorizer.recognise(view).await {
            Ok(found) => {
                if let Some(identity) = &found {
                    // A handler may call this twice; the result is the same.
                    let _ = self.notes.identity.set(Arc::clone(identity));
                }
                Ok(found)
            }
            Err(unverified) => {
                if let Some(fault) = unverified.fault {
                    let _ = self.notes.fault.set(fault);
                }
                Err(unverified.stop)
            }
        }
    }
}

/// Facts that one of the gateway's own endpoints learns about a request, for its access record.
#[derive(Debug, Default)]
pub struct EndpointNotes {
    /// The stable code of a refusal or failure.
    pub reason: OnceLock<&'static str>,
    /// The fault behind it, for operators.
    pub fault: OnceLock<RefusalFault>,
    /// The caller, if authenticated.
    pub identity: OnceLock<Arc<Identity>>,
}
