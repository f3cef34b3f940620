//! Removal of expired records: found in slices beside the writes, then checked again inside a write.

use crate::model::account::{Account, AccountStatus, OneTimeToken, Session};
use crate::model::clock::Timestamp;
use crate::store::intents::{accounts, remove_session, remove_token};
use crate::store::layout::{self, Prefix, RecordKey};
use crate::store::{Records, Result, Transaction, reads, record};

/// The kinds that are purged: tokens before accounts, since a pending account is removed after its last token.
pub(crate) const KINDS: [u8; 3] = [layout::SESSION, layout::TOKEN, layout::ACCOUNT];

/// Keys of one kind that may have expired, and where to continue.
pub(crate) struct PurgeSlice {
    /// The part after the kind in each key.
    pub(crate) expired: Vec<Vec<u8>>,
    /// The last key read; `None`: there are no more.
    pub(crate) next: Option<Vec<u8>>,
}

/// Reads `limit` records of a kind.
pub(crate) fn look(
    records: &dyn Records,
    kind: u8,
    after: Option<&[u8]>,
    limit: usize,
    now: Timestamp,
) -> Result<PurgeSlice> {
    let prefix = Prefix::kind(kind);
    let entries = records.scan(prefix.bytes(), after, limit)?;
    let mut expired = Vec::new();
    for (key, value) in &entries {
        let is_over = match kind {
            layout::SESSION => !record::decode_entry::<Session>(key, value)?.is_live(now),
            layout::TOKEN => !record::decode_entry::<OneTimeToken>(key, value)?.is_live(now),
            _ => is_abandoned(records, &record::decode_entry(key, value)?)?,
        };
        if is_over {
            expired.push(prefix.rest(key).to_vec());
        }
    }
    let last = entries.last().filter(|_| limit <= entries.len());
    Ok(PurgeSlice {
        expired,
        next: last.map(|(key, _)| key.clone()),
    })
}

/// Removes the records that are still expired; returns their number.
pub(crate) fn remove(
    tx: &mut Transaction<'_>,
    kind: u8,
    expired: &[Vec<u8>],
    now: Timestamp,
) -> Result<usize> {
    let mut gone = 0;
    for rest in expired {
        gone += usize::from(remove_one(tx, kind, rest, now)?);
    }
    Ok(gone)
}

fn remove_one(tx: &mut Transaction<'_>, kind: u8, rest: &[u8], now: Timestamp) -> Result<bool> {
    match kind {
        layout::SESSION => match tx.load::<Session>(&RecordKey::raw(kind, rest))? {
            Some(session) if !session.is_live(now) => {
                remove_session(tx, &session.uid, &session.id);
            }
            _ => return Ok(false),
        },
        layout::TOKEN => match tx.load::<OneTimeToken>(&RecordKey::raw(kind, rest))? {
            Some(token) if !token.is_live(now) => remove_token(tx, &token.uid, &token.digest),
            _ => return Ok(false),
        },
        _ => match tx.load::<Account>(&RecordKey::raw(kind, rest))? {
            Some(account) if is_abandoned(tx.records(), &account)? => {
                tx.touch(&account.uid);
                accounts::no_longer_pending(tx)?;
                tx.remove(&layout::account(&account.uid));
                tx.remove(&layout::account_id(&account.account_id));
            }
            _ => return Ok(false),
        },
    }
    Ok(true)
}

/// Whether an account was never confirmed and no longer can be.
fn is_abandoned(records: &dyn Records, account: &Account) -> Result<bool> {
    Ok(account.status == AccountStatus::Pending
        && reads::token_digests(records, &account.uid)?.is_empty())
}
