//! From lines to accounts: checked against each other and against the configuration, not yet against the store.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::AccountsParts;
use crate::account::import::RefusedLine;
use crate::account::import::lines::{self, AccountLine, KeyLine, Line, MemberLine, PersonLine};
use crate::account::key_terms::NAME_CHARS_MAX;
use crate::account::register::checked_name;
use crate::crypto::password::{Unfit, check_foreign};
use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{Account, AccountStatus, ApiKey, EmailAddress, PasswordHash, Username};
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, SettingsId, UserId};
use crate::store::ImportedPerson;
use crate::store::bounds::KEYS_MAX;

/// Records that are looked at before other tasks of the worker get their turn.
const RECORDS_PER_TURN: usize = 16;

/// A record and the line that it came from.
struct Lined<T> {
    line: usize,
    record: T,
}

/// An account that is to be imported, with the lines that make it.
struct Entry {
    person_line: usize,
    account_line: usize,
    account: Account,
    keys: Vec<Lined<ApiKey>>,
    memberships: Vec<Lined<Membership>>,
    is_refused: bool,
}

/// What is to be imported, and what is not.
#[derive(Default)]
pub(super) struct Plan {
    people: BTreeMap<String, Lined<PersonLine>>,
    accounts: Vec<Lined<AccountLine>>,
    keys: Vec<Lined<KeyLine>>,
    members: Vec<Lined<MemberLine>>,
    entries: Vec<Entry>,
    /// By line: why.
    refused: BTreeMap<usize, String>,
    /// Records looked at since other tasks of the worker had their turn.
    looked_at: usize,
}

impl Plan {
    /// Reads one line.
    pub(super) async fn take(&mut self, line: usize, text: &str) {
        self.breathe().await;
        match lines::read(text) {
            Ok(Line::Person(record)) => {
                if self.people.contains_key(&record.id) {
                    self.refuse(line, "another line is this person");
                } else {
                    let id = record.id.clone();
                    self.people.insert(id, Lined { line, record });
                }
            }
            Ok(Line::Account(record)) => self.accounts.push(Lined {
                line,
                record: *record,
            }),
            Ok(Line::Key(record)) => self.keys.push(Lined { line, record }),
            Ok(Line::Member(record)) => self.members.push(Lined { line, record }),
            Err(reason) => self.refuse(line, reason),
        }
    }

    /// Puts people and accounts together, then keys and memberships to them.
    pub(super) async fn join(&mut self, parts: &AccountsParts) {
        let now = parts.clock.now();
        let mut taken = Taken::default();
        // By uid as apicrud has it.
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for Lined { line, record } in std::mem::take(&mut self.accounts) {
            self.breathe().await;
            let Some(person) = self.people.get(&record.uid) else {
                self.refuse(line, "there is no line of its person, or that is refused");
                continue;
            };
            let person_line = person.line;
            if places.contains_key(&record.uid) {
                self.refuse(line, "another line is the account of this person");
                continue;
            }
            match account(&person.record, &record, &mut taken, now) {
                Ok(account) => {
                    places.insert(record.uid, self.entries.len());
                    self.entries.push(Entry {
                        person_line,
                        account_line: line,
                        account,
                        keys: Vec::new(),
                        memberships: Vec::new(),
                        is_refused: false,
                    });
                }
                Err((Field::Person, reason)) => {
                    self.refuse(person_line, reason);
                    self.refuse(line, "the line of its person is refused");
                    self.people.remove(&record.uid);
                }
                Err((Field::Account, reason)) => self.refuse(line, reason),
            }
        }
        let lonely = self
            .people
            .iter()
            .filter(|(uid, _)| !places.contains_key(*uid));
        let lonely: Vec<_> = lonely.map(|(_, person)| person.line).collect();
        for line in lonely {
            self.refuse(line, "there is no line of its account, or that is refused");
        }
        self.join_keys(parts, &places, now).await;
        self.join_members(parts, &places).await;
    }

    async fn join_keys(
        &mut self,
        parts: &AccountsParts,
        places: &BTreeMap<String, usize>,
        now: Timestamp,
    ) {
        let mut ids = BTreeSet::new();
        for Lined { line, record } in std::mem::take(&mut self.keys) {
            self.breathe().await;
            let place = places.get(&record.uid);
            let Some(entry) = place.and_then(|place| self.entries.get_mut(*place)) else {
                self.refuse(line, NO_ACCOUNT);
                continue;
            };
            match key(&entry.account, &record, parts, now) {
                Err(reason) => self.refuse(line, reason),
                Ok(key) if ids.contains(&key.id) => {
                    self.refuse(line, "another line has the prefix");
                }
                Ok(_) if KEYS_MAX <= entry.keys.len() => {
                    self.refuse(line, "the account has as many keys as one may have");
                }
                Ok(record) => {
                    ids.insert(record.id);
                    entry.keys.push(Lined { line, record });
                }
            }
        }
    }

