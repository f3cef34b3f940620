//! GET, POST /accounts; GET, PATCH, DELETE /accounts/{id}; GET, DELETE /accounts/{id}/sessions: for administrators.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::account::InvalidField;
use crate::account::admin::{Administration, AdministrationRefusal};
use crate::account::register::NewPerson;
use crate::model::access::Role;
use crate::model::account::{Account, AccountStatus};
use crate::model::id::AccountId;
use crate::model::identity::Principal;
use crate::store::AccountChange;
use crate::web::answer::{Json, List};
use crate::web::api::password;
use crate::web::api::session::SessionAnswer;
use crate::web::body::{JsonBody, Place, Query};
use crate::web::caller::{Administrator, Recognised};
use crate::web::error::{Kind, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ListQuery {
    cursor: Option<String>,
}

#[derive(Serialize)]
pub(in crate::web) struct AccountAnswer {
    account_id: String,
    uid: String,
    username: String,
    identity: String,
    name: String,
    status: AccountStatus,
    is_admin: bool,
    roles: Vec<Role>,
    settings_id: String,
    password_must_change: bool,
    created: String,
}

impl From<Account> for AccountAnswer {
    fn from(account: Account) -> Self {
        Self {
            account_id: account.account_id.into(),
            uid: account.uid.into(),
            username: account.username.into(),
            identity: account.identity.into(),
            name: account.name,
            status: account.status,
            is_admin: account.is_admin,
            roles: account.roles,
            settings_id: account.settings_id.into(),
            password_must_change: account.password_must_change,
            created: account.created.to_rfc3339(),
        }
    }
}

/// One page of accounts.
pub(in crate::web) async fn list(
    Administrator(caller): Administrator,
    Query(query): Query<ListQuery>,
) -> Result<Json<List<AccountAnswer>>, Problem> {
    let after = query.cursor.as_deref().map(AccountId::parse).transpose();
    let after = after.map_err(|_| InvalidField {
        field: "cursor",
        expected: "the next of the page before",
    })?;
    let page = caller.accounts().list(after.as_ref()).await?;
    let items = page.items.into_iter().map(AccountAnswer::from).collect();
    Ok(Json(List::page(items, page.next.map(String::from))))
}

/// One account.
pub(in crate::web) async fn show(
    Administrator(caller): Administrator,
    Place(id): Place<String>,
) -> Result<Json<AccountAnswer>, Problem> {
    Ok(Json(found(&caller, &id).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ChangeBody {
    status: Option<String>,
    is_admin: Option<bool>,
    roles: Option<Vec<String>>,
    password_must_change: Option<bool>,
    apikeys_suspended: Option<bool>,
}

/// Changes an account.
pub(in crate::web) async fn change(
    Administrator(caller): Administrator,
    Place(id): Place<String>,
    JsonBody(body): JsonBody<ChangeBody>,
) -> Result<Json<AccountAnswer>, Problem> {
    let id = AccountId::parse(&id).map_err(|_| Kind::NotFound)?;
    let change = AccountChange {
        status: body.status.as_deref().map(status).transpose()?,
        is_admin: body.is_admin,
        roles: body.roles.map(roles).transpose()?,
        password_must_change: body.password_must_change,
        keys_suspended: body.apikeys_suspended,
    };
    let outcome = caller
        .accounts()
        .change(&caller.call(), caller.actor(), &id, change)
        .await?;
    match outcome {
        Administration::Done(account) => Ok(Json((*account).into())),
        Administration::Refused(refusal) => Err(problem(&refusal)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct InvitationBody {
    identity: String,
    username: String,
    name: String,
    is_admin: Option<bool>,
    roles: Option<Vec<String>>,
}

/// Makes a pending account and mails an invitation.
pub(in crate::web) async fn invite(
    Administrator(caller): Administrator,
    JsonBody(body): JsonBody<InvitationBody>,
) -> Result<(StatusCode, Json<AccountAnswer>), Problem> {
    let person = NewPerson::parse(&body.identity, &body.username, &body.name)?;
    let roles = roles(body.roles.unwrap_or_default())?;
    let is_admin = body.is_admin.unwrap_or(false);
    let outcome = caller
        .accounts()
        .invite(&caller.call(), person, is_admin, roles)
        .await?;
    match outcome {
        Administration::Done(account) => Ok((StatusCode::CREATED, Json((*account).into()))),
        Administration::Refused(refusal) => Err(problem(&refusal)),
    }
}

/// Removes an account for ever.
pub(in crate::web) async fn remove(
    Administrator(caller): Administrator,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let id = AccountId::parse(&id).map_err(|_| Kind::NotFound)?;
    let outcome = caller
        .accounts()
        .remove(&caller.call(), caller.actor(), &id)
        .await?;
    match outcome {
        Administration::Done(_) => Ok(StatusCode::NO_CONTENT),
        Administration::Refused(refusal) => Err(problem(&refusal)),
    }
}

/// The sessions of one account.
pub(in crate::web) async fn sessions(
    Administrator(caller): Administrator,
    Place(id): Place<String>,
) -> Result<Json<List<SessionAnswer>>, Problem> {
    let account = found(&caller, &id).await?;
    let asking = match &caller.identity.principal {
        Principal::Own { session, .. } => session.as_ref(),
        Principal::Foreign { .. } => None,
    };
    let sessions = caller.accounts().sessions(&account.uid).await?;
    let items = sessions
        .into_iter()
        .map(|session| SessionAnswer::new(session, asking))
        .collect();
    Ok(Json(List::whole(items)))
}

/// Ends all sessions of one account.
pub(in crate::web) async fn end_sessions(
    Administrator(caller): Administrator,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let account = found(&caller, &id).await?;
    caller
        .accounts()
        .end_all_sessions(&caller.call(), &account.uid)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn found(caller: &Recognised, id: &str) -> Result<Account, Problem> {
    let id = AccountId::parse(id).map_err(|_| Kind::NotFound)?;
    let found = caller.accounts().account_by_id(&id).await?;
    found.ok_or_else(|| Kind::NotFound.into())
}

fn status(text: &str) -> Result<AccountStatus, InvalidField> {
    match text {
        "active" => Ok(AccountStatus::Active),
        "disabled" => Ok(AccountStatus::Disabled),
        _ => Err(InvalidField {
            field: "status",
            expected: "active or disabled",
        }),
    }
}

fn roles(texts: Vec<String>) -> Result<Vec<Role>, InvalidField> {
    let parsed: Result<Vec<_>, _> = texts.into_iter().map(Role::try_from).collect();
    parsed.map_err(|_| InvalidField {
        field: "roles",
        expected: "each of 1 to 255 visible ASCII characters without comma",
    })
}

fn problem(refusal: &AdministrationRefusal) -> Problem {
    match refusal {
        AdministrationRefusal::NoAccount => Kind::NotFound.into(),
        AdministrationRefusal::UsernameTaken => Kind::UsernameTaken.into(),
        AdministrationRefusal::IdentityTaken => Kind::IdentityTaken.into(),
        AdministrationRefusal::OwnAccount => Kind::OwnAccount.into(),
        AdministrationRefusal::Pending => Kind::AccountPending.into(),
        AdministrationRefusal::RoleReserved => Kind::RoleReserved.into(),
        AdministrationRefusal::Changed => Kind::AccountChanged.into(),
        AdministrationRefusal::Password(refusal) => password::problem(refusal),
    }
}
