//! The value of a session cookie.

use crate::crypto::digest::digest;
use crate::crypto::random;
use crate::crypto::token::{session_of, session_text};
use crate::model::account::Digest;
use crate::model::id::SessionId;
use crate::model::secret::Secret;

/// The prefix of a session cookie, which distinguishes it from a refresh token.
const PREFIX: &str = "dws_";

/// The opaque value of a session cookie: it names its session and has 256 random bits.
///
/// Its form is `dws_<session id without its prefix>.<43 characters of base64url>`, at most 112 bytes.
#[derive(Clone, Debug)]
pub struct SessionCookie {
    /// The session it belongs to.
    pub session: SessionId,
    /// The whole value.
    text: Secret,
}

impl SessionCookie {
    /// Draws a value for a session.
    #[must_use]
    pub fn draw(session: SessionId) -> Self {
        let text = session_text(PREFIX, &session, &random::secret_text());
        Self { session, text }
    }

    /// Parses a presented value; `None` if the form is wrong.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        session_of(PREFIX, text).map(|session| Self {
            session,
            text: Secret::new(text.to_owned()),
        })
    }

    /// Returns the whole value.
    #[must_use]
    pub fn text(&self) -> Secret {
        self.text.clone()
    }

    /// Returns the SHA-256 of the whole value.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(self.text.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::token::{RefreshToken, draw_session_id};

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
