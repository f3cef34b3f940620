//! The admin listener: liveness, readiness and metrics. Read only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::SharedSecret;
use crate::crypto::digest::{digest, digests_match};
use crate::edge::plain;
use crate::model::account::Digest;
use crate::telemetry::metrics::Metrics;

/// Probes run on the same network and send their request head at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A component whose readiness is probed.
pub struct Component {
    /// Name used in the answer, such as `store`.
    pub name: &'static str,
    /// Whether no decision is possible without it. Other missing components are reported and do not affect readiness.
    pub is_vital: bool,
    /// Called at each probe; must not block.
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Returns the names of further degraded components. Called at each probe; must not block.
pub type Degraded = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The admin endpoints and the state they report.
pub struct Admin {
    metrics: Arc<Metrics>,
    components: Vec<Component>,
    degraded: Degraded,
    token: Option<Digest>,
}

impl Admin {
    /// `degraded` names what is degraded beyond the components and does not affect readiness. `token`, if set, is
    /// required of every caller.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        components: Vec<Component>,
        degraded: Degraded,
        token: Option<&SharedSecret>,
    ) -> Self {
        Self {
            metrics,
            components,
            degraded,
            token: token.map(|token| digest(token.0.expose())),
        }
    }

    /// Serves the listener until the task is dropped, with at most `connections_max` connections at a time.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, connections_max: usize) {
        let answer = move |request: Request<_>| {
            let answer = self.answer(request.method(), request.uri().path(), request.headers());
            std::future::ready(answer)
        };
        plain::serve(listener, connections_max, HEAD_TIMEOUT, answer).await;
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if !self.is_known(headers) {
            let challenge = Some((WWW_AUTHENTICATE, "Bearer realm=\"doorward-admin\""));
            return text(
                StatusCode::UNAUTHORIZED,
                challenge,
                "this listener requires a bearer token (listen.admin_token)\n",
            );
        }
        if method != Method::GET && method != Method::HEAD {
            let (status, allow) = (StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET, HEAD"));
            return text(
                status,
                Some(allow),
                "only GET and HEAD are supported here\n",
            );
        }
        match path {
            "/healthz" => text(StatusCode::OK, None, "ok\n"),
            "/readyz" => self.readiness(),
            "/metrics" => {
                let metrics = self.metrics.render();
                plain::response(StatusCode::OK, Metrics::CONTENT_TYPE, None, metrics)
            }
            _ => {
                let hint = "not found; available: /healthz, /readyz, /metrics\n";
                text(StatusCode::NOT_FOUND, None, hint)
            }
        }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let Some(wanted) = &self.token else {
            return true;
        };
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::to_str);
        let token = sent.and_then(|sent| sent.ok()?.split_once(' '));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && digests_match(&digest(token.trim()), wanted)
        })
    }

    /// Returns 200 if all vital components are ready; the body names those that are not.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let lacking = |is_vital| -> Vec<_> {
            let lacks = |it: &&Component| it.is_vital == is_vital && !(it.is_ready)();
            let lacking = self.components.iter().filter(lacks);
            lacking.map(|it| it.name.to_owned()).collect()
        };
        let (missing, mut degraded) = (lacking(true), lacking(false));
        degraded.extend((self.degraded)());
        let is_ready = missing.is_empty();
        let status = if is_ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let report = json!({ "ready": is_ready, "missing": missing, "degraded": degraded });
        plain::response(status, "application/json", None, format!("{report}\n"))
    }
}

fn text(
    status: StatusCode,
    field: Option<(HeaderName, &'static str)>,
    body: &str,
) -> Response<Full<Bytes>> {
    plain::response(status, "text/plain; charset=utf-8", field, body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;

    fn component(name: &'static str, is_vital: bool, is_ready: bool) -> Component {
        Component {
            name,
            is_vital,
            is_ready: Box::new(move || is_ready),
        }
    }

    fn admin(components: Vec<Component>, token: Option<&str>) -> Admin {
        let token = token.map(|token| SharedSecret(Secret::new(token.to_owned())));
        let issuers = || vec!["issuer:corp".to_owned()];
        let metrics = Arc::new(Metrics::new());
        Admin::new(metrics, components, Box::new(issuers), token.as_ref())
    }

    fn ask(admin: &Admin, method: &str, path: &str, authorization: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        admin.answer(&method, path, &headers).status().as_u16()
    }

    #[test]
    fn it_tells_and_takes_nothing() {
        let open = admin(vec![], None);
        for (method, path, status) in [
            ("GET", "/healthz", 200),
            ("HEAD", "/healthz", 200),
            ("GET", "/readyz", 200),
            ("GET", "/metrics", 200),
            ("GET", "/", 404),
            ("GET", "/healthz/", 404),
            ("POST", "/healthz", 405),
            ("DELETE", "/metrics", 405),
        ] {
            assert_eq!(ask(&open, method, path, None), status, "{method} {path}");
        }
    }

    #[test]
    fn a_vital_part_that_is_missing_is_named_and_others_change_nothing() {
        for (components, status, told) in [
            (
                vec![component("mail", false, false)],
                200,
                r#"{"degraded":["mail","issuer:corp"],"missing":[],"ready":true}"#,
            ),
            (
                vec![
                    component("store", true, false),
                    component("mail", false, true),
                ],
                503,
                r#"{"degraded":["issuer:corp"],"missing":["store"],"ready":false}"#,
            ),
        ] {
            let response = admin(components, None).readiness();
            assert_eq!(response.status(), status);
            let body = format!("{:?}", response.into_body());
            assert!(
                body.contains(&format!("{:?}", format!("{told}\n"))),
                "{body}"
            );
        }
    }

    #[test]
    fn with_a_token_nothing_is_told_without_it() {
        let closed = admin(vec![], Some("s3cret"));
        for (authorization, status) in [
            (None, 401),
            (Some("Bearer s3cre"), 401),
            (Some("Bearer s3cret2"), 401),
            (Some("Basic s3cret"), 401),
            (Some("s3cret"), 401),
            (Some("Bearer s3cret"), 200),
            (Some("bearer s3cret"), 200),
        ] {
            let got = ask(&closed, "GET", "/metrics", authorization);
            assert_eq!(got, status, "{authorization:?}");
        }
    }
}
