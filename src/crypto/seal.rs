//! Sealing of texts for storage: encryption that binds a text to its place.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::crypto::key_file::{self, KeyFileError};

/// A key for AES-256-GCM with a random nonce for each text, which is safe for billions of texts.
pub struct SealKey(RandomizedNonceKey);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

/// The error of a text that exceeds the limits of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot seal")]
pub struct SealError;

impl SealKey {
    /// Opens the key in a file of `dir` with 32 random bytes and mode 0600, which is created if it is missing. Without a
    /// directory the key lives as long as the process. Texts that were sealed with a lost key are lost.
    ///
    /// # Errors
    /// An error if the file cannot be read or written, or is not a key of 32 bytes.
    pub fn open(dir: Option<&Path>, name: &str) -> Result<Self, KeyFileError> {
        let secret = key_file::secret(dir, name)?;
        let path = dir.unwrap_or(Path::new("")).join(name);
        let key = RandomizedNonceKey::new(&AES_256_GCM, secret.as_slice());
        key.map(Self)
            .map_err(|_| key_file::unfit(&path, "a key for AES-256"))
    }

    /// Seals a text for a place. The result is nonce, ciphertext and tag, 28 bytes longer than the text.
    ///
    /// # Errors
    /// [`SealError`] for a text beyond the library's limits.
    pub fn seal(&self, place: &[u8], text: &[u8]) -> Result<Vec<u8>, SealError> {
        // Allocated at its full size, since a buffer that grows leaves copies of the secret behind.
        let mut bytes = Vec::with_capacity(text.len() + AES_256_GCM.tag_len());
        bytes.extend_from_slice(text);
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(place), &mut bytes)
            .map_err(|_| SealError)?;
        Ok([nonce.as_ref(), bytes.as_slice()].concat())
    }

    /// Opens a text that was sealed for this place with this key; `None` for anything else.
    #[must_use]
    pub fn open_sealed(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut bytes = Zeroizing::new(rest.to_vec());
        let text = self.0.open_in_place(nonce, Aad::from(place), &mut bytes);
        let length = text.ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_same_key_and_place_open_it_and_no_bit_may_differ() {
        let dir = tempfile::tempdir().unwrap();
        let open = || SealKey::open(Some(dir.path()), "some.key").unwrap();
        let sealed = open().seal(b"place", b"a text with a secret").unwrap();
        assert_eq!(sealed.len(), 20 + 28);
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let text = open().open_sealed(b"place", &sealed).unwrap();
        assert_eq!(text.as_slice(), b"a text with a secret");
        assert!(open().open_sealed(b"other", &sealed).is_none());
        let other = SealKey::open(None, "some.key").unwrap();
        assert!(other.open_sealed(b"place", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open().open_sealed(b"place", &changed).is_none(), "{at}");
        }
        for length in [0, 11, 12, 27] {
            let cut = &sealed[..length];
            assert!(open().open_sealed(b"place", cut).is_none(), "{length}");
        }
        let again = open().seal(b"place", b"a text with a secret").unwrap();
        assert_ne!(sealed, again, "a nonce is used once");
        let mode = dir
            .path()
            .join("some.key")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn debug_tells_no_key() {
        assert_eq!(
            format!("{:?}", SealKey::open(None, "k").unwrap()),
            "SealKey(..)"
        );
    }
}
