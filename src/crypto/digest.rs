//! SHA-256, and comparison of digests and secrets.

use std::hash::{BuildHasherDefault, Hasher};

use subtle::ConstantTimeEq as _;

use crate::model::account::Digest;
use crate::model::secret::Secret;

/// Returns the SHA-256 digest of a text.
#[must_use]
pub fn digest(text: &str) -> Digest {
    Digest(sha256(text.as_bytes()))
}

/// Returns the SHA-256 of bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    copy_32(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// Copies the 32 bytes of SHA-256 or HMAC-SHA-256, which the library returns as a slice.
pub(in crate::crypto) fn copy_32(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

/// Whether two digests are equal, in constant time.
#[must_use]
pub fn digests_match(one: &Digest, other: &Digest) -> bool {
    one.0.ct_eq(&other.0).into()
}

/// Whether a text equals the secret, in a time that depends on their lengths only: for callers who may learn the
/// secret's length. Unlike [`is_secret`] it digests nothing.
#[must_use]
pub(crate) fn is_same_text(text: &str, secret: &Secret) -> bool {
    let (words, rest) = text.as_bytes().as_chunks();
    let (secret_words, secret_rest) = secret.expose().as_bytes().as_chunks();
    if words.len() != secret_words.len() {
        return false;
    }
    // The differences of all words are collected without a branch and compared once, since `subtle` takes a call for
    // each comparison.
    let differences = words
        .iter()
        .zip(secret_words)
        .fold(0, |all, (word, secret_word)| {
            all | (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(*secret_word))
        });
    (differences.ct_eq(&0) & rest.ct_eq(secret_rest)).into()
}

/// Hashes a [`Digest`] by its first bytes, which are uniform already.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

/// Creates [`DigestHasher`]s for a map with digests of credentials that were verified: callers cannot choose many of
/// those to have equal first bytes.
pub(crate) type DigestHasherBuilder = BuildHasherDefault<DigestHasher>;

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// Ignores the length of a digest, which precedes its bytes.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Whether a text equals the secret, in constant time whatever their lengths.
#[must_use]
pub fn is_secret(text: &str, secret: &Secret) -> bool {
    digests_match(&digest(text), &digest(secret.expose()))
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn a_text_is_compared_whole() {
        for length in [0, 1, 15, 16, 17, 64, 570] {
            let text = "x".repeat(length);
            let secret = Secret::new(text.clone());
            assert!(is_same_text(&text, &secret), "{length}");
            assert!(!is_same_text(&format!("{text}x"), &secret), "{length}");
            for place in 0..length {
                let mut other = text.clone();
                other.replace_range(place..=place, "y");
                assert!(!is_same_text(&other, &secret), "{length} {place}");
                assert!(!is_same_text(other.get(..place).unwrap(), &secret));
            }
        }
    }

    #[test]
    fn the_first_bytes_are_the_hash_of_a_digest() {
        let hash = |digest: &Digest| DigestHasherBuilder::default().hash_one(digest);
        let (one, other) = (digest("one"), digest("other"));
        let first: [u8; 8] = *one.0.first_chunk().unwrap();
        assert_eq!(hash(&one), u64::from_ne_bytes(first));
        assert_ne!(hash(&one), hash(&other));
    }
}
