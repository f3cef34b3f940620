//! GET, PUT /settings/{id}: one's own document, or `global`.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::account::settings::{Document, InvalidDocument};
use crate::model::deny::DenyReason;
use crate::web::body::{JsonText, Place};
use crate::web::caller::OwnLogin;
use crate::web::error::{Kind, Problem};

/// A document as it stands.
pub(in crate::web) async fn show(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
) -> Result<Response, Problem> {
    let found = login
        .accounts()
        .settings_document(&login.account, &id)
        .await?;
    Ok(written(found.ok_or(Kind::NotFound)?))
}

/// Writes a document in place of the one before; the answer is the document.
pub(in crate::web) async fn put(
    OwnLogin(login): OwnLogin,
    Place(id): Place<String>,
    JsonText(bytes): JsonText,
) -> Result<Response, Problem> {
    let document = Document::parse(&bytes).map_err(|invalid| match invalid {
        InvalidDocument::TooLong => DenyReason::BodyTooLarge.into(),
        InvalidDocument::NoObject => Problem::because(Kind::BodyMalformed, "not a JSON object"),
    })?;
    let text = document.as_str().to_owned();
    let caller = (login.account.as_ref(), login.identity.as_ref());
    login
        .accounts()
        .write_settings(&login.call(), caller, &id, document)
        .await?;
    Ok(written(text))
}

fn written(document: String) -> Response {
    let media_type = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media_type)], document).into_response()
}
