//! GET, POST /accounts; GET, PATCH, DELETE /accounts/{id}; GET, DELETE /accounts/{id}/sessions: for administrators.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::admin::{AccountChangeRefusal, CreationRefusal, RemovalRefusal};
use crate::account::register::NewPerson;
use crate::model::access::Role;
use crate::model::account::{
    Account, AccountStatus, EmailAddress, PersonName, ShownAccount, Username,
};
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, InvalidField};
use crate::model::id::{AccountId, SessionId};
use crate::store::AccountChange;
use crate::web::answer::{Created, Json, List, NoContent};
use crate::web::api::session::SessionAnswer;
use crate::web::body::{JsonBody, PathParam, Query};
use crate::web::caller::{Administrator, RecognisedCaller, session_of};
use crate::web::cursor::PageQuery;
use crate::web::error::{Refused, WebProblem};

/// Returns one page of accounts.
pub(in crate::web) async fn list(
    Administrator(caller): Administrator,
    Query(query): Query<PageQuery<AccountId>>,
) -> Result<Json<List<ShownAccount>>, WebProblem> {
    let page = caller.accounts().list(query.after()?.as_ref()).await?;
    Ok(Json(List::page(page, ShownAccount::from)))
}

/// Returns one account.
pub(in crate::web) async fn show(
    Administrator(caller): Administrator,
    PathParam(id): PathParam<AccountId>,
) -> Result<Json<ShownAccount>, WebProblem> {
    Ok(Json(found(&caller, &id).await?.into()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AccountChange")]
pub(in crate::web) struct AccountChangeBody {
    status: Option<Checked<AccountStatus>>,
    is_admin: Option<bool>,
    /// Global roles beside `user` and `admin`, in place of those it has.
    roles: Option<Vec<Checked<Role>>>,
    password_must_change: Option<bool>,
    /// Whether all of its API keys are refused until they are confirmed.
    apikeys_suspended: Option<bool>,
}

/// Changes an account.
pub(in crate::web) async fn change(
    Administrator(caller): Administrator,
    PathParam(id): PathParam<AccountId>,
    JsonBody(body): JsonBody<AccountChangeBody>,
) -> Result<Json<ShownAccount>, Refused<(AccountChangeRefusal, InvalidField)>> {
    let change = AccountChange {
        status: body.status.map(Checked::valid).transpose()?,
        is_admin: body.is_admin,
        roles: body.roles.map(roles).transpose()?,
        password_must_change: body.password_must_change,
        keys_suspended: body.apikeys_suspended,
    };
    let account = caller
        .accounts()
        .change(&caller.call(), caller.actor(), &id, change)
        .await?;
    Ok(Json(account.into()))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Invitation")]
pub(in crate::web) struct InvitationBody {
    /// An e-mail address of at most 254 bytes.
    identity: Checked<EmailAddress>,
    /// 2 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit, but not with `u-`; upper case is folded.
    username: Checked<Username>,
    /// What the person is called: 1 to 128 characters, none of them a control character.
    name: Checked<PersonName>,
    is_admin: Option<bool>,
    /// Global roles beside `user` and `admin`; those of the form `<resource>-<id>-<level>` are given by memberships.
    roles: Option<Vec<Checked<Role>>>,
}

/// Creates a pending account and mails an invitation.
pub(in crate::web) async fn invite(
    Administrator(caller): Administrator,
    JsonBody(body): JsonBody<InvitationBody>,
) -> Result<Created<ShownAccount>, Refused<(CreationRefusal, InvalidField)>> {
    let person = NewPerson::of(body.identity, body.username, body.name)?;
    let roles = roles(body.roles.unwrap_or_default())?;
    let is_admin = body.is_admin.unwrap_or(false);
    let account = caller
        .accounts()
        .invite(&caller.call(), person, is_admin, roles)
        .await?;
    Ok(Created(account.into()))
}

/// Removes an account permanently.
pub(in crate::web) async fn remove(
    Administrator(caller): Administrator,
    PathParam(id): PathParam<AccountId>,
) -> Result<NoContent, Refused<RemovalRefusal>> {
    caller
        .accounts()
        .remove(&caller.call(), caller.actor(), &id)
        .await?;
    Ok(NoContent)
}

/// Returns one page of an account's sessions.
pub(in crate::web) async fn sessions(
    Administrator(caller): Administrator,
    PathParam(id): PathParam<AccountId>,
    Query(query): Query<PageQuery<SessionId>>,
) -> Result<Json<List<SessionAnswer>>, WebProblem> {
    let after = query.after()?;
    let account = found(&caller, &id).await?;
    let asking = session_of(&caller.identity).map(|(_, session)| session);
    let page = caller
        .accounts()
        .sessions(&account.uid, after.as_ref())
        .await?;
    Ok(Json(List::page(page, |session| {
        SessionAnswer::new(session, asking)
    })))
}

/// Ends all sessions of an account.
pub(in crate::web) async fn end_sessions(
    Administrator(caller): Administrator,
    PathParam(id): PathParam<AccountId>,
) -> Result<NoContent, WebProblem> {
    let account = found(&caller, &id).await?;
    caller
        .accounts()
        .end_all_sessions(&caller.call(), &account.uid)
        .await?;
    Ok(NoContent)
}

async fn found(caller: &RecognisedCaller, id: &AccountId) -> Result<Account, WebProblem> {
    let found = caller.accounts().account_by_id(id).await?;
    found.ok_or_else(|| ErrorCode::NotFound.into())
}

fn roles(roles: Vec<Checked<Role>>) -> Result<Vec<Role>, InvalidField> {
    roles.into_iter().map(Checked::valid).collect()
}
