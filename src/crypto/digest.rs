//! SHA-256, and comparison of digests and secrets.

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

/// Whether a text equals the secret, in constant time whatever their lengths.
#[must_use]
pub fn is_secret(text: &str, secret: &Secret) -> bool {
    digests_match(&digest(text), &digest(secret.expose()))
}
