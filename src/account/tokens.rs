//! Access tokens of a login, and one-time tokens.

use std::time::Duration;

use serde::Serialize;

use crate::account::{AccountError, Accounts};
use crate::crypto::jwt::SignedToken;
use crate::crypto::token;
use crate::model::account::{Account, EmailAddress, OneTimeToken, Purpose, Session};
use crate::model::clock::Timestamp;
use crate::model::id::UserId;
use crate::model::secret::Secret;

/// An access token and its lifetime.
#[derive(Debug)]
pub(in crate::account) struct AccessToken {
    /// The compact JWS.
    pub(in crate::account) text: SignedToken,
    /// Time from now until it expires.
    pub(in crate::account) expires_in: Duration,
}

/// The claims of an access token (RFC 9068 section 2.2). Roles are not included, since they are read per request.
#[derive(Debug, Serialize)]
struct AccessClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    acc: &'a str,
    sid: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
    scope: &'a str,
}

impl Accounts {
    /// Signs an access token for a login. The token never outlives its session.
    pub(in crate::account) fn access_token(
        &self,
        account: &Account,
        session: &Session,
        now: Timestamp,
    ) -> Result<AccessToken, AccountError> {
        let tokens = &self.config.tokens;
        let expires_in = tokens.access_ttl.min(session.absolute_end.since(now));
        let text = self.services.signing.sign(&AccessClaims {
            iss: &tokens.issuer,
            aud: &tokens.audience,
            sub: account.uid.as_str(),
            acc: account.account_id.as_str(),
            sid: session.id.as_str(),
            iat: now.secs(),
            exp: now.plus(expires_in).secs(),
            jti: &token::draw_jti(),
            scope: &self.login_scopes(),
        })?;
        Ok(AccessToken { text, expires_in })
    }

    /// Draws a one-time token that is live from now on, and returns its text and its record.
    pub(in crate::account) fn draw_token(
        &self,
        purpose: Purpose,
        uid: &UserId,
        identity: Option<EmailAddress>,
    ) -> (Secret, OneTimeToken) {
        let (text, digest) = token::draw_one_time();
        let life = match purpose {
            Purpose::Confirm | Purpose::ChangeIdentity => self.config.account.confirm_ttl,
            Purpose::Reset => self.config.account.reset_ttl,
        };
        let now = self.services.clock.now();
        let record = OneTimeToken {
            digest,
            purpose,
            uid: uid.clone(),
            created: now,
            expires: now.plus(life),
            identity,
        };
        (text, record)
    }
}
