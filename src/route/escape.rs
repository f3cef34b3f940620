//! Percent-encoding: the shared grammar of paths in the configuration and in requests.

/// Characters that a path may contain unescaped: RFC 3986, and `[ ] | \ ^ { }`, which clients send raw and servers
/// accept.
const RAW: &[u8] =
    b"/-._~!$&'()*+,;=:@[]|\\^{}0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// [`RAW`] as a table, indexed by byte.
#[expect(
    clippy::indexing_slicing,
    reason = "a byte is below 256, and a fault here would end the build"
)]
const MAY_STAND_RAW: [bool; 256] = {
    let mut table = [false; 256];
    let mut rest = RAW;
    while let [byte, behind @ ..] = rest {
        table[*byte as usize] = true;
        rest = behind;
    }
    table
};

/// Whether a path may contain a byte unescaped.
#[must_use]
pub fn may_stand_raw(byte: u8) -> bool {
    MAY_STAND_RAW.get(usize::from(byte)).is_some_and(|may| *may)
}

/// Whether a character has the same meaning escaped and unescaped (RFC 3986 section 2.3).
#[must_use]
pub const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns the value of the escape at the beginning of `text`, and the text after it; `None` if there is no escape.
#[must_use]
pub fn escape_at(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, behind @ ..] = text else {
        return None;
    };
    Some((hex(*high)? << 4 | hex(*low)?, behind))
}

/// Appends a byte as an escape, in upper case.
pub fn push_escape(byte: u8, written: &mut Vec<u8>) {
    written.extend([b'%', upper_hex(byte >> 4), upper_hex(byte & 15)]);
}

/// Decodes all escapes, including the `%u002F` that some servers accept. Invalid escapes are kept.
#[must_use]
pub fn decoded(text: &[u8]) -> Vec<u8> {
    decoded_but(text, |_| false)
}

/// Decodes like [`decoded`], except for the escapes of bytes that satisfy `stays`.
pub(super) fn decoded_but(text: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let (byte, after) = escape_at(rest).unwrap_or((*first, behind));
        if stays(byte) && after.len() < behind.len() {
            push_escape(byte, &mut bytes);
            rest = after;
        } else if let Some((c, after)) = wide_escape_at(rest) {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

/// Returns the character of a `%u002F` at the beginning of `text`.
fn wide_escape_at(text: &[u8]) -> Option<(char, &[u8])> {
    let [b'%', b'u' | b'U', digits @ ..] = text else {
        return None;
    };
    let (digits, behind) = digits.split_at_checked(4)?;
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some(value << 4 | u32::from(hex(*digit)?)))?;
    Some((char::from_u32(value)?, behind))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

const fn upper_hex(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'A' + nibble - 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once() {
        let cases: [(&str, &[u8]); 7] = [
            ("/a%20b", b"/a b"),
            ("/%C3%A9%e9", b"/\xc3\xa9\xe9"),
            ("/%2541", b"/%41"),
            ("/%zz%", b"/%zz%"),
            ("/%u002e%U00e9", b"/.\xc3\xa9"),
            ("/%u00", b"/%u00"),
            ("/%25", b"/%"),
        ];
        for (text, wanted) in cases {
            assert_eq!(decoded(text.as_bytes()), wanted, "{text}");
        }
        let kept = decoded_but(b"/%2f%5c%40", |byte| matches!(byte, b'/' | b'\\'));
        assert_eq!(kept, b"/%2F%5C@");
    }
}
