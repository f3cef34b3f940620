//! Extractors for request input: JSON, forms, queries and path parameters, all equally strict, with their part of the
//! API document.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::field_value::exactly_one;
use crate::web::error::{OAuthProblem, WebProblem};
use crate::web::malformed;
use crate::web::openapi::{Describe, FORM, JSON, Operation, PathParameters, Schemas};

/// The unparsed body of a JSON request.
pub(in crate::web) struct JsonText(pub(in crate::web) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = WebProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebProblem> {
        if !has_type(request.headers(), JSON) {
            return Err(not_of_type(JSON));
        }
        read(request, state).await.map(Self)
    }
}

/// A JSON body. Unknown members, duplicate members and anything but a JSON object are refused. The response names the
/// faulty member by a JSON pointer and never repeats a value.
pub(in crate::web) struct JsonBody<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = WebProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebProblem> {
        let JsonText(bytes) = JsonText::from_request(request, state).await?;
        // Serde would also accept an array and read it as the members in order.
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        if !is_object {
            return Err(WebProblem::because(
                ErrorCode::BodyMalformed,
                "not a JSON object",
            ));
        }
        let mut parser = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut parser);
        let value = value.map_err(|error| malformed::json(Some(error.path()), error.inner()))?;
        let end = parser.end();
        end.map_err(|error| malformed::json(None, &error))?;
        Ok(Self(value))
    }
}

/// An optional JSON body; a missing body counts as an empty object.
pub(in crate::web) struct JsonOrNothing<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for JsonOrNothing<T> {
    type Rejection = WebProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebProblem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return JsonBody::from_request(request, state)
                .await
                .map(|JsonBody(value)| Self(value));
        }
        if read(request, state).await?.is_empty() {
            Ok(Self(T::default()))
        } else {
            Err(not_of_type(JSON))
        }
    }
}

/// The form of an OAuth request. Unknown parameters are ignored; a requested parameter must not be repeated (RFC 6749
/// section 3.2).
pub(in crate::web) struct OAuthForm(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for OAuthForm {
    type Rejection = OAuthProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthProblem> {
        if !is_form_sent(request.headers()) {
            return Err(ErrorCode::ContentType.into());
        }
        Ok(Self(read_form(request, state).await?))
    }
}

impl OAuthForm {
    /// Returns the value of a parameter that must appear exactly once and must not be empty.
    pub(in crate::web) fn one(&self, name: &'static str) -> Result<&str, OAuthProblem> {
        let mut values = self.0.iter().filter(|(have, _)| have == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Ok(value),
            _ => {
                let detail = format!("{name} must be given once and must not be empty");
                Err(WebProblem::because(ErrorCode::BodyMalformed, detail).into())
            }
        }
    }
}

/// The fields of a page's form, in the order received.
pub(in crate::web) struct FormFields(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for FormFields {
    type Rejection = WebProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebProblem> {
        if !is_form_sent(request.headers()) {
            return Err(not_of_type(FORM));
        }
        Ok(Self(read_form(request, state).await?))
    }
}

impl FormFields {
    /// Reads the fields into `T`, whose members are all texts. Unknown, repeated and missing fields are refused by
    /// name.
    pub(in crate::web) fn read<T: DeserializeOwned + JsonSchema>(self) -> Result<T, WebProblem> {
        let texts = self.0.iter().cloned();
        let members: Map<String, Value> = texts.map(|(name, text)| (name, text.into())).collect();
        if members.len() == self.0.len()
            && let Ok(value) = serde_json::from_value(Value::Object(members))
        {
            return Ok(value);
        }
        let schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
        let (required, optional) = names(&schema);
        let all = [required.as_slice(), &optional].concat();
        let count = |name: &str| self.0.iter().filter(|(have, _)| have == name).count();
        let fits = |name: &str| all.contains(&name) && count(name) == 1;
        Err(match self.0.iter().find(|(name, _)| !fits(name)) {
            Some((name, _)) => malformed::form(name, &all),
            None => malformed::form_lacks(&required),
        })
    }
}

/// Returns the names of the required members and of the optional ones.
fn names(schema: &Value) -> (Vec<&str>, Vec<&str>) {
    let required = schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten().filter_map(Value::as_str);
    let required: Vec<_> = required.collect();
    let members = schema.get("properties").and_then(Value::as_object);
    let members = members.into_iter().flat_map(Map::keys).map(String::as_str);
    let optional = members.filter(|name| !required.contains(name)).collect();
    (required, optional)
}

/// The form of a page, parsed into a type.
pub(in crate::web) struct PageForm<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned + JsonSchema> FromRequest<S> for PageForm<T> {
    type Rejection = WebProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, WebProblem> {
        let fields = FormFields::from_request(request, state).await?;
        fields.read().map(Self)
    }
}

/// Whether the content type of a request is that of a form.
pub(in crate::web) fn is_form_sent(headers: &HeaderMap) -> bool {
    has_type(headers, FORM)
}

/// The query parameters. Unknown and repeated ones are refused.
pub(in crate::web) struct Query<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(malformed::query(&error.body_text())),
        }
    }
}

