//! GET, POST /apikeys; GET, DELETE /apikeys/{id}.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::account::InvalidField;
use crate::account::api_keys::{KeyCreation, KeyRefusal, WantedKey};
use crate::model::access::Scope;
use crate::model::account::ApiKey;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::id::KeyId;
use crate::web::answer::{Json, List};
use crate::web::body::{JsonBody, Place};
use crate::web::caller::OwnLogin;
use crate::web::error::{Kind, Problem};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct KeyBody {
    name: Option<String>,
    scopes: Option<Vec<String>>,
    expires: Option<String>,
}

#[derive(Serialize)]
pub(in crate::web) struct KeyAnswer {
    id: String,
    /// The whole key: when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    apikey: Option<String>,
    name: String,
    scopes: Vec<String>,
    created: String,
    expires: Option<String>,
}

impl KeyAnswer {
    fn new(key: ApiKey, apikey: Option<String>) -> Self {
        let scopes = key.scopes.iter().map(Scope::as_str);
        Self {
            id: key.id.into(),
            apikey,
            scopes: scopes.map(str::to_owned).collect(),
            created: key.created.to_rfc3339(),
            expires: key.expires.map(Timestamp::to_rfc3339),
            name: key.name,
        }
    }
}

/// Makes a key.
pub(in crate::web) async fn create(
    OwnLogin(login): OwnLogin,
    JsonBody(body): JsonBody<KeyBody>,
) -> Result<(StatusCode, Json<KeyAnswer>), Problem> {
    let expires = match body.expires {
        None => None,
        Some(text) => Some(Timestamp::parse_rfc3339(&text).ok_or(InvalidField {
            field: "expires",
            expected: "a time of RFC 3339 such as 2030-01-31T12:00:00Z",
        })?),
    };
    let wanted = WantedKey {
        name: body.name.unwrap_or_default(),
        scopes: body.scopes.unwrap_or_default(),
        expires,
    };
    let outcome = login
        .accounts()
        .create_api_key(&login.call(), &login.identity, wanted)
        .await?;
    match outcome {
        KeyCreation::Created { key, secret } => {
            let shown = secret.expose().to_owned();
            let answer = KeyAnswer::new(*key, Some(shown));
            Ok((StatusCode::CREATED, Json(answer)))
        }
        KeyCreation::Refused(refusal) => Err(problem(refusal)),
    }
}

fn problem(refusal: KeyRefusal) -> Problem {
    match refusal {
        KeyRefusal::Invalid(invalid) => invalid.into(),
        KeyRefusal::ScopeUnknown => Kind::ScopeUnknown.into(),
        KeyRefusal::ScopeMissing => DenyReason::ScopeMissing.into(),
        KeyRefusal::TooMany => Kind::KeyLimit.into(),
        KeyRefusal::NoAccount => Kind::NotFound.into(),
        KeyRefusal::Changed => Kind::AccountChanged.into(),
    }
}

/// One's own keys.
pub(in crate::web) async fn list(
    OwnLogin(login): OwnLogin,
) -> Result<Json<List<KeyAnswer>>, Problem> {
    let keys = login.accounts().api_keys(&login.account.uid).await?;
    let items = keys
        .into_iter()
        .map(|key| KeyAnswer::new(key, None))
        .collect();
    Ok(Json(List::whole(items)))
}

/// One of one's own keys.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<Json<KeyAnswer>, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let found = login.accounts().api_key(&login.account.uid, &id).await?;
    Ok(Json(KeyAnswer::new(found.ok_or(Kind::NotFound)?, None)))
}

/// Revokes one of one's own keys.
pub(in crate::web) async fn revoke(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<StatusCode, Problem> {
    let id = KeyId::parse(&id).map_err(|_| Kind::NotFound)?;
    let uid = &login.account.uid;
    if login
        .accounts()
        .revoke_api_key(&login.call(), uid, &id)
        .await?
    {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Kind::NotFound.into())
    }
}