    async fn join_members(&mut self, parts: &AccountsParts, places: &BTreeMap<String, usize>) {
        let mut known = BTreeSet::new();
        for Lined { line, record } in std::mem::take(&mut self.members) {
            self.breathe().await;
            let Some(place) = places.get(&record.uid).copied() else {
                self.refuse(line, NO_ACCOUNT);
                continue;
            };
            let membership = match membership(&record, parts) {
                Ok(membership) => membership,
                Err(reason) => {
                    self.refuse(line, reason);
                    continue;
                }
            };
            let what = (place, membership.resource.clone(), membership.id.clone());
            if !known.insert(what) {
                self.refuse(line, "another line is this membership");
            } else if let Some(entry) = self.entries.get_mut(place) {
                entry.memberships.push(Lined {
                    line,
                    record: membership,
                });
            }
        }
    }

    /// The people in the order of their places.
    pub(super) fn people(&self) -> Vec<ImportedPerson> {
        let person = |entry: &Entry| ImportedPerson {
            account: entry.account.clone(),
            keys: entry.keys.iter().map(|key| key.record.clone()).collect(),
            memberships: entry
                .memberships
                .iter()
                .map(|membership| membership.record.clone())
                .collect(),
        };
        self.entries.iter().map(person).collect()
    }

    /// How many accounts, keys and memberships.
    pub(super) fn counted(&self) -> (usize, usize, usize) {
        (
            self.entries.len(),
            self.entries.iter().map(|entry| entry.keys.len()).sum(),
            self.entries
                .iter()
                .map(|entry| entry.memberships.len())
                .sum(),
        )
    }

    /// Refuses a person with all that is theirs; takes effect with [`Self::drop_refused`].
    pub(super) fn refuse_person(&mut self, place: usize, reason: &str) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        entry.is_refused = true;
        let own = [entry.person_line, entry.account_line];
        let keys = entry.keys.iter().map(|key| key.line);
        let hanging: Vec<_> = keys
            .chain(entry.memberships.iter().map(|membership| membership.line))
            .collect();
        for line in own {
            self.refuse(line, reason);
        }
        for line in hanging {
            self.refuse(line, NO_ACCOUNT);
        }
    }

    /// Refuses one key of a person.
    pub(super) fn refuse_key(&mut self, place: usize, id: KeyId, reason: &str) {
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        let found = entry.keys.iter().position(|key| key.record.id == id);
        if let Some(key) = found.map(|index| entry.keys.swap_remove(index)) {
            self.refuse(key.line, reason);
        }
    }

    /// Takes refused people out; places change.
    pub(super) fn drop_refused(&mut self) {
        self.entries.retain(|entry| !entry.is_refused);
    }

    /// All refused lines in order, each with its first reason.
    pub(super) fn into_refused(self) -> Vec<RefusedLine> {
        let told = |(line, reason)| RefusedLine { line, reason };
        self.refused.into_iter().map(told).collect()
    }

    /// Whether no line is refused.
    pub(super) fn is_clean(&self) -> bool {
        self.refused.is_empty()
    }

    fn refuse(&mut self, line: usize, reason: impl Into<String>) {
        self.refused.entry(line).or_insert_with(|| reason.into());
    }

    /// Lets other tasks of the worker have their turn now and then: an export can be long.
    async fn breathe(&mut self) {
        self.looked_at += 1;
        if RECORDS_PER_TURN <= self.looked_at {
            self.looked_at = 0;
            tokio::task::yield_now().await;
        }
    }
}

const ID: &str = "id must be 8 to 60 of A-Z a-z 0-9 - _";
const IDENTITY: &str =
    "identity must be an e-mail address in ASCII that mails can get to, at most 254 bytes";
const NO_ACCOUNT: &str = "there is no line of its owner's account, or that is refused";

/// What other lines have taken.
#[derive(Default)]
struct Taken {
    usernames: BTreeSet<Username>,
    identities: BTreeSet<String>,
    account_ids: BTreeSet<AccountId>,
}

/// Which line a reason is about.
enum Field {
    Person,
    Account,
}

