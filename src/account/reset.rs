//! Forgot: a reset token by mail, to the stored address and to nobody else.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::crypto::token;
use crate::mail::Mail;
use crate::model::account::{Account, AccountStatus, OneTimeToken, Purpose};
use crate::telemetry::audit::AuditAction;

impl Accounts {
    /// Mails a reset token, if the name or address is that of an active account that is no administrator's.
    ///
    /// Whatever was found, the caller is told the same; the token is in the mail only.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn request_reset(&self, call: &Call, name: &str) -> Result<(), AccountError> {
        let found = self.account_named(name).await?;
        let Some(account) = found else {
            call.record(AuditAction::RequestReset, "unknown", None, None);
            return Ok(());
        };
        let outcome = self.mail_reset(&account).await?;
        call.record(
            AuditAction::RequestReset,
            outcome,
            Some(account.uid.as_str()),
            None,
        );
        Ok(())
    }

    async fn mail_reset(&self, account: &Account) -> Result<&'static str, AccountError> {
        if account.status != AccountStatus::Active {
            return Ok("account_not_active");
        }
        // Whoever reads an administrator's mail must not become one.
        if account.is_admin {
            return Ok("administrator");
        }
        let now = self.parts.clock.now();
        let (secret, digest) = token::draw_one_time();
        let reset = OneTimeToken {
            digest,
            purpose: Purpose::Reset,
            uid: account.uid.clone(),
            expires: now.plus(self.parts.account.reset_ttl),
        };
        let username = account.username.as_str().to_owned();
        let mail = Mail::PasswordReset {
            token: secret,
            username,
        };
        let mail = self.seal(&account.identity, &mail, now);
        let id = mail.as_ref().map(|mail| mail.id.clone());
        if !self.parts.store.put_token(reset, mail).await? {
            return Ok("account_not_active");
        }
        self.posted(id).await;
        Ok("ok")
    }
}
