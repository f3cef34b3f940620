//! A ring of signing keys in words: what it signs, and where each of its keys stands.

use crate::model::clock::Timestamp;
use crate::model::key_file::KeyFile;

/// A token could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign a token")]
pub struct SignError;

/// What a ring of keys signs. Each kind has keys and a `typ` of its own, so that none can stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The gateway's own access tokens (RFC 9068).
    AccessToken,
    /// What an upstream is told in `X-Auth-Assertion`; nobody's credential.
    Assertion,
}

impl Signed {
    /// The `typ` of the header.
    #[must_use]
    pub const fn typ(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Assertion => "doorward-assertion+jwt",
        }
    }

    /// The file that keeps the ring.
    #[must_use]
    pub const fn file(self) -> KeyFile {
        match self {
            Self::AccessToken => KeyFile::Signing,
            Self::Assertion => KeyFile::Assertion,
        }
    }
}

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
