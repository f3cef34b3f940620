//! The text of an API key.

use crate::crypto::random;
use crate::model::id::KeyId;
use crate::model::secret::Secret;

/// Prefix of API keys, by which scanners find leaked ones.
const API_KEY_PREFIX: &str = "dwk_";
/// Number of random characters of an API key's secret: 160 bits.
const API_KEY_RANDOM_CHARS: usize = 27;
/// Number of characters of the checksum.
const API_KEY_CHECKSUM_CHARS: usize = 5;
/// Number of characters of a key without its prefix: the id, a dot and the secret.
const API_KEY_CHARS: usize = 8 + 1 + API_KEY_RANDOM_CHARS + API_KEY_CHECKSUM_CHARS;

/// A presented API key: `dwk_<key id, 8>.<secret, 32>`, whose checksum has been verified, or an imported one,
/// `<key id, 8>.<secret, 32>` of `0-9A-Za-z_-` without a checksum.
#[derive(Clone, Debug)]
pub struct ApiKeyText {
    /// The public part.
    pub id: KeyId,
    /// The 32 characters after the dot.
    pub(crate) secret: Secret,
    /// Whether it has no prefix, like the keys of apicrud.
    pub(crate) is_imported: bool,
}

impl ApiKeyText {
    /// Draws the secret of a new key.
    #[must_use]
    pub fn draw(id: KeyId) -> Self {
        let random = random::base62(API_KEY_RANDOM_CHARS);
        let checksum = api_key_checksum(id, &random);
        let mut secret = String::with_capacity(API_KEY_RANDOM_CHARS + API_KEY_CHECKSUM_CHARS);
        secret.push_str(&random);
        secret.extend(checksum.map(char::from));
        Self {
            id,
            secret: Secret::new(secret),
            is_imported: false,
        }
    }

    /// Parses a presented key; `None` if the form or the checksum is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (own, is_imported) = match text.strip_prefix(API_KEY_PREFIX) {
            Some(own) => (own, false),
            None => (text, true),
        };
        // Checked first: most texts are JWTs, and each request has one.
        if own.len() != API_KEY_CHARS {
            return None;
        }
        let (id, secret) = own.split_once('.')?;
        let is_sign = |b| is_imported && matches!(b, b'-' | b'_');
        let char_fits = |b: u8| b.is_ascii_alphanumeric() || is_sign(b);
        if !id.bytes().chain(secret.bytes()).all(char_fits) {
            return None;
        }
        let id = KeyId::parse(id).ok()?;
        let (random, checksum) = secret.split_at_checked(API_KEY_RANDOM_CHARS)?;
        (is_imported || checksum.as_bytes() == api_key_checksum(id, random)).then(|| Self {
            id,
            secret: Secret::new(secret.to_owned()),
            is_imported,
        })
    }

    /// The whole key, which is shown once: 45 characters, or 41 of an imported one.
    #[must_use]
    pub fn text(&self) -> Secret {
        let prefix = if self.is_imported { "" } else { API_KEY_PREFIX };
        Secret::new(format!("{prefix}{}.{}", self.id, self.secret.expose()))
    }
}

/// Whether a text has the form of an API key: it has the prefix, or the form of an imported one. Neither can be taken for a
/// JWT, which has two dots.
#[must_use]
pub fn is_api_key_form(text: &str) -> bool {
    text.starts_with(API_KEY_PREFIX) || ApiKeyText::parse(text).is_some()
}

