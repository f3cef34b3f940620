//! Header fields in which a proxy describes the request that it forwards.

use http::HeaderName;

use crate::model::table::table;

/// The address from which each hop received the request.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme with which the request reached a hop.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host for which the request reached a hop.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port on which the request reached a hop.
pub const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The path prefix that a hop removed.
pub const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The single address from which a hop received the request.
pub const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

table! {
    /// A header field that is believed when a trusted proxy sends it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ForwardingField {
        /// `X-Forwarded-For`: the addresses that the request passed through.
        For => FORWARDED_FOR,
        /// `X-Forwarded-Proto`: the scheme used by the caller.
        Proto => FORWARDED_PROTO,
        /// `X-Forwarded-Host`: the host named by the caller.
        Host => FORWARDED_HOST,
        /// `X-Forwarded-Port`: the port used by the caller.
        Port => FORWARDED_PORT,
        /// `X-Forwarded-Prefix`: the removed path prefix.
        Prefix => FORWARDED_PREFIX,
        /// `X-Real-IP`: the caller's address.
        RealIp => REAL_IP,
    }
    /// Returns the field's name.
    pub fn name() -> HeaderName;
}

impl ForwardingField {
    /// Parses a name, ignoring case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.name().as_str().eq_ignore_ascii_case(name))
    }
}

/// A set of believed header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedFields(u8);

impl TrustedFields {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Whether a field is in the set.
    #[must_use]
    pub const fn has(self, field: ForwardingField) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Whether a name is that of a field in the set.
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
    /// Returns the fields that every proxy overwrites: the address and the scheme.
    fn default() -> Self {
        Self::from_iter([ForwardingField::For, ForwardingField::Proto])
    }
}

/// Returns the web scheme for a text, ignoring case; some proxies report WebSocket handshakes by schemes of their own.
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
