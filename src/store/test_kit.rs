//! Numbered accounts for the tests of the store.

use crate::model::account::{Account, AccountStatus, EmailAddress, PersonName, Username};
use crate::model::clock::Timestamp;
use crate::model::field::CheckedField as _;
use crate::model::id::{AccountId, SettingsId, UserId};

pub(crate) fn uid(number: u32) -> UserId {
    UserId::parse(&format!("u-{number:08}")).unwrap()
}

/// Creates an active account without sessions, keys or memberships.
pub(crate) fn account(number: u32) -> Account {
    let username = format!("name{number}");
    Account {
        uid: uid(number),
        account_id: AccountId::parse(&format!("a-{number:08}")).unwrap(),
        identity: EmailAddress::parse(&format!("{username}@example.org")).unwrap(),
        username: Username::parse(&username).unwrap(),
        name: PersonName::check(username).unwrap(),
        status: AccountStatus::Active,
        is_admin: false,
        roles: Vec::new(),
        settings_id: SettingsId::parse(&format!("set-{number:08}")).unwrap(),
        password_must_change: false,
        password: None,
        generation: 0,
        level_changes: 0,
        created: Timestamp::from_secs(1),
    }
}
