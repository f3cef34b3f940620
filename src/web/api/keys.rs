//! GET, POST /apikeys; GET, PATCH, DELETE /apikeys/{id}; POST /apikeys/{id}/rotate.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::account::api_keys::{IssuedKey, OVERLAP_S_MAX, WantedChange, WantedKey};
use crate::account::key_terms::{
    NAME_CHARS_MAX, NETWORKS_MAX, RATE_MAX, RESOURCES_MAX, WantedRole,
};
use crate::account::{Accounts, InvalidField};
use crate::model::access::{Membership, Scope};
use crate::model::account::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::id::KeyId;
use crate::web::answer::{Created, Json, List, NoContent};
use crate::web::body::{JsonBody, JsonOrNothing, Place, Query};
use crate::web::caller::OwnLogin;
use crate::web::cursor::PageQuery;
use crate::web::error::{Kind, Problem};
use crate::web::openapi::rules::{NAME as RESOURCE_NAME, PRINTED_OR_NOTHING, RESOURCE_ID};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewApiKey")]
pub(in crate::web) struct KeyBody {
    /// At most 64 characters, none of them a control character.
    #[schemars(length(max = NAME_CHARS_MAX), regex(pattern = PRINTED_OR_NOTHING))]
    name: Option<String>,
    /// Declared scopes, none that the login lacks; an administrator may add `auth:*`.
    scopes: Option<Vec<String>>,
    /// When it ends by itself; not at all if nobody says.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
    /// Addresses and networks from which it may be used.
    #[schemars(length(min = 1, max = NETWORKS_MAX))]
    allow_from: Option<Vec<String>>,
    /// Requests that it may send in a minute.
    #[schemars(range(min = 1, max = RATE_MAX))]
    rate_per_minute: Option<u64>,
    /// The resource roles that it may use, of those of its owner.
    #[schemars(length(max = RESOURCES_MAX))]
    resources: Option<Vec<RoleBody>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WantedKeyRole")]
struct RoleBody {
    #[schemars(regex(pattern = RESOURCE_NAME))]
    resource: String,
    #[schemars(regex(pattern = RESOURCE_ID))]
    id: String,
    level: String,
}

/// What is left out stays; `null` takes away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyChange")]
#[expect(clippy::option_option, reason = "left out and null are two things")]
pub(in crate::web) struct ChangeBody {
    /// At most 64 characters, none of them a control character.
    #[schemars(length(max = NAME_CHARS_MAX), regex(pattern = PRINTED_OR_NOTHING))]
    name: Option<String>,
    /// Declared scopes, none that the login lacks; an administrator may add `auth:*`.
    scopes: Option<Vec<String>>,
    /// When it ends by itself; not at all if nobody says.
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, deserialize_with = "present")]
    expires: Option<Option<String>>,
    /// Addresses and networks from which it may be used.
    #[schemars(length(min = 1, max = NETWORKS_MAX))]
    #[serde(default, deserialize_with = "present")]
    allow_from: Option<Option<Vec<String>>>,
    /// Requests that it may send in a minute.
    #[schemars(range(min = 1, max = RATE_MAX))]
    #[serde(default, deserialize_with = "present")]
    rate_per_minute: Option<Option<u64>>,
    /// The resource roles that it may use, of those of its owner.
    #[schemars(length(max = RESOURCES_MAX))]
    #[serde(default, deserialize_with = "present")]
    resources: Option<Option<Vec<RoleBody>>>,
    /// `false` confirms a key that is suspended, `true` suspends it.
    suspended: Option<bool>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ApiKeyRotation")]
pub(in crate::web) struct RotateBody {
    /// How many seconds the old secret is good beside the new one; an hour if nobody says.
    #[schemars(range(max = OVERLAP_S_MAX))]
    overlap_s: Option<u64>,
}

/// How long the old secret is good beside the new one, if nobody says.
const OVERLAP_S: u64 = 3600;

