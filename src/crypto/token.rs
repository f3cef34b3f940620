//! Opaque tokens and ids: draw, take apart, digest.

use crate::model::account::Digest;
use crate::model::id::{AccountId, KeyId, SessionId, SettingsId, UserId};
use crate::model::secret::Secret;

/// SHA-256 of a text.
#[must_use]
pub fn digest(_text: &str) -> Digest {
    todo!()
}

/// Draws a one-time token of 256 bits and its digest.
#[must_use]
pub fn draw_one_time() -> (Secret, Digest) {
    todo!()
}

/// Draws a fresh uid.
#[must_use]
pub fn draw_user_id() -> UserId {
    todo!()
}

/// Draws a fresh account id.
#[must_use]
pub fn draw_account_id() -> AccountId {
    todo!()
}

/// Draws a fresh session id.
#[must_use]
pub fn draw_session_id() -> SessionId {
    todo!()
}

/// Draws a fresh settings id.
#[must_use]
pub fn draw_settings_id() -> SettingsId {
    todo!()
}

/// Draws a fresh key id.
#[must_use]
pub fn draw_key_id() -> KeyId {
    todo!()
}

/// An API key as it is presented: `dwk_<key id, 8>.<secret, 32>`, its checksum already checked.
#[derive(Clone, Debug)]
pub struct ApiKeyText {
    /// The public part.
    pub id: KeyId,
    /// The 32 characters behind the dot.
    secret: Secret,
}

impl ApiKeyText {
    /// Draws the secret of a new key.
    #[must_use]
    pub fn draw(_id: KeyId) -> Self {
        todo!()
    }

    /// Reads a presented key; `None` if the form or the checksum is wrong.
    #[must_use]
    pub fn parse(_text: &str) -> Option<Self> {
        todo!()
    }

    /// The whole key, to be shown once.
    #[must_use]
    pub fn text(&self) -> Secret {
        todo!()
    }
}

/// A refresh token as it is presented: it names its session and holds 256 bits.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    /// The session it belongs to.
    pub session: SessionId,
    /// The whole token.
    text: Secret,
}

impl RefreshToken {
    /// Draws the first token of a session.
    #[must_use]
    pub fn draw(_session: SessionId) -> Self {
        todo!()
    }

    /// Reads a presented token; `None` if the form is wrong.
    #[must_use]
    pub fn parse(_text: &str) -> Option<Self> {
        todo!()
    }

    /// The whole token.
    #[must_use]
    pub fn text(&self) -> Secret {
        todo!()
    }

    /// SHA-256 of the whole token.
    #[must_use]
    pub fn digest(&self) -> Digest {
        todo!()
    }
}

/// The secret keys under which tokens are digested and derived, kept in the key directory with mode 0600.
#[derive(Debug)]
pub struct TokenKeys {}

impl TokenKeys {
    /// Opens the keys in `dir`, making them at the first start; without a directory they live as long as the process.
    ///
    /// # Errors
    /// When a file cannot be read, written, or is not a key of 32 bytes.
    pub fn open(
        _dir: Option<&std::path::Path>,
    ) -> Result<Self, crate::crypto::signing::KeyFileError> {
        todo!()
    }

    /// The keyed digest of an API key: HMAC-SHA-256 of the SHA-256 of its secret.
    #[must_use]
    pub fn api_key_digest(&self, _key: &ApiKeyText) -> Digest {
        todo!()
    }

    /// Whether a presented key is the one of that digest, in constant time.
    #[must_use]
    pub fn api_key_matches(&self, _key: &ApiKeyText, _digest: &Digest) -> bool {
        todo!()
    }

    /// The one successor of a refresh token: derived, so that it need not be stored.
    #[must_use]
    pub fn successor(&self, _token: &RefreshToken) -> RefreshToken {
        todo!()
    }
}
