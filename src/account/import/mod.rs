//! Import: apicrud's people, accounts, API keys and memberships, from a JSON-lines export (`docs/import.md`).
//!
//! Every line is imported or refused with a reason. A refused line takes its dependents with it: an account needs its
//! person, and keys and memberships need the account. An export may be larger than memory: its lines are sorted on
//! disk, people are staged in the store slice by slice, and a single record of the store commits all of them or none.

mod join;
mod lines;
mod prepare;
mod refused;
mod rules;
mod scratch;
mod sort;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use crate::account::Accounts;
use crate::account::call::Call;
use crate::account::import::join::{AssembledPerson, NO_ACCOUNT, NO_OWN_ACCOUNT, NO_PERSON};
use crate::account::import::prepare::PreparationEvent;
use crate::account::import::refused::Refusals;
use crate::account::import::rules::Rules;
use crate::account::import::scratch::ScratchDirectory;
use crate::model::id::KeyId;
use crate::store::error::StoreError;
use crate::store::{ImportConflict, ImportStep, Store};
use crate::telemetry::audit::AuditAction;
use crate::telemetry::output::{Output, Unrecorded};

pub use crate::account::import::refused::RefusedLine;

/// Pauses after a failed step, doubled from the first to the last. A store in trouble is open again within some
/// seconds, or stays in trouble.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(4);
const TRIES_MAX: u32 = 11;

/// The result of an import.
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
    /// The first thousand lines that were not imported, in order.
    pub refused: Vec<RefusedLine>,
    /// Number of lines that were not imported.
    pub refused_count: usize,
}

/// An import that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Only one import may run at a time.
    #[error("another import is under way: nothing is imported")]
    UnderWay,
    /// The export cannot be read, or its lines cannot be written to disk.
    #[error("cannot read the export, or keep its lines in {dir}: nothing is imported")]
    Lines {
        /// The directory that holds the lines during the import.
        dir: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// An operation of the store failed.
    #[error("cannot use the store: nothing is imported")]
    Store(#[from] StoreError),
    /// The store failed after the import was committed.
    #[error(
        "the import is accepted, but not completely written: the next start of the gateway finishes it"
    )]
    Unfinished(#[source] StoreError),
    /// The audit trail is required but cannot be written.
    #[error(transparent)]
    Unrecorded(#[from] Unrecorded),
}

/// The result of finishing an interrupted import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinishedImport {
    /// Number of accounts written.
    pub written: usize,
    /// Number of staged people rolled back because the import was not committed.
    pub taken_back: usize,
}

/// Carries out one import.
#[derive(Debug)]
pub struct Importer {
    store: Arc<dyn Store>,
    output: Arc<Output>,
    rules: Rules,
}

impl Accounts {
    /// Returns an importer with the configuration in force now. It can outlive the call that created it.
    #[must_use]
    pub fn importer(&self) -> Importer {
        Importer {
            store: Arc::clone(&self.services.store),
            output: Arc::clone(&self.services.output),
            rules: Rules::of(self),
        }
    }
}

impl Importer {
    /// Imports a whole export. Unless `skip_refused` is set, a single refused line prevents the entire import.
    ///
    /// `dir` is a directory for the lines, used by imports only. Memory is bounded whatever the size of the export, and
    /// other writes wait for some milliseconds at a time. After a crash, [`finish`] completes the import or rolls it
    /// back.
    ///
    /// # Errors
    /// [`ImportError`]
    pub async fn run(
        self,
        call: &Call,
        export: impl Read + Send + 'static,
        skip_refused: bool,
        dir: &Path,
    ) -> Result<ImportReport, ImportError> {
        let lines = |source| ImportError::Lines {
            dir: dir.to_owned(),
            source,
        };
        let scratch = ScratchDirectory::take(dir).map_err(lines)?;
        let scratch = Arc::new(scratch.ok_or(ImportError::UnderWay)?);
        // Finishes an import that failed while the store was in trouble.
        finish(&*self.store, &self.output, || ()).await?;
        let prepared = prepare::start(export, self.rules, &scratch).map_err(lines)?;
        let staging = PersonStaging {
            store: &*self.store,
            report: ImportReport::default(),
            refusals: Refusals::default(),
        };
        let staged = staging.run(prepared, lines).await;
        let counts = |report: &ImportReport| {
            0 < report.accounts && (skip_refused || report.refused_count == 0)
        };
        let committed = match &staged {
            Ok(report) if counts(report) => {
                commit(&*self.store, &self.output, call, report.accounts).await
            }
            _ => Ok(()),
        };
        let finished = finish(&*self.store, &self.output, || ()).await;
        let mut report = staged?;
        match (committed, finished) {
            (Err(error), Ok(FinishedImport { written: 0, .. }) | Err(_)) => Err(error),
            // What was written decides, whatever the commit returned.
            (_, Ok(finished)) => {
                report.written = 0 < finished.written;
                Ok(report)
            }
            (Ok(()), Err(source)) if counts(&report) => Err(ImportError::Unfinished(source)),
            (Ok(()), Err(error)) => Err(error.into()),
        }
    }
}

