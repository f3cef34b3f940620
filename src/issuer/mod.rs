//! Floor 2: foreign issuers and their keys.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::{Issuer, KeySource};
use crate::crypto::jwks::{DOCUMENT_BYTES_MAX, KeySet, KeySetError};

/// Why an issuer's keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: String,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// The file is no usable key set.
    #[error("{path} cannot be used")]
    Keys {
        /// Which file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: KeySetError,
    },
}

/// Loads the keys of one issuer from the file that the configuration names. Keys of it that cannot be used are logged.
///
/// # Errors
/// [`IssuerError`] when there is no key that could verify anything.
pub fn load(issuer: &Issuer) -> Result<KeySet, IssuerError> {
    let (path, parse): (_, fn(&str, &[_]) -> _) = match &issuer.keys {
        KeySource::JwksFile(path) => (path, KeySet::from_jwks),
        KeySource::SecretJwkFile(path) => (path, KeySet::from_secret_jwk),
    };
    let place = || path.display().to_string();
    let document = read(path).map_err(|source| IssuerError::Read {
        path: place(),
        source,
    })?;
    let keys = parse(&document, &issuer.algorithms).map_err(|source| IssuerError::Keys {
        path: place(),
        source,
    })?;
    for left_out in keys.left_out() {
        tracing::warn!(
            issuer.name = issuer.name,
            left_out,
            "a key of an issuer is not used"
        );
    }
    Ok(keys)
}

/// The text of a file, up to one byte more than a key set may have: that one is refused for its length.
fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?
        .take(DOCUMENT_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}
