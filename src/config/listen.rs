//! `[listen]`: listeners and trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::forms::{
    collected, is_visible, number, path, raw_text, text, text_or_texts, texts,
};
use crate::config::pattern;
use crate::config::reader::SectionReader;
use crate::config::secrets::{self, SecretSources, SharedSecret};
use crate::config::settings::settings;
use crate::model::forwarding::{ForwardingField, TrustedFields};
use crate::route::head::is_host_name;

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

impl PublicUrl {
    /// Reads `http(s)://host[:port]` and drops one slash at the end. `None` for a URL with a path, a query, a fragment
    /// or a user.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !is_visible(text, 512) || text.contains(['?', '#', '@', '\\']) {
            return None;
        }
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        let url = Url::parse(text).ok()?;
        let host = url.host()?;
        let fits = is_web && url.path() == "/";
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        fits.then(|| Self {
            text: format!("{}://{authority}", url.scheme()),
            scheme: url.scheme().to_owned(),
            is_loopback: match host {
                Host::Domain(name) => name == "localhost",
                Host::Ipv4(ip) => ip.is_loopback(),
                Host::Ipv6(ip) => ip.is_loopback(),
            },
            authority,
        })
    }

    /// Returns the default: plain HTTP to the first of the addresses.
    #[must_use]
    pub fn of(addresses: &[SocketAddr]) -> Self {
        let first = addresses.first().copied().unwrap_or_else(|| loopback(8080));
        let text = format!("http://{first}");
        // An address is a valid authority. As everywhere, the default port of the scheme is omitted.
        Self::parse(&text).unwrap_or_else(|| Self {
            scheme: "http".to_owned(),
            authority: first.to_string(),
            is_loopback: first.ip().is_loopback(),
            text,
        })
    }

    /// Returns the host without a port; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => host,
            _ => &self.authority,
        }
    }
}

const ADDRESS: &str = "an address and port such as 127.0.0.1:8080; names are not resolved";
const TRUSTED_HEADER: &str = "one of X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Port, \
     X-Forwarded-Prefix and X-Real-IP";
const ADMIN_ADDRESS: &str = "an address such as 127.0.0.1:8081";
const PUBLIC_URL: &str =
    "a URL such as https://auth.example.com: http or https, host and port only";
const NETWORK: &str = "a network such as 10.0.0.0/8, without bits below the prefix, or an address";

settings! {
/// Settings of listeners.
pub struct Listen {
    /// The bearer token that the admin listener requires. Off loopback there is always one.
    admin_token: Option<SharedSecret>,
}
ListenKeys = "listen", later ["tls"]; {
    /// Where callers reach the gateway: an address, or a list of them.
    address: Vec<SocketAddr> = text_or_texts(ADDRESS, address) => vec![loopback(8080)], as addresses, restart listen.addresses;
    /// Address of health, readiness and metrics. Off loopback, its callers need the bearer token below.
    admin_address: SocketAddr = text(ADMIN_ADDRESS, address) => loopback(8081), restart listen.admin_address;
    /// 16 to 512 visible ASCII characters, preferably in a file of its own or as systemd credential doorward.admin_token.
    admin_token: String = raw_text(secrets::SHARED), restart listen.admin_token;
    admin_token_file: PathBuf = path("the path of a file");
    /// The only base of links in mails and of the resource map: http(s)://host[:port]. Default: http:// and the first address.
    public_url: PublicUrl = text(PUBLIC_URL, PublicUrl::parse) => PublicUrl::of(&[]);
    /// Networks of the proxies whose forwarding headers (X-Forwarded-For and the like) are trusted.
    trusted_proxies: Vec<IpNet> = texts(NETWORK, network) => Vec::new();
    /// The forwarding headers that are trusted, of X-Forwarded-For, -Proto, -Host, -Port and -Prefix and X-Real-IP. List only
    /// those that all of these proxies overwrite or remove: the others come from callers, and are removed.
    trusted_headers: TrustedFields = collected(texts(TRUSTED_HEADER, ForwardingField::parse)) => TrustedFields::default();
    /// Path prefix of the gateway's own endpoints.
    auth_prefix: String = text(pattern::LITERAL_PATH, pattern::literal_path) => "/auth".to_owned(), restart listen.auth_prefix;
    /// Maximum number of connections of one client network (an IPv4 address or an IPv6 /64), except trusted proxies; 0: no
    /// limit.
    connections_per_client_max: usize = number(0..=1_000_000) => 1000, restart listen.connections_per_client_max;
    /// Hosts that serve the gateway's own endpoints; empty: all. Preferably a host that serves no upstream.
    auth_hosts: Vec<String> = texts(HOST, host) => Vec::new();
    /// Threads that proxy. Default: the processors that the process may use.
    workers: usize = number(1..=1024) => processors(), restart listen.workers;
}}

