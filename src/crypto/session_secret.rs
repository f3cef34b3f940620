//! Session cookies and refresh tokens: secrets that name their session.

use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::crypto::digest::digest;
use crate::crypto::random::{self, SECRET_BYTES};
use crate::model::account::Digest;
use crate::model::id::SessionId;
use crate::model::secret::Secret;

/// A kind of secret that names its session. Its prefix distinguishes it from the other kinds.
pub trait SessionSecretKind {
    /// The beginning of the text.
    const PREFIX: &'static str;
}

/// The kind of session cookies.
#[derive(Clone, Copy, Debug)]
pub enum CookieSecret {}

impl SessionSecretKind for CookieSecret {
    const PREFIX: &'static str = "dws_";
}

/// The kind of refresh tokens.
#[derive(Clone, Copy, Debug)]
pub enum RefreshKind {}

impl SessionSecretKind for RefreshKind {
    const PREFIX: &'static str = "dwr_";
}

/// The value of a session cookie.
pub type SessionCookie = SessionSecret<CookieSecret>;

/// A refresh token.
pub type RefreshToken = SessionSecret<RefreshKind>;

/// An opaque secret of 256 bits that names its session.
///
/// Its form is `<prefix><session id without its prefix>.<43 characters of base64url>`, at most 112 bytes.
#[derive(Clone, Debug)]
pub struct SessionSecret<K> {
    /// The session it belongs to.
    pub session: SessionId,
    /// The whole text.
    text: Secret,
    kind: PhantomData<K>,
}

impl<K: SessionSecretKind> SessionSecret<K> {
    /// Draws a secret for a session.
    #[must_use]
    pub fn draw(session: SessionId) -> Self {
        Self::new(session, &random::secret_text())
    }

    /// Makes the text of a session and 43 characters of base64url.
    pub(in crate::crypto) fn new(session: SessionId, secret: &str) -> Self {
        let id = session.as_str();
        let id = id.strip_prefix(SessionId::PREFIX).unwrap_or(id);
        let text = Secret::new(format!("{}{id}.{secret}", K::PREFIX));
        Self {
            session,
            text,
            kind: PhantomData,
        }
    }

    /// Reads a presented text; `None` if it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(K::PREFIX)?.split_once('.')?;
        // The length is checked first, so that no long text is decoded.
        if secret.len() != 43 || 64 < id.len() {
            return None;
        }
        let session = SessionId::parse(&format!("{}{id}", SessionId::PREFIX)).ok()?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        (bytes.len() == SECRET_BYTES).then(|| Self {
            session,
            text: Secret::new(text.to_owned()),
            kind: PhantomData,
        })
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> Secret {
        self.text.clone()
    }

    /// SHA-256 of the whole text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(self.text.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::token::draw_session_id;

    #[test]
    fn a_cookie_names_its_session_and_is_no_refresh_token() {
        let session = draw_session_id();
        let cookie = SessionCookie::draw(session.clone());
        let text = cookie.text();
        assert!(text.expose().len() < 200);
        let read = SessionCookie::parse(text.expose()).unwrap();
        assert_eq!((&read.session, read.digest()), (&session, cookie.digest()));
        assert!(RefreshToken::parse(text.expose()).is_none());
        assert!(
            SessionCookie::parse(RefreshToken::draw(session.clone()).text().expose()).is_none()
        );
        assert_ne!(SessionCookie::draw(session).digest(), cookie.digest());
        for bad in [
            "",
            "dws_",
            "dws_abcdefgh.",
            &text.expose().replace("dws_", "dws_!"),
            &format!("{}A", text.expose()),
        ] {
            assert!(SessionCookie::parse(bad).is_none(), "{bad}");
        }
        assert!(!format!("{cookie:?}").contains(text.expose()));
    }
}
