//! The keys of all records, in one ordered key space, so that one batch of writes is atomic over all of it.
//!
//! A key is one byte for its kind, then the parts with a zero byte between them. No part can contain a zero byte except
//! a digest, which is always last. So prefixes end between parts, and keys sort by their parts.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use crate::limit::KeptCounter;
use crate::model::access::{Name, ResourceId};
use crate::model::account::{Account, Digest, EmailAddress, OneTimeToken, Session, Username};
use crate::model::api_key::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::{AccountId, KeyId, MailId, SessionId, SettingsId, UserId};
use crate::model::key_file::{KeyFile, KeyMark};
use crate::model::mail::QueuedMail;
use crate::store::StoreError;
use crate::store::staged::Staged;

// A new kind also needs a line in `inspect::read`: a check, a restore and an export report an unknown one as damage.
pub(crate) const ACCOUNT: u8 = b'a';
pub(crate) const SESSION: u8 = b's';
pub(crate) const TOKEN: u8 = b't';
pub(crate) const ACCOUNT_ID: u8 = b'i';
pub(crate) const USERNAME: u8 = b'n';
pub(crate) const FOLDED: u8 = b'f';
pub(crate) const NORMALIZED: u8 = b'd';
pub(crate) const SESSION_OF: u8 = b'S';
pub(crate) const API_KEY: u8 = b'k';
pub(crate) const API_KEY_OF: u8 = b'K';
pub(crate) const API_KEY_USED: u8 = b'u';
pub(crate) const TOKEN_OF: u8 = b'T';
pub(crate) const MEMBERSHIP: u8 = b'm';
pub(crate) const MEMBER: u8 = b'M';
pub(crate) const REMOVED: u8 = b'x';
pub(crate) const SETTINGS: u8 = b'p';
pub(crate) const NETWORKS: u8 = b'w';
pub(crate) const MAIL: u8 = b'o';
pub(crate) const MAIL_DUE: u8 = b'O';
pub(crate) const READY: u8 = b'!';
pub(crate) const OLD_HASHES: u8 = b'h';
pub(crate) const MEMBERSHIP_COUNT: u8 = b'q';
pub(crate) const MEMBER_COUNT: u8 = b'Q';
pub(crate) const PENDING_COUNT: u8 = b'P';
pub(crate) const KEY_MARK: u8 = b'y';
pub(crate) const MADE: u8 = b'b';
/// Sorts before [`STAGED`]: a walk over a backup sees first whether the staged people are committed.
pub(crate) const IMPORT: u8 = b'G';
pub(crate) const STAGED: u8 = b'g';
pub(crate) const CLAIM: u8 = b'C';
const CENSUS: u8 = b'#';
const COUNTER: u8 = b'c';

/// The key of a record of type `T`.
pub(crate) struct RecordKey<T> {
    bytes: Vec<u8>,
    record: PhantomData<fn() -> T>,
}

impl<T> RecordKey<T> {
    /// Creates a key of a kind, with the rest as found in a scan.
    pub(crate) fn raw(kind: u8, rest: &[u8]) -> Self {
        Self::whole([&[kind], rest].concat())
    }

    /// Creates a key as found in a scan.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            record: PhantomData,
        }
    }

    fn of(kind: u8, parts: &[&str]) -> Self {
        Self::raw(kind, parts.join("\0").as_bytes())
    }

    /// Returns the key as bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the name of the kind.
    pub(crate) fn tree(&self) -> &'static str {
        tree_of(&self.bytes)
    }
}

/// Returns the error of a record under this key, or of an index entry for it, that cannot be right.
pub(crate) fn damaged(key: &[u8]) -> StoreError {
    StoreError::Damaged { tree: tree_of(key) }
}

/// Parses a part of a key.
pub(crate) fn parse_part<'a, T, E>(
    key: &[u8],
    part: &'a [u8],
    parse: impl FnOnce(&'a str) -> Result<T, E>,
) -> Result<T, StoreError> {
    let text = std::str::from_utf8(part).map_err(|_| damaged(key))?;
    parse(text).map_err(|_| damaged(key))
}

/// Returns a description of the key for operators: on one line, and without digests.
pub(crate) fn label(key: &[u8]) -> String {
    let tree = tree_of(key);
    let Some((kind, rest)) = key.split_first() else {
        return tree.to_owned();
    };
    let shown = match *kind {
        // The digest comes last and may contain any byte.
        TOKEN => &[],
        TOKEN_OF => rest.split(|byte| *byte == 0).next().unwrap_or_default(),
        _ => rest,
    };
    if shown.is_empty() {
        return tree.to_owned();
    }
    let parts = shown.split(|byte| *byte == 0);
    let parts: Vec<_> = parts.map(|part| part.escape_ascii().to_string()).collect();
    format!("{tree}: {}", parts.join(" "))
}

