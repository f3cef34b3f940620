//! Forward-auth: other proxies ask for a decision on a request that they describe.
//!
//! `question` parses the description in each dialect, and `judge` decides the request as this proxy would and chooses
//! the answer, independent of the dialect. This module writes the answer over HTTP, and [`grpc`] over gRPC.

pub mod grpc;
mod question;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::auth::asked::{ForwardAuthQuestion, ForwardedDecision, ForwardedRequest};
use crate::auth::grant::{Decision, Denial, Grant, Stop};
use crate::auth::navigation::wants_page;
use crate::auth::origin::origin_of;
use crate::crypto::digest::is_secret;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::RequestId;
use crate::model::refusal_fault::{ForwarderFault, RefusalFault};
use crate::snapshot::{ShownRefusal, Snapshot};
use crate::web::error::WebProblem;
use crate::web::finish;
use crate::web::forward_auth::question::Dialect;
use crate::web::portal::Portal;

/// The header field in which a proxy proves that it may ask.
const SECRET: HeaderName = HeaderName::from_static("x-doorward-secret");

/// Number of header fields besides those of the identity; the capacity is reserved once.
const ADDED_MAX: usize = 3;

/// The answer to the asking proxy, before it is written in a dialect.
#[derive(Debug)]
pub(in crate::web) enum ForwardAuthAnswer {
    /// The request is allowed. The fields replace those of the request: every identity header, empty if it has no
    /// value.
    Pass(HeaderMap),
    /// The browser must be redirected to this URL.
    LogIn(HeaderValue, WebProblem),
    /// The request is refused, or no decision could be made.
    Refused(WebProblem),
}

/// Decides the described request as this proxy would decide its own.
pub(in crate::web) async fn judge(
    snapshot: &Snapshot,
    asked: &ForwardedRequest<'_>,
) -> (ForwardAuthAnswer, Decision) {
    let decision = snapshot.authorizer.decide(&asked.view()).await;
    let told = match &decision {
        Decision::Allow(grant) => {
            ForwardAuthAnswer::Pass(identity_fields(snapshot.strip.told(), grant))
        }
        Decision::Deny(denial) => refusal(snapshot, asked, denial),
        Decision::Fail(cause) => ForwardAuthAnswer::Refused(Stop::Fail(*cause).into()),
    };
    (told, decision)
}

/// Returns all identity headers, including those that only other routes use: a proxy that copies them over the
/// request's lets none of the caller's through.
fn identity_fields(names: &[HeaderName], grant: &Grant) -> HeaderMap {
    const EMPTY: HeaderValue = HeaderValue::from_static("");
    let mut fields = HeaderMap::with_capacity(names.len() + ADDED_MAX);
    for (name, value) in grant.identity_fields() {
        fields.insert(name.clone(), value.unwrap_or(EMPTY));
    }
    // In most configurations all routes use the same names.
    if fields.len() < names.len() {
        for name in names {
            fields.entry(name).or_insert(EMPTY);
        }
    }
    fields
}

fn refusal(
    snapshot: &Snapshot,
    asked: &ForwardedRequest<'_>,
    denial: &Denial,
) -> ForwardAuthAnswer {
    let problem = WebProblem {
        retry_after_s: denial.retry_after_s,
        ..ErrorCode::DeniedToProxy(denial.reason).into()
    };
    let path_and_query = asked.target.path_and_query.as_str();
    let login = snapshot
        .authorizer
        .instead_of(denial, &asked.view(), path_and_query, true);
    match login.and_then(|url| HeaderValue::from_str(&url).ok()) {
        Some(url) => ForwardAuthAnswer::LogIn(url, problem),
        None => ForwardAuthAnswer::Refused(problem),
    }
}

