//! Floor 5: one configuration made ready.

mod outbox;
pub mod services;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use crate::account::{Accounts, AccountsParts, resource_map};
use crate::auth::Authorizer;
use crate::auth::asked::{Judged, Question};
use crate::auth::grant::Stop;
use crate::auth::key_use::KeyUse;
use crate::auth::passing::OwnForms;
use crate::auth::strip::StripSet;
use crate::auth::verify::VerifierParts;
use crate::auth::view::OwnView;
use crate::config::{Config, JWKS_PATH};
use crate::crypto::password::PasswordPool;
use crate::crypto::signing::SigningKeys;
use crate::crypto::token::TokenKeys;
use crate::issuer::{self, IssuerError, Issuers};
use crate::limit::CounterSets;
use crate::mail::{self, Mailer, post::Post};
use crate::model::access::Requirement;
use crate::model::clock::Clock;
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::identity::Identity;
use crate::model::path::CanonicalPath;
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Route;
use crate::role_source::RoleSources;
use crate::route::normalize::reads_one_way;
use crate::route::own::OwnPaths;
use crate::route::table::{CAPTURES_MAX, RouteTable, TableError, TableParts};
use crate::store::Store;
use crate::store::backup::Backups;
use crate::store::key_files::KeyFiles;
use crate::store::uses::SessionUses;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log::{self, with_causes};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::output::Output;

/// Longest body that the gateway's own endpoints take, in bytes. The longest that makes sense, a password of 256
/// characters twice with a token, has 3 KiB.
pub const OWN_BODY_BYTES_MAX: usize = 64 * 1024;

/// Where other proxies ask for a decision, behind the prefix of the gateway's own endpoints.
pub const FORWARD_AUTH_PATH: &str = "/verify";

/// What lives longer than one configuration.
#[derive(Clone, Debug)]
pub struct Services {
    /// Records at rest.
    pub store: Arc<dyn Store>,
    /// The hashing pool.
    pub passwords: Arc<PasswordPool>,
    /// Keys of digests and refresh tokens.
    pub token_keys: Arc<TokenKeys>,
    /// Keys that sign access tokens.
    pub signing: Arc<SigningKeys>,
    /// Keys that sign assertions.
    pub assertion_keys: Arc<SigningKeys>,
    /// Mail, as this configuration makes it.
    pub mailer: Arc<dyn Mailer>,
    /// What the delivery of mails shares through reloads.
    pub post: Arc<Post>,
    /// What is counted against limits.
    pub counters: Arc<CounterSets>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Uses of session cookies on their way into the store.
    pub session_uses: Arc<SessionUses>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Access records.
    pub access: Arc<AccessLog>,
    /// All that is written on standard output and standard error.
    pub output: Arc<Output>,
    /// What is counted of API keys.
    pub key_use: Arc<KeyUse>,
    /// Roles that other services give.
    pub role_sources: Arc<RoleSources>,
    /// Backups of the records; `None`: they are not at rest here.
    pub backups: Option<Arc<Backups>>,
    /// The key files at rest; `None`: there are none here.
    pub key_files: Option<Arc<KeyFiles>>,
    /// The foreign issuers of this configuration.
    pub issuers: Arc<Issuers>,
}

/// One configuration made ready: a request sees exactly one.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was built from.
    pub config: Arc<Config>,
    /// The decision.
    pub authorizer: Authorizer,
    /// The account's life.
    pub accounts: Accounts,
    /// What outlives it.
    pub services: Services,
    /// Header names that no caller may set.
    pub strip: StripSet,
    own: Arc<OwnPaths>,
}

/// A configuration that reads well but cannot be made ready: where, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}")]
pub struct Obstacle {
    /// Place in the configuration.
    pub at: String,
    /// What would be right.
    pub expected: String,
}