/// Commits the staged people.
async fn commit(
    store: &dyn Store,
    output: &Output,
    call: &Call,
    accounts: usize,
) -> Result<(), ImportError> {
    let object = format!("{accounts} accounts");
    call.begin(output, AuditAction::ImportAccount, None, Some(&object))
        .await?;
    Ok(store.commit_import().await?)
}

/// Processes the staged people until none remain: writes them if the import was committed, otherwise rolls them back.
/// Records each new account in the audit trail. Calls `stepped` after each step.
///
/// # Errors
/// [`StoreError`], after the store has failed for some seconds.
pub async fn finish(
    store: &dyn Store,
    output: &Output,
    mut stepped: impl FnMut(),
) -> Result<FinishedImport, StoreError> {
    let call = Call::cli();
    let mut finished = FinishedImport::default();
    let mut pauses = RetryPauses::default();
    loop {
        match store.step_import().await {
            Ok(ImportStep::Over) => return Ok(finished),
            Ok(ImportStep::TakenBack(count)) => finished.taken_back += count,
            Ok(ImportStep::Written(uids)) => {
                finished.written += uids.len();
                for uid in uids {
                    call.record(AuditAction::ImportAccount, "ok", Some(uid.as_str()), None);
                }
                // The queue of audit events is bounded, an import is not.
                output.settle_audit().await;
            }
            Err(error) => {
                pauses.next(error).await?;
                continue;
            }
        }
        pauses = RetryPauses::default();
        stepped();
    }
}

/// The backoff between attempts at a step that the store failed.
#[derive(Default)]
struct RetryPauses(u32);

impl RetryPauses {
    /// Waits for the next pause, or returns the error after the last attempt.
    async fn next(&mut self, error: StoreError) -> Result<(), StoreError> {
        if TRIES_MAX <= self.0 {
            return Err(error);
        }
        let pause = PAUSE_FIRST.saturating_mul(1 << self.0).min(PAUSE_LAST);
        self.0 += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Stages people received from the thread in the store.
struct PersonStaging<'a> {
    store: &'a dyn Store,
    report: ImportReport,
    refusals: Refusals,
}

impl PersonStaging<'_> {
    /// Stages all prepared people.
    async fn run(
        mut self,
        mut prepared: Receiver<io::Result<PreparationEvent>>,
        lines: impl Fn(io::Error) -> ImportError,
    ) -> Result<ImportReport, ImportError> {
        loop {
            let next = prepared.recv().await;
            let ended = || io::Error::other("the thread that reads the export has ended");
            match next.unwrap_or_else(|| Err(ended())).map_err(&lines)? {
                PreparationEvent::Refused(refusals) => self.refusals = refusals,
                PreparationEvent::People(people) if people.is_empty() => break,
                PreparationEvent::People(people) => self.stage(people).await?,
            }
        }
        self.report.refused_count = self.refusals.count();
        self.report.refused = self.refusals.into_lines();
        Ok(self.report)
    }

