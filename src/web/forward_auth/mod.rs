//! Other proxies ask whether the request that they describe may pass.
//!
//! `question` reads what they describe, each in its dialect; `judge` decides it as the proxy here would and says what
//! the asking one is to be told, whatever the dialect; what is left is the answer over HTTP, and over gRPC in [`grpc`].

pub mod grpc;
mod question;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::auth::asked::{Asked, Judged, Question};
use crate::auth::grant::{Decision, Denial, Grant, Stop};
use crate::auth::navigation::wants_page;
use crate::auth::origin::origin_of;
use crate::crypto::digest::is_secret;
use crate::model::deny::DenyReason;
use crate::model::id::RequestId;
use crate::model::refusal_fault::{ForwarderFault, RefusalFault};
use crate::snapshot::{Refusal, Snapshot};
use crate::web::error::{Kind, Problem};
use crate::web::finish;
use crate::web::forward_auth::question::Family;
use crate::web::portal::Portal;

/// By which a proxy shows that it is one of ours.
const SECRET: HeaderName = HeaderName::from_static("x-doorward-secret");

/// Fields that the answer has beside those of the identity: room for them is made once.
const ADDED_MAX: usize = 3;

/// What the asking proxy is told, before it is written in its dialect.
#[derive(Debug)]
pub(in crate::web) enum Told {
    /// The request may pass, with these fields in place of its own: every identity header there is, empty where there is
    /// nothing.
    Pass(HeaderMap),
    /// A browser is to be sent to this URL instead.
    LogIn(HeaderValue, Problem),
    /// The request may not pass, or that cannot be told.
    Refused(Problem),
}

/// Decides about the request that a proxy asks about, as the proxy here would about its own.
pub(in crate::web) async fn judge(snapshot: &Snapshot, asked: &Asked<'_>) -> (Told, Decision) {
    let decision = snapshot.authorizer.decide(&asked.view()).await;
    let told = match &decision {
        Decision::Allow(grant) => Told::Pass(identity_fields(snapshot.strip.told(), grant)),
        Decision::Deny(denial) => refusal(snapshot, asked, denial),
        Decision::Fail(cause) => Told::Refused(Stop::Fail(*cause).into()),
    };
    (told, decision)
}

/// A proxy that copies these fields over its caller's lets none of the caller's through, even where a route names its own.
fn identity_fields(names: &[HeaderName], grant: &Grant) -> HeaderMap {
    const EMPTY: HeaderValue = HeaderValue::from_static("");
    let mut fields = HeaderMap::with_capacity(names.len() + ADDED_MAX);
    for (name, value) in grant.identity_fields() {
        fields.insert(name.clone(), value.unwrap_or(EMPTY));
    }
    // Most often there are no others than those of this route.
    if fields.len() < names.len() {
        for name in names {
            fields.entry(name).or_insert(EMPTY);
        }
    }
    fields
}

fn refusal(snapshot: &Snapshot, asked: &Asked<'_>, denial: &Denial) -> Told {
    let problem = Problem {
        retry_after_s: denial.retry_after_s,
        ..Kind::DeniedToProxy(denial.reason).into()
    };
    let login = snapshot.authorizer.instead_of_behind_proxy(denial, asked);
    match login.and_then(|url| HeaderValue::from_str(&url).ok()) {
        Some(url) => Told::LogIn(url, problem),
        None => Told::Refused(problem),
    }
}

/// Answers a proxy that asks. A person who waits behind it for a page gets one, which all but nginx hand on.
pub(in crate::web) async fn verify(
    question: &Question<'_>,
    snapshot: &Snapshot,
    (id, portal): (RequestId, &Portal),
) -> (Response, Judged) {
    let admitted = admit(snapshot, question.client.peer_is_trusted, question.headers);
    let read = match admitted {
        Ok(()) => question::read(question, snapshot).map_err(|reason| (reason, None)),
        Err(fault) => Err(unadmitted(fault)),
    };
    match read {
        Ok((family, asked)) => {
            let (told, decision) = judge(snapshot, &asked).await;
            let mut response = written(told, family);
            let problem = response.extensions().get::<Problem>().cloned();
            if let Some(problem) = problem.filter(|_| wants_page(&asked.method, asked.headers)) {
                let origin = origin_of(asked.scheme, &asked.target.authority);
                let identity = decision.identity();
                let page = portal.refusal(&Refusal {
                    person: identity.and_then(|identity| identity.username()),
                    asked: (&origin, asked.target.path_and_query.as_str()),
                    ..finish::refusal(&problem, snapshot, id, asked.headers)
                });
                response = finish::paged(response, problem, page);
            }
            let judged = Judged {
                about: Some((asked.method, asked.target)),
                decision,
            };
            (response, judged)
        }
        Err((reason, fault)) => {
            let problem = Problem::from(Kind::DeniedToProxy(reason));
            (problem.into_response(), Judged::unread(reason, fault))
        }
    }
}

/// Who may ask: proxies that the configuration lists, with the secret where there is one.
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
    if shows_secret {
        Ok(())
    } else {
        Err(ForwarderFault::Secret)
    }
}

/// The refusal of a proxy that may not ask, and what operators learn beside.
const fn unadmitted(fault: ForwarderFault) -> (DenyReason, Option<RefusalFault>) {
    (
        DenyReason::ForwarderRefused,
        Some(RefusalFault::Forwarder(fault)),
    )
}

/// The answer as the proxies of a family understand it.
fn written(told: Told, family: Family) -> Response {
    match told {
        // Envoy takes no other status of success.
        Told::Pass(fields) => (StatusCode::OK, fields).into_response(),
        Told::LogIn(url, problem) => {
            let mut response = match family {
                // Anything but 2xx, 401 and 403 is a failure to nginx.
                Family::Nginx => problem.into_response(),
                Family::Traefik | Family::Envoy => StatusCode::FOUND.into_response(),
            };
            response.headers_mut().insert(header::LOCATION, url);
            response
        }
        Told::Refused(problem) => problem.into_response(),
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
        let question = Question {
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
        // A decision is part of it. What is rarely waited for, such as another service, is on the heap: with it, each of
        // these, and each request to an upstream, would begin by clearing room for 14 KB.
        let portal = Portal::new("/auth");
        let asked = (RequestId::from_number(1), &portal);
        let size = size_of_val(&verify(&question, &gateway.snapshot, asked));
        assert!(size < 2_000, "{size}");
    }
}
