//! The outbox: waiting mails, each with an index entry in chronological order.

use crate::model::clock::Timestamp;
use crate::model::id::MailId;
use crate::model::mail::QueuedMail;
use crate::store::engine::EngineExt;
use crate::store::{Result, Transaction, layout, reads};

/// Maximum number of mails that one transaction moves.
const SLICE: usize = 256;

pub(crate) fn put(tx: &mut Transaction<'_>, mail: &QueuedMail) -> Result<()> {
    tx.put_new(&layout::mail(&mail.id), mail)?;
    tx.put(&layout::mail_due(mail.next_try, &mail.id), &())
}

pub(crate) fn postpone(
    tx: &mut Transaction<'_>,
    id: &MailId,
    next_try: Timestamp,
    was_refused: bool,
) -> Result<bool> {
    let Some(mut mail) = tx.load(&layout::mail(id))? else {
        return Ok(false);
    };
    mail.attempts = mail.attempts.saturating_add(1);
    mail.refusals = mail.refusals.saturating_add(u32::from(was_refused));
    reschedule(tx, mail, next_try)?;
    Ok(true)
}

/// Overwrites a mail with another time of its next attempt.
fn reschedule(tx: &mut Transaction<'_>, mut mail: QueuedMail, next_try: Timestamp) -> Result<()> {
    tx.remove(&layout::mail_due(mail.next_try, &mail.id));
    mail.next_try = next_try;
    tx.put(&layout::mail(&mail.id), &mail)?;
    tx.put(&layout::mail_due(next_try, &mail.id), &())
}

pub(crate) fn remove(tx: &mut Transaction<'_>, id: &MailId) -> Result<bool> {
    let Some(mail) = tx.load(&layout::mail(id))? else {
        return Ok(false);
    };
    tx.remove(&layout::mail(id));
    tx.remove(&layout::mail_due(mail.next_try, id));
    Ok(true)
}

/// Makes mails due now whose next attempt is ahead (`Timestamp::is_ahead`): no retry pause is that long.
pub(crate) async fn hasten_those_ahead(
    engine: &(impl EngineExt + ?Sized),
    now: Timestamp,
) -> Result<()> {
    loop {
        let ids = engine
            .read(move |records| reads::mails_ahead(records, now, SLICE))
            .await?;
        if ids.is_empty() || engine.write(move |tx| hasten(tx, &ids, now)).await? == 0 {
            return Ok(());
        }
    }
}

/// Makes these mails due and returns how many were moved.
fn hasten(tx: &mut Transaction<'_>, ids: &[MailId], now: Timestamp) -> Result<usize> {
    let mut moved = 0;
    for id in ids {
        let mail = tx.load(&layout::mail(id))?;
        if let Some(mail) = mail.filter(|mail| mail.next_try.is_ahead(now)) {
            reschedule(tx, mail, now)?;
            moved += 1;
        }
    }
    Ok(moved)
}