impl Snapshot {
    /// Makes a configuration ready: compiles the routes. `services` has its mail, role sources and issuers.
    ///
    /// Used at the start, at each reload and by `check` alike.
    ///
    /// # Errors
    /// All [`Obstacle`]s there are; then nothing has changed.
    pub fn build(config: Arc<Config>, services: Services) -> Result<Self, Vec<Obstacle>> {
        let Prepared { routes, table, own } = prepare(&config)?;
        let parts = VerifierParts {
            config: &config,
            issuers: Arc::clone(&services.issuers),
            store: Arc::clone(&services.store),
            token_keys: Arc::clone(&services.token_keys),
            signing: Arc::clone(&services.signing),
            assertion_keys: Arc::clone(&services.assertion_keys),
            session_uses: Arc::clone(&services.session_uses),
            clock: Arc::clone(&services.clock),
            metrics: Arc::clone(&services.metrics),
            key_use: Arc::clone(&services.key_use),
            role_sources: Arc::clone(&services.role_sources),
        };
        let authorizer = Authorizer::new(routes, table, parts);
        Ok(Self {
            strip: StripSet::new(&config.routes, OwnForms::new(&config), authorizer.cookies()),
            authorizer,
            own,
            accounts: accounts(&config, &services),
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

    /// Whether a path of the gateway's own endpoints is one to every reader. No endpoint needs a path that is not.
    #[must_use]
    pub fn is_clear(&self, path: &CanonicalPath) -> bool {
        self.is_question(path.as_str()) || reads_one_way(path)
    }

    /// Whether other proxies ask here about their requests: they do so under whatever host.
    #[must_use]
    pub fn is_question(&self, path: &str) -> bool {
        self.own.is_question(path)
    }
}

/// Where the gateway answers by itself.
fn own_paths(config: &Config) -> Arc<OwnPaths> {
    let listen = &config.listen;
    Arc::new(OwnPaths::new(
        &listen.auth_prefix,
        FORWARD_AUTH_PATH,
        JWKS_PATH,
        &listen.auth_hosts,
    ))
}

fn accounts(config: &Config, services: &Services) -> Accounts {
    Accounts::new(AccountsParts {
        store: Arc::clone(&services.store),
        passwords: Arc::clone(&services.passwords),
        token_keys: Arc::clone(&services.token_keys),
        signing: Arc::clone(&services.signing),
        mailer: Arc::clone(&services.mailer),
        counters: Arc::clone(&services.counters),
        clock: Arc::clone(&services.clock),
        account: config.account.clone(),
        mail_limits: config.mail.limits,
        tokens: config.tokens.clone(),
        sessions: config.session.clone(),
        roles: config.roles.clone(),
        role_sources: Arc::clone(&services.role_sources),
        resources: resource_map(&config.listen.public_url, &config.upstreams),
        output: Arc::clone(&services.output),
    })
}

/// What keeps a configuration that reads well from being made ready; opens no store, so that it can be asked anywhere.
#[must_use]
pub fn obstacles(config: &Config) -> Vec<Obstacle> {
    let mut obstacles: Vec<_> = issuer::check(&config.issuers)
        .into_iter()
        .map(|(name, error)| issuer_obstacle(&name, &error))
        .collect();
    obstacles.extend(prepare(config).err().unwrap_or_default());
    if config.audit.required && !log::lets_audit_pass(&config.log.level) {
        obstacles.push(Obstacle {
            at: "log.level".to_owned(),
            expected: "a level that lets audit events pass, since audit.required asks for them: info,audit=info"
                .to_owned(),
        });
    }
    obstacles
}

/// An issuer that cannot be made ready, by its name.
#[must_use]
pub fn issuer_obstacle(name: &str, error: &IssuerError) -> Obstacle {
    let wanted = match error {
        IssuerError::Read { .. } => "a file that can be read",
        IssuerError::Keys { .. } => "a file with usable keys",
        IssuerError::Authorities { .. } => "a ca_file with certificates in PEM",
        IssuerError::NoAuthorities | IssuerError::Tls(_) => "authorities to verify it by",
    };
    Obstacle {
        at: format!("issuer \"{name}\""),
        expected: format!("{wanted}: {}", with_causes(error)),
    }
}

/// What of a configuration can be made ready without the store.
struct Prepared {
    routes: Vec<Arc<Route>>,
    table: RouteTable,
    own: Arc<OwnPaths>,
}

/// Builds the table of routes, and sees that mails go out.
fn prepare(config: &Config) -> Result<Prepared, Vec<Obstacle>> {
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
        obstacles.push(Obstacle { at, expected });
    }
    if obstacles.is_empty() {
        Ok(Prepared { routes, table, own })
    } else {
        Err(obstacles)
    }
}

fn table_of(
    config: &Config,
    routes: &[Arc<Route>],
    own: &Arc<OwnPaths>,
) -> Result<RouteTable, Vec<TableError>> {
    RouteTable::build(TableParts {
        routes,
        upstreams: &config.upstreams,
        own,
    })
}

/// The table of a configuration alone, for what asks where a path would lead.
///
/// # Errors
/// As [`RouteTable::build`].
pub fn route_table(config: &Config, routes: &[Arc<Route>]) -> Result<RouteTable, Vec<TableError>> {
    table_of(config, routes, &own_paths(config))
}

/// What works in a way that an operator may not expect: pairs of routes that one request is asked for.
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
            "route[{first}].path: {path} with a slash at its end is a path of route[{second}], {wide}, and services often take \
             one for the other: requests for either must meet the requirements of both, unless a route for {path}/** says \
             the same as that for {path}"
        ))
    };
    let pairs = table.slash_pairs(&routes).into_iter().filter_map(note);
    pairs.chain(scopes_alone(config)).collect()
}

