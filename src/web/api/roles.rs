//! GET /roles; POST /roles/refresh.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::roles::{RoleFilter, RolesRefusal};
use crate::model::access::{Name, ResourceId};
use crate::model::bucket::retry_after_s;
use crate::model::field::InvalidField;
use crate::role_source::{CacheUse, SourceDown};
use crate::web::answer::Json;
use crate::web::body::{JsonBody, Query};
use crate::web::caller::{AnyCaller, LastIdentity};
use crate::web::error::{Refused, WebProblem};
use crate::web::openapi::rules::{NAME, RESOURCE_ID, UID};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct RolesQuery {
    /// The kind of resource.
    #[schemars(regex(pattern = NAME))]
    resource: Option<String>,
    /// Which one; beside `resource` only.
    #[schemars(regex(pattern = RESOURCE_ID))]
    id: Option<String>,
    /// Whose roles, if not the caller's: for administrators.
    #[schemars(regex(pattern = UID))]
    uid: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Roles")]
pub(in crate::web) struct RolesAnswer {
    roles: Vec<String>,
}

/// Returns the caller's roles, or those of an account that an administrator names.
pub(in crate::web) async fn show(
    AnyCaller(caller): AnyCaller,
    Query(query): Query<RolesQuery>,
) -> Result<Json<RolesAnswer>, Refused<(RolesRefusal, InvalidField)>> {
    let filter = checked(query.resource, query.id)?;
    let uid = query.uid.as_deref();
    let roles = caller
        .accounts()
        .shown_roles(&caller.identity, uid, &filter)
        .await?;
    Ok(Json(RolesAnswer { roles }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RolesRefresh")]
pub(in crate::web) struct RefreshBody {
    /// The kind of resource: one that is declared.
    #[schemars(regex(pattern = NAME))]
    resource: String,
    /// Which one.
    #[schemars(regex(pattern = RESOURCE_ID))]
    id: String,
    /// Whether to read past every cache.
    #[serde(default)]
    force: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RefreshedRoles")]
pub(in crate::web) struct RefreshAnswer {
    roles: Vec<String>,
    changed: bool,
}

/// Returns the caller's roles on one resource, and whether they differ from those of the previous request.
pub(in crate::web) async fn refresh(
    LastIdentity(before): LastIdentity,
    AnyCaller(caller): AnyCaller,
    JsonBody(body): JsonBody<RefreshBody>,
) -> Result<Json<RefreshAnswer>, Refused<(InvalidField, SourceDown)>> {
    let accounts = caller.accounts();
    checked(Some(body.resource.clone()), Some(body.id.clone()))?;
    let Some(resource) = accounts.declared_resource(&body.resource, &body.id) else {
        return Err(InvalidField {
            field: "resource",
            expected: "a declared resource",
        }
        .into());
    };
    let reading = if body.force {
        let counted = accounts.count_forced(&caller.identity);
        counted.map_err(|wait| WebProblem::wait(retry_after_s(wait)))?;
        CacheUse::Forced
    } else {
        CacheUse::Cached
    };
    let refreshed = accounts
        .refresh_roles(&caller.identity, before.as_deref(), &resource, reading)
        .await?;
    Ok(Json(RefreshAnswer {
        roles: refreshed.roles,
        changed: refreshed.changed,
    }))
}

fn checked(resource: Option<String>, id: Option<String>) -> Result<RoleFilter, InvalidField> {
    let resource_fits = resource
        .as_deref()
        .is_none_or(|text| Name::parse(text).is_ok());
    if !resource_fits {
        return Err(InvalidField {
            field: "resource",
            expected: "the name of a resource",
        });
    }
    let id_fits = id.as_deref().is_none_or(ResourceId::fits);
    if !id_fits || id.is_some() && resource.is_none() {
        return Err(InvalidField {
            field: "id",
            expected: "1 to 128 of A-Z a-z 0-9 . _ ~ : -, beside a resource",
        });
    }
    Ok(RoleFilter { resource, id })
}
