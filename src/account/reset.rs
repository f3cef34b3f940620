//! Password reset: mails a reset token to the stored address and to no other.

use crate::account::call::{Call, MAIL_LIMITED, NOT_ACTIVE};
use crate::account::halt::{Halt, refusals};
use crate::account::mail_limit::{MailCause, MailQuota};
use crate::account::{AccountError, Accounts};
use crate::mail::Mail;
use crate::model::account::{Account, AccountStatus, Purpose};
use crate::model::error_code::ErrorCode;
use crate::telemetry::audit::{self, AuditAction};

refusals! {
    /// Why no token was mailed, as far as the caller may know.
    pub enum ResetRefusal {
        /// There is no such account. Reported only if `account.reveal_existing` is set.
        NoAccount => ErrorCode::NotFound,
    }
    fails [ErrorCode::LimitsFull]
}

impl Accounts {
    /// Mails a reset token if the name or address belongs to an active account. Administrators are excluded unless
    /// `account.reset_administrators` is set.
    ///
    /// Whatever was found, the response is the same, unless `account.reveal_existing` is set; the token is in the mail
    /// only.
    ///
    /// # Errors
    /// [`ResetRefusal`] if `account.reveal_existing` is set; [`AccountError::Store`], [`AccountError::Uncounted`]
    pub async fn request_reset(&self, call: &Call, name: &str) -> Result<(), Halt<ResetRefusal>> {
        let action = AuditAction::RequestReset;
        let mut places = MailQuota::default();
        let requested = async {
            let may_mail = self.may_cause_mail(call, &mut places)?;
            if may_mail {
                // Recorded whether or not the account exists, which the response must not reveal.
                self.begin(call, action, None, None).await?;
            }
            let found = self.account_named(name).await?;
            let outcome = match &found {
                None => "unknown",
                Some(_) if !may_mail => MAIL_LIMITED,
                Some(account) => self.mail_reset(account, &mut places).await?,
            };
            if may_mail && outcome != audit::DONE {
                // A store that cannot write fails here as well; otherwise its failure would reveal that the account
                // exists.
                self.services.store.ready().await?;
            }
            let subject = found.as_ref().map(|account| account.uid.as_str());
            call.record(action, outcome, subject, None);
            if found.is_none() && self.config.account.reveal_existing {
                return Err(ResetRefusal::NoAccount.into());
            }
            Ok(())
        };
        let requested = requested.await;
        places.settle(requested)
    }

    async fn mail_reset(
        &self,
        account: &Account,
        places: &mut MailQuota,
    ) -> Result<&'static str, AccountError> {
        if account.status != AccountStatus::Active {
            return Ok(NOT_ACTIVE);
        }
        // Access to an administrator's mail must not be enough to become an administrator.
        if account.is_admin && !self.config.account.reset_administrators {
            return Ok("administrator");
        }
        if !self.may_mail(MailCause::StoredAddress, &account.identity, places) {
            return Ok(MAIL_LIMITED);
        }
        let (token, reset) = self.draw_token(Purpose::Reset, &account.uid, None);
        let username = account.username.as_str().to_owned();
        let mail = Mail::PasswordReset { token, username };
        let mail = self.seal(&account.identity, &mail, reset.created);
        let id = mail.as_ref().map(|mail| mail.id.clone());
        if !self.services.store.put_token(reset, mail).await? {
            return Ok(NOT_ACTIVE);
        }
        self.posted(id).await;
        Ok(audit::DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, config, refusal};

    #[tokio::test]
    async fn administrators_get_a_mail_only_if_that_is_configured() {
        for (reset_administrators, mails) in [(false, 0), (true, 1)] {
            let mut config = config();
            config.account.reset_administrators = reset_administrators;
            let kit = Kit::with(config);
            kit.administrator("root").await;
            let outcome = kit.accounts.request_reset(&Call::default(), "root").await;
            assert_eq!(refusal(outcome), None);
            assert_eq!(kit.mailbox.take().len(), mails);
        }
    }

    #[tokio::test]
    async fn that_there_is_no_account_is_told_only_if_that_is_configured() {
        for (reveal_existing, expected) in [(false, None), (true, Some(ResetRefusal::NoAccount))] {
            let mut config = config();
            config.account.reveal_existing = reveal_existing;
            let kit = Kit::with(config);
            kit.person("anna").await;
            let call = Call::default();
            let outcome = kit.accounts.request_reset(&call, "nobody").await;
            assert_eq!(refusal(outcome), expected);
            assert!(kit.mailbox.take().is_empty());
            let outcome = kit.accounts.request_reset(&call, "anna").await;
            assert_eq!(refusal(outcome), None);
            kit.mailbox.token();
        }
    }
}
