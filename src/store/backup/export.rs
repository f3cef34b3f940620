//! Export of a backup as JSON lines for other programs: all data of people and services, and no secrets.
//!
//! `docs/store.md` documents each field. Records that only index or count others are left out.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::model::access::{Name, ResourceId};
use crate::model::account::{Account, OneTimeToken, PasswordHash, Session, ShownAccount};
use crate::model::api_key::{ApiKey, ShownKey};
use crate::model::field::members_of;
use crate::model::id::UserId;
use crate::model::mail::QueuedMail;
use crate::store::backup::file::{BackupItem, BackupReader};
use crate::store::backup::{BackupContents, BackupError, create_private, io_error, look_through};
use crate::store::inspect::{self, InspectedRecord};
use crate::store::staged::Staged;

/// Version of the export format.
const VERSION: u8 = 1;

/// Exports a backup and returns the number of lines after the first.
///
/// # Errors
/// [`BackupError`]: of the backup, in which case nothing is written, or of the output.
pub fn export(backup: &Path, out: &mut dyn Write) -> Result<u64, BackupError> {
    let contents = look_through(backup)?;
    let mut reader = BackupReader::open(backup)?;
    put(out, &first(&contents))?;
    let mut lines = 0;
    let mut is_importing = false;
    while let Some(item) = reader.next()? {
        let BackupItem::Record(key, value) = item else {
            continue;
        };
        let told = match inspect::read(&key, &value)? {
            InspectedRecord::Import => {
                is_importing = true;
                Vec::new()
            }
            // A committed import: these people count, although they are not written to their places yet.
            InspectedRecord::Staged(piece) if is_importing => of_staged(&piece),
            record => line(record).into_iter().collect(),
        };
        for line in told {
            put(out, &line)?;
            lines += 1;
        }
    }
    out.flush().map_err(failed)?;
    Ok(lines)
}

/// Like [`export`], into a new file of mode 0600 that is durable when this returns.
///
/// # Errors
/// [`BackupError`]; no file is left behind.
pub fn export_to(backup: &Path, to: &Path) -> Result<u64, BackupError> {
    // Checks the backup before any file is created.
    look_through(backup)?;
    let file = create_private(to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists {
            path: to.to_owned(),
        },
        _ => io_error("write", to)(error),
    })?;
    let mut out = BufWriter::new(file);
    let written = export(backup, &mut out).and_then(|lines| {
        let synced = out.get_ref().sync_all();
        synced.map(|()| lines).map_err(io_error("write", to))
    });
    if written.is_err() {
        let _ = fs::remove_file(to);
    }
    written
}

fn first(contents: &BackupContents) -> Value {
    json!({
        "kind": "doorward_export",
        "version": VERSION,
        "as_of": contents.as_of.to_rfc3339(),
        "gateway": contents.gateway,
    })
}

fn put(out: &mut dyn Write, line: &Value) -> Result<(), BackupError> {
    writeln!(out, "{line}").map_err(failed)
}

fn failed(source: io::Error) -> BackupError {
    BackupError::Io {
        action: "write",
        path: "the export".into(),
        source,
    }
}

fn line(record: InspectedRecord) -> Option<Value> {
    Some(match record {
        InspectedRecord::Account(account) => of_account(&account),
        InspectedRecord::Session(session) => of_session(&session),
        InspectedRecord::ApiKey(key) => of_key(&key),
        InspectedRecord::ApiKeyUsed(id, at) => json!({
            "kind": "apikey_used",
            "id": id,
            "at": at.to_rfc3339(),
        }),
        InspectedRecord::Token(token) => of_token(&token),
        InspectedRecord::Membership {
            uid,
            resource,
            id,
            level,
        } => of_membership(&uid, &resource, &id, &level),
        InspectedRecord::Settings(id, document) => json!({
            "kind": "settings",
            "id": id,
            // Valid JSON when it was stored; a text that no longer parses is exported as a string.
            "document": serde_json::from_str(&document).unwrap_or(Value::String(document)),
        }),
        InspectedRecord::Mail(mail) => of_mail(&mail),
        InspectedRecord::Removed(uid) => json!({ "kind": "removed_account", "uid": uid }),
        InspectedRecord::KeyMark(name, mark) => json!({
            "kind": "key_file",
            "name": name,
            "since": mark.since.to_rfc3339(),
        }),
        InspectedRecord::Made(at) => json!({ "kind": "store", "made": at.to_rfc3339() }),
        InspectedRecord::Import | InspectedRecord::Staged(_) | InspectedRecord::Derived => {
            return None;
        }
    })
}

fn of_staged(piece: &Staged) -> Vec<Value> {
    let memberships = piece.memberships.iter();
    let memberships =
        memberships.map(|it| of_membership(&piece.uid, &it.resource, &it.id, &it.level));
    let keys = piece.keys.iter().map(of_key);
    let account = piece.account.iter().map(of_account);
    account.chain(keys).chain(memberships).collect()
}

fn of_membership(uid: &UserId, resource: &Name, id: &ResourceId, level: &Name) -> Value {
    json!({
        "kind": "membership",
        "uid": uid,
        "resource": resource,
        "id": id,
        "level": level,
    })
}

fn of_account(account: &Account) -> Value {
    let mut shown = members_of(&ShownAccount::from(account.clone()));
    let password = account.password.as_ref().map(kind_of);
    shown.insert("kind".to_owned(), "account".into());
    shown.insert("password".to_owned(), password.into());
    Value::Object(shown)
}

/// Names the hash algorithm of a password, never the hash.
fn kind_of(hash: &PasswordHash) -> &'static str {
    if hash.sha_crypt_rounds().is_some() {
        "sha256_crypt"
    } else {
        "argon2id"
    }
}

fn of_session(session: &Session) -> Value {
    json!({
        "kind": "session",
        "id": session.id,
        "uid": session.uid,
        "created": session.created.to_rfc3339(),
        "last_seen": session.last_seen.to_rfc3339(),
        "from": session.from,
        "idle_end": session.idle_end.to_rfc3339(),
        "absolute_end": session.absolute_end.to_rfc3339(),
        "by_cookie": session.cookies.is_some(),
    })
}

fn of_key(key: &ApiKey) -> Value {
    let mut shown = ShownKey::new(key.clone(), None, None).for_operator();
    // Uses have lines of their own.
    shown.remove("last_used");
    shown.insert("kind".to_owned(), "apikey".into());
    shown.insert("uid".to_owned(), key.uid.as_str().into());
    Value::Object(shown)
}

fn of_token(token: &OneTimeToken) -> Value {
    json!({
        "kind": "one_time_token",
        "uid": token.uid,
        "purpose": token.purpose,
        "expires": token.expires.to_rfc3339(),
        "identity": token.identity,
    })
}

fn of_mail(mail: &QueuedMail) -> Value {
    json!({
        "kind": "mail",
        "id": mail.id,
        "created": mail.created.to_rfc3339(),
        "expires": mail.expires.to_rfc3339(),
        "next_try": mail.next_try.to_rfc3339(),
        "attempts": mail.attempts,
        "refusals": mail.refusals,
    })
}
