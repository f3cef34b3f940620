//! Writes the answers to Envoy.

use std::collections::BTreeSet;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue as Field, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::rpc;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Collected};
use tonic::Code;

use crate::auth::asked::ForwardedDecision;
use crate::auth::strip::StripSet;
use crate::model::forwarding::{FORWARDED_FOR, FORWARDED_PROTO, TrustedFields};
use crate::model::id::RequestId;
use crate::model::route::Route;
use crate::snapshot::Snapshot;
use crate::web::finish::finished;
use crate::web::forward_auth::grpc::record::AnsweredQuestion;
use crate::web::forward_auth::question::Dialect;
use crate::web::forward_auth::{ForwardAuthAnswer, written};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer, with the values for its access record.
pub(super) struct WrittenAnswer {
    pub(super) message: CheckResponse,
    /// The status for the caller; 200 if Envoy does not answer itself.
    pub(super) status: u16,
    /// Size of the body for the caller, in bytes.
    pub(super) body_bytes: u64,
}

impl WrittenAnswer {
    /// Returns the message, and the result for the access record.
    pub(super) fn answered(
        self,
        client: Option<IpAddr>,
        judged: ForwardedDecision,
    ) -> (CheckResponse, AnsweredQuestion) {
        let answered = AnsweredQuestion {
            status: self.status,
            body_bytes: self.body_bytes,
            client,
            judged,
        };
        (self.message, answered)
    }
}

/// An allowed request.
pub(super) struct AllowedRequest<'a> {
    pub(super) id: RequestId,
    /// All identity headers.
    pub(super) fields: &'a HeaderMap,
    pub(super) strip: &'a StripSet,
    /// The caller's header fields.
    pub(super) asked: &'a HeaderMap,
    pub(super) route: &'a Route,
    /// The forwarding fields that are believed: those from another trusted proxy in front of Envoy.
    pub(super) believed: TrustedFields,
}

/// Allows a request as this proxy would: the gateway's header fields replace every copy of the caller's, and fields
/// that no caller may send are removed in every spelling, including credentials.
pub(super) fn passed(request: &AllowedRequest<'_>) -> WrittenAnswer {
    let id = HeaderValue::from_str(request.id.as_str()).ok();
    let mut fields: Vec<_> = request.fields.iter().map(field).collect();
    fields.extend(id.iter().map(|id| field((&REQUEST_ID, id))));
    let (cookie, mut removed) = cookies(request);
    fields.extend(cookie.iter().map(|value| field((&header::COOKIE, value))));
    removed.extend(stripped(request));
    let response = OkHttpResponse {
        headers: fields,
        headers_to_remove: removed.into_iter().collect(),
        ..OkHttpResponse::default()
    };
    WrittenAnswer {
        message: CheckResponse {
            status: Some(status(Code::Ok)),
            http_response: Some(HttpResponse::OkResponse(response)),
            ..CheckResponse::default()
        },
        status: StatusCode::OK.as_u16(),
        body_bytes: 0,
    }
}

/// Returns the names to remove from a request. Envoy removes after it sets, so the result must not contain a name that
/// is set.
fn stripped<'a>(request: &'a AllowedRequest<'_>) -> impl Iterator<Item = String> + 'a {
    // Envoy writes these itself.
    let is_envoys = |name: &HeaderName| {
        [FORWARDED_FOR, FORWARDED_PROTO].contains(name) || request.believed.has_name(name)
    };
    let is_set = |name: &HeaderName| *name == REQUEST_ID || request.fields.contains_key(name);
    let names = request.asked.keys();
    names
        .filter(move |name| {
            let strips = request.strip.strips(name, request.asked, request.route);
            strips && !is_envoys(name) && !is_set(name)
        })
        .map(|name| name.as_str().to_owned())
}

/// Returns the cookies without the gateway's own, if anything changed; the field's name if no cookie is left.
fn cookies(request: &AllowedRequest<'_>) -> (Option<HeaderValue>, BTreeSet<String>) {
    let mut cookies = HeaderMap::new();
    for value in request.asked.get_all(header::COOKIE) {
        cookies.append(header::COOKIE, value.clone());
    }
    let count = cookies.len();
    let before = cookies.get(header::COOKIE).cloned();
    request
        .strip
        .strip_cookies(&mut cookies, request.route.credentials);
    let after = cookies.remove(header::COOKIE);
    match after {
        None if 0 < count => (None, BTreeSet::from([header::COOKIE.as_str().to_owned()])),
        after if count == 1 && after == before => (None, BTreeSet::new()),
        after => (after, BTreeSet::new()),
    }
}

/// Refuses a request: the caller gets the same answer as over HTTP.
pub(super) async fn refused(
    told: ForwardAuthAnswer,
    id: RequestId,
    snapshot: &Snapshot,
) -> WrittenAnswer {
    let response = finished(written(told, Dialect::Envoy), id, Some(snapshot));
    let (head, body) = response.into_parts();
    // The body is in memory, so reading it cannot fail.
    let body = body.collect().await.map(Collected::to_bytes);
    let body = body.unwrap_or_default();
    // Only refusals reach this function.
    let http_status = match head.status {
        status if status.is_success() => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    let fields = head
        .headers
        .iter()
        // Envoy frames its response itself.
        .filter(|(name, _)| **name != header::CONTENT_LENGTH);
    let response = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(http_status.as_u16()),
        }),
        headers: fields.map(field).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    WrittenAnswer {
        message: CheckResponse {
            status: Some(status(code(http_status))),
            http_response: Some(HttpResponse::DeniedResponse(response)),
            ..CheckResponse::default()
        },
        status: http_status.as_u16(),
        body_bytes: body.len() as u64,
    }
}

/// Returns the gRPC code that corresponds to a status. Every code except [`Code::Ok`] refuses.
fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED | StatusCode::FOUND => Code::Unauthenticated,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        status if status.is_server_error() => Code::Internal,
        _ => Code::PermissionDenied,
    }
}

fn status(code: Code) -> rpc::Status {
    rpc::Status {
        code: code.into(),
        ..rpc::Status::default()
    }
}

/// Returns a header field that replaces all others of its name, even if its value is empty.
fn field((name, value): (&HeaderName, &HeaderValue)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(Field {
            key: name.as_str().to_owned(),
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ..Field::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
        ..HeaderValueOption::default()
    }
}
