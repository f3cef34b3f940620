//! Memberships: who is what on one resource, and who may change that.

use crate::account::call::Call;
use crate::account::page::{PAGE, Page};
use crate::account::{AccountError, Accounts, Actor};
use crate::model::access::{Membership, Name, Rank, ResourceId};
use crate::model::id::UserId;
use crate::store::MembershipChange;
use crate::telemetry::audit::AuditAction;

/// How often a change is tried anew when the level has changed under it.
const TRIES: usize = 3;

/// One resource: its kind is declared, its id keeps its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Kind, such as `list`.
    pub kind: Name,
    /// Which one.
    pub id: ResourceId,
}

/// Outcome of a call about members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Members<T> {
    /// Done, or found.
    Done(T),
    /// Not done.
    Refused(MemberRefusal),
}

/// Why a call about members was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRefusal {
    /// The level is not declared.
    LevelUnknown,
    /// The caller does not manage this resource, or the level is above their own.
    NotAllowed,
    /// There is no active account of that uid.
    NoAccount,
    /// The uid has no membership of this resource.
    NoMember,
    /// Others changed the same membership over and over.
    Changed,
    /// The account has as many memberships as one may have, or the resource as many members.
    TooMany,
}

impl MemberRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::LevelUnknown => "level_unknown",
            Self::NotAllowed => "role_missing",
            Self::NoAccount | Self::NoMember => "not_found",
            Self::Changed => "membership_changed",
            Self::TooMany => "membership_limit",
        }
    }
}

/// What an actor may do on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    /// Everything.
    All,
    /// Whatever is not above this rank.
    UpTo(Rank),
    /// Nothing.
    None,
}

impl Power {
    /// A level that is no longer declared cannot be compared: administrators only.
    fn covers(self, rank: Option<Rank>) -> bool {
        match self {
            Self::All => true,
            Self::UpTo(own) => rank.is_some_and(|rank| rank <= own),
            Self::None => false,
        }
    }
}

impl Accounts {
    /// The resource that two texts name; `None`: the kind is not declared, its memberships are another service's, or the
    /// id breaks its rule.
    #[must_use]
    pub fn resource(&self, kind: &str, id: &str) -> Option<Resource> {
        let roles = &self.parts.roles;
        let mut stored = roles.resources.iter().filter(|name| roles.is_stored(name));
        Some(Resource {
            kind: stored.find(|name| name.as_str() == kind)?.clone(),
            id: ResourceId::parse(id).ok()?,
        })
    }

