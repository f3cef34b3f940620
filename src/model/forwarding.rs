//! Header fields by which a proxy says whose request it passes on.

use http::HeaderName;

/// Where hops write whom they had the request from.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// By which scheme it came to a hop.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// For which host it came to a hop.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// By which port it came to a hop.
pub const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// What a hop took off the path.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Whom a hop had the request from, in its one and only address.
pub const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// A field that a trusted proxy may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardingField {
    /// `X-Forwarded-For`: the addresses that the request came by.
    For,
    /// `X-Forwarded-Proto`: the scheme that the caller used.
    Proto,
    /// `X-Forwarded-Host`: the host that the caller named.
    Host,
    /// `X-Forwarded-Port`: the port that the caller used.
    Port,
    /// `X-Forwarded-Prefix`: what was taken off the path.
    Prefix,
    /// `X-Real-IP`: the caller's address.
    RealIp,
}

impl ForwardingField {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::For,
        Self::Proto,
        Self::Host,
        Self::Port,
        Self::Prefix,
        Self::RealIp,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> HeaderName {
        match self {
            Self::For => FORWARDED_FOR,
            Self::Proto => FORWARDED_PROTO,
            Self::Host => FORWARDED_HOST,
            Self::Port => FORWARDED_PORT,
            Self::Prefix => FORWARDED_PREFIX,
            Self::RealIp => REAL_IP,
        }
    }

    /// Reads a name, without case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.name().as_str().eq_ignore_ascii_case(name))
    }
}

/// Which fields count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedFields(u8);

impl TrustedFields {
    /// Not one of them.
    pub const NONE: Self = Self(0);

    /// Whether a field is among them.
    #[must_use]
    pub const fn has(self, field: ForwardingField) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Whether a name is that of one among them.
    #[must_use]
    pub fn has_name(self, name: &HeaderName) -> bool {
        ForwardingField::ALL
            .into_iter()
            .any(|field| self.has(field) && field.name() == *name)
    }
}

impl FromIterator<ForwardingField> for TrustedFields {
    fn from_iter<I: IntoIterator<Item = ForwardingField>>(fields: I) -> Self {
        Self(
            fields
                .into_iter()
                .fold(0, |bits, field| bits | 1 << field as u8),
        )
    }
}

impl Default for TrustedFields {
    /// What every proxy overwrites: the address and the scheme.
    fn default() -> Self {
        Self::from_iter([ForwardingField::For, ForwardingField::Proto])
    }
}

/// The scheme of the web that a text names, without case; some proxies tell WebSocket handshakes by schemes of their own.
#[must_use]
pub fn web_scheme(text: &str) -> Option<&'static str> {
    let is_one_of = |names: [&str; 2]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is_one_of(["https", "wss"]) {
        Some("https")
    } else if is_one_of(["http", "ws"]) {
        Some("http")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_known_by_their_names() {
        for field in ForwardingField::ALL {
            let upper = field.name().as_str().to_ascii_uppercase();
            assert_eq!(ForwardingField::parse(&upper), Some(field));
            let only = TrustedFields::from_iter([field]);
            for other in ForwardingField::ALL {
                assert_eq!(only.has(other), other == field);
                assert_eq!(only.has_name(&other.name()), other == field);
            }
            assert!(!TrustedFields::NONE.has(field));
        }
        assert_eq!(ForwardingField::parse("x_forwarded_for"), None);
    }

    #[test]
    fn schemes_are_read_in_one_way() {
        let cases = [
            ("http", Some("http")),
            ("HTTPS", Some("https")),
            ("ws", Some("http")),
            ("WsS", Some("https")),
            ("", None),
            ("gopher", None),
            ("https,http", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(web_scheme(text), wanted, "{text}");
        }
    }
}
