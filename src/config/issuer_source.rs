//! The keys of `[[issuer]]` that tell where its keys are, and whom to ask about its opaque tokens.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::reader::{Reader, is_visible};
use crate::config::secrets::{self, SharedSecret, Surroundings};
use crate::model::endpoint::{Endpoint, host_name};

/// Where a foreign issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWK set of public keys.
    JwksFile(PathBuf),
    /// A file with one oct JWK: the only way an HMAC key comes in.
    SecretJwkFile(PathBuf),
    /// A JWK set that is fetched from there, again and again.
    JwksUrl(Endpoint),
    /// A document of OpenID Connect discovery that names where the set is.
    Discovery {
        /// Where the document is.
        document: Endpoint,
        /// The issuer's own host, and others that may serve its keys.
        hosts: Vec<String>,
    },
    /// It has none: all of its tokens are introspected.
    Nowhere,
}

impl KeySource {
    /// Whether keys are fetched over the network.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::JwksUrl(_) | Self::Discovery { .. })
    }
}

/// Where opaque tokens are asked about (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// As whom the gateway asks; `None`: as nobody.
    pub client: Option<Client>,
    /// How long an answer that a token is active counts, at most. Default 60 s; 0: for one request.
    pub ttl: Duration,
}

/// A client of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: SharedSecret,
}

/// How the network is used for an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// How long the last good keys serve while the issuer is away. Default a day.
    pub stale_max: Duration,
    /// PEM file with the certificates that the issuer's must come from; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
}

const URL: &str =
    "an https:// URL without user, password and fragment; http:// on loopback addresses only";
const ONE_SOURCE: &str = "one source of keys and not more: `jwks_url`, `discovery = true`, `jwks_file` or `secret_jwk_file`";
const SECRET: &str = "1 to 1024 visible ASCII characters";

/// Takes the one source of keys. Files are read later; that they can be is checked here, with everything else.
pub(super) fn key_source(reader: &mut Reader<'_>, issuer: Option<&str>) -> Option<KeySource> {
    const FILE: &str = "the path of a file";
    let url = reader.text("jwks_url", URL, Endpoint::parse);
    let is_discovered = reader.flag("discovery").unwrap_or(false);
    let public = reader.path("jwks_file", FILE);
    let secret = reader.path("secret_jwk_file", FILE);
    let hosts = reader.texts("jwks_hosts", "the name or address of a host", |text| {
        let bare = text.trim_matches(['[', ']']);
        let address = bare.parse::<std::net::IpAddr>().ok();
        address
            .map(|address| address.to_string())
            .or_else(|| host_name(text))
    });
    let written = ["jwks_url", "discovery", "jwks_file", "secret_jwk_file"]
        .into_iter()
        .filter(|key| reader.has(key) && (*key != "discovery" || is_discovered));
    let written: Vec<_> = written.collect();
    for key in written.iter().skip(1) {
        reader.add(key, ONE_SOURCE);
    }
    if !is_discovered && hosts.as_ref().is_some_and(|hosts| !hosts.is_empty()) {
        reader.add(
            "jwks_hosts",
            "to find it left out: it goes with `discovery = true`",
        );
    }
    if written.is_empty() {
        if reader.has("introspection_url") {
            return Some(KeySource::Nowhere);
        }
        reader.add("jwks_url", ONE_SOURCE);
    }
    if let Some(endpoint) = url {
        return Some(KeySource::JwksUrl(endpoint));
    }
    if is_discovered {
        return discovery(reader, issuer?, hosts.unwrap_or_default());
    }
    if let Some(path) = public {
        secrets::check_readable(reader, "jwks_file", &path);
        return Some(KeySource::JwksFile(path));
    }
    let path = secret?;
    secrets::check_readable(reader, "secret_jwk_file", &path);
    secrets::warn_if_readable(reader, "secret_jwk_file", &path);
    Some(KeySource::SecretJwkFile(path))
}

/// Where the document of an issuer is (OpenID Connect Discovery 1.0 section 4).
fn discovery(reader: &Reader<'_>, issuer: &str, mut hosts: Vec<String>) -> Option<KeySource> {
    let base = Endpoint::parse(issuer).filter(|base| !base.target().contains('?'));
    let place = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let (Some(base), Some(document)) = (base, Endpoint::parse(&place)) else {
        reader.add(
            "discovery",
            format!("to find it left out, or `issuer` to be {URL}, and without a query"),
        );
        return None;
    };
    hosts.push(base.host());
    Some(KeySource::Discovery { document, hosts })
}

/// Takes what the network needs.
pub(super) fn remote(reader: &mut Reader<'_>) -> Remote {
    let ca_file = reader.optional_path("ca_file", "the path of a file, or \"\"");
    if let Some(path) = &ca_file {
        secrets::check_readable(reader, "ca_file", path);
    }
    Remote {
        stale_max: reader
            .seconds("stale_max_s", 1..=30 * 86_400)
            .unwrap_or(Duration::from_hours(24)),
        ca_file,
    }
}

/// Takes where opaque tokens are asked about, if anywhere.
pub(super) fn introspection(
    reader: &mut Reader<'_>,
    name: Option<&str>,
    around: Surroundings<'_>,
) -> Option<Introspection> {
    let endpoint = reader.text("introspection_url", URL, Endpoint::parse);
    let is_wanted = reader.has("introspection_url");
    let ttl = reader.seconds("introspection_ttl_s", 0..=3600);
    let id = reader.text("client_id", "1 to 255 visible ASCII characters", |text| {
        is_visible(text, 255).then(|| text.to_owned())
    });
    let credential = name
        .filter(|_| is_wanted && reader.has("client_id"))
        .map(|name| format!("doorward.{name}.client_secret"));
    let fits: fn(&str) -> bool = |text| is_visible(text, 1024);
    let secret = secrets::secret_of(
        reader,
        "client_secret",
        credential.as_deref(),
        SECRET,
        fits,
        around,
    );
    let has_secret = reader.has("client_secret") || reader.has("client_secret_file");
    if has_secret && !reader.has("client_id") {
        reader.add("client_id", "the client that client_secret belongs to");
    }
    if reader.has("client_id") && !has_secret && secret.is_none() {
        reader.add("client_secret", "the secret of client_id");
    }
    if reader.has("client_id") && !is_wanted {
        reader.add(
            "client_id",
            "to find it left out: it goes with `introspection_url`",
        );
    }
    let secret = secret.map(SharedSecret);
    let client = id.zip(secret).map(|(id, secret)| Client { id, secret });
    if is_wanted && !reader.has("client_id") && !has_secret {
        reader.warn(
            "introspection_url",
            "`client_id` and `client_secret`: whoever may ask about tokens unasked may guess them, too",
        );
    }
    Some(Introspection {
        endpoint: endpoint?,
        client,
        ttl: ttl.unwrap_or(Duration::from_mins(1)),
    })
}