/// Returns the name of a key's kind.
fn tree_of(key: &[u8]) -> &'static str {
    match key.first().copied() {
        Some(ACCOUNT) => "accounts",
        Some(ACCOUNT_ID) => "account ids",
        Some(USERNAME) => "usernames",
        Some(FOLDED | NORMALIZED) => "identities",
        Some(SESSION | SESSION_OF) => "sessions",
        Some(API_KEY | API_KEY_OF | API_KEY_USED) => "api keys",
        Some(TOKEN | TOKEN_OF) => "one-time tokens",
        Some(MEMBERSHIP | MEMBERSHIP_COUNT) => "memberships",
        Some(MEMBER | MEMBER_COUNT) => "members",
        Some(PENDING_COUNT) => "pending accounts",
        Some(IMPORT | STAGED | CLAIM) => "an import",
        Some(REMOVED) => "removed accounts",
        Some(SETTINGS) => "settings",
        Some(NETWORKS) => "known networks",
        Some(MAIL | MAIL_DUE) => "the outbox",
        Some(READY) => "readiness",
        Some(OLD_HASHES) => "old hashes",
        Some(KEY_MARK) => "key files",
        Some(MADE) => "the creation of the store",
        Some(CENSUS) => "census",
        Some(COUNTER) => "counters",
        _ => "an unknown tree",
    }
}

pub(crate) fn account(uid: &UserId) -> RecordKey<Account> {
    RecordKey::of(ACCOUNT, &[uid.as_str()])
}

/// Returns the index key of an account, whatever its status.
pub(crate) fn account_id(id: &AccountId) -> RecordKey<UserId> {
    RecordKey::of(ACCOUNT_ID, &[id.as_str()])
}

/// Returns an index key that only active and disabled accounts have, like the two forms of the identity.
pub(crate) fn username(name: &Username) -> RecordKey<UserId> {
    RecordKey::of(USERNAME, &[name.as_str()])
}

pub(crate) fn folded(identity: &EmailAddress) -> RecordKey<UserId> {
    RecordKey::of(FOLDED, &[&identity.folded()])
}

pub(crate) fn normalized(identity: &EmailAddress) -> RecordKey<UserId> {
    RecordKey::of(NORMALIZED, &[&identity.normalized()])
}

pub(crate) fn session(id: &SessionId) -> RecordKey<Session> {
    RecordKey::of(SESSION, &[id.as_str()])
}

pub(crate) fn session_of(uid: &UserId, id: &SessionId) -> RecordKey<()> {
    RecordKey::of(SESSION_OF, &[uid.as_str(), id.as_str()])
}

pub(crate) fn api_key(id: KeyId) -> RecordKey<ApiKey> {
    RecordKey::of(API_KEY, &[id.as_str()])
}

pub(crate) fn api_key_of(uid: &UserId, id: KeyId) -> RecordKey<()> {
    RecordKey::of(API_KEY_OF, &[uid.as_str(), id.as_str()])
}

/// Returns the key of an API key's last use: apart from its record, so that updating it changes nothing a decision
/// reads.
pub(crate) fn api_key_used(id: KeyId) -> RecordKey<Timestamp> {
    RecordKey::of(API_KEY_USED, &[id.as_str()])
}

pub(crate) fn token(digest: &Digest) -> RecordKey<OneTimeToken> {
    RecordKey::raw(TOKEN, &digest.0)
}

pub(crate) fn token_of(uid: &UserId, digest: &Digest) -> RecordKey<()> {
    let parts = [uid.as_str().as_bytes(), &[0], &digest.0];
    RecordKey::raw(TOKEN_OF, &parts.concat())
}

pub(crate) fn membership(uid: &UserId, resource: &Name, id: &ResourceId) -> RecordKey<Name> {
    let parts = [uid.as_str(), resource.as_str(), id.as_str()];
    RecordKey::of(MEMBERSHIP, &parts)
}

pub(crate) fn member(resource: &Name, id: &ResourceId, uid: &UserId) -> RecordKey<Name> {
    let parts = [resource.as_str(), id.as_str(), uid.as_str()];
    RecordKey::of(MEMBER, &parts)
}

/// Returns the key of an account's number of memberships; missing before its first change in an older gateway's store.
pub(crate) fn membership_count(uid: &UserId) -> RecordKey<u64> {
    RecordKey::of(MEMBERSHIP_COUNT, &[uid.as_str()])
}

/// Returns the key of a resource's number of members; the record may be missing likewise.
pub(crate) fn member_count(resource: &Name, id: &ResourceId) -> RecordKey<u64> {
    let parts = [resource.as_str(), id.as_str()];
    RecordKey::of(MEMBER_COUNT, &parts)
}

/// Returns the key of the number of pending accounts.
pub(crate) fn pending_count() -> RecordKey<u64> {
    RecordKey::of(PENDING_COUNT, &[])
}

