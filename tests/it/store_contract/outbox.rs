//! The outbox: mails are ordered by time, and exist exactly if the change that they report exists.

use std::sync::Arc;

use doorward::model::account::{AccountStatus, Purpose};
use doorward::model::id::MailId;
use doorward::model::mail::{QueuedMail, SealedMail};
use doorward::store::Store;
use doorward::store::error::StoreError;

use crate::store_contract::fixture::{NOW, account, at, put_active, token};

fn mail_id(number: u32) -> MailId {
    MailId::parse(&format!("mail-{number:08}")).unwrap()
}

/// Returns a mail that is due after this number of seconds.
pub(crate) fn mail(number: u32, secs: u64) -> QueuedMail {
    QueuedMail {
        id: mail_id(number),
        sealed: SealedMail(number.to_be_bytes().to_vec()),
        created: NOW,
        expires: at(1000),
        next_try: at(secs),
        attempts: 0,
        refusals: 0,
    }
}

/// Returns the ids of mails due after this number of seconds, at most `limit`, and the seconds until the next one is
/// due.
async fn due(store: &dyn Store, secs: u64, limit: usize) -> (Vec<MailId>, Option<u64>) {
    let due = store.due_mails(at(secs), limit).await.unwrap();
    let ids = due.mails.into_iter().map(|mail| mail.id).collect();
    (ids, due.next.map(|next| next.since(NOW).as_secs()))
}

pub(crate) async fn mails_wait_in_the_order_of_time(store: Arc<dyn Store>) {
    let store = &*store;
    assert_eq!(due(store, 0, 9).await, (vec![], None));
    for (number, secs) in [(1, 30), (2, 10), (3, 20)] {
        store.put_mail(mail(number, secs)).await.unwrap();
    }
    assert_eq!(store.mail_count().await.unwrap(), 3);
    assert_eq!(due(store, 9, 9).await, (vec![], Some(10)));
    assert_eq!(
        due(store, 20, 9).await,
        (vec![mail_id(2), mail_id(3)], Some(30))
    );
    assert_eq!(
        due(store, 99, 2).await,
        (vec![mail_id(2), mail_id(3)], Some(30))
    );
    assert!(
        store
            .postpone_mail(&mail_id(2), at(40), true)
            .await
            .unwrap()
    );
    assert!(
        store
            .postpone_mail(&mail_id(2), at(50), false)
            .await
            .unwrap()
    );
    let expected = vec![mail_id(3), mail_id(1), mail_id(2)];
    assert_eq!(due(store, 50, 9).await, (expected, None));
    let found = store.due_mails(at(50), 9).await.unwrap().mails.remove(2);
    let postponed = QueuedMail {
        next_try: at(50),
        attempts: 2,
        refusals: 1,
        ..mail(2, 10)
    };
    assert_eq!(found, postponed);
    for (number, is_there) in [(3, true), (3, false), (9, false)] {
        assert_eq!(store.remove_mail(&mail_id(number)).await.unwrap(), is_there);
    }
    assert!(
        !store
            .postpone_mail(&mail_id(3), at(1), false)
            .await
            .unwrap()
    );
    assert_eq!(
        due(store, 50, 9).await,
        (vec![mail_id(1), mail_id(2)], None)
    );
    let again = store.put_mail(mail(1, 10)).await;
    assert!(matches!(again, Err(StoreError::Collision { .. })));
    assert_eq!(store.mail_count().await.unwrap(), 2);
}

pub(crate) async fn a_mail_is_there_exactly_if_its_token_is(store: Arc<dyn Store>) {
    let pending = account(1, AccountStatus::Pending);
    let confirm = token(1, 1, Purpose::Confirm);
    let registered = store.register(pending.clone(), confirm.clone(), Some(mail(1, 0)), None);
    assert!(registered.await.unwrap());
    // The same account once more: nothing is written for it.
    let again = store
        .register(pending, confirm, Some(mail(2, 0)), None)
        .await;
    assert!(again.is_err());
    put_active(&*store, 2).await;
    for (number, purpose, fits) in [(3, Purpose::Reset, true), (4, Purpose::Confirm, false)] {
        let token = token(number, 2, purpose);
        let put = store.put_token(token, Some(mail(number, 0))).await.unwrap();
        assert_eq!(put, fits);
    }
    let (ids, _) = due(&*store, 0, 9).await;
    assert_eq!(ids, [mail_id(1), mail_id(3)]);
}
