//! The response types of handlers.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use crate::account::page::Page;
use crate::model::error_code::ErrorCode;
use crate::web::error::WebProblem;
use crate::web::openapi::{Describe, JSON, Operation, Schemas};

/// A JSON response.
pub(in crate::web) struct Json<T>(pub(in crate::web) T);

/// A 201 response with the created object as JSON.
pub(in crate::web) struct Created<T>(pub(in crate::web) T);

/// A 202 response: JSON about work that was accepted.
pub(in crate::web) struct Accepted<T>(pub(in crate::web) T);

/// A 204 response without a body.
pub(in crate::web) struct NoContent;

/// Returns a response with this media type and body.
pub(in crate::web) fn text(media_type: &'static str, body: impl IntoResponse) -> Response {
    let media_type = HeaderValue::from_static(media_type);
    ([(header::CONTENT_TYPE, media_type)], body).into_response()
}

/// A sentence for people.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub(in crate::web) struct MessageAnswer {
    pub(in crate::web) message: &'static str,
}

/// Marks a response whose body must not be replaced by a problem document, such as an HTML page.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct FinishedBody;

/// A list: `{items, count}` and, where there is more, `next` for `?cursor=`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub(in crate::web) struct List<T> {
    items: Vec<T>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl<T> List<T> {
    pub(in crate::web) fn whole(items: Vec<T>) -> Self {
        Self::of(items, None)
    }

    /// One page of a list, with each item converted by `shown`.
    pub(in crate::web) fn page<I, C: Into<String>>(
        page: Page<I, C>,
        shown: impl FnMut(I) -> T,
    ) -> Self {
        let items = page.items.into_iter().map(shown).collect();
        Self::of(items, page.next.map(Into::into))
    }

    fn of(items: Vec<T>, next: Option<String>) -> Self {
        Self {
            count: items.len(),
            items,
            next,
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => text(JSON, body),
            Err(_) => WebProblem::from(ErrorCode::Internal).into_response(),
        }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl<T: JsonSchema> Describe for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(200, "Done.", Some(schemas.response_schema::<T>()));
    }
}

impl<T: JsonSchema> Describe for Created<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(201, "Created.", Some(schemas.response_schema::<T>()));
    }
}

impl<T: JsonSchema> Describe for Accepted<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.answer(202, "Accepted.", Some(schemas.response_schema::<T>()));
    }
}

impl Describe for NoContent {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.answer(204, "Done; the answer has no body.", None);
    }
}