/// Returns the key that marks the import as committed: all staged people will be written; see `intents::import`.
pub(crate) fn import() -> RecordKey<()> {
    RecordKey::of(IMPORT, &[])
}

/// Returns the key of a piece of a staged person, in the order of the export's lines.
pub(crate) fn staged(place: usize, piece: usize) -> RecordKey<Staged> {
    let (place, piece) = (format!("{place:012}"), format!("{piece:05}"));
    RecordKey::of(STAGED, &[&place, &piece])
}

/// Returns the claim of a staged person's record id. Names and addresses need no claim: their index entries are written
/// with the first piece, and point to no account until the last piece is written.
pub(crate) fn claimed_account_id(id: &AccountId) -> RecordKey<UserId> {
    RecordKey::of(CLAIM, &["account", id.as_str()])
}

/// Returns the claim of the id of a staged person's API key.
pub(crate) fn claimed_key_id(id: KeyId) -> RecordKey<UserId> {
    RecordKey::of(CLAIM, &["key", id.as_str()])
}

/// Returns the key that marks a removed account: its uid is never reused.
pub(crate) fn removed(uid: &UserId) -> RecordKey<()> {
    RecordKey::of(REMOVED, &[uid.as_str()])
}

/// Returns the key of an account's settings document, or of the shared one.
pub(crate) fn settings(id: Option<&SettingsId>) -> RecordKey<String> {
    RecordKey::of(SETTINGS, &[id.map_or("global", SettingsId::as_str)])
}

/// Returns the key of the networks that an account has logged in from, oldest first.
pub(crate) fn networks(uid: &UserId) -> RecordKey<Vec<Digest>> {
    RecordKey::of(NETWORKS, &[uid.as_str()])
}

/// Returns the key of the numbers of accounts with an old hash, by its rounds.
pub(crate) fn old_hashes() -> RecordKey<BTreeMap<u32, u64>> {
    RecordKey::of(OLD_HASHES, &[])
}

/// Returns the key of a key file's fingerprint record.
pub(crate) fn key_mark(file: KeyFile) -> RecordKey<KeyMark> {
    RecordKey::of(KEY_MARK, &[file.name()])
}

/// Returns the key of the time when the store was created; missing in an older gateway's store.
pub(crate) fn made() -> RecordKey<Timestamp> {
    RecordKey::of(MADE, &[])
}

pub(crate) fn mail(id: &MailId) -> RecordKey<QueuedMail> {
    RecordKey::of(MAIL, &[id.as_str()])
}

/// Returns an index key in chronological order: sixteen digits of milliseconds.
pub(crate) fn mail_due(next_try: Timestamp, id: &MailId) -> RecordKey<()> {
    RecordKey::of(MAIL_DUE, &[&due_digits(next_try), id.as_str()])
}

fn due_digits(at: Timestamp) -> String {
    format!("{:016}", at.millis().max(0))
}

/// Returns the key of the record that `ready` writes.
pub(crate) fn ready() -> RecordKey<u64> {
    RecordKey::of(READY, &[])
}

/// Returns the key of the only record that the census does not count: the census itself.
pub(crate) fn census<T>() -> RecordKey<T> {
    RecordKey::of(CENSUS, &[])
}

/// Returns the key of a counter: never among the records, always in the side tree.
pub(crate) fn counter(key: &[u8]) -> RecordKey<KeptCounter> {
    RecordKey::raw(COUNTER, key)
}

/// The range of a scan: all keys that begin with these bytes.
pub(crate) struct Prefix(Vec<u8>);

impl Prefix {
    fn of(kind: u8, parts: &[&str]) -> Self {
        let mut bytes = vec![kind];
        for part in parts {
            bytes.extend_from_slice(part.as_bytes());
            bytes.push(0);
        }
        Self(bytes)
    }

    /// Returns the prefix of all keys of a kind.
    pub(crate) fn kind(kind: u8) -> Self {
        Self(vec![kind])
    }

    /// Returns the prefix of the keys of a kind whose first part is this uid.
    pub(crate) fn of_uid(kind: u8, uid: &UserId) -> Self {
        Self::of(kind, &[uid.as_str()])
    }

    /// Returns the bytes that all keys begin with.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the part of a key after the prefix.
    pub(crate) fn rest<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.0.as_slice()).unwrap_or_default()
    }
}

/// Returns the prefix of the mails due at this time; those due later follow it.
pub(crate) fn mails_due_at(at: Timestamp) -> Prefix {
    Prefix::of(MAIL_DUE, &[&due_digits(at)])
}

pub(crate) fn members_of(resource: &Name, id: &ResourceId) -> Prefix {
    Prefix::of(MEMBER, &[resource.as_str(), id.as_str()])
}
