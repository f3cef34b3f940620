//! Notifies owners of suspicious logins: from a client network that is new to the account, or after many failures.

use crate::account::call::Call;
use crate::account::{AccountError, Accounts};
use crate::mail::Mail;
use crate::model::account::{Account, Digest};
use crate::telemetry::log::with_causes;

/// Number of consecutive failed passwords after which a success is reported: more than people mistype.
const FAILURES_REPORTED_MIN: u32 = 5;

impl Accounts {
    /// Mails the owner about a login that has just been opened if it may be an intruder's, unless
    /// `account.notify_logins` is off. The first network seen for an account is remembered without a mail.
    ///
    /// A failure here does not affect the login.
    pub(in crate::account) async fn notice_login(
        &self,
        call: &Call,
        account: &Account,
        failures: u32,
    ) {
        if !self.config.account.notify_logins {
            return;
        }
        let failures = Some(failures).filter(|count| FAILURES_REPORTED_MIN <= *count);
        let failures = failures.unwrap_or_default();
        if let Err(error) = self.try_notice(call, account, failures).await {
            let cause = with_causes(&error);
            tracing::error!(
                cause,
                "a login was not checked against earlier ones, so no notice about a new network can be sent"
            );
        }
    }

    async fn try_notice(
        &self,
        call: &Call,
        account: &Account,
        failures: u32,
    ) -> Result<(), AccountError> {
        let Some(from) = call.from.as_deref() else {
            return Ok(());
        };
        let network = self.known_as(account, from);
        let known = self.services.store.networks_of(&account.uid).await?;
        let is_known = known.contains(&network);
        let is_reported = 0 < failures || !(is_known || known.is_empty());
        if !is_reported {
            if !is_known {
                self.services
                    .store
                    .remember_network(&account.uid, network, None)
                    .await?;
            }
            return Ok(());
        }
        let mail = Mail::NewLogin {
            username: account.username.as_str().to_owned(),
            network: from.to_owned(),
            failures,
        };
        if is_known {
            return self.post(&account.identity, &mail).await;
        }
        let mail = self.seal(&account.identity, &mail, self.services.clock.now());
        let id = mail.as_ref().map(|mail| mail.id.clone());
        // Of several concurrent logins from the new network, only one sends the mail.
        if self
            .services
            .store
            .remember_network(&account.uid, network, mail)
            .await?
        {
            self.posted(id).await;
        }
        Ok(())
    }

    /// The digest under which a network is remembered: the store does not reveal where a person has been.
    fn known_as(&self, account: &Account, network: &str) -> Digest {
        let parts = ["known network", account.uid.as_str(), network];
        self.services.token_keys.count_key(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::login::SessionCarrier;
    use crate::account::test_kit::{Kit, OTHER, PASSWORD, config};
    use crate::model::secret::Secret;

    async fn login(kit: &Kit, network: &str, password: &str) -> bool {
        let call = Call {
            from: Some(network.to_owned()),
            ..Call::default()
        };
        let password = Secret::new(password.to_owned());
        let outcome = kit
            .accounts
            .login(&call, "anna", password, SessionCarrier::Program)
            .await;
        outcome.is_ok()
    }

    /// Takes the notices mailed since the previous call: the network of each, and the failures before it.
    fn notices(kit: &Kit) -> Vec<(String, u32)> {
        let mails = kit.mailbox.take().into_iter();
        mails
            .map(|(to, mail)| {
                assert_eq!(to, "anna@example.org");
                match mail {
                    Mail::NewLogin {
                        username,
                        network,
                        failures,
                    } if username == "anna" => (network, failures),
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }

    #[tokio::test]
    async fn a_network_is_reported_once_and_the_first_never() {
        let kit = Kit::new();
        kit.person("anna").await;
        for (network, is_reported) in [
            ("192.0.2.1", false),
            ("192.0.2.1", false),
            ("192.0.2.2", true),
            ("192.0.2.2", false),
            ("192.0.2.1", false),
        ] {
            assert!(login(&kit, network, PASSWORD).await);
            let expected: Vec<_> = is_reported
                .then(|| (network.to_owned(), 0))
                .into_iter()
                .collect();
            assert_eq!(notices(&kit), expected, "{network}");
        }
        assert!(!login(&kit, "192.0.2.3", OTHER).await);
        assert!(notices(&kit).is_empty(), "that was no login");
        // The memory is bounded: the seventeenth network evicts the first.
        for number in 3..=17 {
            assert!(login(&kit, &format!("192.0.2.{number}"), PASSWORD).await);
        }
        assert_eq!(notices(&kit).len(), 15);
        assert!(login(&kit, "192.0.2.2", PASSWORD).await);
        assert!(notices(&kit).is_empty());
        assert!(login(&kit, "192.0.2.1", PASSWORD).await);
        assert_eq!(notices(&kit), [("192.0.2.1".to_owned(), 0)]);
    }

    #[tokio::test]
    async fn a_success_after_five_failures_in_a_row_is_reported_wherever_they_came_from() {
        let kit = Kit::new();
        kit.person("anna").await;
        assert!(login(&kit, "192.0.2.1", PASSWORD).await);
        for (failures, is_reported) in [(4, false), (5, true), (0, false), (4, false)] {
            for number in 0..failures {
                assert!(!login(&kit, &format!("192.0.2.{number}"), OTHER).await);
            }
            assert!(login(&kit, "192.0.2.1", PASSWORD).await);
            let expected = ("192.0.2.1".to_owned(), failures);
            let expected: Vec<_> = is_reported.then_some(expected).into_iter().collect();
            assert_eq!(notices(&kit), expected, "{failures}");
        }
        // A login from an unknown network after failures sends a single mail that reports both.
        for _ in 0..3 {
            assert!(!login(&kit, "192.0.2.7", OTHER).await);
            assert!(!login(&kit, "192.0.2.8", OTHER).await);
        }
        assert!(login(&kit, "192.0.2.7", PASSWORD).await);
        assert_eq!(notices(&kit), [("192.0.2.7".to_owned(), 6)]);
        assert!(login(&kit, "192.0.2.7", PASSWORD).await);
        assert!(notices(&kit).is_empty());
    }

    #[tokio::test]
    async fn no_notice_is_sent_where_it_is_switched_off_and_no_mail_of_strangers_is_counted() {
        let mut config = config();
        config.account.notify_logins = false;
        let kit = Kit::with(config);
        kit.person("anna").await;
        for network in ["192.0.2.1", "192.0.2.2"] {
            assert!(login(&kit, network, PASSWORD).await);
        }
        assert!(notices(&kit).is_empty());

        let mut config = crate::account::test_kit::config();
        config.mail.limits.per_address_per_hour = 2;
        let kit = Kit::with(config);
        kit.person("anna").await;
        for number in 0..10 {
            assert!(login(&kit, &format!("192.0.2.{number}"), PASSWORD).await);
        }
        assert_eq!(notices(&kit).len(), 9);
        let call = Call::default();
        kit.accounts.request_reset(&call, "anna").await.unwrap();
        kit.mailbox.token();
    }
}