fn account(
    person: &PersonLine,
    line: &AccountLine,
    taken: &mut Taken,
    now: Timestamp,
) -> Result<Account, (Field, String)> {
    let of_person = |reason: &str| (Field::Person, reason.to_owned());
    let of_account = |reason: &str| (Field::Account, reason.to_owned());
    let uid = uid(&person.id).ok_or_else(|| of_person(ID))?;
    let identity = EmailAddress::reachable(&person.identity).map_err(|_| of_person(IDENTITY))?;
    let name = checked_name(&person.name)
        .map_err(|invalid| of_person(&format!("name must be {}", invalid.expected)))?;
    let account_id = AccountId::parse(&format!("{}{}", AccountId::PREFIX, line.id));
    let account_id = account_id.map_err(|_| of_account(ID))?;
    let settings_id = SettingsId::parse(&format!("{}{}", SettingsId::PREFIX, line.id));
    let settings_id = settings_id.map_err(|_| of_account(ID))?;
    let username = Username::parse(&line.name).map_err(|_| {
        of_account(
            "name must be 2 to 64 of a-z 0-9 . _ -, first a letter or digit, not beginning with u-",
        )
    })?;
    let password = PasswordHash::new(line.password.expose().to_owned());
    check_foreign(&password).map_err(|unfit| {
        of_account(match unfit {
            Unfit::TooManyRounds => "password has more than 1,000,000 rounds",
            Unfit::TooCostly => "password costs more than a hash of the gateway's own",
            Unfit::Unknown => "password must be a hash of the kind $5$ (SHA-256-crypt) or $argon2",
        })
    })?;
    if line
        .totp_secret
        .as_ref()
        .is_some_and(|secret| !secret.expose().is_empty())
    {
        let reason =
            "a second factor cannot be imported; without totp_secret the account comes without it";
        return Err(of_account(reason));
    }
    let created = match &line.created {
        None => now,
        Some(text) => lines::time(text).ok_or_else(|| of_account("created must be a time"))?,
    };
    if taken.identities.contains(&identity.normalized()) {
        return Err(of_person("another line has the address"));
    }
    if taken.usernames.contains(&username) {
        return Err(of_account("another line has the name"));
    }
    if !taken.account_ids.insert(account_id.clone()) {
        return Err(of_account("another line has the id"));
    }
    taken.identities.insert(identity.normalized());
    taken.usernames.insert(username.clone());
    Ok(Account {
        uid,
        account_id,
        username,
        identity,
        name,
        status: if person.is_active() && line.is_active() {
            AccountStatus::Active
        } else {
            AccountStatus::Disabled
        },
        is_admin: line.is_admin.unwrap_or(false),
        roles: Vec::new(),
        settings_id,
        password_must_change: line.password_must_change.unwrap_or(false),
        password: Some(password),
        generation: 0,
        level_changes: 0,
        created,
    })
}

/// `u-` and the id that apicrud gave, so that the services find their own ids behind it.
fn uid(id: &str) -> Option<UserId> {
    UserId::parse(&format!("{}{id}", UserId::PREFIX)).ok()
}

fn key(
    owner: &Account,
    line: &KeyLine,
    parts: &AccountsParts,
    now: Timestamp,
) -> Result<ApiKey, &'static str> {
    if !line.is_active() {
        return Err("a key that is not active");
    }
    let id = KeyId::parse(&line.prefix).map_err(|_| "prefix must be 8 of A-Z a-z 0-9 - _")?;
    let inner = line
        .hash()
        .ok_or("hashvalue must be a SHA-256 value in base 64")?;
    let name = line.name.clone().unwrap_or_default();
    if name.chars().any(char::is_control) || NAME_CHARS_MAX < name.chars().count() {
        return Err("name must be at most 64 characters, none of them a control character");
    }
    let time = |text: &String| lines::time(text);
    let expires = match &line.expires {
        None => None,
        Some(text) => Some(time(text).ok_or("expires must be a time")?),
    };
    if expires.is_some_and(|expires| expires <= now) {
        return Err("a key that has expired");
    }
    let created = line.created.as_ref().map_or(Some(now), time);
    let mut scopes = Vec::new();
    for text in &line.scopes {
        let declared = parts
            .roles
            .scopes
            .iter()
            .find(|scope| scope.as_str() == text);
        let scope = declared.ok_or("a scope that is not declared")?;
        if scope.is_own() && !owner.is_admin {
            return Err("a scope that only administrators' keys have");
        }
        scopes.push(scope.clone());
    }
    scopes.sort();
    scopes.dedup();
    Ok(ApiKey {
        id,
        uid: owner.uid.clone(),
        name,
        digest: parts.token_keys.imported_key_digest(&inner),
        scopes,
        created: created.ok_or("created must be a time")?,
        expires,
        previous: None,
        allow_from: Vec::new(),
        rate_per_minute: None,
        resources: None,
        suspended: false,
    })
}

fn membership(line: &MemberLine, parts: &AccountsParts) -> Result<Membership, String> {
    let settings = &parts.roles;
    let resource = Name::parse(&line.resource).ok();
    let resource = resource.filter(|resource| settings.is_stored(resource));
    let resource = resource.ok_or("a resource that is not declared in [roles] resources")?;
    let level = Name::parse(&line.level).ok();
    let level = level.filter(|level| settings.ladder.rank(level.as_str()).is_some());
    let level = level.ok_or("authorization is a level that is not declared in [roles] levels")?;
    let id = ResourceId::parse(&line.id)
        .map_err(|_| format!("{resource}_id must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -"))?;
    Ok(Membership {
        resource,
        id,
        level,
    })
}
