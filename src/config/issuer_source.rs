//! The keys of `[[issuer]]` for its key set and for the introspection of its opaque tokens.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::forms::{
    flag, is_visible, or_none, path, raw_text, seconds, text, texts, visible,
};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::config::secrets::{self, SecretSources, SharedSecret};
use crate::config::settings::settings;
use crate::model::endpoint::{Endpoint, host_name};

/// The source of a foreign issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWK set of public keys.
    JwksFile(PathBuf),
    /// A file with one oct JWK, the only source of an HMAC key.
    SecretJwkFile(PathBuf),
    /// The URL of a JWK set, which is fetched periodically.
    JwksUrl(Endpoint),
    /// A document of OpenID Connect discovery, which has the URL of the key set.
    Discovery {
        /// The URL of the document.
        document: Endpoint,
        /// The issuer's host, and others that may serve its keys.
        hosts: Vec<String>,
    },
    /// The issuer has no keys, and all of its tokens are introspected.
    Nowhere,
}

impl KeySource {
    /// Whether keys are fetched over the network.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::JwksUrl(_) | Self::Discovery { .. })
    }
}

/// Introspection of opaque tokens (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The client that the gateway authenticates as; `None`: it does not.
    pub client: Option<IssuerClient>,
    /// Maximum time for which a token that was active is cached.
    pub ttl: Duration,
}

/// A client of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerClient {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SharedSecret,
}

const URL: &str =
    "an https:// URL without user, password and fragment; http:// on loopback addresses only";
const ONE_SOURCE: &str =
    "exactly one source of keys: `jwks_url`, `discovery = true`, `jwks_file` or `secret_jwk_file`";
const SECRET: &str = "1 to 1024 visible ASCII characters";
const FILE: &str = "the path of a file";

keys! { pub(super) SourceKeys = "issuer[]"; {
    /// Source of its keys, one of four: the URL of a JWK set, OpenID discovery below the issuer, a file with a JWK set of
    /// public keys, or a file with one oct JWK. URLs are https://; http:// on loopback addresses only.
    jwks_url: Endpoint = text(URL, Endpoint::parse);
    discovery: bool = flag() => false;
    jwks_file: PathBuf = path(FILE);
    secret_jwk_file: PathBuf = path(FILE);
    /// With discovery: hosts that may serve keys beside the issuer's own.
    jwks_hosts: Vec<String> = texts("the name or address of a host", host);
    /// Endpoint at which its opaque tokens are introspected (RFC 7662), with or without keys. At most one issuer has this.
    /// The gateway authenticates as client_id; the secret is preferably in a file of its own, or the systemd credential
    /// doorward.<name>.client_secret.
    introspection_url: Endpoint = text(URL, Endpoint::parse);
    client_id: String = text("1 to 255 visible ASCII characters", visible::<255>);
    client_secret: String = raw_text(SECRET);
    client_secret_file: PathBuf = path(FILE);
    /// Time for which an active token is cached, at most 3600; 0: its token is introspected for each request.
    introspection_ttl_s: Duration = seconds(0..=3600) => Duration::from_mins(1);
}}

settings! {
/// Network settings of an issuer.
pub struct Remote {}
RemoteKeys = "issuer[]"; {
    /// Time for which the last good keys are used while the issuer is unreachable, at most 30 days. After it, requests with
    /// its tokens are answered with 503.
    stale_max_s: Duration = seconds(1..=30 * 86_400) => Duration::from_hours(24), as stale_max;
    /// PEM file with the certificate authorities of the issuer's servers. "": those that the system trusts.
    ca_file: Option<PathBuf> = or_none(path("the path of a file, or \"\"")) => None;
}}

