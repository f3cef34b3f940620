//! GET /members/{resource}/{id}; GET, PUT, DELETE /members/{resource}/{id}/{uid}.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::members::{EndMemberRefusal, MemberRefusal, Resource, SetMemberRefusal};
use crate::model::access::{Member, Name, ResourceId};
use crate::model::error_code::ErrorCode;
use crate::model::id::UserId;
use crate::web::answer::{Json, List, NoContent};
use crate::web::body::{JsonBody, PathParam, Query};
use crate::web::caller::{MemberCaller, RecognisedCaller};
use crate::web::cursor::PageQuery;
use crate::web::error::{Refused, WebProblem};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Level")]
pub(in crate::web) struct LevelBody {
    /// One of the levels that are declared, by default `public`, `invitee`, `member`, `manager`, `secret`.
    level: String,
}

/// Returns one page of the members of a resource.
pub(in crate::web) async fn list(
    MemberCaller(caller): MemberCaller,
    PathParam((kind, id)): PathParam<(Name, ResourceId)>,
    Query(query): Query<PageQuery<UserId>>,
) -> Result<Json<List<Member>>, Refused<MemberRefusal>> {
    let resource = resource(&caller, &kind, &id)?;
    let after = query.after()?;
    let found = caller
        .accounts()
        .members(caller.actor(), &resource, after.as_ref())
        .await?;
    Ok(Json(List::page(found, |member| member)))
}

/// Returns one member.
pub(in crate::web) async fn show(
    MemberCaller(caller): MemberCaller,
    PathParam((kind, id, uid)): PathParam<(Name, ResourceId, UserId)>,
) -> Result<Json<Member>, Refused<MemberRefusal>> {
    let resource = resource(&caller, &kind, &id)?;
    let accounts = caller.accounts();
    let level = accounts.member(caller.actor(), &resource, &uid).await?;
    Ok(Json(Member { uid, level }))
}

/// Sets a member's level.
pub(in crate::web) async fn set(
    MemberCaller(caller): MemberCaller,
    PathParam((kind, id, uid)): PathParam<(Name, ResourceId, UserId)>,
    JsonBody(body): JsonBody<LevelBody>,
) -> Result<Json<Member>, Refused<SetMemberRefusal>> {
    let resource = resource(&caller, &kind, &id)?;
    let change = (&uid, body.level.as_str());
    let level = caller
        .accounts()
        .set_member(&caller.call(), caller.actor(), &resource, change)
        .await?;
    Ok(Json(Member { uid, level }))
}

/// Ends a membership.
pub(in crate::web) async fn end(
    MemberCaller(caller): MemberCaller,
    PathParam((kind, id, uid)): PathParam<(Name, ResourceId, UserId)>,
) -> Result<NoContent, Refused<EndMemberRefusal>> {
    let resource = resource(&caller, &kind, &id)?;
    caller
        .accounts()
        .end_member(&caller.call(), caller.actor(), &resource, &uid)
        .await?;
    Ok(NoContent)
}

fn resource(
    caller: &RecognisedCaller,
    kind: &Name,
    id: &ResourceId,
) -> Result<Resource, WebProblem> {
    let found = caller.accounts().resource(kind.as_str(), id.as_str());
    found.ok_or_else(|| ErrorCode::NotFound.into())
}
