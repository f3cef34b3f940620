//! Generated ids: one type per kind, so that they cannot be confused.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::text::{checked_text, text_conversions};

/// The error for a text that is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        checked_text! {
            $(#[$doc])*
            ///
            /// The whole id is the prefix, then 8 to 64 of `[A-Za-z0-9_-]`.
            $name, InvalidId, |text| text.strip_prefix($prefix).is_some_and(is_after_prefix)
        }

        impl $name {
            /// The prefix of every id of this kind.
            pub const PREFIX: &str = $prefix;
        }
    };
}

fn is_after_prefix(rest: &str) -> bool {
    (8..=64).contains(&rest.len())
        && rest
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

id! {
    /// A user's stable id: claim `sub`, header `X-Auth-Uid`. Never reused.
    UserId, "u-"
}
id! {
    /// The id of an account's record; an account has one uid and one account id.
    AccountId, "a-"
}
id! {
    /// The id of a session: claim `sid`. Not a secret, unlike the refresh token.
    SessionId, "s-"
}
id! {
    /// The id of a settings document that belongs to one account.
    SettingsId, "set-"
}
id! {
    /// The id of a mail in the outbox.
    MailId, "mail-"
}

/// The public part of an API key, `dwk_<key id>.<secret>`: 8 characters of base 62; imported ones may contain `-` and
/// `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Parses 8 characters of `0-9A-Za-z_-`.
    ///
    /// # Errors
    /// [`InvalidId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; 8] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if bytes.iter().all(fits) {
            Ok(Self(bytes))
        } else {
            Err(InvalidId)
        }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The constructor accepts ASCII only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

text_conversions!(KeyId, InvalidId);

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({})", self.as_str())
    }
}

/// The id of one request, in responses, logs and towards the upstream: 16 lower-case hex digits, or the id set by a
/// trusted proxy.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl RequestId {
    /// Maximum length of an id, in bytes.
    const BYTES_MAX: usize = 128;

    /// Parses the id that a trusted proxy has set; `None` unless it is safe in logs and pages: 1 to 128 letters, digits
    /// and characters without a meaning in any format of the gateway.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~:;/+=@".contains(byte);
        if text.is_empty() || !text.iter().all(fits) {
            return None;
        }
        let mut bytes = [0; Self::BYTES_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bytes,
            len: u8::try_from(text.len()).ok()?,
        })
    }

    /// Formats a number as 16 hex digits; different numbers yield different ids.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        for (place, digit) in bytes.iter_mut().take(16).enumerate() {
            let nibble = (number >> (60 - 4 * place)) & 0xf;
            *digit = char::from_digit(nibble as u32, 16).map_or(b'0', |c| c as u8);
        }
        Self { bytes, len: 16 }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len));
        std::str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

/// An odd number without a pattern: a counter multiplied by it visits every number once, in no visible order.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A generator of request ids: each instance yields distinct ids, which also differ from those of others.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Creates a generator with a seed of its own. Ids need to be distinct, not secret; the standard library's seed
    /// comes from the system.
    #[must_use]
    pub fn seeded() -> Self {
        Self::new(RandomState::new().build_hasher().finish())
    }

    const fn new(seed: u64) -> Self {
        Self {
            seed,
            next: AtomicU64::new(0),
        }
    }

    /// Returns the next id.
    #[must_use]
    pub fn draw(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId::from_number(self.seed ^ count.wrapping_mul(STRIDE))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_keep_to_their_form() {
        for good in ["u-abcdefgh", "u-A_b-3456789"] {
            assert_eq!(UserId::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "u-",
            "u-short",
            "a-abcdefgh",
            "u-abcdefg!",
            "u-abcdefg\u{e9}",
            "U-abcdefgh",
        ] {
            assert_eq!(UserId::parse(bad), Err(InvalidId), "{bad}");
        }
    }

    #[test]
    fn key_ids_are_eight_of_base_64() {
        for good in ["aZ09aZ09", "aZ09_Z0-"] {
            assert_eq!(KeyId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "aZ09aZ0", "aZ09aZ090", "aZ09aZ0.", "aZ09aZ0+"] {
            assert!(KeyId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn request_ids_are_the_number_in_hex() {
        assert_eq!(
            RequestId::from_number(0x0123_4567_89ab_cdef).as_str(),
            "0123456789abcdef"
        );
    }

    #[test]
    fn request_ids_of_others_are_fit_for_logs() {
        let longest = "x".repeat(128);
        for good in [
            "7f0b1c9e-6a0e-4f59-9c52-0a4a7a1d2e3f",
            "Root=1-67891233-abcdef012345678912345678",
            "a/b;o=1",
            &longest,
        ] {
            assert_eq!(RequestId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(129);
        for bad in [
            "", "a b", "a\tb", "a,b", "a\"b", "a\\b", "<a>", "${a}", "a\u{e9}", "a\nb", &too_long,
        ] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn request_ids_do_not_repeat_and_processes_differ() {
        let (one, other) = (RequestIds::new(1), RequestIds::new(2));
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            assert!(seen.insert(one.draw()));
        }
        assert!(!seen.contains(&other.draw()));
        assert_ne!(RequestIds::seeded().draw(), RequestIds::seeded().draw());
    }
}
