//! HTTP endpoints of other servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;

/// Maximum length of a URL, in bytes.
const BYTES_MAX: usize = 2048;

/// A URL that the gateway may request: `https://`, or `http://` on loopback, without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_tls: bool,
    host: Host,
    port: u16,
    authority: String,
    target: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In lower case.
    Name(String),
    Address(IpAddr),
}

impl Endpoint {
    /// Parses a URL; `None` if it may not be requested.
    ///
    /// Plain HTTP is accepted for loopback addresses and `localhost` only. A host that reads as a number without being
    /// an address is refused, since resolvers differ about it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() <= BYTES_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>'));
        if !is_plain {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        // A colon without a port does not mean the default port.
        if authority.as_str().contains('@') || authority.as_str().ends_with(':') {
            return None;
        }
        let host = Host::parse(authority.host())?;
        let default_port = if is_tls { 443 } else { 80 };
        let port = authority.port().map_or(default_port, |port| port.as_u16());
        let target = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let endpoint = Self {
            is_tls,
            host,
            port,
            authority: authority.as_str().to_ascii_lowercase(),
            target: if target.starts_with('?') {
                format!("/{target}")
            } else {
                target.to_owned()
            },
        };
        (port != 0 && (is_tls || endpoint.is_loopback())).then_some(endpoint)
    }

    /// Whether it is requested over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Returns the host: a name in lower case, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        }
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns host and port as in the URL, for `Host` and for logs.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the whole URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.target)
    }

    /// Returns path and query.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether the host can only be this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.to_canonical().is_loopback(),
        }
    }

    /// Returns the addresses, if they are known without a resolver.
    #[must_use]
    pub fn addresses(&self) -> Option<Vec<SocketAddr>> {
        let hosts: Vec<IpAddr> = match &self.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) if name == "localhost" => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Name(_) => return None,
        };
        let port = self.port;
        Some(
            hosts
                .into_iter()
                .map(|host| SocketAddr::from((host, port)))
                .collect(),
        )
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let in_brackets = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = in_brackets {
            return address.parse().ok().map(IpAddr::V6).map(Self::Address);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        host_name(text).map(Self::Name)
    }
}

/// Converts a host name to lower case; `None` unless it has labels of letters, digits, `-` and `_`, the last of which
/// is not a number.
#[must_use]
pub fn host_name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit())
        || last.to_ascii_lowercase().strip_prefix("0x").is_some();
    let fits = text.len() <= 253 && text.split('.').all(is_label) && !is_number;
    fits.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_asked_is_read() {
        let cases = [
            (
                "https://id.example.com/jwks",
                Some(("id.example.com", 443, "/jwks")),
            ),
            (
                "https://ID.Example.com:8443/a?b=c",
                Some(("id.example.com", 8443, "/a?b=c")),
            ),
            ("https://id.example.com", Some(("id.example.com", 443, "/"))),
            (
                "https://id.example.com?a=b",
                Some(("id.example.com", 443, "/?a=b")),
            ),
            ("https://192.0.2.1/k", Some(("192.0.2.1", 443, "/k"))),
            ("https://[2001:db8::1]/k", Some(("2001:db8::1", 443, "/k"))),
            ("http://127.0.0.1:9/k", Some(("127.0.0.1", 9, "/k"))),
            ("http://127.9.9.9/k", Some(("127.9.9.9", 80, "/k"))),
            ("http://[::1]:9/k", Some(("::1", 9, "/k"))),
            ("http://localhost/k", Some(("localhost", 80, "/k"))),
            ("http://id.example.com/jwks", None),
            ("http://192.0.2.1/k", None),
            ("http://localhost.example.com/k", None),
            ("http://127.1/k", None),
            ("https://2130706433/k", None),
            ("https://0x7f.0x1/k", None),
            ("https://user@id.example.com/k", None),
            ("https://127.0.0.1@id.example.com/k", None),
            ("https://id.example.com:/k", None),
            ("https://id.example.com:0/k", None),
            ("https://id.example.com/k#x", None),
            ("https://id.example.com\\@evil/k", None),
            ("https://id.example.com./k", None),
            ("https://-a.example.com/k", None),
            ("https:///k", None),
            ("ftp://id.example.com/k", None),
            ("id.example.com/k", None),
            ("/k", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = Endpoint::parse(text);
            let told = found
                .as_ref()
                .map(|e| (e.host(), e.port(), e.target().to_owned()));
            let expected =
                expected.map(|(host, port, target)| (host.to_owned(), port, target.to_owned()));
            assert_eq!(told, expected, "{text}");
        }
        assert!(Endpoint::parse(&format!("https://a.test/{}", "x".repeat(2048))).is_none());
    }

    #[test]
    fn what_needs_no_resolver_is_known() {
        let local = Endpoint::parse("http://localhost:7/").unwrap();
        assert_eq!(local.addresses().unwrap().len(), 2);
        assert!(local.is_loopback() && !local.is_tls());
        let named = Endpoint::parse("https://id.example.com/").unwrap();
        assert_eq!(named.addresses(), None);
        assert!(!named.is_loopback());
    }
}
