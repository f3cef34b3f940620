//! GET, PUT /settings/{id}: the caller's own document, or `global`.

use axum::response::Response;
use serde::Deserialize;

use crate::account::settings::{InvalidDocument, SettingsDocument, SettingsRefusal};
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::web::answer::text;
use crate::web::body::{JsonText, PathParam};
use crate::web::caller::OwnLogin;
use crate::web::error::{Refused, WebProblem};
use crate::web::openapi::{JSON, Parameter};

/// The name of a settings document: `global`, or the id of the caller's own. Any other name is answered with 404.
#[derive(Deserialize)]
pub(in crate::web) struct SettingsName(String);

impl Parameter for SettingsName {
    const PATTERN: &'static str = "^(global|set-[A-Za-z0-9_-]{8,64})$";
    const EXAMPLE: &'static str = "global";
}

/// Returns a document.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    PathParam(SettingsName(name)): PathParam<SettingsName>,
) -> Result<Response, WebProblem> {
    let found = login
        .accounts()
        .settings_document(&login.account, &name)
        .await?;
    Ok(text(JSON, found.ok_or(ErrorCode::NotFound)?))
}

/// Replaces a document and returns the new one.
pub(in crate::web) async fn put(
    OwnLogin(login): OwnLogin,
    PathParam(SettingsName(name)): PathParam<SettingsName>,
    JsonText(bytes): JsonText,
) -> Result<Response, Refused<SettingsRefusal>> {
    let document = SettingsDocument::parse(&bytes).map_err(|invalid| match invalid {
        InvalidDocument::TooLong => DenyReason::BodyTooLarge.into(),
        InvalidDocument::NoObject => {
            WebProblem::because(ErrorCode::BodyMalformed, "not a JSON object")
        }
    })?;
    let written = document.as_str().to_owned();
    let caller = (login.account.as_ref(), login.identity.as_ref());
    login
        .accounts()
        .write_settings(&login.call(), caller, &name, document)
        .await?;
    Ok(text(JSON, written))
}
