//! Memberships: who is what on one resource, and who may change that.

use crate::account::call::Call;
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
    /// The resource that two texts name; `None`: the kind is not declared or the id breaks its rule.
    #[must_use]
    pub fn resource(&self, kind: &str, id: &str) -> Option<Resource> {
        let declared = &self.parts.roles.resources;
        Some(Resource {
            kind: declared.iter().find(|name| name.as_str() == kind)?.clone(),
            id: ResourceId::parse(id).ok()?,
        })
    }

    /// All members of a resource with their levels: for its managers and administrators.
    ///
    /// # Errors
    /// [`AccountError::Store`]
    pub async fn members(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
    ) -> Result<Members<Vec<(UserId, Name)>>, AccountError> {
        if self.power(actor, resource).await? == Power::None {
            return Ok(Members::Refused(MemberRefusal::NotAllowed));
        }
        let store = &self.parts.store;
        let members = store.members_of(&resource.kind, &resource.id).await?;
        Ok(Members::Done(members))
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
        let is_self = actor_uid(actor) == Some(uid);
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
        let outcome = self.try_set(actor, resource, uid, level).await?;
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
        let outcome = self.try_end(actor, resource, uid).await?;
        record(call, AuditAction::EndMembership, &outcome, uid, resource);
        Ok(outcome)
    }

    async fn try_set(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
        level: &str,
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
            let store = &self.parts.store;
            let change = store
                .set_membership(uid, membership.clone(), found.as_ref())
                .await?;
            match change {
                MembershipChange::Done => return Ok(Members::Done(())),
                MembershipChange::NoAccount => {
                    return Ok(Members::Refused(MemberRefusal::NoAccount));
                }
                MembershipChange::Conflict { found: other } => found = other,
            }
        }
        Ok(Members::Refused(MemberRefusal::Changed))
    }

    async fn try_end(
        &self,
        actor: Actor<'_>,
        resource: &Resource,
        uid: &UserId,
    ) -> Result<Members<()>, AccountError> {
        let ladder = &self.parts.roles.ladder;
        let power = if actor_uid(actor) == Some(uid) {
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
            let store = &self.parts.store;
            let change = store
                .end_membership(uid, &resource.kind, &resource.id, present)
                .await?;
            match change {
                MembershipChange::Done => return Ok(Members::Done(())),
                MembershipChange::NoAccount => {
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
        let manage = ladder.rank(self.parts.roles.manage_level.as_str());
        Ok(match (own, manage) {
            (Some(own), Some(manage)) if manage <= own => Power::UpTo(own),
            _ => Power::None,
        })
    }

    async fn level(&self, uid: &UserId, resource: &Resource) -> Result<Option<Name>, AccountError> {
        let memberships = self.parts.store.memberships_of(uid).await?;
        let found = memberships.into_iter().find(|membership| {
            membership.resource == resource.kind && membership.id == resource.id
        });
        Ok(found.map(|membership| membership.level))
    }
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
    let object = format!("{}/{}", resource.kind, resource.id);
    call.record(action, code, Some(uid.as_str()), Some(&object));
}
