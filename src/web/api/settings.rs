//! GET, PUT /settings/{id}: one's own document, or `global`.

use axum::response::Response;
use serde::Deserialize;

use crate::account::settings::{Document, InvalidDocument, SettingsRefusal};
use crate::model::deny::DenyReason;
use crate::web::answer::text;
use crate::web::body::{JsonText, Place};
use crate::web::caller::OwnLogin;
use crate::web::error::{Kind, Problem, Refused};
use crate::web::openapi::{JSON, Parameter};

/// What a caller calls a settings document: `global`, or the id of their own. Any other name is not found.
#[derive(Deserialize)]
pub(in crate::web) struct SettingsName(String);

impl Parameter for SettingsName {
    const PATTERN: &'static str = "^(global|set-[A-Za-z0-9_-]{8,64})$";
    const EXAMPLE: &'static str = "global";
}

/// A document as it stands.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    Place(SettingsName(name)): Place<SettingsName>,
) -> Result<Response, Problem> {
    let found = login
        .accounts()
        .settings_document(&login.account, &name)
        .await?;
    Ok(text(JSON, found.ok_or(Kind::NotFound)?))
}

/// Writes a document in place of the one before; the answer is the document.
pub(in crate::web) async fn put(
    OwnLogin(login): OwnLogin,
    Place(SettingsName(name)): Place<SettingsName>,
    JsonText(bytes): JsonText,
) -> Result<Response, Refused<SettingsRefusal>> {
    let document = Document::parse(&bytes).map_err(|invalid| match invalid {
        InvalidDocument::TooLong => DenyReason::BodyTooLarge.into(),
        InvalidDocument::NoObject => Problem::because(Kind::BodyMalformed, "not a JSON object"),
    })?;
    let written = document.as_str().to_owned();
    let caller = (login.account.as_ref(), login.identity.as_ref());
    login
        .accounts()
        .write_settings(&login.call(), caller, &name, document)
        .await?;
    Ok(text(JSON, written))
}