    async fn stage(&mut self, mut people: Vec<AssembledPerson>) -> Result<(), StoreError> {
        let mut pauses = RetryPauses::default();
        let conflicts = loop {
            let staged = people.iter().map(AssembledPerson::person).collect();
            match self.store.stage_import(staged).await {
                // The store has begun nothing.
                Err(busy @ StoreError::Busy) => pauses.next(busy).await?,
                staged => break staged?,
            }
        };
        for (place, conflict) in conflicts {
            let found = people.iter().position(|it| it.account_line == place);
            let Some(joined) = found.and_then(|index| people.get_mut(index)) else {
                continue;
            };
            let both = |reason| (reason, reason);
            let (of_person, of_account) = match conflict {
                ImportConflict::Uid => {
                    both("the uid belongs, or once belonged, to an account here")
                }
                ImportConflict::Username => {
                    both("the name belongs, or once belonged, to another account here")
                }
                ImportConflict::Identity => both("the address belongs to another account here"),
                ImportConflict::StagedAccountId => (NO_OWN_ACCOUNT, "another line has the same id"),
                ImportConflict::StagedUsername => {
                    (NO_OWN_ACCOUNT, "another line has the same name")
                }
                ImportConflict::StagedIdentity => ("another line has the same address", NO_PERSON),
                ImportConflict::KeyId(id) => {
                    self.refuse_key(joined, id, "the prefix belongs to a key here already");
                    continue;
                }
                ImportConflict::StagedKeyId(id) => {
                    self.refuse_key(joined, id, "another line has the same prefix");
                    continue;
                }
            };
            self.refusals.add(joined.person_line, of_person);
            self.refusals.add(joined.account_line, of_account);
            let keys = joined.keys.iter().map(|key| key.line);
            for line in keys.chain(joined.memberships.iter().map(|it| it.line)) {
                self.refusals.add(line, NO_ACCOUNT);
            }
            people.retain(|it| it.account_line != place);
        }
        self.report.accounts += people.len();
        for joined in people {
            self.report.api_keys += joined.keys.len();
            self.report.memberships += joined.memberships.len();
        }
        Ok(())
    }

