//! Import: apicrud's people, accounts, API keys and memberships, from a JSON-lines export (`docs/import.md`).
//!
//! Every line is imported or refused with a reason. What is refused takes along what hangs on it: without its person no
//! account, without the account neither keys nor memberships.

mod lines;
mod plan;

use crate::account::call::Call;
use crate::account::import::plan::Plan;
use crate::account::{AccountError, Accounts};
use crate::store::ImportConflict;
use crate::telemetry::audit::AuditAction;

/// So many events are written before more are made: their queue is bounded, an import is not.
const EVENTS_AT_ONCE: usize = 512;

/// A line that is not imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedLine {
    /// Its number, from 1.
    pub line: usize,
    /// Why: never with a value of the line.
    pub reason: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Whether anything was written.
    pub written: bool,
    /// Accounts with their people.
    pub accounts: usize,
    /// API keys.
    pub api_keys: usize,
    /// Memberships.
    pub memberships: usize,
    /// Lines that were not imported, in order.
    pub refused: Vec<RefusedLine>,
}

impl Accounts {
    /// Imports an export, whole: unless `skip_refused` is set a single refused line keeps everything out.
    ///
    /// What is written is written in one transaction.
    ///
    /// # Errors
    /// [`AccountError::Store`]; then nothing was written.
    pub async fn import(
        &self,
        call: &Call,
        export: &str,
        skip_refused: bool,
    ) -> Result<ImportReport, AccountError> {
        let mut plan = Plan::default();
        for (index, text) in export.lines().enumerate() {
            if !text.trim().is_empty() {
                plan.take(index + 1, text).await;
            }
        }
        plan.join(&self.parts).await;
        loop {
            let write = skip_refused || plan.is_clean();
            let people = plan.people();
            let counted = plan.counted();
            let uids: Vec<_> = people.iter().map(|it| it.account.uid.clone()).collect();
            if write && !uids.is_empty() {
                let object = format!("{} accounts", uids.len());
                self.begin(call, AuditAction::ImportAccount, None, Some(&object))
                    .await?;
            }
            let conflicts = self.parts.store.import(people, write).await?;
            if conflicts.is_empty() {
                let (accounts, api_keys, memberships) = counted;
                if write {
                    for some in uids.chunks(EVENTS_AT_ONCE) {
                        for uid in some {
                            call.record(AuditAction::ImportAccount, "ok", Some(uid.as_str()), None);
                        }
                        self.parts.output.settle_audit().await;
                    }
                }
                return Ok(ImportReport {
                    written: write && 0 < accounts,
                    accounts,
                    api_keys,
                    memberships,
                    refused: plan.into_refused(),
                });
            }
            for (place, conflict) in conflicts {
                let reason = match conflict {
                    ImportConflict::Uid => "the uid is, or was, an account's here already",
                    ImportConflict::Username => "the name is, or was, another account's here",
                    ImportConflict::Identity => "the address is another account's here",
                    ImportConflict::KeyId(id) => {
                        plan.refuse_key(place, id, "the prefix is a key's here already");
                        continue;
                    }
                };
                plan.refuse_person(place, reason);
            }
            plan.drop_refused();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD};
    use crate::crypto::token::ApiKeyText;
    use crate::model::account::AccountStatus;
    use crate::model::id::{KeyId, UserId};
    use crate::store::Store;

    /// The export that `docs/import.md` shows.
    const EXAMPLE: &str = include_str!("../../../tests/fixtures/import/apicrud.jsonl");

    async fn import(kit: &Kit, export: &str, skip: bool) -> ImportReport {
        kit.accounts
            .import(&Call::cli(), export, skip)
            .await
            .unwrap()
    }

    fn lines(report: &ImportReport) -> Vec<usize> {
        report.refused.iter().map(|refused| refused.line).collect()
    }

    #[tokio::test]
    async fn people_log_in_with_the_password_they_had_and_their_hash_is_rewritten() {
        let kit = Kit::new();
        let report = import(&kit, EXAMPLE, false).await;
        assert_eq!(report.refused, []);
        assert_eq!(
            (
                report.written,
                report.accounts,
                report.api_keys,
                report.memberships
            ),
            (true, 2, 1, 2)
        );
        let uid = UserId::parse("u-x-6jGmEh7u").unwrap();
        let anna = kit.store.account(&uid).await.unwrap().unwrap();
        assert_eq!((anna.username.as_str(), anna.is_admin), ("anna", true));
        assert_eq!(kit.store.old_hash_rounds_max().await.unwrap(), 10_000);
        assert!(kit.login("anna", PASSWORD).await.is_none());
        kit.login("anna", "Hello world!").await.unwrap();
        let stored = kit.stored(&anna).await.password.unwrap();
        assert!(
            stored
                .as_str()
                .starts_with("$argon2id$v=19$m=19456,t=2,p=1$")
        );
        kit.login("anna", "Hello world!").await.unwrap();
        assert_eq!(kit.stored(&anna).await.password, Some(stored));
        // Bert is disabled and keeps his old hash.
        assert_eq!(kit.store.old_hash_rounds_max().await.unwrap(), 5000);
        assert!(kit.login("bert", "Hello world!").await.is_none());
        let bert = kit.accounts.account_named("bert").await.unwrap().unwrap();
        assert_eq!(bert.status, AccountStatus::Disabled);

        let key = kit.store.api_key(&KeyId::parse("3eD_x-9Q").unwrap()).await;
        let key = key.unwrap().unwrap();
        let text = ApiKeyText::parse("3eD_x-9Q.Zr81aB-4f9Qm2_Zr81aBcDeFgHiJkLm0").unwrap();
        assert!(kit.token_keys.api_key_matches(&text, &key.digest));
        let memberships = kit.store.memberships_of(&uid).await.unwrap();
        assert_eq!(memberships[0].id.as_str(), "x-4hQo2Lp1");
    }

    #[tokio::test]
    async fn one_refused_line_keeps_everything_out_unless_it_is_skipped() {
        let kit = Kit::new();
        let export = format!("{EXAMPLE}\n{{\"model\":\"Contact\"}}\n");
        let count = EXAMPLE.lines().count();
        let report = import(&kit, &export, false).await;
        assert_eq!((report.written, lines(&report)), (false, vec![count + 2]));
        assert!(kit.store.accounts(None, 9).await.unwrap().is_empty());
        let report = import(&kit, &export, true).await;
        assert_eq!((report.written, report.accounts), (true, 2));
        assert_eq!(lines(&report), [count + 2]);
        // What is here already stands in the way of all of it.
        let report = import(&kit, EXAMPLE, false).await;
        assert_eq!((report.written, lines(&report).len()), (false, count));
        let report = import(&kit, EXAMPLE, true).await;
        assert_eq!((report.written, report.accounts), (false, 0));
    }

    #[tokio::test]
    async fn what_stands_in_the_store_is_no_less_in_the_way() {
        let kit = Kit::new();
        kit.person("anna").await;
        let report = import(&kit, EXAMPLE, false).await;
        assert!(!report.written);
        // Anna's person, account, key and membership; Bert could come.
        assert_eq!(lines(&report), [1, 2, 5, 6], "{:?}", report.refused);
        let report = import(&kit, EXAMPLE, true).await;
        assert_eq!((report.accounts, report.memberships), (1, 1));
        // A name that was an account's once is nobody else's, whatever became of it.
        let kit = Kit::new();
        let anna = kit.person("anna").await;
        kit.store.remove_account(&anna.uid).await.unwrap();
        assert_eq!(lines(&import(&kit, EXAMPLE, false).await), [1, 2, 5, 6]);
    }

    #[tokio::test]
    async fn each_line_that_breaks_a_rule_is_refused_with_its_reason() {
        let cases: [(&str, &str, &str); 18] = [
            ("$5$rounds=10000$", "$5$rounds=1000001$", "1,000,000 rounds"),
            ("$5$rounds=10000$", "$6$rounds=10000$", "password must be"),
            ("\"name\":\"anna\"", "\"name\":\"a\"", "name must be"),
            (
                "\"name\":\"anna\"",
                "\"name\":\"BERT\"",
                "another line has the name",
            ),
            ("anna@example.org", "no address", "identity must be"),
            (
                "anna@example.org",
                "Bert+2@Example.org",
                "another line has the address",
            ),
            ("\"name\":\"Anna A.\"", "\"name\":\"\"", "name must be"),
            ("\"id\":\"x-7kHnFi8v\"", "\"id\":\"x y\"", "id must be"),
            (
                "\"is_admin\":true",
                "\"is_admin\":true,\"totp_secret\":\"JBSWY3DP\"",
                "second factor",
            ),
            ("3eD_x-9Q", "3eD", "prefix must be"),
            ("lists:read", "lists:fly", "not declared"),
            ("lists:read", "auth:introspec", "not declared"),
            (
                "\"expires\":null",
                "\"expires\":\"2001-01-01 00:00:00\"",
                "expired",
            ),
            (
                "\"expires\":null",
                "\"expires\":\"soon\"",
                "expires must be",
            ),
            (
                "\"expires\":null",
                "\"expires\":null,\"status\":\"disabled\"",
                "not active",
            ),
            (
                "\"authorization\":\"member\"",
                "\"authorization\":\"owner\"",
                "level that is not declared",
            ),
            (
                "\"list_id\":\"x-4hQo2Lp1\",\"authorization\":\"member\"",
                "\"list_id\":\"a b\",\"authorization\":\"member\"",
                "list_id must be",
            ),
            (
                "\"model\":\"ListMember\",\"uid\":\"x-6jGmEh7u\",\"list_id\"",
                "\"model\":\"EventMember\",\"uid\":\"x-6jGmEh7u\",\"event_id\"",
                "resource that is not declared",
            ),
        ];
        for (from, to, reason) in cases {
            let kit = Kit::new();
            assert!(EXAMPLE.contains(from), "{from}");
            let export = EXAMPLE.replacen(from, to, 1);
            let report = import(&kit, &export, false).await;
            assert!(!report.written, "{to}");
            let told = report
                .refused
                .iter()
                .any(|refused| refused.reason.contains(reason));
            assert!(told, "{to}: {:?}", report.refused);
        }
    }

    #[tokio::test]
    async fn what_hangs_on_a_refused_line_is_refused_with_it() {
        let kit = Kit::new();
        let without_person: String = EXAMPLE
            .lines()
            .skip(1)
            .flat_map(|line| [line, "\n"])
            .collect();
        let report = import(&kit, &without_person, false).await;
        assert_eq!(lines(&report), [1, 4, 5]);
        let without_account: String = EXAMPLE
            .lines()
            .enumerate()
            .filter(|(index, _)| *index != 1)
            .flat_map(|(_, line)| [line, "\n"])
            .collect();
        let report = import(&kit, &without_account, false).await;
        assert_eq!(lines(&report), [1, 4, 5]);
        let twice = format!("{EXAMPLE}{EXAMPLE}");
        let report = import(&kit, &twice, false).await;
        assert!(
            lines(&report)
                .iter()
                .all(|line| EXAMPLE.lines().count() < *line)
        );
        assert_eq!(report.refused.len(), EXAMPLE.lines().count());
    }
}