    /// Members of a resource with their levels in the order of uids, those after `after`: for its managers and
    /// administrators.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn members(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        after: Option<&UserId>,
    ) -> Result<Members<Page<(UserId, Name), UserId>>, AccountError> {
        if self.power(actor, resource).await? == Power::None {
            return Ok(Members::Refused(MemberRefusal::NotAllowed));
        }
        let store = &self.parts.store;
        let members = store
            .members_of(&resource.kind, &resource.id, after, PAGE + 1)
            .await?;
        Ok(Members::Done(Page::of(members, |(uid, _)| uid.clone())))
    }

    /// The level of one member: for the member, the resource's managers and administrators.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn member(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<Members<Name>, AccountError> {
        let is_self = actor_uid(actor) == Some(uid) && limit(actor, resource) != Limit::Shut;
        if !is_self && self.power(actor, resource).await? == Power::None {
            return Ok(Members::Refused(MemberRefusal::NotAllowed));
        }
        let level = self.level(uid, resource).await?;
        Ok(level.map_or(Members::Refused(MemberRefusal::NoMember), Members::Done))
    }

    /// Sets somebody's level on a resource.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn set_member(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        (uid, level): (&UserId, &str),
    ) -> Result<Members<()>, AccountError> {
        let outcome = self.try_set(call, actor, resource, (uid, level)).await?;
        record(call, AuditAction::SetMembership, &outcome, uid, resource);
        Ok(outcome)
    }

    /// Ends somebody's membership of a resource; everybody may end their own.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn end_member(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<Members<()>, AccountError> {
        let outcome = self.try_end(call, actor, resource, uid).await?;
        record(call, AuditAction::EndMembership, &outcome, uid, resource);
        Ok(outcome)
    }

    async fn try_set(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        (uid, level): (&UserId, &str),
    ) -> Result<Members<()>, AccountError> {
        let ladder = &self.parts.roles.ladder;
        let power = self.power(actor, resource).await?;
        if power == Power::None {
            return Ok(Members::Refused(MemberRefusal::NotAllowed));
        }
        let Some(rank) = ladder.rank(level) else {
            return Ok(Members::Refused(MemberRefusal::LevelUnknown));
        };
        let Some(name) = ladder.name(rank) else {
            return Ok(Members::Refused(MemberRefusal::LevelUnknown));
        };
        let membership = Membership {
            resource: resource.kind.clone(),
            id: resource.id.clone(),
            level: name.clone(),
        };
        let mut found = self.level(uid, resource).await?;
        for _ in 0..TRIES {
            let present = found.as_ref().map(|level| ladder.rank(level.as_str()));
            if !power.covers(Some(rank)) || !present.is_none_or(|rank| power.covers(rank)) {
                return Ok(Members::Refused(MemberRefusal::NotAllowed));
            }
            let (store, object) = (&self.parts.store, object(resource));
            self.begin(call, AuditAction::SetMembership, Some(uid), Some(&object))
                .await?;
            let change = store
                .set_membership(uid, membership.clone(), found.as_ref())
                .await?;
            match change {
                MembershipChange::Done => return Ok(Members::Done(())),
                MembershipChange::NoAccount => {
                    return Ok(Members::Refused(MemberRefusal::NoAccount));
                }
                MembershipChange::Full => return Ok(Members::Refused(MemberRefusal::TooMany)),
                MembershipChange::Conflict { found: other } => found = other,
            }
        }
        Ok(Members::Refused(MemberRefusal::Changed))
    }

    async fn try_end(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<Members<()>, AccountError> {
        let ladder = &self.parts.roles.ladder;
        let is_self = actor_uid(actor) == Some(uid);
        let power = if is_self && limit(actor, resource) == Limit::None {
            Power::All
        } else {
            self.power(actor, resource).await?
        };
        if power == Power::None {
            return Ok(Members::Refused(MemberRefusal::NotAllowed));
        }
        let mut found = self.level(uid, resource).await?;
        for _ in 0..TRIES {
            let Some(present) = &found else {
                return Ok(Members::Refused(MemberRefusal::NoMember));
            };
            if !power.covers(ladder.rank(present.as_str())) {
                return Ok(Members::Refused(MemberRefusal::NotAllowed));
            }
            let (store, object) = (&self.parts.store, object(resource));
            self.begin(call, AuditAction::EndMembership, Some(uid), Some(&object))
                .await?;
            let change = store
                .end_membership(uid, &resource.kind, &resource.id, present)
                .await?;
            match change {
                MembershipChange::Done => return Ok(Members::Done(())),
                MembershipChange::NoAccount | MembershipChange::Full => {
                    return Ok(Members::Refused(MemberRefusal::NoAccount));
                }
                MembershipChange::Conflict { found: other } => found = other,
            }
        }
        Ok(Members::Refused(MemberRefusal::Changed))
    }

    /// What an actor may do on a resource, by what the store says now.
    async fn power(&self, actor: Actor<'_>, resource: &Resource) -> Result<Power, AccountError> {
        if actor.is_administrator() {
            return Ok(Power::All);
        }
        let Some(uid) = actor_uid(actor) else {
            return Ok(Power::None);
        };
        let ladder = &self.parts.roles.ladder;
        let own = self.level(uid, resource).await?;
        let own = own.and_then(|level| ladder.rank(level.as_str()));
        let own = match limit(actor, resource) {
            Limit::None => own,
            Limit::UpTo(rank) => own.map(|own| own.min(rank)),
            Limit::Shut => None,
        };
        let manage = ladder.rank(self.parts.roles.manage_level.as_str());
        Ok(match (own, manage) {
            (Some(own), Some(manage)) if manage <= own => Power::UpTo(own),
            _ => Power::None,
        })
    }

    async fn level(&self, uid: &UserId, resource: &Resource) -> Result<Option<Name>, AccountError> {
        let store = &self.parts.store;
        Ok(store.membership(uid, &resource.kind, &resource.id).await?)
    }
}

/// How far a credential reaches on one resource, whatever its owner may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// It has none.
    None,
    UpTo(Rank),
    /// It does not reach there.
    Shut,
}

fn limit(actor: Actor<'_>, resource: &Resource) -> Limit {
    let Actor::Caller(identity) = actor else {
        return Limit::None;
    };
    let Some(only) = &identity.only else {
        return Limit::None;
    };
    let mut on_it = only
        .iter()
        .filter(|role| role.resource == resource.kind && role.id == resource.id);
    on_it
        .next()
        .map_or(Limit::Shut, |role| Limit::UpTo(role.rank))
}

fn actor_uid(actor: Actor<'_>) -> Option<&UserId> {
    match actor {
        Actor::Operator => None,
        Actor::Caller(identity) => identity.own_uid(),
    }
}

fn record(
    call: &Call,
    action: AuditAction,
    outcome: &Members<()>,
    uid: &UserId,
    resource: &Resource,
) {
    let code = match outcome {
        Members::Done(()) => "ok",
        Members::Refused(refusal) => refusal.code(),
    };
    call.record(action, code, Some(uid.as_str()), Some(&object(resource)));
}

