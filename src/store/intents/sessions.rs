//! Sessions: their creation, their refresh tokens and their end.

use crate::crypto::digest::digests_match;
use crate::model::account::{Account, Digest, PasswordHash, Session, SessionUse};
use crate::model::clock::Timestamp;
use crate::model::id::{SessionId, UserId};
use crate::model::mail::QueuedMail;
use crate::store::bounds::SESSIONS_MAX;
use crate::store::intents::{
    active, mails, move_generation, old_hashes, remove_session, remove_sessions, save,
    save_level_change, unchanged,
};
use crate::store::{Guarded, RefreshRotation, Result, Rotation, Transaction, layout, reads};

/// Number of spent refresh tokens remembered per session: reuse of an older one is unknown, not detected.
const SPENT_MAX: usize = 8;
/// Number of networks remembered per account.
const NETWORKS_MAX: usize = 16;

pub(crate) fn create(
    tx: &mut Transaction<'_>,
    mut session: Session,
    standing: u64,
    rehash: Option<PasswordHash>,
) -> Result<Guarded<()>> {
    let Some(mut account) = unchanged(tx, &session.uid, standing)? else {
        return Ok(Guarded::Stale);
    };
    keep_newest(&mut session.spent);
    make_room(tx, &mut account, session.created)?;
    tx.put_new(&layout::session(&session.id), &session)?;
    tx.put(&layout::session_of(&session.uid, &session.id), &())?;
    if rehash.is_some() {
        old_hashes::replaced(tx, account.password.as_ref(), rehash.as_ref())?;
        account.password = rehash;
        save(tx, &account)?;
    }
    Ok(Guarded::Done(()))
}

/// Ends sessions of an account to make room for one more: expired ones first, then the least recently used.
fn make_room(tx: &mut Transaction<'_>, account: &mut Account, now: Timestamp) -> Result<()> {
    let ids = reads::session_ids(tx.records(), &account.uid)?;
    let surplus = (ids.len() + 1).saturating_sub(SESSIONS_MAX);
    if surplus == 0 {
        return Ok(());
    }
    let mut sessions = reads::sessions_of(tx.records(), &account.uid)?;
    sessions.sort_by_key(|session| (session.is_live(now), session.last_seen));
    for session in sessions.iter().take(surplus) {
        remove_session(tx, &account.uid, &session.id);
    }
    // The standing is unchanged: no concurrent login is refused because of this one.
    save_level_change(tx, account)
}

pub(crate) fn remember_network(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    network: Digest,
    mail: Option<&QueuedMail>,
) -> Result<bool> {
    let key = layout::networks(uid);
    let mut known = tx.load(&key)?.unwrap_or_default();
    if active(tx, uid)?.is_none() || known.contains(&network) {
        return Ok(false);
    }
    known.push(network);
    known.drain(..known.len().saturating_sub(NETWORKS_MAX));
    tx.put(&key, &known)?;
    mail.map_or(Ok(()), |mail| mails::put(tx, mail))?;
    Ok(true)
}

pub(crate) fn rotate(tx: &mut Transaction<'_>, rotation: &RefreshRotation) -> Result<Rotation> {
    let Some(mut session) = tx.load(&layout::session(&rotation.session))? else {
        return Ok(Rotation::Unknown);
    };
    if !session.is_live(rotation.now) || active(tx, &session.uid)?.is_none() {
        return Ok(Rotation::Unknown);
    }
    if digests_match(&session.refresh, &rotation.presented) {
        session.spent.push(rotation.presented);
        keep_newest(&mut session.spent);
        session.refresh = rotation.successor;
        session.rotated = rotation.now;
        session.last_seen = rotation.now;
        session.idle_end = rotation.idle_end;
        // A cached session would end too early.
        tx.touch(&session.uid);
        tx.put(&layout::session(&session.id), &session)?;
        return Ok(Rotation::Rotated(session));
    }
    let is_presented = |spent: &Digest| digests_match(spent, &rotation.presented);
    // In either direction: a clock that was set must not extend the grace period.
    let (now, rotated) = (rotation.now, session.rotated);
    let in_grace = now.since(rotated).max(rotated.since(now)) < rotation.grace;
    if in_grace && session.spent.last().is_some_and(is_presented) {
        return Ok(Rotation::Repeated(session));
    }
    if session.spent.iter().any(is_presented) {
        // Two parties hold the same token, and which of them is the thief is unknown.
        remove_session(tx, &session.uid, &session.id);
        move_generation(tx, &session.uid)?;
        return Ok(Rotation::Reused(session));
    }
    Ok(Rotation::Unknown)
}

pub(crate) fn note_uses(tx: &mut Transaction<'_>, uses: &[SessionUse]) -> Result<()> {
    for used in uses {
        let key = layout::session(&used.session);
        let counts = |session: &Session| {
            let is_later = session.last_seen < used.at || session.last_seen.is_ahead(used.at);
            session.is_live(used.at) && session.cookies.is_some() && is_later
        };
        if let Some(mut session) = tx.load(&key)?.filter(counts) {
            session.last_seen = used.at;
            session.idle_end = used.idle_end;
            tx.put(&key, &session)?;
        }
    }
    Ok(())
}

pub(crate) fn end(tx: &mut Transaction<'_>, uid: &UserId, id: &SessionId) -> Result<bool> {
    let session = tx.load(&layout::session(id))?;
    if session.is_none_or(|session| session.uid != *uid) {
        return Ok(false);
    }
    remove_session(tx, uid, id);
    move_generation(tx, uid)?;
    Ok(true)
}

pub(crate) fn end_all(
    tx: &mut Transaction<'_>,
    uid: &UserId,
    keep: Option<&SessionId>,
) -> Result<usize> {
    let ended = remove_sessions(tx, uid, keep)?;
    if 0 < ended {
        move_generation(tx, uid)?;
    }
    Ok(ended)
}

fn keep_newest(spent: &mut Vec<Digest>) {
    spent.drain(..spent.len().saturating_sub(SPENT_MAX));
}
