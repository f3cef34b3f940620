//! Mails that strangers can cause are few: to one address, and for one client network.

use std::time::Duration;

use crate::account::call::Call;
use crate::account::guess::network;
use crate::account::{AccountError, Accounts};
use crate::limit::{Claim, OnSuccess, Rule, Take};
use crate::model::account::EmailAddress;

const HOUR: Duration = Duration::from_hours(1);

impl Accounts {
    /// Counts a request that may cause a mail, by its client network; `false`: send none.
    ///
    /// Ask it whether or not there will be one: else a network that has none left would learn by that what exists.
    ///
    /// # Errors
    /// [`AccountError::Uncounted`]
    pub(in crate::account) fn may_cause_mail(&self, call: &Call) -> Result<bool, AccountError> {
        let max = self.parts.mail_limits.per_network_per_hour;
        match self.count_mail(&["mail by", network(call)], max) {
            Take::Taken { .. } => Ok(true),
            Take::Over(_) => Ok(false),
            Take::Full => Err(AccountError::Uncounted),
        }
    }

    /// Counts a mail that a stranger causes, by the mailbox that it goes to; `false`: do not send it.
    ///
    /// Addresses that differ in a tag only are one mailbox. With no room to count, nothing is sent: an error would tell
    /// that there was somebody to send it to.
    pub(in crate::account) fn may_mail(&self, to: &EmailAddress) -> bool {
        let max = self.parts.mail_limits.per_address_per_hour;
        let take = self.count_mail(&["mail to", &to.normalized()], max);
        matches!(take, Take::Taken { .. })
    }

    fn count_mail(&self, parts: &[&str], max: u32) -> Take {
        self.parts.counters.mails.take(&[Claim {
            key: self.parts.token_keys.count_key(parts),
            rule: Rule::Window { max, window: HOUR },
            policy: "mail",
            is_silent: false,
            on_success: OnSuccess::GiveBack,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::register::{NewPerson, Register};
    use crate::account::test_kit::{Kit, config};
    use crate::config::MailLimits;
    use crate::mail::Mail;
    use crate::store::Store;

    fn kit() -> Kit {
        let mut config = config();
        config.mail.limits = MailLimits {
            per_address_per_hour: 3,
            per_network_per_hour: 10,
        };
        Kit::with(config)
    }

    fn from(network: u32) -> Call {
        Call {
            from: Some(network.to_string()),
            ..Call::default()
        }
    }

    async fn register(kit: &Kit, call: &Call, identity: &str, username: &str) {
        let person = NewPerson::parse(identity, username, "N. N.").unwrap();
        let outcome = kit.accounts.register(call, person).await;
        assert_eq!(outcome.unwrap(), Register::Accepted);
    }

    #[tokio::test]
    async fn an_address_gets_three_an_hour_whoever_causes_them() {
        let kit = kit();
        kit.person("anna").await;
        // That was the first: its confirm mail.
        for number in 0..50 {
            let name = ["anna", "Anna@example.org"][number as usize % 2];
            let call = from(number);
            kit.accounts.request_reset(&call, name).await.unwrap();
            let identity = ["anna+x@example.org", "ANNA@example.org"][number as usize % 2];
            register(&kit, &call, identity, "other").await;
        }
        assert_eq!(kit.mailbox.take().len(), 2);
        kit.clock.advance(Duration::from_secs(3601));
        kit.accounts.request_reset(&from(1), "anna").await.unwrap();
        assert_eq!(kit.mailbox.take().len(), 1);
    }

    #[tokio::test]
    async fn a_mailbox_has_one_count_whatever_the_tag() {
        let kit = kit();
        for number in 0..9 {
            let identity = format!("b.en+{number}@gmail.com");
            register(&kit, &from(number), &identity, "ben").await;
        }
        assert_eq!(kit.mailbox.take().len(), 3);
    }

    #[tokio::test]
    async fn a_network_causes_ten_an_hour_and_leaves_nothing_behind_above() {
        let kit = kit();
        for number in 0..15 {
            let identity = format!("anna{number}@example.org");
            register(&kit, &from(7), &identity, &format!("anna{number}")).await;
        }
        let mails = kit.mailbox.take();
        assert_eq!(mails.len(), 10);
        assert!(matches!(mails[9].1, Mail::ConfirmNew { .. }));
        assert_eq!(kit.store.accounts(None, 99).await.unwrap().len(), 10);
        register(&kit, &from(8), "ben@example.org", "ben").await;
        assert_eq!(kit.mailbox.take().len(), 1);
    }

    /// Else: ask ten times for a name, then for one's own; a mail comes if the name does not exist.
    #[tokio::test]
    async fn requests_count_whether_or_not_they_cause_a_mail() {
        let kit = kit();
        let call = from(7);
        for _ in 0..10 {
            kit.accounts.request_reset(&call, "nobody").await.unwrap();
        }
        register(&kit, &call, "mallory@example.org", "mallory").await;
        assert!(kit.mailbox.take().is_empty());
    }

    #[tokio::test]
    async fn notices_to_the_owner_do_not_count() {
        let kit = kit();
        let anna = kit.person("anna").await;
        for _ in 0..20 {
            kit.accounts.tell_owner(&anna).await;
        }
        assert_eq!(kit.mailbox.take().len(), 20);
        let call = Call::default();
        kit.accounts.request_reset(&call, "anna").await.unwrap();
        assert_eq!(kit.mailbox.take().len(), 1);
    }
}
