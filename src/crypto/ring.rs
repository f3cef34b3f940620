//! Descriptions of a ring of signing keys: what it signs, and the state of each key.

use crate::model::clock::Timestamp;
use crate::model::key_file::KeyFile;

/// The error for a token that could not be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign a token")]
pub struct SignError;

/// The kind of token that a ring signs. Each kind has its own keys and `typ`, so that none is accepted as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The gateway's own access tokens (RFC 9068).
    AccessToken,
    /// `X-Auth-Assertion` for upstreams; not a credential.
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
pub enum KeyState {
    /// Published, not yet used.
    Next,
    /// Used for signing.
    Active,
    /// No longer used for signing; published until the tokens it signed have expired.
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
    pub state: KeyState,
    /// Time of creation.
    pub created: Timestamp,
    /// Time at which a retiring key is removed.
    pub retires: Option<Timestamp>,
}