/// A resource as the audit trail names it.
fn object(resource: &Resource) -> String {
    format!("{}/{}", resource.kind, resource.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, identity};
    use crate::model::account::Account;
    use crate::model::identity::Identity;

    struct Scene {
        kit: Kit,
        list: Resource,
        call: Call,
        people: Vec<Account>,
    }

    /// Three people with these levels of list 42.
    async fn scene(levels: [Option<&str>; 3]) -> Scene {
        let kit = Kit::new();
        let list = kit.accounts.resource("list", "42").unwrap();
        let mut people = Vec::new();
        for (name, level) in ["anna", "bert", "carl"].into_iter().zip(levels) {
            let person = kit.person(name).await;
            if let Some(level) = level {
                let call = Call::cli();
                let set =
                    kit.accounts
                        .set_member(&call, Actor::Operator, &list, (&person.uid, level));
                assert_eq!(set.await.unwrap(), Members::Done(()));
            }
            people.push(person);
        }
        Scene {
            kit,
            list,
            call: Call::default(),
            people,
        }
    }

    impl Scene {
        fn caller(&self, place: usize) -> Identity {
            identity(&self.people[place], None, &["auth:members"])
        }

        async fn set(&self, actor: usize, target: usize, level: &str) -> Members<()> {
            let caller = self.caller(actor);
            let change = (&self.people[target].uid, level);
            self.kit
                .accounts
                .set_member(&self.call, Actor::Caller(&caller), &self.list, change)
                .await
                .unwrap()
        }

        async fn end(&self, actor: usize, target: usize) -> Members<()> {
            let caller = self.caller(actor);
            let uid = &self.people[target].uid;
            self.kit
                .accounts
                .end_member(&self.call, Actor::Caller(&caller), &self.list, uid)
                .await
                .unwrap()
        }
    }

    const NOT_ALLOWED: Members<()> = Members::Refused(MemberRefusal::NotAllowed);

    #[tokio::test]
    async fn managers_change_what_is_not_above_them() {
        let scene = scene([Some("manager"), Some("secret"), None]).await;
        let cases = [
            (0, 2, "secret", NOT_ALLOWED),
            (0, 2, "manager", Members::Done(())),
            (0, 2, "public", Members::Done(())),
            (0, 1, "member", NOT_ALLOWED),
            (0, 0, "secret", NOT_ALLOWED),
            (0, 2, "owner", Members::Refused(MemberRefusal::LevelUnknown)),
            (2, 2, "member", NOT_ALLOWED),
            (1, 0, "secret", Members::Done(())),
        ];
        for (actor, target, level, expected) in cases {
            let outcome = scene.set(actor, target, level).await;
            assert_eq!(outcome, expected, "{actor} {target} {level}");
        }
    }

    #[tokio::test]
    async fn members_may_leave_and_are_put_out_by_managers_only() {
        let scene = scene([Some("member"), Some("secret"), Some("manager")]).await;
        assert_eq!(scene.end(0, 2).await, NOT_ALLOWED);
        assert_eq!(scene.end(2, 1).await, NOT_ALLOWED);
        assert_eq!(scene.end(0, 0).await, Members::Done(()));
        let gone = Members::Refused(MemberRefusal::NoMember);
        assert_eq!(scene.end(0, 0).await, gone);
        assert_eq!(scene.end(1, 2).await, Members::Done(()));
    }

    #[tokio::test]
    async fn a_manager_of_one_id_is_nobody_on_another() {
        let mut scene = scene([Some("manager"), None, None]).await;
        for id in ["4", "421", "4-2", "42-1"] {
            scene.list = scene.kit.accounts.resource("list", id).unwrap();
            assert_eq!(scene.set(0, 1, "invitee").await, NOT_ALLOWED, "{id}");
        }
        assert_eq!(scene.kit.accounts.resource("event", "42"), None);
        assert_eq!(scene.kit.accounts.resource("list", "4%32"), None);
    }

    #[tokio::test]
    async fn lists_are_for_managers_and_oneself() {
        let scene = scene([Some("manager"), Some("member"), None]).await;
        let (manager, member) = (scene.caller(0), scene.caller(1));
        let accounts = &scene.kit.accounts;
        let Members::Done(all) = accounts
            .members(Actor::Caller(&manager), &scene.list, None)
            .await
            .unwrap()
        else {
            panic!("refused");
        };
        assert_eq!(all.items.len(), 2);
        let first = &all.items[0].0;
        let rest = accounts
            .members(Actor::Operator, &scene.list, Some(first))
            .await;
        assert!(matches!(rest.unwrap(), Members::Done(page) if page.items == all.items[1..]));
        let refused = accounts
            .members(Actor::Caller(&member), &scene.list, None)
            .await;
        assert_eq!(
            refused.unwrap(),
            Members::Refused(MemberRefusal::NotAllowed)
        );
        let own = accounts
            .member(Actor::Caller(&member), &scene.list, &scene.people[1].uid)
            .await;
        assert!(matches!(own.unwrap(), Members::Done(level) if level.as_str() == "member"));
        let other = accounts
            .member(Actor::Caller(&member), &scene.list, &scene.people[0].uid)
            .await;
        assert_eq!(other.unwrap(), Members::Refused(MemberRefusal::NotAllowed));
    }

    #[tokio::test]
    async fn only_accounts_become_members() {
        let scene = scene([None, None, None]).await;
        let nobody = UserId::parse("u-nobody-here").unwrap();
        let outcome = scene
            .kit
            .accounts
            .set_member(
                &scene.call,
                Actor::Operator,
                &scene.list,
                (&nobody, "member"),
            )
            .await;
        assert_eq!(outcome.unwrap(), Members::Refused(MemberRefusal::NoAccount));
    }
}