/// Routes that no login is kept out of by the scopes that they ask for; before strangers that is warned about.
fn scopes_alone(config: &Config) -> impl Iterator<Item = String> {
    let is_noted = config.listen.public_url.is_loopback;
    let routes = config.routes.iter().enumerate().filter(move |_| is_noted);
    let alone = routes.filter(|(_, route)| match &route.require {
        Requirement::Rights { any_role, .. } => any_role.is_empty(),
        Requirement::Public | Requirement::Optional | Requirement::Authenticated => false,
    });
    alone.map(|(index, route)| {
        format!(
            "route[{index}].require: every login has all declared scopes, so {} is open to whoever logs in; any_role keeps \
             people out",
            route.text
        )
    })
}

fn table_obstacle(config: &Config, error: &TableError) -> Obstacle {
    let text = |place: usize| {
        config
            .routes
            .get(place)
            .map_or("", |route| route.text.as_str())
    };
    match *error {
        TableError::Ambiguous { first, second } => Obstacle {
            at: format!("route[{second}].path"),
            expected: format!(
                "a pattern, host or method that tells it from route[{first}]: {} and {} can match one request equally well",
                text(second),
                text(first)
            ),
        },
        TableError::CaseAlone { first, second } => Obstacle {
            at: format!("route[{second}].path"),
            expected: format!(
                "literals that differ from those of route[{first}] in more than case, {} and {}, or `case_sensitive = true` \
                 at the upstreams of both",
                text(second),
                text(first)
            ),
        },
        TableError::TooManyCaptures { route } => Obstacle {
            at: format!("route[{route}].path"),
            expected: format!("at most {CAPTURES_MAX} captures"),
        },
    }
}

/// The snapshot that new requests see.
#[derive(Debug)]
pub struct Current(ArcSwap<Snapshot>);

impl Current {
    /// Begins with one snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// The present snapshot, for one whole request.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// New requests see another one from now on; those in flight keep theirs.
    pub fn replace(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

/// The gateway's own endpoints, as the proxy reaches them: in process.
#[async_trait]
pub trait OwnEndpoints: std::fmt::Debug + Send + Sync {
    /// Answers a request, which carries a [`RequestScope`] as an extension.
    async fn answer(&self, request: Request<Bytes>) -> Response<Body>;

    /// Writes a refusal as a page, for a person who waits for one.
    fn page(&self, refusal: &Refusal<'_>) -> Option<RefusalPage>;

    /// Answers a proxy that asks about a request of its own, at [`FORWARD_AUTH_PATH`].
    async fn verify(
        &self,
        question: &Question<'_>,
        id: RequestId,
        snapshot: &Snapshot,
    ) -> (Response<Body>, Judged);
}

/// What a person is told who is not let in.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Status of the answer.
    pub status: u16,
    /// Its stable code.
    pub code: ErrorCode,
    /// A short fixed sentence.
    pub title: &'static str,
    /// In how many seconds it is worth another try, if that is known.
    pub retry_after_s: Option<u32>,
    /// The request's id.
    pub id: RequestId,
    /// Who is logged in, as far as that is known.
    pub person: Option<&'a str>,
    /// The origin that was asked, and path and query of what was asked for.
    pub asked: (&'a str, &'a str),
    /// All header fields as the caller sent them.
    pub headers: &'a HeaderMap,
    /// The configuration that the request sees.
    pub snapshot: &'a Snapshot,
}

/// A page that needs nothing but itself.
#[derive(Clone, Debug)]
pub struct RefusalPage {
    /// HTML.
    pub html: String,
    /// Its fields beside those of every answer: the media type, and under which policy it is shown.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// What the gateway's own endpoints know about the request beside its HTTP: an extension of each request.
#[derive(Clone, Debug)]
pub struct RequestScope {
    /// The request's id.
    pub id: RequestId,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The origin that the request was sent to, as browsers write it.
    pub origin: String,
    /// The configuration this request sees.
    pub snapshot: Arc<Snapshot>,
    /// What its access record says of it.
    pub notes: Arc<OwnNotes>,
}

impl RequestScope {
    /// Who sends the request, as [`Authorizer::recognise`] tells it; notes it for the access record.
    ///
    /// # Errors
    /// As [`Authorizer::recognise`], without what its caller may not know.
    pub async fn recognise(&self, view: &OwnView<'_>) -> Result<Option<Arc<Identity>>, Stop> {
        match self.snapshot.authorizer.recognise(view).await {
            Ok(found) => {
                if let Some(identity) = &found {
                    // A handler may ask twice; the answer is the same.
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

/// What one of the gateway's own endpoints finds out about a request, for its access record.
#[derive(Debug, Default)]
pub struct OwnNotes {
    /// The stable code of a refusal or failure.
    pub reason: OnceLock<&'static str>,
    /// What operators learn beside the reason.
    pub fault: OnceLock<RefusalFault>,
    /// The caller, if recognised.
    pub identity: OnceLock<Arc<Identity>>,
}
