//! Memberships: the levels of accounts on a resource, and who may change them.

use crate::account::call::Call;
use crate::account::halt::{Halt, refusals};
use crate::account::page::{PAGE, Page};
use crate::account::{AccountError, Accounts, Actor};
use crate::model::access::{LevelRank, Member, Membership, Name, ResourceId, ResourceRole};
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::UserId;
use crate::store::MembershipChange;
use crate::telemetry::audit::AuditAction;

/// Maximum number of attempts at a change while others change the same level.
const TRIES: usize = 3;

/// A resource with a declared kind and a valid id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Kind, such as `list`.
    pub kind: Name,
    /// The id within that kind.
    pub id: ResourceId,
}

refusals! {
    /// Why members were not shown.
    pub enum MemberRefusal {
        /// The caller does not manage this resource, or the level is above their own.
        NotAllowed => ErrorCode::Denied(DenyReason::RoleMissing),
        /// The uid has no membership of this resource.
        NoMember => ErrorCode::NotFound,
    }
}

refusals! {
    /// Why a membership was not ended.
    pub enum EndMemberRefusal {
        /// There is no active account with that uid.
        NoAccount => ErrorCode::NotFound,
        /// Concurrent calls kept changing the same membership.
        Changed => ErrorCode::MembershipChanged,
    }
    or Member(MemberRefusal)
}

refusals! {
    /// Why a level was not set.
    pub enum SetMemberRefusal {
        /// The level is not declared.
        LevelUnknown => ErrorCode::LevelUnknown,
        /// There is no active account with that uid.
        NoAccount => ErrorCode::NotFound,
        /// Concurrent calls kept changing the same membership.
        Changed => ErrorCode::MembershipChanged,
        /// The account has the maximum number of memberships, or the resource the maximum number of members.
        TooMany => ErrorCode::MembershipLimit,
    }
    or Member(MemberRefusal)
}

/// The rights of an actor on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MemberPower {
    /// Any change.
    All,
    /// Changes at or below this rank.
    UpTo(LevelRank),
}

impl MemberPower {
    /// Whether a rank is covered. A level that is no longer declared cannot be compared, so only administrators cover
    /// it.
    fn covers(self, rank: Option<LevelRank>) -> bool {
        match self {
            Self::All => true,
            Self::UpTo(own) => rank.is_some_and(|rank| rank <= own),
        }
    }
}

impl Accounts {
    /// Returns the resource with this kind and id; `None` if the kind is not declared, its memberships belong to
    /// another service, or the id is invalid.
    #[must_use]
    pub fn resource(&self, kind: &str, id: &str) -> Option<Resource> {
        let declared = self.declared_resource(kind, id);
        declared.filter(|resource| self.config.roles.is_stored(&resource.kind))
    }

    /// Returns the members of a resource with their levels in the order of their uids, starting after `after`. For
    /// managers of the resource and administrators.
    ///
    /// # Errors
    /// [`MemberRefusal`], [`AccountError::Store`]
    pub async fn members(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        after: Option<&UserId>,
    ) -> Result<Page<Member, UserId>, Halt<MemberRefusal>> {
        self.power(actor, resource).await?;
        let store = &self.services.store;
        let members = store
            .members_of(&resource.kind, &resource.id, after, PAGE + 1)
            .await?;
        let members = members.into_iter();
        let members = members.map(|(uid, level)| Member { uid, level });
        Ok(Page::of(members.collect(), |member| member.uid.clone()))
    }

