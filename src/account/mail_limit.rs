//! Limits on the mails that strangers can cause: per address, per client network and the wider networks that contain
//! it, and in total.
//!
//! A request holds permits while it is in flight. A request that could not be carried out returns them, whatever it was
//! about, so that a store in trouble does not use up the limits.

use std::time::Duration;

use crate::account::call::Call;
use crate::account::guess::network;
use crate::account::halt::Halt;
use crate::account::{AccountError, Accounts};
use crate::limit::{CounterClaim, LimitRule, OnSuccess, TakeOutcome, Ticket};
use crate::model::account::EmailAddress;
use crate::model::client_network::wider_networks;
use crate::store::error::StoreError;

const HOUR: Duration = Duration::from_hours(1);

/// The reason for a mail that a stranger causes. Each has its own total, so that mass registrations do not prevent
/// resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::account) enum MailCause {
    /// The mail goes to an address named by the stranger: registrations and changes of an address.
    NamedAddress,
    /// The mail goes to the stored address of an account: resets.
    StoredAddress,
}

/// The permits held by one request. They count when this is dropped.
#[derive(Debug, Default)]
#[must_use]
pub(in crate::account) struct MailQuota(Vec<Ticket>);

impl MailQuota {
    /// Ends the request. A failure returns the permits, because no mail was sent and the response says so. If it is
    /// unknown whether the mail was written, it may still be sent and counts.
    pub(in crate::account) fn settle<T, R>(self, result: Result<T, Halt<R>>) -> Result<T, Halt<R>> {
        if let Err(Halt::Failed(error)) = &result
            && !matches!(error, AccountError::Store(StoreError::Unknown(_)))
        {
            self.0.into_iter().for_each(Ticket::give_back);
        }
        result
    }
}

impl Accounts {
    /// Counts a request that may cause a mail by its client network; `false` if no mail may be sent.
    ///
    /// Must be called whether or not a mail follows; otherwise a network that has used up its limit would learn what
    /// exists.
    ///
    /// # Errors
    /// [`AccountError::Uncounted`]
    pub(in crate::account) fn may_cause_mail(
        &self,
        call: &Call,
        places: &mut MailQuota,
    ) -> Result<bool, AccountError> {
        let max = self.config.mail.limits.per_network_per_hour;
        let own = (network(call).to_owned(), 1);
        let all = std::iter::once(own).chain(wider_networks(network(call)));
        let claim = |(network, times): (String, u32)| {
            self.mails(&["mail by", &network], max.saturating_mul(times))
        };
        let claims: Vec<_> = all.map(claim).collect();
        match self.services.counters.mails.take(&claims) {
            TakeOutcome::Taken { ticket, .. } => {
                places.0.push(ticket);
                Ok(true)
            }
            TakeOutcome::Over(_) | TakeOutcome::Busy => Ok(false),
            TakeOutcome::Full => Err(AccountError::Uncounted),
        }
    }

    /// Counts a mail that a stranger causes by its mailbox and in total; `false` if it must not be sent.
    ///
    /// Addresses that differ only in a tag are one mailbox. With no room to count, no mail is sent: an error would
    /// reveal that there is a recipient.
    pub(in crate::account) fn may_mail(
        &self,
        cause: MailCause,
        to: &EmailAddress,
        places: &mut MailQuota,
    ) -> bool {
        let limits = self.config.mail.limits;
        let cause = match cause {
            MailCause::NamedAddress => "named",
            MailCause::StoredAddress => "stored",
        };
        let claims = [
            self.mails(&["mail to", &to.normalized()], limits.per_address_per_hour),
            self.mails(&["mail in all", cause], limits.per_hour),
        ];
        let taken = self.services.counters.mails.take(&claims);
        let TakeOutcome::Taken { ticket, .. } = taken else {
            return false;
        };
        places.0.push(ticket);
        true
    }

    fn mails(&self, parts: &[&str], max: u32) -> CounterClaim {
        CounterClaim {
            key: self.services.token_keys.count_key(parts),
            rule: LimitRule::Window { max, window: HOUR },
            policy: "mail",
            is_silent: false,
            on_success: OnSuccess::GiveBack,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::register::NewPerson;
    use crate::account::test_kit::{Kit, config, refusal};
    use crate::config::MailLimits;
    use crate::mail::Mail;
    use crate::store::Store;

    fn kit() -> Kit {
        let mut config = config();
        config.mail.limits = MailLimits {
            per_address_per_hour: 3,
            per_network_per_hour: 10,
            per_hour: 100,
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
        assert_eq!(refusal(outcome), None);
    }

    #[tokio::test]
    async fn an_address_gets_three_an_hour_whoever_causes_them() {
        let kit = kit();
        kit.person("anna").await;
        // The confirm mail was the first of three.
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

    /// Otherwise a caller could ask for a name ten times and then register: a mail would arrive only if the name does
    /// not exist.
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

    /// A single customer of a provider may have 256 to 65,536 client networks.
    #[tokio::test]
    async fn networks_of_one_customer_fold_into_one() {
        let kit = kit();
        for number in 0..200 {
            let call = Call {
                from: Some(format!("2001:db8:7:{number:x}::/64")),
                ..Call::default()
            };
            let identity = format!("anna{number}@example.org");
            register(&kit, &call, &identity, &format!("anna{number}")).await;
        }
        assert_eq!(kit.mailbox.take().len(), 20, "twice that of one for a /56");
        for number in 0..200 {
            let call = Call {
                from: Some(format!("2001:db8:7:{number:x}00::/64")),
                ..Call::default()
            };
            let identity = format!("bert{number}@example.org");
            register(&kit, &call, &identity, &format!("bert{number}")).await;
        }
        assert_eq!(kit.mailbox.take().len(), 30, "five times for a /48");
    }

    #[tokio::test]
    async fn in_all_there_are_so_many_and_resets_have_their_own() {
        let kit = kit();
        kit.person("anna").await;
        for number in 0..120 {
            let identity = format!("bert{number}@example.org");
            register(&kit, &from(number), &identity, &format!("bert{number}")).await;
        }
        assert_eq!(kit.mailbox.take().len(), 99, "and anna's before");
        assert_eq!(kit.store.accounts(None, 999).await.unwrap().len(), 100);
        kit.accounts
            .request_reset(&from(999), "anna")
            .await
            .unwrap();
        assert_eq!(kit.mailbox.take().len(), 1);
        kit.clock.advance(Duration::from_secs(3601));
        register(&kit, &from(1), "carl@example.org", "carl").await;
        assert_eq!(kit.mailbox.take().len(), 1);
    }

    #[tokio::test]
    async fn notices_to_the_owner_do_not_count() {
        let kit = kit();
        let anna = kit.person("anna").await;
        for _ in 0..20 {
            kit.accounts.notify_owner(&anna).await;
        }
        assert_eq!(kit.mailbox.take().len(), 20);
        let call = Call::default();
        kit.accounts.request_reset(&call, "anna").await.unwrap();
        assert_eq!(kit.mailbox.take().len(), 1);
    }
}