/// A member that is there, `null` or not.
#[expect(clippy::option_option, reason = "left out and null are two things")]
fn present<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyRole")]
pub(in crate::web) struct RoleAnswer {
    resource: String,
    id: String,
    level: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApiKey")]
pub(in crate::web) struct KeyAnswer {
    id: String,
    /// The whole key: when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    apikey: Option<String>,
    name: String,
    scopes: Vec<String>,
    created: String,
    expires: Option<String>,
    allow_from: Option<Vec<String>>,
    rate_per_minute: Option<u32>,
    resources: Option<Vec<RoleAnswer>>,
    /// Until when the secret before the last rotation is good.
    overlap_until: Option<String>,
    /// Refused until it is confirmed.
    suspended: bool,
    /// It may be a minute behind.
    last_used: Option<String>,
}

impl KeyAnswer {
    fn new(key: ApiKey, apikey: Option<String>, last_used: Option<Timestamp>) -> Self {
        let scopes = key.scopes.iter().map(Scope::as_str);
        let networks = key.allow_from.iter().map(ToString::to_string);
        let limits = key
            .resources
            .map(|limits| limits.into_iter().map(RoleAnswer::from));
        Self {
            allow_from: (!key.allow_from.is_empty()).then(|| networks.collect()),
            rate_per_minute: key.rate_per_minute,
            resources: limits.map(Iterator::collect),
            overlap_until: key.previous.map(|previous| previous.until.to_rfc3339()),
            suspended: key.suspended,
            last_used: last_used.map(Timestamp::to_rfc3339),
            id: key.id.into(),
            apikey,
            scopes: scopes.map(str::to_owned).collect(),
            created: key.created.to_rfc3339(),
            expires: key.expires.map(Timestamp::to_rfc3339),
            name: key.name,
        }
    }
}

impl From<Membership> for RoleAnswer {
    fn from(role: Membership) -> Self {
        Self {
            resource: role.resource.into(),
            id: role.id.into(),
            level: role.level.into(),
        }
    }
}

impl From<RoleBody> for WantedRole {
    fn from(body: RoleBody) -> Self {
        Self {
            resource: body.resource,
            id: body.id,
            level: body.level,
        }
    }
}

fn roles(bodies: Vec<RoleBody>) -> Vec<WantedRole> {
    bodies.into_iter().map(WantedRole::from).collect()
}

fn time(text: &str) -> Result<Timestamp, InvalidField> {
    Timestamp::parse_rfc3339(text).ok_or(InvalidField {
        field: "expires",
        expected: "a time of RFC 3339 such as 2030-01-31T12:00:00Z",
    })
}

/// Makes a key.
pub(in crate::web) async fn create(
    OwnLogin(login): OwnLogin,
    JsonBody(body): JsonBody<KeyBody>,
) -> Result<Created<KeyAnswer>, Problem> {
    let wanted = WantedKey {
        name: body.name.unwrap_or_default(),
        scopes: body.scopes.unwrap_or_default(),
        expires: body.expires.as_deref().map(time).transpose()?,
        allow_from: body.allow_from,
        rate_per_minute: body.rate_per_minute,
        resources: body.resources.map(roles),
    };
    let issued = login
        .accounts()
        .create_api_key(&login.call(), &login.identity, wanted)
        .await?;
    Ok(Created(with_secret(issued, None)))
}

/// Changes one of one's own keys.
pub(in crate::web) async fn change(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
    JsonBody(body): JsonBody<ChangeBody>,
) -> Result<Json<KeyAnswer>, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let expires = body
        .expires
        .map(|expires| expires.as_deref().map(time).transpose());
    let wanted = WantedChange {
        name: body.name,
        scopes: body.scopes,
        expires: expires.transpose()?,
        allow_from: body.allow_from,
        rate_per_minute: body.rate_per_minute,
        resources: body.resources.map(|resources| resources.map(roles)),
        suspended: body.suspended,
    };
    let accounts = login.accounts();
    let key = accounts
        .update_api_key(&login.call(), &login.identity, &id, wanted)
        .await?;
    let used = last_used(accounts, &key).await?;
    Ok(Json(KeyAnswer::new(key, None, used)))
}

/// Makes another secret for one of one's own keys, shown in this answer only.
pub(in crate::web) async fn rotate(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
    JsonOrNothing(body): JsonOrNothing<RotateBody>,
) -> Result<Json<KeyAnswer>, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let overlap_s = body.overlap_s.unwrap_or(OVERLAP_S);
    let accounts = login.accounts();
    let issued = accounts
        .rotate_api_key(&login.call(), &login.account, &id, overlap_s)
        .await?;
    let used = last_used(accounts, &issued.key).await?;
    Ok(Json(with_secret(issued, used)))
}

fn with_secret(issued: IssuedKey, used: Option<Timestamp>) -> KeyAnswer {
    let shown = issued.secret.expose().to_owned();
    KeyAnswer::new(issued.key, Some(shown), used)
}

async fn last_used(accounts: &Accounts, key: &ApiKey) -> Result<Option<Timestamp>, Problem> {
    let used = accounts.keys_used(std::slice::from_ref(key)).await?;
    Ok(used.into_iter().next().flatten())
}

/// One's own keys.
pub(in crate::web) async fn list(
    OwnLogin(login): OwnLogin,
    Query(query): Query<PageQuery<KeyId>>,
) -> Result<Json<List<KeyAnswer>>, Problem> {
    let after = query.after()?;
    let accounts = login.accounts();
    let page = accounts
        .api_keys(&login.account.uid, after.as_ref())
        .await?;
    let mut used = accounts.keys_used(&page.items).await?.into_iter();
    Ok(Json(List::page(page, |key| {
        KeyAnswer::new(key, None, used.next().flatten())
    })))
}

/// One of one's own keys.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<Json<KeyAnswer>, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let found = login.accounts().api_key(&login.account.uid, &id).await?;
    let key = found.ok_or(Kind::NotFound)?;
    let used = last_used(login.accounts(), &key).await?;
    Ok(Json(KeyAnswer::new(key, None, used)))
}

/// Revokes one of one's own keys.
pub(in crate::web) async fn revoke(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<NoContent, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let uid = &login.account.uid;
    login
        .accounts()
        .revoke_api_key(&login.call(), uid, &id)
        .await?;
    Ok(NoContent)
}
