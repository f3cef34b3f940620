//! JSON web tokens: taken apart strictly, verified with a key whose algorithm is pinned.

use serde_json::{Map, Value};

use crate::crypto::jwks::KeySet;

/// Why a token is not what it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of strict base64url, not strict JSON objects, too long or too deep.
    #[error("the token is not a compact JWS of strict JSON")]
    Malformed,
    /// `crit`, `b64` or another header that would have to be understood.
    #[error("the token's header asks for what is not supported")]
    Header,
    /// No key of the issuer has this key id and algorithm.
    #[error("no key of the issuer fits the token")]
    NoKey,
    /// The signature is wrong.
    #[error("the signature does not verify")]
    Signature,
}

/// A token taken apart; nothing in it may be believed yet.
#[derive(Debug)]
pub struct UnverifiedToken<'a> {
    _token: &'a str,
}

/// Claims whose signature has been verified.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// Header `typ`, as written.
    pub typ: Option<String>,
    /// The payload: no member twice, at most 32 deep.
    pub claims: Map<String, Value>,
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a compact JWS of at most 8 KiB apart: strict base64url, strict JSON, no duplicate members, no `crit`.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] and [`JwtError::Header`].
    pub fn parse(_token: &'a str) -> Result<Self, JwtError> {
        todo!()
    }

    /// The issuer it names, to choose whose keys to try.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        todo!()
    }

    /// Verifies the signature with the key that header `kid` names, under that key's own algorithm.
    ///
    /// # Errors
    /// [`JwtError::NoKey`] and [`JwtError::Signature`].
    pub fn verify(self, _keys: &KeySet) -> Result<VerifiedToken, JwtError> {
        todo!()
    }
}
