//! Envoy's external authorization over gRPC: the same questions and answers, in messages instead of header fields.
//!
//! `question` parses what Envoy describes, `judge` decides it, `answer` writes the answer. Every fault is reported in
//! an answer that refuses: a gRPC error would let the request pass if Envoy is configured to allow on failures.
//!
//! Source: `envoy.service.auth.v3`; `grpc.health.v1`.

mod answer;
mod question;
mod record;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{self, Service};

use crate::auth::asked::{ForwardedDecision, ForwardedRequest};
use crate::auth::client::{Client, is_trusted};
use crate::auth::grant::{Decision, Grant};
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::id::{RequestId, RequestIds};
use crate::model::refusal_fault::{ForwarderFault, RefusalFault};
use crate::snapshot::{Current, Snapshot};
use crate::web::error::WebProblem;
use crate::web::forward_auth::grpc::answer::AllowedRequest;
use crate::web::forward_auth::grpc::record::{AnsweredQuestion, QuestionRecord};
use crate::web::forward_auth::{ForwardAuthAnswer, admit, judge, unadmitted};

/// Bytes allowed in a question besides the described head: peer names, certificates, and a head that is slightly too
/// large, so that its caller still gets a proper refusal. Envoy is not asked to send bodies.
const MORE_BYTES_MAX: usize = 128 * 1024;
/// The path of gRPC health checks.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// A `HealthCheckResponse` with status SERVING, in gRPC framing.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];
/// An empty message in gRPC framing.
const EMPTY: &[u8] = &[0; 5];

/// The external authorization service for Envoy.
#[derive(Clone, Debug)]
pub struct ExtAuthz {
    current: Arc<Current>,
    ids: Arc<RequestIds>,
    server: AuthorizationServer<Questions>,
}

impl ExtAuthz {
    /// Creates the service. Each question is decided by the snapshot that is current when it arrives; the maximum
    /// message size follows from the present `limits.head_bytes_max` and does not change later.
    #[must_use]
    pub fn new(current: Arc<Current>) -> Self {
        // A message contains the target twice.
        let head_bytes_max = current.load().config.limits.head_bytes_max;
        let bytes_max = 2 * head_bytes_max + MORE_BYTES_MAX;
        Self {
            current,
            ids: Arc::new(RequestIds::seeded()),
            server: AuthorizationServer::new(Questions).max_decoding_message_size(bytes_max),
        }
    }

    /// Answers one call from `peer`, the address of the connection. If the peer may not ask, only the head is read.
    ///
    /// A question that is too large, or does not arrive within `limits.head_timeout_ms`, gets a gRPC error. Health
    /// checks are answered for every peer.
    pub async fn answer<B>(&self, peer: IpAddr, request: Request<B>) -> Response<Body>
    where
        B: codegen::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<codegen::StdError>,
    {
        if request.uri().path() == HEALTH {
            return serving();
        }
        let snapshot = self.current.load();
        let id = self.ids.draw();
        let patience = snapshot.config.limits.head_timeout;
        let mut record = QuestionRecord::begin(id, Arc::clone(&snapshot), peer);
        let is_proxy = is_trusted(peer, &snapshot.config.listen.trusted_proxies);
        let admitted = admit(&snapshot, is_proxy, request.headers());
        let mut request = match admitted {
            Ok(()) => request.map(Body::new),
            Err(_) => request.map(|_| Body::new(Full::from(EMPTY))),
        };
        request.extensions_mut().insert(QuestionArrival {
            id,
            snapshot,
            peer,
            admitted,
        });
        let mut response = self.in_time(patience, request).await;
        if let Some(answered) = response.extensions_mut().remove::<Arc<AnsweredQuestion>>() {
            record.answered(answered);
        }
        response
    }

    async fn in_time(&self, patience: Duration, request: Request<Body>) -> Response<Body> {
        match timeout(patience, self.server.clone().call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => Status::deadline_exceeded("the question did not arrive in time").into_http(),
        }
    }
}

/// Returns the response to a gRPC health check.
fn serving() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(SERVING).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The state of a question before its message is read.
#[derive(Clone, Debug)]
struct QuestionArrival {
    id: RequestId,
    snapshot: Arc<Snapshot>,
    peer: IpAddr,
    admitted: Result<(), ForwarderFault>,
}

#[derive(Debug)]
struct Questions;

#[async_trait]
impl Authorization for Questions {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let (_, extensions, question) = request.into_parts();
        let arrival = extensions
            .get::<QuestionArrival>()
            .ok_or_else(|| Status::internal("a question without a peer address"))?;
        let (message, answered) = arrival.check(&question).await;
        let mut response = tonic::Response::new(message);
        response.extensions_mut().insert(Arc::new(answered));
        Ok(response)
    }
}

impl QuestionArrival {
    async fn check(&self, question: &CheckRequest) -> (CheckResponse, AnsweredQuestion) {
        if let Err(fault) = self.admitted {
            return self.unread(unadmitted(fault)).await;
        }
        let read = question::fields(question, &self.snapshot.config.limits);
        let asked = read
            .as_ref()
            .map_err(|reason| *reason)
            .and_then(|fields| question::read(question, fields, &self.snapshot, self.peer));
        match asked {
            Ok((asked, client)) => self.judged(asked, client).await,
            Err(reason) => self.unread((reason, None)).await,
        }
    }

    async fn judged(
        &self,
        asked: ForwardedRequest<'_>,
        client: Client,
    ) -> (CheckResponse, AnsweredQuestion) {
        let (told, decision) = judge(&self.snapshot, &asked).await;
        let written = match (told, &decision) {
            (ForwardAuthAnswer::Pass(fields), Decision::Allow(grant)) => {
                answer::passed(&AllowedRequest {
                    id: self.id,
                    fields: &fields,
                    strip: &self.snapshot.strip,
                    asked: asked.headers,
                    route: Grant::route(grant),
                    believed: client.believed,
                })
            }
            // Without a grant, nothing passes.
            (ForwardAuthAnswer::Pass(_), Decision::Deny(_) | Decision::Fail(_)) => {
                let problem = ErrorCode::Internal.into();
                self.refused(ForwardAuthAnswer::Refused(problem)).await
            }
            (told, _) => self.refused(told).await,
        };
        let judged = ForwardedDecision {
            about: Some((asked.method, asked.target)),
            decision,
        };
        written.answered(Some(client.address), judged)
    }

    /// Refuses a question that could not be decided.
    async fn unread(
        &self,
        (reason, fault): (DenyReason, Option<RefusalFault>),
    ) -> (CheckResponse, AnsweredQuestion) {
        let problem = WebProblem::from(ErrorCode::DeniedToProxy(reason));
        let written = self.refused(ForwardAuthAnswer::Refused(problem)).await;
        written.answered(None, ForwardedDecision::unread(reason, fault))
    }

    async fn refused(&self, told: ForwardAuthAnswer) -> answer::WrittenAnswer {
        answer::refused(told, self.id, &self.snapshot).await
    }
}
