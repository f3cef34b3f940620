//! The gateway's own signing keys: made at the first start, kept as files with mode 0600, rotated without a gap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::jwks::KeySet;
use crate::model::algorithm::Algorithm;
use crate::model::clock::Timestamp;
use crate::model::secret::Secret;

/// Trouble with a file of the key directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot use key file {path}: {expected}")]
pub struct KeyFileError {
    /// Which file.
    pub path: PathBuf,
    /// What would be right.
    pub expected: String,
    /// The system's words, if it was the system.
    #[source]
    pub source: Option<std::io::Error>,
}

/// A token could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign a token")]
pub struct SignError;

/// Where a signing key stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, not used yet.
    Next,
    /// Signs.
    Active,
    /// Signs no more; published until what it signed has expired.
    Retiring,
}

/// One line of `doorward keys list`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeyInfo {
    /// Key id.
    pub kid: String,
    /// Registered name of its algorithm.
    pub algorithm: String,
    /// Next, active or retiring.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// When a retiring key goes.
    pub retires: Option<Timestamp>,
}

/// The ring of signing keys: one that signs, one that is published ahead, those that retire.
#[derive(Debug)]
pub struct SigningKeys {}

impl SigningKeys {
    /// Opens the ring in `dir`, making keys at the first start; without a directory they live as long as the process.
    ///
    /// `token_life`: how long what a key signed may still be presented, leeway included.
    ///
    /// # Errors
    /// [`KeyFileError`] for a file that cannot be read, written or understood.
    pub fn open(
        _dir: Option<&Path>,
        _algorithm: Algorithm,
        _token_life: Duration,
        _now: Timestamp,
    ) -> Result<Self, KeyFileError> {
        todo!()
    }

    /// Signs claims as a compact JWS with `typ: at+jwt` and the active key's id.
    ///
    /// # Errors
    /// [`SignError`], which only a broken key can cause.
    pub fn sign<T: serde::Serialize>(&self, _claims: &T) -> Result<Secret, SignError> {
        todo!()
    }

    /// The keys that verify what this ring signed.
    #[must_use]
    pub fn key_set(&self) -> Arc<KeySet> {
        todo!()
    }

    /// The public keys as a JWK set document; empty for HMAC.
    #[must_use]
    pub fn jwks(&self) -> Arc<str> {
        todo!()
    }

    /// The published next key starts to sign, the active one retires, a new next one is made, on disk first.
    ///
    /// # Errors
    /// [`KeyFileError`]; then nothing has changed.
    pub fn rotate(&self, _now: Timestamp) -> Result<(), KeyFileError> {
        todo!()
    }

    /// All keys of the ring.
    #[must_use]
    pub fn list(&self) -> Vec<KeyInfo> {
        todo!()
    }
}
