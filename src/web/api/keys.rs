//! GET, POST /apikeys; GET, PATCH, DELETE /apikeys/{id}; POST /apikeys/{id}/rotate.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::Accounts;
use crate::account::api_keys::{
    IssuedKey, KeyChangeRefusal, KeyCreationRefusal, KeyRotationRefusal, OVERLAP_S_MAX,
};
use crate::model::api_key::{ApiKey, KeyPatch, NewKey, ShownKey};
use crate::model::clock::Timestamp;
use crate::model::error_code::ErrorCode;
use crate::model::field::{Checked, FieldChange};
use crate::model::id::KeyId;
use crate::web::answer::{Created, Json, List, NoContent};
use crate::web::body::{JsonBody, JsonOrNothing, PathParam, Query};
use crate::web::caller::OwnLogin;
use crate::web::cursor::PageQuery;
use crate::web::error::{Refused, WebProblem};

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyRotation")]
pub(in crate::web) struct RotateBody {
    /// How many seconds the old secret is good beside the new one; an hour if nobody says.
    #[schemars(range(max = OVERLAP_S_MAX))]
    overlap_s: Option<u64>,
}

/// Default time for which the old secret is accepted next to the new one, in seconds.
const OVERLAP_S: u64 = 3600;

/// Creates a key.
pub(in crate::web) async fn create(
    OwnLogin(login): OwnLogin,
    JsonBody(wanted): JsonBody<NewKey>,
) -> Result<Created<ShownKey>, Refused<KeyCreationRefusal>> {
    // An unreadable time is refused before the use case, which would write an audit event.
    wanted.expires.as_ref().map(Checked::get).transpose()?;
    let issued = login
        .accounts()
        .create_api_key(&login.call(), (&login.account, &login.identity), wanted)
        .await?;
    Ok(Created(with_secret(issued, None)))
}

/// Changes one of the caller's keys.
pub(in crate::web) async fn change(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<KeyId>,
    JsonBody(patch): JsonBody<KeyPatch>,
) -> Result<Json<ShownKey>, Refused<KeyChangeRefusal>> {
    if let FieldChange::Set(expires) = &patch.expires {
        expires.get()?;
    }
    let accounts = login.accounts();
    let maker = (login.account.as_ref(), login.identity.as_ref());
    let key = accounts
        .update_api_key(&login.call(), maker, &id, patch)
        .await?;
    let used = last_used(accounts, &key).await?;
    Ok(Json(ShownKey::new(key, None, used)))
}

/// Creates a new secret for one of the caller's keys; only this response shows it.
pub(in crate::web) async fn rotate(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<KeyId>,
    JsonOrNothing(body): JsonOrNothing<RotateBody>,
) -> Result<Json<ShownKey>, Refused<KeyRotationRefusal>> {
    let overlap_s = body.overlap_s.unwrap_or(OVERLAP_S);
    let accounts = login.accounts();
    let issued = accounts
        .rotate_api_key(&login.call(), &login.account, &id, overlap_s)
        .await?;
    let used = last_used(accounts, &issued.key).await?;
    Ok(Json(with_secret(issued, used)))
}

fn with_secret(issued: IssuedKey, used: Option<Timestamp>) -> ShownKey {
    let shown = issued.secret.expose().to_owned();
    ShownKey::new(issued.key, Some(shown), used)
}

async fn last_used(accounts: &Accounts, key: &ApiKey) -> Result<Option<Timestamp>, WebProblem> {
    let used = accounts.keys_used(std::slice::from_ref(key)).await?;
    Ok(used.into_iter().next().flatten())
}

/// Returns one page of the caller's keys.
pub(in crate::web) async fn list(
    OwnLogin(login): OwnLogin,
    Query(query): Query<PageQuery<KeyId>>,
) -> Result<Json<List<ShownKey>>, WebProblem> {
    let after = query.after()?;
    let accounts = login.accounts();
    let page = accounts
        .api_keys(&login.account.uid, after.as_ref())
        .await?;
    let mut used = accounts.keys_used(&page.items).await?.into_iter();
    Ok(Json(List::page(page, |key| {
        ShownKey::new(key, None, used.next().flatten())
    })))
}

/// Returns one of the caller's keys.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<KeyId>,
) -> Result<Json<ShownKey>, WebProblem> {
    let found = login.accounts().api_key(&login.account.uid, &id).await?;
    let key = found.ok_or(ErrorCode::NotFound)?;
    let used = last_used(login.accounts(), &key).await?;
    Ok(Json(ShownKey::new(key, None, used)))
}

/// Revokes one of the caller's keys.
pub(in crate::web) async fn revoke(
    OwnLogin(login): OwnLogin,
    PathParam(id): PathParam<KeyId>,
) -> Result<NoContent, WebProblem> {
    let uid = &login.account.uid;
    login
        .accounts()
        .revoke_api_key(&login.call(), uid, &id)
        .await?;
    Ok(NoContent)
}