/// Answers an asking proxy. A person who expects a page gets one, which all proxies except nginx pass on.
pub(in crate::web) async fn verify(
    question: &ForwardAuthQuestion<'_>,
    snapshot: &Snapshot,
    (id, portal): (RequestId, &Portal),
) -> (Response, ForwardedDecision) {
    let admitted = admit(snapshot, question.client.peer_is_trusted, question.headers);
    let read = match admitted {
        Ok(()) => question::read(question, snapshot).map_err(|reason| (reason, None)),
        Err(fault) => Err(unadmitted(fault)),
    };
    match read {
        Ok((family, asked)) => {
            let (told, decision) = judge(snapshot, &asked).await;
            let mut response = written(told, family);
            let problem = response.extensions().get::<WebProblem>().cloned();
            if let Some(problem) = problem.filter(|_| wants_page(&asked.method, asked.headers)) {
                let origin = origin_of(asked.scheme, &asked.target.authority);
                let identity = decision.identity();
                let page = portal.refusal(&ShownRefusal {
                    person: identity.and_then(|identity| identity.username()),
                    asked: (&origin, asked.target.path_and_query.as_str()),
                    ..finish::refusal(&problem, snapshot, id, asked.headers)
                });
                response = finish::paged(response, problem, page);
            }
            let judged = ForwardedDecision {
                about: Some((asked.method, asked.target)),
                decision,
            };
            (response, judged)
        }
        Err((reason, fault)) => {
            let problem = WebProblem::from(ErrorCode::DeniedToProxy(reason));
            (
                problem.into_response(),
                ForwardedDecision::unread(reason, fault),
            )
        }
    }
}

/// Checks whether the peer may ask: a trusted proxy, with the secret if one is configured.
fn admit(
    snapshot: &Snapshot,
    peer_is_trusted: bool,
    headers: &HeaderMap,
) -> Result<(), ForwarderFault> {
    if !peer_is_trusted {
        return Err(ForwarderFault::Address);
    }
    let mut sent = headers.get_all(SECRET).iter();
    let shows_secret = match &snapshot.config.forward_auth.secret {
        None => true,
        Some(secret) => match (sent.next().map(HeaderValue::to_str), sent.next()) {
            (Some(Ok(sent)), None) => is_secret(sent, &secret.0),
            _ => false,
        },
    };
    shows_secret.then_some(()).ok_or(ForwarderFault::Secret)
}

/// Returns the refusal of a proxy that may not ask, with the fault for operators.
const fn unadmitted(fault: ForwarderFault) -> (DenyReason, Option<RefusalFault>) {
    (
        DenyReason::ForwarderRefused,
        Some(RefusalFault::Forwarder(fault)),
    )
}

/// Writes an answer in the form that the dialect's proxies understand.
fn written(told: ForwardAuthAnswer, family: Dialect) -> Response {
    match told {
        // Envoy accepts no other success status.
        ForwardAuthAnswer::Pass(fields) => (StatusCode::OK, fields).into_response(),
        ForwardAuthAnswer::LogIn(url, problem) => {
            let mut response = match family {
                // nginx treats any status except 2xx, 401 and 403 as a failure.
                Dialect::Nginx => problem.into_response(),
                Dialect::Traefik | Dialect::Envoy => StatusCode::FOUND.into_response(),
            };
            response.headers_mut().insert(header::LOCATION, url);
            response
        }
        ForwardAuthAnswer::Refused(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::client::Client;
    use crate::auth::view::Target;
    use crate::model::forwarding::TrustedFields;
    use crate::web::test_kit::Gateway;

    #[tokio::test]
    async fn a_request_carries_no_more_than_what_most_requests_need() {
        let gateway = Gateway::start();
        let headers = HeaderMap::new();
        let target = Target::read(b"a", b"/").unwrap();
        let question = ForwardAuthQuestion {
            method: &http::Method::GET,
            authority: &target.authority,
            path_and_query: &target.path_and_query,
            headers: &headers,
            client: Client {
                address: [192, 0, 2, 1].into(),
                peer_is_trusted: true,
                believed: TrustedFields::NONE,
            },
        };
        // The future contains a decision. Rarely awaited work, such as calls to other services, is on the heap: inline,
        // it would make each of these futures, and each request to an upstream, begin by clearing 14 KB.
        let portal = Portal::new("/auth");
        let asked = (RequestId::from_number(1), &portal);
        let size = size_of_val(&verify(&question, &gateway.snapshot, asked));
        assert!(size < 2_000, "{size}");
    }
}
