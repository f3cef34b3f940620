//! Checks of host, method and field names in a request head.

use std::net::Ipv6Addr;

use crate::model::deny::DenyReason;
use crate::model::field_name::is_plain;

/// Maximum length of a method, in bytes. The longest registered one has 17.
pub const METHOD_BYTES_MAX: usize = 32;
/// Maximum length of a host with its port, in bytes.
const HOST_BYTES_MAX: usize = 261;

/// [`is_plain`] as a table, indexed by byte.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a byte is below 256, and a fault here would end the build"
)]
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_plain(byte as u8);
        byte += 1;
    }
    table
};

/// Parses a `Host` or an authority; `None` unless it is a host name, an IPv4 address or an IPv6 address in brackets,
/// with or without a port.
///
/// A host name has letters, digits, `-`, `_` and single dots, of which one may be at the end. The port is 1 to 5 digits
/// up to 65535. Returns the host as written, brackets kept, without port and trailing dot.
#[must_use]
pub fn host_of(value: &[u8]) -> Option<&str> {
    if HOST_BYTES_MAX < value.len() {
        return None;
    }
    if value.starts_with(b"[") {
        return ipv6_host_of(value);
    }
    let mut end = value.len();
    // The start counts as a dot: no label is empty.
    let mut previous = b'.';
    for (place, byte) in value.iter().enumerate() {
        match byte {
            b':' => {
                end = place;
                break;
            }
            b'.' if previous == b'.' => return None,
            b'.' | b'-' | b'_' => {}
            _ if byte.is_ascii_alphanumeric() => {}
            _ => return None,
        }
        previous = *byte;
    }
    let (host, port) = value.split_at_checked(end)?;
    let host = match previous {
        b'.' => host.strip_suffix(b".")?,
        _ => host,
    };
    let is_sound = port.is_empty() || is_port(port);
    std::str::from_utf8(host).ok().filter(|_| is_sound)
}

fn ipv6_host_of(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|byte| *byte == b']')?;
    let (host, port) = value.split_at_checked(end + 1)?;
    let host = std::str::from_utf8(host).ok()?;
    let address = host.strip_prefix('[')?.strip_suffix(']')?;
    address.parse::<Ipv6Addr>().ok()?;
    (port.is_empty() || is_port(port)).then_some(host)
}

/// Whether a text is labels of letters, digits, `-` and `_`, of at most `label_bytes_max` bytes each, with single dots
/// between. The configuration bounds the length of a label, and requests do not.
#[must_use]
pub fn is_host_name(text: &str, label_bytes_max: usize) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.split('.')
        .all(|label| !label.is_empty() && label.len() <= label_bytes_max && label.bytes().all(fits))
}

/// Whether this is a colon and a port after it.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else {
        return false;
    };
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    // More digits than five only if the first are zeros.
    let number = digits.iter().fold(0_u32, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u32::from(digit & 15))
    });
    is_number && u16::try_from(number).is_ok()
}

/// Checks a method.
///
/// # Errors
/// [`DenyReason::RequestMalformed`] if it is not a token, [`DenyReason::MethodRefused`] if it is never forwarded.
pub fn check_method(method: &[u8]) -> Result<(), DenyReason> {
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(DenyReason::RequestMalformed);
    }
    let fits = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
    // CONNECT would open a tunnel; TRACE and its predecessor TRACK echo credentials.
    let passes = !matches!(method, b"CONNECT" | b"TRACE" | b"TRACK")
        && method.len() <= METHOD_BYTES_MAX
        && method.iter().all(fits);
    passes.then_some(()).ok_or(DenyReason::MethodRefused)
}

/// Checks the name of a header field.
///
/// # Errors
/// [`DenyReason::RequestMalformed`] if it is not a token, [`DenyReason::HeaderNameRefused`] for a token with characters
/// other than letters, digits, `-`, `_` and `.`.
pub fn check_field_name(name: &[u8]) -> Result<(), DenyReason> {
    let is_plain = |byte: &u8| PLAIN.get(usize::from(*byte)).is_some_and(|plain| *plain);
    if !name.is_empty() && name.iter().all(is_plain) {
        return Ok(());
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(DenyReason::RequestMalformed);
    }
    Err(DenyReason::HeaderNameRefused)
}

/// Whether a byte is a character of a token (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule of [`host_of`] written with the standard library's text functions.
    fn host_by_words(value: &[u8]) -> Option<&str> {
        let is_port = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_digit())
                && text.parse::<u16>().is_ok()
        };
        let text = std::str::from_utf8(value).ok()?;
        if HOST_BYTES_MAX < text.len() {
            return None;
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return text.get(..address.len() + 2).filter(|_| is_port);
        }
        let host = match text.split_once(':') {
            Some((host, port)) => is_port(port).then_some(host)?,
            None => text,
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        is_host_name(host, usize::MAX).then_some(host)
    }

    proptest! {
        #[test]
        fn a_host_is_read_by_the_rule(
            value in prop_oneof![
                "[ab.:\\-_0-9]{0,10}",
                "[a.]{0,4}:?[0-9]{0,12}",
                "\\[[:0-9a-f]{0,8}\\]?:?[0-9x]{0,6}",
                "[a-z.]{250,270}",
                any::<String>(),
            ],
            rest in any::<Vec<u8>>(),
            is_cut in any::<bool>(),
        ) {
            let value = if is_cut { rest } else { value.into_bytes() };
            prop_assert_eq!(host_of(&value), host_by_words(&value));
        }
    }

    #[test]
    fn names_of_fields_hold_what_every_server_reads_alike() {
        for byte in 0..=u8::MAX {
            let wanted = match byte {
                b'-' | b'_' | b'.' => Ok(()),
                byte if byte.is_ascii_alphanumeric() => Ok(()),
                byte if is_token(byte) => Err(DenyReason::HeaderNameRefused),
                _ => Err(DenyReason::RequestMalformed),
            };
            assert_eq!(check_field_name(&[b'x', byte, b'a']), wanted, "{byte}");
        }
        assert_eq!(check_field_name(b""), Err(DenyReason::RequestMalformed));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let cases = [
            ("a", Some("a")),
            ("A.b", Some("A.b")),
            ("a.b.", Some("a.b")),
            ("a_b-c:80", Some("a_b-c")),
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[::1]:80", Some("[::1]")),
            ("", None),
            (".", None),
            ("a..b", None),
            (".a", None),
            ("a:", None),
            ("a:65536", None),
            ("a:8 0", None),
            ("a:80:80", None),
            ("a b", None),
            ("a,b", None),
            ("a/b", None),
            ("a@b", None),
            ("a%20b", None),
            ("a\\b", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[a]", None),
            ("::1", None),
            ("caf\u{e9}", None),
        ];
        for (value, host) in cases {
            assert_eq!(host_of(value.as_bytes()), host, "{value:?}");
        }
    }
}