    /// Returns the level of one member. For the member, managers of the resource and administrators.
    ///
    /// # Errors
    /// [`MemberRefusal`], [`AccountError::Store`]
    pub async fn member(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<Name, Halt<MemberRefusal>> {
        let is_self = actor_uid(actor) == Some(uid);
        if !is_self || limit(actor, resource) == CredentialReach::Shut {
            self.power(actor, resource).await?;
        }
        let level = self.level(uid, resource).await?;
        Ok(level.ok_or(MemberRefusal::NoMember)?)
    }

    /// Sets the level of an account on a resource, and returns its name.
    ///
    /// # Errors
    /// [`SetMemberRefusal`], [`AccountError::Store`]
    pub async fn set_member(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        (uid, level): (&UserId, &str),
    ) -> Result<Name, Halt<SetMemberRefusal>> {
        let (action, object) = (AuditAction::SetMembership, object(resource));
        let set = async {
            let ladder = &self.config.roles.ladder;
            let power = self.power(actor, resource).await?;
            let rank = ladder.rank(level).ok_or(SetMemberRefusal::LevelUnknown)?;
            let name = ladder.name(rank).ok_or(SetMemberRefusal::LevelUnknown)?;
            let membership = Membership {
                resource: resource.kind.clone(),
                id: resource.id.clone(),
                level: name.clone(),
            };
            let mut found = self.level(uid, resource).await?;
            for _ in 0..TRIES {
                let present = found.as_ref().map(|level| ladder.rank(level.as_str()));
                if !power.covers(Some(rank)) || !present.is_none_or(|rank| power.covers(rank)) {
                    return Err(MemberRefusal::NotAllowed.into());
                }
                self.begin(call, action, Some(uid), Some(&object)).await?;
                let set =
                    self.services
                        .store
                        .set_membership(uid, membership.clone(), found.as_ref());
                match set.await? {
                    MembershipChange::Done => return Ok(membership.level),
                    MembershipChange::NoAccount => return Err(SetMemberRefusal::NoAccount.into()),
                    MembershipChange::Full => return Err(SetMemberRefusal::TooMany.into()),
                    MembershipChange::Conflict { found: other } => found = other,
                }
            }
            Err(SetMemberRefusal::Changed.into())
        };
        call.settle(action, Some(uid), Some(&object), set.await)
    }

    /// Ends the membership of an account in a resource. Every member may end their own.
    ///
    /// # Errors
    /// [`EndMemberRefusal`], [`AccountError::Store`]
    pub async fn end_member(
        &self,
        call: &Call,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<(), Halt<EndMemberRefusal>> {
        let (action, object) = (AuditAction::EndMembership, object(resource));
        let ended = async {
            let is_self = actor_uid(actor) == Some(uid);
            let power = if is_self && limit(actor, resource) == CredentialReach::None {
                MemberPower::All
            } else {
                self.power(actor, resource).await?
            };
            let mut found = self.level(uid, resource).await?;
            for _ in 0..TRIES {
                let present = found.as_ref().ok_or(MemberRefusal::NoMember)?;
                if !power.covers(self.config.roles.ladder.rank(present.as_str())) {
                    return Err(MemberRefusal::NotAllowed.into());
                }
                self.begin(call, action, Some(uid), Some(&object)).await?;
                let (kind, id) = (&resource.kind, &resource.id);
                match self
                    .services
                    .store
                    .end_membership(uid, kind, id, present)
                    .await?
                {
                    MembershipChange::Done => return Ok(()),
                    MembershipChange::NoAccount | MembershipChange::Full => {
                        return Err(EndMemberRefusal::NoAccount.into());
                    }
                    MembershipChange::Conflict { found: other } => found = other,
                }
            }
            Err(EndMemberRefusal::Changed.into())
        };
        call.settle(action, Some(uid), Some(&object), ended.await)
    }

    /// Returns the rights of an actor on a resource according to the current state of the store.
    ///
    /// # Errors
    /// [`MemberRefusal::NotAllowed`] if the actor has none.
    async fn power(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
    ) -> Result<MemberPower, Halt<MemberRefusal>> {
        if actor.is_administrator() {
            return Ok(MemberPower::All);
        }
        let uid = actor_uid(actor).ok_or(MemberRefusal::NotAllowed)?;
        let ladder = &self.config.roles.ladder;
        let own = self.level(uid, resource).await?;
        let own = own.and_then(|level| ladder.rank(level.as_str()));
        let own = match limit(actor, resource) {
            CredentialReach::None => own,
            CredentialReach::UpTo(rank) => own.map(|own| own.min(rank)),
            CredentialReach::Shut => None,
        };
        let manage = ladder.rank(self.config.roles.manage_level.as_str());
        match (own, manage) {
            (Some(own), Some(manage)) if manage <= own => Ok(MemberPower::UpTo(own)),
            _ => Err(MemberRefusal::NotAllowed.into()),
        }
    }

    async fn level(&self, uid: &UserId, resource: &Resource) -> Result<Option<Name>, AccountError> {
        let store = &self.services.store;
        Ok(store.membership(uid, &resource.kind, &resource.id).await?)
    }
}

/// The part of its owner's rights on one resource that a credential may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialReach {
    /// The credential has no limit.
    None,
    UpTo(LevelRank),
    /// The credential does not cover the resource.
    Shut,
}

fn limit(actor: Actor<'_>, resource: &Resource) -> CredentialReach {
    let only = match actor {
        Actor::Operator => None,
        Actor::Caller(identity) => identity.only.as_ref(),
    };
    let Some(only) = only else {
        return CredentialReach::None;
    };
    let is_it = |role: &&ResourceRole| role.resource == resource.kind && role.id == resource.id;
    let found = only.iter().find(is_it);
    found.map_or(CredentialReach::Shut, |role| {
        CredentialReach::UpTo(role.rank)
    })
}

fn actor_uid(actor: Actor<'_>) -> Option<&UserId> {
    match actor {
        Actor::Operator => None,
        Actor::Caller(identity) => identity.own_uid(),
    }
}

/// Formats a resource for the audit trail.
fn object(resource: &Resource) -> String {
    format!("{}/{}", resource.kind, resource.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::test_kit::{Kit, identity, refusal};
    use crate::model::account::Account;
    use crate::model::identity::Identity;

    struct Scene {
        kit: Kit,
        list: Resource,
        call: Call,
        people: Vec<Account>,
    }

    /// Creates three people with these levels on list 42.
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
                assert_eq!(refusal(set.await), None);
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

        async fn set(&self, actor: usize, target: usize, level: &str) -> Option<SetMemberRefusal> {
            let (accounts, caller) = (&self.kit.accounts, self.caller(actor));
            let change = (&self.people[target].uid, level);
            let actor = Actor::Caller(&caller);
            let set = accounts.set_member(&self.call, actor, &self.list, change);
            refusal(set.await)
        }

        async fn end(&self, actor: usize, target: usize) -> Option<EndMemberRefusal> {
            let (accounts, caller) = (&self.kit.accounts, self.caller(actor));
            let uid = &self.people[target].uid;
            let actor = Actor::Caller(&caller);
            let ended = accounts.end_member(&self.call, actor, &self.list, uid);
            refusal(ended.await)
        }
    }

    fn not_allowed<R: From<MemberRefusal>>() -> R {
        MemberRefusal::NotAllowed.into()
    }

    #[tokio::test]
    async fn managers_change_what_is_not_above_them() {
        let scene = scene([Some("manager"), Some("secret"), None]).await;
        let cases = [
            (0, 2, "secret", Some(not_allowed())),
            (0, 2, "manager", None),
            (0, 2, "public", None),
            (0, 1, "member", Some(not_allowed())),
            (0, 0, "secret", Some(not_allowed())),
            (0, 2, "owner", Some(SetMemberRefusal::LevelUnknown)),
            (2, 2, "member", Some(not_allowed())),
            (1, 0, "secret", None),
        ];
        for (actor, target, level, expected) in cases {
            let outcome = scene.set(actor, target, level).await;
            assert_eq!(outcome, expected, "{actor} {target} {level}");
        }
    }

    #[tokio::test]
    async fn members_may_leave_and_are_put_out_by_managers_only() {
        let scene = scene([Some("member"), Some("secret"), Some("manager")]).await;
        assert_eq!(scene.end(0, 2).await, Some(not_allowed()));
        assert_eq!(scene.end(2, 1).await, Some(not_allowed()));
        assert_eq!(scene.end(0, 0).await, None);
        let gone = Some(MemberRefusal::NoMember.into());
        assert_eq!(scene.end(0, 0).await, gone);
        assert_eq!(scene.end(1, 2).await, None);
    }

    #[tokio::test]
    async fn a_manager_of_one_id_is_nobody_on_another() {
        let mut scene = scene([Some("manager"), None, None]).await;
        for id in ["4", "421", "4-2", "42-1"] {
            scene.list = scene.kit.accounts.resource("list", id).unwrap();
            assert_eq!(
                scene.set(0, 1, "invitee").await,
                Some(not_allowed()),
                "{id}"
            );
        }
        assert_eq!(scene.kit.accounts.resource("event", "42"), None);
        assert_eq!(scene.kit.accounts.resource("list", "4%32"), None);
    }

    #[tokio::test]
    async fn lists_are_for_managers_and_oneself() {
        let scene = scene([Some("manager"), Some("member"), None]).await;
        let (manager, member) = (scene.caller(0), scene.caller(1));
        let accounts = &scene.kit.accounts;
        let all = accounts
            .members(Actor::Caller(&manager), &scene.list, None)
            .await
            .unwrap();
        assert_eq!(all.items.len(), 2);
        let first = &all.items[0].uid;
        let rest = accounts
            .members(Actor::Operator, &scene.list, Some(first))
            .await;
        assert_eq!(rest.unwrap().items, all.items[1..]);
        let refused = accounts
            .members(Actor::Caller(&member), &scene.list, None)
            .await;
        assert_eq!(refusal(refused), Some(not_allowed()));
        let own = accounts
            .member(Actor::Caller(&member), &scene.list, &scene.people[1].uid)
            .await;
        assert_eq!(own.unwrap().as_str(), "member");
        let other = accounts
            .member(Actor::Caller(&member), &scene.list, &scene.people[0].uid)
            .await;
        assert_eq!(refusal(other), Some(not_allowed()));
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
        assert_eq!(refusal(outcome), Some(SetMemberRefusal::NoAccount));
    }
}