pub(super) fn read(reader: &mut SectionReader<'_>, sources: SecretSources<'_>) -> Listen {
    let token_keys = (&ListenKeys::admin_token, &ListenKeys::admin_token_file);
    let admin_token = secrets::shared(reader, token_keys, sources);
    let mut listen = Listen::read(reader, admin_token);
    if !reader.has(&ListenKeys::public_url) {
        listen.public_url = PublicUrl::of(&listen.addresses);
    }
    check(reader, &listen);
    listen
}

/// Checks the keys against each other.
fn check(reader: &SectionReader<'_>, listen: &Listen) {
    let admin = listen.admin_address;
    if admin.port() != 0 && listen.addresses.contains(&admin) {
        reader.add(
            &ListenKeys::admin_address,
            "another address than those in `address`",
        );
    }
    let first = listen.addresses.first();
    let is_unspecified = first.is_some_and(|first| first.ip().is_unspecified());
    if !reader.has(&ListenKeys::public_url) && is_unspecified {
        reader.warn(
            &ListenKeys::public_url,
            "the URL that callers use: links in mails begin with it, and `address` has no host to derive it from",
        );
    }
    let has_token_key =
        reader.has(&ListenKeys::admin_token) || reader.has(&ListenKeys::admin_token_file);
    if !admin.ip().is_loopback() && listen.admin_token.is_none() && !has_token_key {
        reader.add(
            &ListenKeys::admin_token,
            format!(
                "{}, here or in `admin_token_file`, since admin_address is not on loopback",
                secrets::SHARED
            ),
        );
    }
    if listen
        .trusted_proxies
        .iter()
        .any(|net| net.prefix_len() == 0)
    {
        reader.warn(
            &ListenKeys::trusted_proxies,
            "only networks of your own proxies: one entry trusts every address",
        );
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn network(text: &str) -> Option<IpNet> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.into());
    }
    let net: IpNet = text.parse().ok()?;
    (net.trunc() == net).then_some(net)
}

/// Returns the number of processors that this process may use.
pub(super) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

pub(super) const HOST: &str = "a host name such as api.example.com, without port and wildcard";

/// Reads a host into the form that requests are compared with: in lower case, without a port or a dot at the end, and
/// with brackets around an IPv6 address.
pub(super) fn host(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let ip: Ipv6Addr = inside.parse().ok()?;
        return Some(format!("[{ip}]"));
    }
    let fits = text.len() <= 253 && is_host_name(text, 63);
    fits.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_url_is_an_origin() {
        let cases = [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("https://Auth.Example.com/", "auth.example.com", false),
            ("https://auth.example.com:443", "auth.example.com", false),
            ("http://localhost:80", "localhost", true),
            ("http://[::1]:8080", "[::1]:8080", true),
        ];
        for (text, authority, is_loopback) in cases {
            let url = PublicUrl::parse(text).unwrap();
            assert_eq!(
                (url.authority.as_str(), url.is_loopback),
                (authority, is_loopback),
                "{text}"
            );
            assert_eq!(url.text, format!("{}://{authority}", url.scheme), "{text}");
        }
        for bad in [
            "",
            "auth.example.com",
            "ftp://a",
            "http://a/x",
            "http://a?b",
            "http://a/#",
            "http://u@a",
            "http:a",
            "http://a\\b",
            "http://",
            "http://a b",
        ] {
            assert_eq!(PublicUrl::parse(bad).map(|url| url.text), None, "{bad}");
        }
    }

    #[test]
    fn networks_have_no_bits_below_the_prefix() {
        assert_eq!(network("10.0.0.7").unwrap().to_string(), "10.0.0.7/32");
        assert_eq!(network("fd00::/8").unwrap().to_string(), "fd00::/8");
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "proxy", ""] {
            assert_eq!(network(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_without_port() {
        assert_eq!(host("API.example.com").as_deref(), Some("api.example.com"));
        assert_eq!(host("[0::1]").as_deref(), Some("[::1]"));
        for bad in ["", "a:80", "*.a", "a..b", "a.", ".a", "a/b", "::1", "[x]"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}
