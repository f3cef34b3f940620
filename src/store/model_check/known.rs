//! The model: the expected state of each person, and the records for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::access::{Membership, Name, ResourceId};
use crate::model::account::{AccountStatus, Digest, Session};
use crate::model::api_key::{ApiKey, KeyTerms};
use crate::model::clock::Timestamp;
use crate::model::id::{KeyId, SessionId};
use crate::store::Store;
use crate::store::model_check::{LEVELS, ModelAction, PEOPLE, RESOURCES};
use crate::store::test_kit::{account, uid};

/// The expected state of one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelPerson {
    pub(super) is_active: bool,
    pub(super) sessions: BTreeSet<SessionId>,
    pub(super) keys: BTreeSet<KeyId>,
    pub(super) levels: BTreeMap<u32, usize>,
}

/// The expected state: people by number, and those whose names are taken permanently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModelState {
    pub(super) people: BTreeMap<u32, ModelPerson>,
    pub(super) removed: BTreeSet<u32>,
}

impl ModelState {
    fn change(&mut self, number: u32, change: impl FnOnce(&mut ModelPerson)) {
        self.people.get_mut(&number).map(change);
    }

    fn change_active(&mut self, number: u32, change: impl FnOnce(&mut ModelPerson)) {
        let person = self.people.get_mut(&number);
        person.filter(|it| it.is_active).map(change);
    }

    /// Applies the effect of a successful act; `serial` numbers what it creates.
    pub(super) fn apply(&mut self, act: ModelAction, serial: u32) {
        match act {
            ModelAction::Create(number) if !self.removed.contains(&number) => {
                self.people.entry(number).or_insert_with(|| ModelPerson {
                    is_active: true,
                    ..ModelPerson::default()
                });
            }
            ModelAction::Disable(number) => self.change(number, |person| {
                person.is_active = false;
                person.sessions.clear();
            }),
            ModelAction::Enable(number) => self.change(number, |person| person.is_active = true),
            ModelAction::Remove(number) => {
                if self.people.remove(&number).is_some() {
                    self.removed.insert(number);
                }
            }
            ModelAction::Login(number) => self.change_active(number, |person| {
                person.sessions.insert(session_id(serial));
            }),
            ModelAction::LogoutOne(number) => self.change(number, |person| {
                person.sessions.pop_first();
            }),
            ModelAction::LogoutAll(number) => self.change(number, |person| person.sessions.clear()),
            ModelAction::MakeKey(number) => self.change_active(number, |person| {
                person.keys.insert(key_id(serial));
            }),
            ModelAction::RevokeKey(number) => self.change(number, |person| {
                person.keys.pop_first();
            }),
            ModelAction::Join(number, resource, level) => self.change_active(number, |person| {
                person.levels.insert(resource, level);
            }),
            ModelAction::Leave(number, resource) => self.change(number, |person| {
                person.levels.remove(&resource);
            }),
            ModelAction::Create(_)
            | ModelAction::Break(_)
            | ModelAction::Heal
            | ModelAction::Restart => {}
        }
    }
}

pub(super) fn session_id(number: u32) -> SessionId {
    SessionId::parse(&format!("s-{number:08}")).unwrap()
}

pub(super) fn key_id(number: u32) -> KeyId {
    KeyId::parse(&format!("{number:08}")).unwrap()
}

pub(super) fn list() -> Name {
    Name::parse("list").unwrap()
}

pub(super) fn resource(number: u32) -> ResourceId {
    ResourceId::parse(&number.to_string()).unwrap()
}

pub(super) fn level(number: usize) -> Name {
    Name::parse(LEVELS[number]).unwrap()
}

pub(super) fn session(number: u32, of: u32) -> Session {
    Session {
        id: session_id(number),
        uid: uid(of),
        created: Timestamp::from_secs(1),
        last_seen: Timestamp::from_secs(1),
        from: "192.0.2.1".to_owned(),
        idle_end: Timestamp::from_secs(100),
        absolute_end: Timestamp::from_secs(1000),
        refresh: Digest([0; 32]),
        spent: Vec::new(),
        rotated: Timestamp::from_secs(1),
        cookies: None,
    }
}

pub(super) fn api_key(number: u32, of: u32) -> ApiKey {
    ApiKey {
        id: key_id(number),
        uid: uid(of),
        terms: KeyTerms::default(),
        digest: Digest([0; 32]),
        created: Timestamp::from_secs(1),
        previous: None,
        suspended: false,
    }
}

/// Reads the state of the store in every possible way.
pub(super) async fn read(store: &dyn Store) -> ModelState {
    let mut known = ModelState::default();
    let mut members = vec![BTreeSet::new(); RESOURCES as usize];
    for number in 0..PEOPLE {
        let uid = uid(number);
        let name = account(number).username;
        let found = store.account(&uid).await.unwrap();
        let named = store.account_by_username(&name).await.unwrap();
        assert_eq!(found, named);
        let is_taken = store.username_taken(&name).await.unwrap();
        let sessions = store.sessions_of(&uid).await.unwrap();
        let keys = store.api_keys_of(&uid).await.unwrap();
        let memberships = store.memberships_of(&uid).await.unwrap();
        let Some(account) = found else {
            assert!(sessions.is_empty() && keys.is_empty() && memberships.is_empty());
            if is_taken {
                known.removed.insert(number);
            }
            continue;
        };
        for session in &sessions {
            let by_id = store.session(&session.id).await.unwrap();
            assert_eq!(by_id.as_ref(), Some(session));
        }
        for key in &keys {
            assert_eq!(store.api_key(&key.id).await.unwrap().as_ref(), Some(key));
        }
        let rank = |level: &Name| LEVELS.iter().position(|it| *it == level.as_str());
        let of = |it: &Membership| it.id.as_str().parse().unwrap();
        for membership in &memberships {
            let of: u32 = of(membership);
            members[of as usize].insert((uid.clone(), membership.level.clone()));
        }
        known.people.insert(
            number,
            ModelPerson {
                is_active: account.status == AccountStatus::Active,
                sessions: sessions.into_iter().map(|it| it.id).collect(),
                keys: keys.into_iter().map(|it| it.id).collect(),
                levels: memberships
                    .iter()
                    .map(|it| (of(it), rank(&it.level).unwrap()))
                    .collect(),
            },
        );
    }
    for (number, expected) in (0..RESOURCES).zip(members) {
        let (list, id) = (list(), resource(number));
        let found = store.members_of(&list, &id, None, 100).await.unwrap();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    known
}