/// Reads the one source of keys. Files are read later, and only checked to be readable here.
pub(super) fn key_source(
    reader: &mut SectionReader<'_>,
    issuer: Option<&str>,
) -> Option<KeySource> {
    let url = reader.take(&SourceKeys::jwks_url);
    let is_discovered = reader.get(&SourceKeys::discovery);
    let public = reader.take(&SourceKeys::jwks_file);
    let secret = reader.take(&SourceKeys::secret_jwk_file);
    let hosts = reader.take(&SourceKeys::jwks_hosts);
    let written = [
        (SourceKeys::jwks_url.row.name, true),
        (SourceKeys::discovery.row.name, is_discovered),
        (SourceKeys::jwks_file.row.name, true),
        (SourceKeys::secret_jwk_file.row.name, true),
    ]
    .into_iter()
    .filter(|(key, counts)| *counts && reader.has(key));
    let written: Vec<_> = written.collect();
    for (key, _) in written.iter().skip(1) {
        reader.add(key, ONE_SOURCE);
    }
    if !is_discovered && hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
        reader.add(
            &SourceKeys::jwks_hosts,
            "no value: it is used only with `discovery = true`",
        );
    }
    if written.is_empty() {
        if reader.has(&SourceKeys::introspection_url) {
            return Some(KeySource::Nowhere);
        }
        reader.add(&SourceKeys::jwks_url, ONE_SOURCE);
    }
    if let Some(endpoint) = url {
        return Some(KeySource::JwksUrl(endpoint));
    }
    if is_discovered {
        return discovery(reader, issuer?, hosts.unwrap_or_default());
    }
    if let Some(path) = public {
        secrets::check_readable(reader, &SourceKeys::jwks_file, Some(&path));
        return Some(KeySource::JwksFile(path));
    }
    let path = secret?;
    secrets::check_readable(reader, &SourceKeys::secret_jwk_file, Some(&path));
    secrets::warn_if_readable(reader, &SourceKeys::secret_jwk_file, &path);
    Some(KeySource::SecretJwkFile(path))
}

fn host(text: &str) -> Option<String> {
    let bare = text.trim_matches(['[', ']']);
    let address = bare.parse::<std::net::IpAddr>().ok();
    address
        .map(|address| address.to_string())
        .or_else(|| host_name(text))
}

/// Returns the discovery of an issuer: the URL of its document (OpenID Connect Discovery 1.0 section 4) and the hosts
/// of its keys.
fn discovery(
    reader: &SectionReader<'_>,
    issuer: &str,
    mut hosts: Vec<String>,
) -> Option<KeySource> {
    let base = Endpoint::parse(issuer).filter(|base| !base.target().contains('?'));
    let place = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let (Some(base), Some(document)) = (base, Endpoint::parse(&place)) else {
        reader.add(
            &SourceKeys::discovery,
            format!("no value, or an `issuer` that is {URL}, without a query"),
        );
        return None;
    };
    hosts.push(base.host());
    Some(KeySource::Discovery { document, hosts })
}

/// Reads the network settings.
pub(super) fn remote(reader: &mut SectionReader<'_>) -> Remote {
    let remote = Remote::read(reader);
    secrets::check_readable(reader, &RemoteKeys::ca_file, remote.ca_file.as_ref());
    remote
}

/// Reads the settings of introspection, if there are any.
pub(super) fn introspection(
    reader: &mut SectionReader<'_>,
    name: Option<&str>,
    sources: SecretSources<'_>,
) -> Option<Introspection> {
    let endpoint = reader.take(&SourceKeys::introspection_url);
    let is_wanted = reader.has(&SourceKeys::introspection_url);
    let ttl = reader.get(&SourceKeys::introspection_ttl_s);
    let id = reader.take(&SourceKeys::client_id);
    let credential = name
        .filter(|_| is_wanted && reader.has(&SourceKeys::client_id))
        .map(|name| format!("doorward.{name}.client_secret"));
    let fits: fn(&str) -> bool = |text| is_visible(text, 1024);
    let (key, file_key) = (&SourceKeys::client_secret, &SourceKeys::client_secret_file);
    let secret = secrets::secret_of(
        reader,
        (key, file_key),
        credential.as_deref(),
        fits,
        sources,
    );
    let has_secret = reader.has(key) || reader.has(file_key);
    if has_secret && !reader.has(&SourceKeys::client_id) {
        reader.add(
            &SourceKeys::client_id,
            "a value, since client_secret is set",
        );
    }
    if reader.has(&SourceKeys::client_id) && !has_secret && secret.is_none() {
        reader.add(
            &SourceKeys::client_secret,
            "a value, since client_id is set",
        );
    }
    if reader.has(&SourceKeys::client_id) && !is_wanted {
        reader.add(
            &SourceKeys::client_id,
            "no value: it is used only with `introspection_url`",
        );
    }
    let secret = secret.map(SharedSecret);
    let client = id
        .zip(secret)
        .map(|(id, secret)| IssuerClient { id, secret });
    if is_wanted && !reader.has(&SourceKeys::client_id) && !has_secret {
        reader.warn(
            &SourceKeys::introspection_url,
            "`client_id` and `client_secret`: an endpoint that answers without them lets others guess tokens",
        );
    }
    Some(Introspection {
        endpoint: endpoint?,
        client,
        ttl,
    })
}
