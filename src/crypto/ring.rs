//! The uses of a ring of signing keys, and the states of its keys.

use crate::model::clock::Timestamp;
use crate::model::key_file::KeyFile;

/// The error for a token that could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign a token")]
pub struct SignError;

/// The use of a ring of keys. Each use has its own keys and `typ`, so that no token can be used for another purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The gateway's own access tokens (RFC 9068).
    AccessToken,
    /// The assertions for upstreams in `X-Auth-Assertion`, which are not credentials.
    Assertion,
}

impl Signed {
    /// Returns the `typ` of the header.
    #[must_use]
    pub const fn typ(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Assertion => "doorward-assertion+jwt",
        }
    }

    /// Returns the file that keeps the ring.
    #[must_use]
    pub const fn file(self) -> KeyFile {
        match self {
            Self::AccessToken => KeyFile::Signing,
            Self::Assertion => KeyFile::Assertion,
        }
    }
}

/// The state of a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigningKeyState {
    /// The key is published, and not used yet.
    Next,
    /// The key signs.
    Active,
    /// The key does not sign any more, and is published until its signatures have expired.
    Retiring,
}

/// One line of `doorward keys list`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct KeyInfo {
    /// Key id.
    pub kid: String,
    /// Registered name of the key's algorithm.
    pub algorithm: String,
    /// Next, active or retiring.
    pub state: SigningKeyState,
    /// Time of its creation.
    pub created: Timestamp,
    /// Time at which a retiring key is removed.
    pub retires: Option<Timestamp>,
}