/// The path parameters: one type, or a tuple in the order of the path. A value that does not parse is answered with
/// 404.
pub(in crate::web) struct PathParam<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParam<T> {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(ErrorCode::NotFound.into()),
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, WebProblem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => DenyReason::BodyTooLarge.into(),
            _ => ErrorCode::BodyMalformed.into(),
        })
}

async fn read_form<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Vec<(String, String)>, WebProblem> {
    let bytes = read(request, state).await?;
    let pairs = url::form_urlencoded::parse(&bytes);
    Ok(pairs.into_owned().collect())
}

fn not_of_type(media_type: &str) -> WebProblem {
    let detail = format!("the content type must be {media_type}");
    WebProblem::because(ErrorCode::ContentType, detail)
}

fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = exactly_one(headers, &header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let text = text.unwrap_or_default();
    let essence = text.split_once(';').map_or(text, |(essence, _)| essence);
    essence.trim().eq_ignore_ascii_case(wanted)
}

impl Describe for JsonText {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse_bodies();
        operation.body(JSON, json!({ "type": "object" }));
    }
}

impl<T: JsonSchema> Describe for JsonBody<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.refuse_bodies();
        operation.body(JSON, schemas.request_schema::<T>());
    }
}

impl<T: JsonSchema> Describe for JsonOrNothing<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        JsonBody::<T>::describe(operation, schemas);
        operation.may_lack_body = true;
    }
}

impl Describe for OAuthForm {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse_bodies();
    }
}

impl Describe for FormFields {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.refuse_bodies();
    }
}

impl<T: JsonSchema> Describe for PageForm<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        FormFields::describe(operation, schemas);
        let schema = schemas.members::<T>();
        let (required, _) = names(&schema);
        let mut members = schema.get("properties").cloned().unwrap_or_default();
        // A form has no `null`, so an optional field is a string too.
        let texts = members.as_object_mut().into_iter().flatten();
        for member in texts.filter_map(|(_, member)| member.as_object_mut()) {
            member.insert("type".to_owned(), "string".into());
        }
        let form = json!({ "type": "object", "properties": members, "required": required });
        operation.body(FORM, form);
    }
}

impl<T: JsonSchema> Describe for Query<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.refuse(&[ErrorCode::QueryMalformed, ErrorCode::ValueInvalid]);
        let schema = schemas.members::<T>();
        let members = schema.get("properties").and_then(Value::as_object);
        for (name, member) in members.into_iter().flatten() {
            operation.parameters.push(json!({
                "name": name,
                "in": "query",
                "description": member.get("description"),
                "schema": { "type": "string", "pattern": member.get("pattern") },
            }));
        }
    }
}

impl<T: PathParameters> Describe for PathParam<T> {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.path_parameters.extend(T::ALL);
        operation.refuse(&[ErrorCode::NotFound]);
    }
}
