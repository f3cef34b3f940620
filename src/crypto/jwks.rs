//! Key sets: public keys by key id, each with its one algorithm.

use crate::model::algorithm::Algorithm;

/// Why a document is no usable key set. Names what is wrong, never a part of the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeySetError(pub String);

/// The verification keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {}

impl KeySet {
    /// Reads a JWK set of public keys; keys of another use or an algorithm that is not allowed are left out.
    ///
    /// # Errors
    /// [`KeySetError`] when the document is none, holds an oct or private key, two keys of one id, or none that can be used.
    pub fn from_jwks(_document: &str, _allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        todo!()
    }

    /// Reads one oct JWK: an HMAC secret at least as long as its hash, not a published one.
    ///
    /// # Errors
    /// [`KeySetError`] when it is none or too weak.
    pub fn from_secret_jwk(_document: &str, _allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        todo!()
    }
}
