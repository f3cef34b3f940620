//! What Envoy is told.

use std::collections::BTreeSet;

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

use crate::auth::strip::StripSet;
use crate::model::forwarding::{FORWARDED_FOR, FORWARDED_PROTO, TrustedFields};
use crate::model::id::RequestId;
use crate::model::route::Route;
use crate::snapshot::Snapshot;
use crate::web::finish::finished;
use crate::web::forward_auth::question::Family;
use crate::web::forward_auth::{Told, written};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An answer, and what its record says of it.
pub(super) struct Written {
    pub(super) message: CheckResponse,
    /// What the caller is answered with; 200 if it is not Envoy that answers.
    pub(super) status: u16,
    /// Bytes of the caller's answer.
    pub(super) body_bytes: u64,
}

/// A request that may pass.
pub(super) struct Identified<'a> {
    pub(super) id: RequestId,
    /// Every identity header.
    pub(super) fields: &'a HeaderMap,
    pub(super) strip: &'a StripSet,
    /// What the caller has sent.
    pub(super) asked: &'a HeaderMap,
    pub(super) route: &'a Route,
    /// Which forwarding fields count: those of another trusted proxy before Envoy.
    pub(super) believed: TrustedFields,
}

/// Lets a request pass, as the proxy here would: what the gateway tells takes the place of every copy of the caller's, and
/// what no caller may send is taken out, in every spelling, credentials too.
pub(super) fn passed(request: &Identified<'_>) -> Written {
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
    Written {
        message: CheckResponse {
            status: Some(status(Code::Ok)),
            http_response: Some(HttpResponse::OkResponse(response)),
            ..CheckResponse::default()
        },
        status: StatusCode::OK.as_u16(),
        body_bytes: 0,
    }
}

/// Names that are taken out of a request. Envoy removes after it has set, so none that is set is among them.
fn stripped<'a>(request: &'a Identified<'_>) -> impl Iterator<Item = String> + 'a {
    // Written by Envoy itself.
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

/// The cookies that are left without ours, if there were any; the name of the field if nothing is left.
fn cookies(request: &Identified<'_>) -> (Option<HeaderValue>, BTreeSet<String>) {
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

/// Refuses a request: the caller is answered as over HTTP.
pub(super) async fn refused(told: Told, id: RequestId, snapshot: &Snapshot) -> Written {
    let response = finished(written(told, Family::Envoy), id, Some(snapshot));
    let (head, body) = response.into_parts();
    // It is in memory already, and cannot break.
    let body = body.collect().await.map(Collected::to_bytes);
    let body = body.unwrap_or_default();
    // Nothing that passes comes here.
    let http_status = match head.status {
        status if status.is_success() => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    let fields = head
        .headers
        .iter()
        // Envoy frames its answer itself.
        .filter(|(name, _)| **name != header::CONTENT_LENGTH);
    let response = DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(http_status.as_u16()),
        }),
        headers: fields.map(field).collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    Written {
        message: CheckResponse {
            status: Some(status(code(http_status))),
            http_response: Some(HttpResponse::DeniedResponse(response)),
            ..CheckResponse::default()
        },
        status: http_status.as_u16(),
        body_bytes: body.len() as u64,
    }
}

/// The code of gRPC that says about the same; whatever is not [`Code::Ok`] refuses.
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

/// A field that takes the place of all others of its name, and does so when it is empty too.
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
