//! Floor 2: foreign issuers and their keys.

use std::path::Path;

use crate::config::{Issuer, KeySource};
use crate::crypto::jwks::{KeySet, KeySetError};

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

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
    /// The file is larger than 1 MiB.
    #[error("{path} is larger than 1 MiB")]
    TooLarge {
        /// Which file.
        path: String,
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

/// Loads the keys of one issuer from the file that the configuration names.
///
/// # Errors
/// [`IssuerError`] when there is no key that could verify anything.
pub fn load(issuer: &Issuer) -> Result<KeySet, IssuerError> {
    let (path, parse): (_, fn(&str, &[_]) -> _) = match &issuer.keys {
        KeySource::JwksFile(path) => (path, KeySet::from_jwks),
        KeySource::SecretJwkFile(path) => (path, KeySet::from_secret_jwk),
    };
    let document = read(path)?;
    parse(&document, &issuer.algorithms).map_err(|source| IssuerError::Keys {
        path: path.display().to_string(),
        source,
    })
}

fn read(path: &Path) -> Result<String, IssuerError> {
    let place = || path.display().to_string();
    let size = std::fs::metadata(path)
        .map_err(|source| IssuerError::Read {
            path: place(),
            source,
        })?
        .len();
    if KEY_FILE_BYTES_MAX < size {
        return Err(IssuerError::TooLarge { path: place() });
    }
    std::fs::read_to_string(path).map_err(|source| IssuerError::Read {
        path: place(),
        source,
    })
}