    fn refuse_key(&mut self, joined: &mut AssembledPerson, id: KeyId, reason: &str) {
        let found = joined.keys.iter().position(|key| key.record.id == id);
        if let Some(key) = found.map(|index| joined.keys.swap_remove(index)) {
            self.refusals.add(key.line, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, PASSWORD};
    use crate::crypto::token::ApiKeyText;
    use crate::model::account::AccountStatus;
    use crate::model::id::UserId;
    use crate::store::bounds::MEMBERSHIPS_MAX;
    use crate::store::faulty::FaultyStore;

    /// The export shown in `docs/import.md`.
    const EXAMPLE: &str = include_str!("../../../tests/fixtures/import/apicrud.jsonl");

    async fn import(kit: &Kit, export: &str, skip: bool) -> ImportReport {
        let dir = tempfile::tempdir().unwrap();
        let export = io::Cursor::new(export.to_owned());
        let importer = kit.accounts.importer();
        let report = importer.run(&Call::cli(), export, skip, dir.path()).await;
        report.unwrap()
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
        // Everything is in the store already, so every line conflicts.
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
        // Anna's person, account, key and membership are refused; Bert could be imported.
        assert_eq!(lines(&report), [1, 2, 5, 6], "{:?}", report.refused);
        let report = import(&kit, EXAMPLE, true).await;
        assert_eq!((report.accounts, report.memberships), (1, 1));
        // A former account's name is not available to another account.
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
                "another line has the same name",
            ),
            ("anna@example.org", "no address", "identity must be"),
            (
                "anna@example.org",
                "Bert+2@Example.org",
                "another line has the same address",
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
                "level in authorization is not declared",
            ),
            (
                "\"list_id\":\"x-4hQo2Lp1\",\"authorization\":\"member\"",
                "\"list_id\":\"a b\",\"authorization\":\"member\"",
                "list_id must be",
            ),
            (
                "\"model\":\"ListMember\",\"uid\":\"x-6jGmEh7u\",\"list_id\"",
                "\"model\":\"EventMember\",\"uid\":\"x-6jGmEh7u\",\"event_id\"",
                "resource is not declared",
            ),
        ];
        for (from, to, reason) in cases {
            let kit = Kit::new();
            assert!(EXAMPLE.contains(from), "{from}");
            let export = EXAMPLE.replacen(from, to, 1);
            let report = import(&kit, &export, false).await;
            assert!(!report.written, "{to}");
            let is_reported = report
                .refused
                .iter()
                .any(|refused| refused.reason.contains(reason));
            assert!(is_reported, "{to}: {:?}", report.refused);
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

    #[tokio::test]
    async fn of_two_lines_with_one_name_the_first_counts() {
        let kit = Kit::new();
        let mut export = EXAMPLE.to_owned();
        for (line, like) in EXAMPLE.lines().zip(1..) {
            // Adds Anna's person and account again, with ids that sort before hers.
            if like <= 2 {
                let line = line
                    .replace("x-6jGmEh7u", "x-0000000")
                    .replace("x-7kHnFi8v", "x-0000001")
                    .replace("anna@", "anna2@");
                export.push_str(&line);
                export.push('\n');
            }
        }
        let count = EXAMPLE.lines().count();
        let report = import(&kit, &export, true).await;
        assert_eq!(lines(&report), [count + 1, count + 2]);
        assert!(
            report.refused[1]
                .reason
                .contains("another line has the same name")
        );
        let anna = kit.accounts.account_named("anna").await.unwrap().unwrap();
        assert_eq!(anna.uid.as_str(), "u-x-6jGmEh7u");
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_refused_and_the_next_one_read() {
        let kit = Kit::new();
        let long = "x".repeat(1 << 20);
        let export = format!("{long}\n\n{EXAMPLE}{long}");
        let report = import(&kit, &export, true).await;
        assert_eq!(lines(&report), [1, EXAMPLE.lines().count() + 3]);
        assert_eq!(report.accounts, 2);
    }

    #[tokio::test]
    async fn one_account_brings_no_more_memberships_than_one_may_have() {
        let kit = Kit::new();
        let mut export = EXAMPLE.to_owned();
        for number in 0..MEMBERSHIPS_MAX {
            let line = serde_json::json!({
                "model": "ListMember", "uid": "x-6jGmEh7u", "list_id": number.to_string(),
                "authorization": "member",
            });
            export.push_str(&line.to_string());
            export.push('\n');
        }
        let report = import(&kit, &export, true).await;
        // Anna has one more membership in the example.
        assert_eq!(report.refused_count, 1, "{:?}", report.refused);
        let anna = kit.accounts.account_named("anna").await.unwrap().unwrap();
        let memberships = kit.store.memberships_of(&anna.uid).await.unwrap();
        assert_eq!(memberships.len() as u64, MEMBERSHIPS_MAX);
    }

    #[tokio::test]
    async fn one_import_at_a_time() {
        let kit = Kit::new();
        let dir = tempfile::tempdir().unwrap();
        let other = ScratchDirectory::take(dir.path()).unwrap();
        let begin = async || {
            let importer = kit.accounts.importer();
            let export = io::Cursor::new(EXAMPLE);
            importer.run(&Call::cli(), export, false, dir.path()).await
        };
        assert!(matches!(begin().await, Err(ImportError::UnderWay)));
        drop(other);
        assert!(begin().await.unwrap().written);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_busy_for_a_while_is_waited_for() {
        for (busy_for, is_written) in [(11, true), (12, false)] {
            let kit = Kit::new();
            let store = Arc::new(FaultyStore::new());
            store.be_busy_for(busy_for);
            let importer = Importer {
                store: Arc::clone(&store) as Arc<dyn Store>,
                ..kit.accounts.importer()
            };
            let dir = tempfile::tempdir().unwrap();
            let export = io::Cursor::new(EXAMPLE);
            let outcome = importer.run(&Call::cli(), export, false, dir.path()).await;
            assert_eq!(outcome.is_ok(), is_written, "{busy_for}");
            assert_eq!(store.everything().await.is_empty(), !is_written);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_at_any_step_has_all_of_it_or_nothing() {
        let kit = Kit::new();
        let mut whole = None;
        let mut counts = 0;
        for step in -1.. {
            let store = Arc::new(FaultyStore::new());
            store.fail_after(step);
            let importer = Importer {
                store: Arc::clone(&store) as Arc<dyn Store>,
                ..kit.accounts.importer()
            };
            let dir = tempfile::tempdir().unwrap();
            let export = io::Cursor::new(EXAMPLE);
            let outcome = importer.run(&Call::cli(), export, false, dir.path()).await;
            let has_failed = store.has_failed();
            let there = store.everything().await;
            let whole = whole.get_or_insert_with(|| there.clone());
            match outcome {
                Ok(report) => {
                    assert!(report.written && there == *whole, "step {step}");
                    counts += 1;
                }
                Err(error) => assert_eq!(there, [], "step {step}: {error}"),
            }
            if !has_failed {
                break;
            }
        }
        // A failure before the commit keeps everything out, and no later failure does.
        assert!(2 < counts, "{counts}");
    }
}