/// Returns the CRC-32 of everything before the checksum, modulo 62^5, as five digits with the most significant first.
///
/// It distinguishes a mistyped key from a wrong one without a look-up. It is not a security measure.
fn api_key_checksum(id: KeyId, random: &str) -> [u8; API_KEY_CHECKSUM_CHARS] {
    let mut crc = crc32fast::Hasher::new();
    for part in [API_KEY_PREFIX, id.as_str(), ".", random] {
        crc.update(part.as_bytes());
    }
    let mut rest = crc.finalize() % 62_u32.pow(5);
    let mut digits = [b'0'; API_KEY_CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        let place = (rest % 62) as usize;
        *digit = random::BASE62.get(place).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key_id(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    #[test]
    fn the_checksum_of_an_api_key_is_the_published_one() {
        // Computed with Python: zlib.crc32(b"dwk_abcd1234." + 27 * b"x") % 62**5, most significant digit first.
        let key = format!("dwk_abcd1234.{}9cXdb", "x".repeat(27));
        assert_eq!(
            ApiKeyText::parse(&key).unwrap().text().expose(),
            key.as_str()
        );
        // Leading zeros of a checksum are kept.
        let padded = "dwk_abcd1234.00000000000000000000000216900pH8";
        assert!(ApiKeyText::parse(padded).is_some());
    }

    #[test]
    fn malformed_api_keys_are_none() {
        let good = ApiKeyText::draw(key_id("abcd1234")).text();
        let good = good.expose();
        for bad in [
            "",
            "dwk_",
            "dwk_abcd1234",
            "dwk_abcd1234.",
            &good.chars().take(44).collect::<String>(),
            &format!("{good}0"),
            &format!(" {good}"),
            &good.replace('.', "_"),
            &good.replace("dwk_", "DWK_"),
            &good.replace("abcd1234", "abcd1235"),
            &good.replace("abcd1234", "abcd\u{e9}12"),
            &format!("dwk_abcd1234.{}", "\u{e9}".repeat(16)),
            &good.replace("abcd1234", "abcd-234"),
            &format!("abcd1234.{}", "x".repeat(31)),
            &format!("abcd1234.{}.", "x".repeat(31)),
            &format!("abcd123.{}", "x".repeat(32)),
        ] {
            assert!(ApiKeyText::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_known_by_its_form_whether_it_counts_or_not() {
        let own = ApiKeyText::draw(key_id("abcd1234")).text();
        let imported = format!("-b_d1234.{}", "-x_9".repeat(8));
        for key in [own.expose(), imported.as_str(), "dwk_", "dwk_mistyped"] {
            assert!(is_api_key_form(key), "{key}");
        }
        for other in [
            "",
            "DWK_x",
            "dwr_x",
            "abcd1234.short",
            "eyJhbGciOiJub25lIn0.e30.",
            &format!("{imported}.x"),
            &format!("x{imported}"),
        ] {
            assert!(!is_api_key_form(other), "{other}");
        }
    }

    #[test]
    fn an_imported_key_has_neither_prefix_nor_checksum() {
        let text = format!("-b_d1234.{}", "-x_9".repeat(8));
        let read = ApiKeyText::parse(&text).unwrap();
        assert!(read.is_imported);
        assert_eq!(read.text().expose(), text);
        let own = ApiKeyText::draw(key_id("abcd1234"));
        assert!(!ApiKeyText::parse(own.text().expose()).unwrap().is_imported);
    }

    proptest! {
        #[test]
        fn an_api_key_reads_back_and_no_single_character_may_change(
            id in "[0-9A-Za-z]{8}", place in 0_usize..45, to in any::<char>(),
        ) {
            let drawn = ApiKeyText::draw(key_id(&id));
            let text = drawn.text();
            let text = text.expose();
            let read = ApiKeyText::parse(text).unwrap();
            prop_assert_eq!(read.id, drawn.id);
            let read = read.text();
            prop_assert_eq!(read.expose(), text);

            let mut chars: Vec<char> = text.chars().collect();
            prop_assume!(chars[place] != to);
            chars[place] = to;
            let changed: String = chars.into_iter().collect();
            prop_assert!(ApiKeyText::parse(&changed).is_none());
        }

        #[test]
        fn parsing_takes_any_text(text in ".{0,80}") {
            let _ = ApiKeyText::parse(&text);
        }
    }
}
