//! Assembles people from their lines, which arrive sorted by uid: person, accounts, keys, memberships.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use crate::account::import::lines::{AccountLine, ImportLine, KeyLine, MemberLine, PersonLine};
use crate::account::import::refused::Refusals;
use crate::account::import::rules::{self, Field, Rules};
use crate::account::import::sort::Sorter;
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::Account;
use crate::model::api_key::ApiKey;
use crate::model::id::KeyId;
use crate::store::ImportedPerson;
use crate::store::bounds::{KEYS_MAX, MEMBERSHIPS_MAX};

/// Reasons for refusing lines that depend on a missing or refused line.
pub(super) const NO_ACCOUNT: &str = "the line of its owner's account is missing or refused";
pub(super) const NO_OWN_ACCOUNT: &str = "the line of its account is missing or refused";
pub(super) const NO_PERSON: &str = "the line of its person is refused";

/// A record and the number of the line that it was read from.
#[derive(Serialize, Deserialize)]
pub(super) struct Numbered<T> {
    pub(super) line: usize,
    pub(super) record: T,
}

/// A person to be imported, with the lines that the person was assembled from.
#[derive(Serialize, Deserialize)]
pub(super) struct AssembledPerson {
    pub(super) person_line: usize,
    pub(super) account_line: usize,
    pub(super) account: Account,
    pub(super) keys: Vec<Numbered<ApiKey>>,
    pub(super) memberships: Vec<Numbered<Membership>>,
}

impl AssembledPerson {
    /// Converts the person into the form that the store accepts.
    pub(super) fn person(&self) -> ImportedPerson {
        ImportedPerson {
            place: self.account_line,
            account: self.account.clone(),
            keys: self.keys.iter().map(|key| key.record.clone()).collect(),
            memberships: self
                .memberships
                .iter()
                .map(|it| it.record.clone())
                .collect(),
        }
    }
}

/// Assembles people, one after another.
pub(super) struct PersonAssembler<'a> {
    rules: &'a Rules,
    refusals: &'a mut Refusals,
    /// Receives people under the line numbers of their accounts.
    people: &'a mut Sorter,
    group: UidLines,
}

/// The state of one uid, bounded however many lines the uid has.
#[derive(Default)]
struct UidLines {
    uid: String,
    person: Option<Numbered<PersonLine>>,
    joined: Option<AssembledPerson>,
    keys: BTreeSet<KeyId>,
    memberships: BTreeSet<(Name, ResourceId)>,
}

impl<'a> PersonAssembler<'a> {
    /// Creates an assembler without any lines.
    pub(super) fn new(
        rules: &'a Rules,
        refusals: &'a mut Refusals,
        people: &'a mut Sorter,
    ) -> Self {
        Self {
            rules,
            refusals,
            people,
            group: UidLines::default(),
        }
    }

    /// Adds the next line.
    pub(super) fn take(&mut self, line: usize, record: ImportLine) -> io::Result<()> {
        if self.group.uid != record.uid() {
            let uid = record.uid().to_owned();
            self.end_group(uid)?;
        }
        match record {
            ImportLine::Person(_) if self.group.person.is_some() => {
                self.refusals
                    .add(line, "another line describes this person");
            }
            ImportLine::Person(record) => self.group.person = Some(Numbered { line, record }),
            ImportLine::Account(record) => self.account(line, &record),
            ImportLine::Key(record) => self.key(line, &record),
            ImportLine::Member(record) => self.membership(line, &record),
        }
        Ok(())
    }

    /// Finishes the person of the last line.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.end_group(String::new())
    }

    fn end_group(&mut self, next: String) -> io::Result<()> {
        let fresh = UidLines {
            uid: next,
            ..UidLines::default()
        };
        let group = std::mem::replace(&mut self.group, fresh);
        match (group.joined, group.person) {
            (Some(joined), _) => {
                let value = zeroize::Zeroizing::new(serde_json::to_vec(&joined)?);
                self.people.push(&joined.account_line.to_be_bytes(), &value)
            }
            (None, Some(person)) => {
                self.refusals.add(person.line, NO_OWN_ACCOUNT);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn account(&mut self, line: usize, record: &AccountLine) {
        let Some(person) = &self.group.person else {
            let reason = "the line of its person is missing or refused";
            return self.refusals.add(line, reason);
        };
        if self.group.joined.is_some() {
            let reason = "another line describes the account of this person";
            return self.refusals.add(line, reason);
        }
        match rules::account(&person.record, record, self.rules) {
            Ok(account) => {
                self.group.joined = Some(AssembledPerson {
                    person_line: person.line,
                    account_line: line,
                    account,
                    keys: Vec::new(),
                    memberships: Vec::new(),
                });
            }
            Err((Field::Person, reason)) => {
                self.refusals.add(person.line, reason);
                self.refusals.add(line, NO_PERSON);
                self.group.person = None;
            }
            Err((Field::Account, reason)) => self.refusals.add(line, reason),
        }
    }

    fn key(&mut self, line: usize, record: &KeyLine) {
        let Some(joined) = &mut self.group.joined else {
            return self.refusals.add(line, NO_ACCOUNT);
        };
        match rules::key(&joined.account, record, self.rules) {
            Err(reason) => self.refusals.add(line, reason),
            Ok(key) if self.group.keys.contains(&key.id) => {
                self.refusals.add(line, "another line has the same prefix");
            }
            Ok(_) if KEYS_MAX <= joined.keys.len() => {
                let reason = "the account has the maximum number of keys";
                self.refusals.add(line, reason);
            }
            Ok(record) => {
                self.group.keys.insert(record.id);
                joined.keys.push(Numbered { line, record });
            }
        }
    }

    fn membership(&mut self, line: usize, record: &MemberLine) {
        let Some(joined) = &mut self.group.joined else {
            return self.refusals.add(line, NO_ACCOUNT);
        };
        let record = match rules::membership(record, self.rules) {
            Ok(membership) => membership,
            Err(reason) => return self.refusals.add(line, reason),
        };
        let what = (record.resource.clone(), record.id.clone());
        if self.group.memberships.contains(&what) {
            self.refusals
                .add(line, "another line describes this membership");
        } else if MEMBERSHIPS_MAX <= joined.memberships.len() as u64 {
            let reason = "the account has the maximum number of memberships";
            self.refusals.add(line, reason);
        } else {
            self.group.memberships.insert(what);
            joined.memberships.push(Numbered { line, record });
        }
    }
}
