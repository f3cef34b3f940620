//! What callers send: JSON, forms, queries and path parameters, each strict in the same way.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::model::deny::DenyReason;
use crate::web::error::{Kind, OAuthProblem, Problem};
use crate::web::malformed;

/// A body of type JSON, as it came: for who keeps it as written.
pub(in crate::web) struct JsonText(pub(in crate::web) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !has_type(request.headers(), is_json) {
            let detail = "the content type must be application/json";
            return Err(Problem::because(Kind::ContentType, detail));
        }
        read(request, state).await.map(Self)
    }
}

/// A JSON body. Unknown members, members that come twice and anything but JSON are refused. The answer names the member
/// that is wrong, by a JSON pointer, and never repeats a value.
pub(in crate::web) struct JsonBody<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let JsonText(bytes) = JsonText::from_request(request, state).await?;
        // The parser would take an array for the members in their order.
        let is_object = bytes.trim_ascii_start().starts_with(b"{");
        if !is_object {
            return Err(Problem::because(Kind::BodyMalformed, "not a JSON object"));
        }
        let mut parser = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut parser);
        let value = value.map_err(|error| malformed::json(Some(error.path()), error.inner()))?;
        let end = parser.end();
        end.map_err(|error| malformed::json(None, &error))?;
        Ok(Self(value))
    }
}

/// A JSON body that may be left out: then it is as if an empty object had come.
pub(in crate::web) struct JsonOrNothing<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for JsonOrNothing<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return JsonBody::from_request(request, state)
                .await
                .map(|JsonBody(value)| Self(value));
        }
        if read(request, state).await?.is_empty() {
            Ok(Self(T::default()))
        } else {
            let detail = "the content type must be application/json";
            Err(Problem::because(Kind::ContentType, detail))
        }
    }
}

/// The form of an OAuth call. Unknown parameters are ignored; none that is asked for may come twice (RFC 6749 3.2).
pub(in crate::web) struct OAuthForm(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for OAuthForm {
    type Rejection = OAuthProblem;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthProblem> {
        if !has_type(request.headers(), is_form) {
            return Err(OAuthProblem::CONTENT_TYPE);
        }
        let bytes = read(request, state).await?;
        let pairs = url::form_urlencoded::parse(&bytes).into_owned().collect();
        Ok(Self(pairs))
    }
}

impl OAuthForm {
    /// A parameter that must be there once.
    pub(in crate::web) fn one(&self, name: &'static str) -> Result<&str, OAuthProblem> {
        let mut values = self.0.iter().filter(|(have, _)| have == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) if !value.is_empty() => Ok(value),
            _ => Err(OAuthProblem::PARAMETER.of(name)),
        }
    }
}

/// The form of a page for people: whatever it does not ask for, and whatever comes twice, is refused.
pub(in crate::web) struct PageForm(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for PageForm {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_form_sent(request.headers()) {
            let detail = "the content type must be application/x-www-form-urlencoded";
            return Err(Problem::because(Kind::ContentType, detail));
        }
        let bytes = read(request, state).await?;
        let pairs = url::form_urlencoded::parse(&bytes).into_owned().collect();
        Ok(Self(pairs))
    }
}

impl PageForm {
    /// Sees that there are no other fields than these, and each once at most.
    pub(in crate::web) fn only(&self, names: &[&str]) -> Result<(), Problem> {
        let count = |name: &str| self.0.iter().filter(|(have, _)| have == name).count();
        let fits = |name: &str| names.contains(&name) && count(name) == 1;
        match self.0.iter().find(|(name, _)| !fits(name)) {
            None => Ok(()),
            Some((name, _)) => Err(malformed::form(name, names)),
        }
    }

    /// Takes a field out.
    pub(in crate::web) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(have, _)| have == name)?;
        Some(self.0.swap_remove(place).1)
    }
}

/// Whether a request carries a form.
pub(in crate::web) fn is_form_sent(headers: &HeaderMap) -> bool {
    has_type(headers, is_form)
}

/// The query. Unknown parameters and those that come twice are refused.
pub(in crate::web) struct Query<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(malformed::query(&error.body_text())),
        }
    }
}

/// The parameters of the path: one type, or a tuple in the order of the path. A value that does not parse is not found.
pub(in crate::web) struct Place<T>(pub(in crate::web) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Place<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(Kind::NotFound.into()),
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => DenyReason::BodyTooLarge.into(),
            _ => Kind::BodyMalformed.into(),
        })
}

fn has_type(headers: &HeaderMap, fits: fn(&str) -> bool) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else {
        return false;
    };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split_once(';').map_or(text, |(essence, _)| essence);
    fits(&essence.trim().to_ascii_lowercase())
}

fn is_json(essence: &str) -> bool {
    essence == "application/json"
}

fn is_form(essence: &str) -> bool {
    essence == "application/x-www-form-urlencoded"
}
