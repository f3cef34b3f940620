//! Floor 1: file and environment in, checked values out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::access::{Ladder, Name, Scope};
use crate::model::algorithm::Algorithm;
use crate::model::route::{Route, Upstream};

/// A whole configuration, checked: whatever is in it can be used as it stands.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[limits]`
    pub limits: Limits,
    /// `[store]`
    pub store: StoreSettings,
    /// `[tokens]`
    pub tokens: Tokens,
    /// `[[issuer]]`
    pub issuers: Vec<Issuer>,
    /// `[account]`
    pub account: AccountSettings,
    /// `[mail]`
    pub mail: MailSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[roles]`
    pub roles: RoleSettings,
    /// `[[upstream]]`
    pub upstreams: Vec<Upstream>,
    /// `[[route]]`, in file order.
    pub routes: Vec<Route>,
}

/// Where requests come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Addresses of the gateway itself, at least one.
    pub addresses: Vec<SocketAddr>,
    /// Address of health, readiness and metrics.
    pub admin_address: SocketAddr,
    /// The bearer token that the admin listener asks for; there must be one off loopback.
    pub admin_token: Option<AdminToken>,
    /// The only base of links and of the resource map: scheme, host and port, without a slash at the end.
    pub public_url: PublicUrl,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Hosts that serve the gateway's own endpoints; empty: all.
    pub auth_hosts: Vec<String>,
    /// Prefix of the gateway's own endpoints, default `/auth`: literal segments, no slash at the end.
    pub auth_prefix: String,
    /// Threads that proxy; default: the processors this process may use.
    pub workers: usize,
}

/// A token as configured; compared by digest.
#[derive(Clone, Debug)]
pub struct AdminToken(pub crate::model::secret::Secret);

impl PartialEq for AdminToken {
    /// Two configurations are compared to tell what needs a restart; this runs on no request.
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl Eq for AdminToken {}

/// The origin under which callers reach the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `http://127.0.0.1:8080`: no path, no slash at the end.
    pub text: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host, with the port if it is not the scheme's own.
    pub authority: String,
    /// Whether the host is `localhost` or a loopback address.
    pub is_loopback: bool,
}

/// How much one caller may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head: request line and fields. Default 32 KiB.
    pub head_bytes_max: usize,
    /// Fields of a head. Default 100.
    pub head_fields_max: usize,
    /// The request target. Default 8 KiB.
    pub target_bytes_max: usize,
    /// From a head's first byte to its last. Default 10 s.
    pub head_timeout: Duration,
    /// A request body towards an upstream; 0: no limit. Default 10 MiB.
    pub body_bytes_max: u64,
    /// An idle connection of a caller is closed after this. Default 60 s.
    pub keepalive_timeout: Duration,
    /// Connections of callers at once. Default 10,000.
    pub connections_max: usize,
    /// To connect to an upstream. Default 5 s.
    pub upstream_connect_timeout: Duration,
    /// Between two reads from an upstream. Default 60 s.
    pub upstream_read_timeout: Duration,
    /// Between two writes to an upstream. Default 60 s.
    pub upstream_write_timeout: Duration,
    /// Idle connections kept per upstream service. Default 128.
    pub upstream_idle_max: usize,
    /// After SIGTERM, requests in flight may take this long. Default 30 s.
    pub drain_timeout: Duration,
}

/// Which engine keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEngine {
    /// Embedded, on disk.
    Sled,
    /// In memory: gone with the process.
    Memory,
}

/// Where the records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The engine.
    pub engine: StoreEngine,
    /// Our directory, 0700: `db/`, `keys/`, `admin.sock`.
    pub path: PathBuf,
    /// Bound of each cache in front of the store, in entries. Default 100,000.
    pub cache_entries: u64,
}

/// The gateway's own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Claim `iss`. Default: `public_url`.
    pub issuer: String,
    /// Claim `aud`.
    pub audience: String,
    /// ES256, EdDSA, RS256 or HS256.
    pub algorithm: Algorithm,
    /// Life of an access token. Default 15 min.
    pub access_ttl: Duration,
    /// Unused that long, a session ends. Default 14 days.
    pub refresh_ttl: Duration,
    /// A session ends after this, used or not. Default 30 days.
    pub absolute_ttl: Duration,
}

/// Where a foreign issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWK set of public keys.
    JwksFile(PathBuf),
    /// A file with one oct JWK: the only way an HMAC key comes in.
    SecretJwkFile(PathBuf),
}

/// A foreign issuer whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in logs and metrics.
    pub name: String,
    /// Claim `iss`, exactly.
    pub issuer: String,
    /// One of these must be in claim `aud`.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// Allowed algorithms; empty: those its keys declare.
    pub algorithms: Vec<Algorithm>,
    /// Clock difference allowed. Default 30 s, at most 300.
    pub leeway: Duration,
    /// Claim that names the subject.
    pub subject_claim: String,
    /// Put before each subject and username.
    pub subject_prefix: String,
    /// Claim that names the user for people; empty: none.
    pub username_claim: String,
    /// Claim that holds roles; dots reach into objects; empty: none.
    pub roles_claim: String,
    /// Put before each role.
    pub roles_prefix: String,
    /// Reserved roles that its claims may give all the same: exact, or a beginning with `*` at its end.
    pub roles_allow: Vec<String>,
    /// Claim that holds scopes; empty: none.
    pub scopes_claim: String,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Whoever comes.
    Open,
    /// Only whom an administrator invites.
    Invite,
    /// Nobody.
    Closed,
}

/// The account's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    /// Who may register.
    pub registration: Registration,
    /// Shortest password, in characters. Default 8.
    pub password_length_min: usize,
    /// Classes that a password under 15 characters needs. Default 3; 0: none.
    pub password_classes_min: usize,
    /// Life of a confirm token. Default 24 h.
    pub confirm_ttl: Duration,
    /// Life of a reset token. Default 15 min.
    pub reset_ttl: Duration,
    /// Threads that hash passwords; default: processors less one, at least 1.
    pub hash_threads: usize,
    /// Name of the header that carries an API key, lower case. Default `x-api-key`.
    pub api_key_header: http::HeaderName,
}

/// How mails leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailTransport {
    /// One `.eml` file per message, mode 0600.
    File(PathBuf),
    /// Onto standard output: for trying things out.
    Stdout,
}

/// `[mail]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailSettings {
    /// How mails leave.
    pub transport: MailTransport,
    /// Sender, such as `Doorward <noreply@localhost>`.
    pub from: String,
    /// Link of the mail `confirm_new`; `{public_url}` and `{token}` are filled in.
    pub confirm_link: String,
    /// Link of the mail `password_reset`.
    pub reset_link: String,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,doorward=debug`.
    pub level: String,
    /// One JSON record per request on standard output.
    pub access: bool,
}

/// `[roles]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleSettings {
    /// The ladder of levels.
    pub ladder: Ladder,
    /// Declared kinds of resources.
    pub resources: Vec<Name>,
    /// All declared scopes, sorted: those of `[roles] scopes`, those that routes name, and the gateway's own.
    pub scopes: Vec<Scope>,
    /// The level that may change memberships of its resource.
    pub manage_level: Name,
}
