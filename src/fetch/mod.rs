//! Floor 1: the only outgoing HTTP client, with limits of size and time.
//!
//! It uses TLS with verified certificates, and plain HTTP on loopback only. It follows no redirect and opens a new
//! connection for each request, so that no leftover of one response is read as the next.

mod connect;
mod trust;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::fetch::connect::secure;
pub use crate::fetch::trust::{Trust, TrustError};
use crate::model::endpoint::Endpoint;

/// Maximum size of a response head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const USER_AGENT: &str = concat!("doorward/", env!("CARGO_PKG_VERSION"));

/// A request without a usable response. The response itself is not included.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Plain HTTP is allowed on loopback only.
    #[error("is not on loopback")]
    NotLoopback,
    /// The host cannot have a certificate.
    #[error("has a name that no certificate can be issued for")]
    Name,
    /// The name lookup failed.
    #[error("cannot be resolved")]
    Resolve(#[source] std::io::Error),
    /// The name lookup succeeded but returned no address.
    #[error("has no address")]
    NoAddress,
    /// The name leads to an address where no server may be.
    #[error("has a forbidden address: link-local, unspecified or multicast")]
    Forbidden,
    /// The connection was refused or failed.
    #[error("cannot be connected to")]
    Connect(#[source] std::io::Error),
    /// The TLS handshake failed.
    #[error("failed the TLS handshake")]
    Tls(#[source] std::io::Error),
    /// The whole exchange exceeded the timeout.
    #[error("did not answer within {} ms", .0.as_millis())]
    TooSlow(Duration),
    /// The response was not HTTP, or broke off.
    #[error("did not send a complete HTTP answer")]
    Protocol(#[source] hyper::Error),
    /// The request target cannot be encoded.
    #[error("cannot be requested with that target")]
    Target(#[source] http::Error),
    /// The status was not 200; redirects are included.
    #[error("answered with status {0}")]
    Status(u16),
    /// The body was too long.
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
}

/// A response with status 200.
#[derive(Debug)]
pub struct FetchResponse {
    /// The whole body.
    pub body: Bytes,
    /// The lifetime from `Cache-Control`, if present.
    pub max_age: Option<Duration>,
}

/// The response to a request that may be refused.
#[derive(Debug)]
pub enum Replied {
    /// A response with status 200.
    Answer(FetchResponse),
    /// A response with a status from 400 to 499, with its body.
    Refusal {
        /// The status.
        status: u16,
        /// The whole body.
        body: Bytes,
    },
}

/// An HTTP client with limits.
#[derive(Clone, Copy, Debug)]
pub struct Fetcher {
    /// Timeout from the first connect to the last byte.
    pub timeout: Duration,
    /// Maximum size of a body.
    pub body_bytes_max: usize,
}

impl Fetcher {
    /// Sends `GET target` to the first of the loopback addresses that accepts, and returns the body of a 200.
    ///
    /// `authority`: host and port for `Host`. `target`: path and query, sent unchanged.
    ///
    /// # Errors
    /// [`FetchError`] for any other response, and as soon as a limit is exceeded.
    pub async fn get(
        &self,
        addresses: &[SocketAddr],
        authority: &str,
        target: &str,
    ) -> Result<Bytes, FetchError> {
        let request = request(Method::GET, authority, target, Bytes::new())?;
        let replied = self.in_time(async {
            let stream = connect::loopback(addresses).await?;
            self.exchange(stream, request).await
        });
        Ok(answer(replied.await?)?.body)
    }

    /// Sends a GET to an endpoint. `trust`: the authorities for an endpoint with TLS.
    ///
    /// # Errors
    /// [`FetchError`] for anything but a complete 200, and as soon as a limit is exceeded.
    pub async fn get_from(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
    ) -> Result<FetchResponse, FetchError> {
        let (authority, target) = (endpoint.authority(), endpoint.target());
        let request = request(Method::GET, authority, target, Bytes::new())?;
        answer(self.in_time(self.ask(endpoint, trust, request)).await?)
    }

    /// Posts a form to an endpoint, with `Authorization` if given.
    ///
    /// # Errors
    /// As [`Fetcher::get_from`], but a refusal of the form is not an error.
    pub async fn post_form(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        authorization: Option<&HeaderValue>,
        form: String,
    ) -> Result<Replied, FetchError> {
        let (authority, target) = (endpoint.authority(), endpoint.target());
        let mut request = request(Method::POST, authority, target, form.into())?;
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        self.in_time(self.ask(endpoint, trust, request)).await
    }

    async fn in_time(
        &self,
        asking: impl Future<Output = Result<Replied, FetchError>>,
    ) -> Result<Replied, FetchError> {
        let answered = tokio::time::timeout(self.timeout, asking).await;
        answered.unwrap_or(Err(FetchError::TooSlow(self.timeout)))
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        request: Request<Full<Bytes>>,
    ) -> Result<Replied, FetchError> {
        if endpoint.is_tls() {
            let stream = connect::secured(endpoint, trust).await?;
            self.exchange(stream, request).await
        } else {
            let addresses = endpoint.addresses().ok_or(FetchError::NotLoopback)?;
            let stream = connect::loopback(&addresses).await?;
            self.exchange(stream, request).await
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<Replied, FetchError> {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(FetchError::Protocol)?;
        let mut connection = pin!(connection);
        let mut reply = pin!(async {
            let response = sender.send_request(request).await;
            self.read(response.map_err(FetchError::Protocol)?).await
        });
        // The connection makes progress only while polled; if it ends, the response carries the error.
        tokio::select! {
            reply = &mut reply => return reply,
            _ = &mut connection => {}
        }
        reply.await
    }

    async fn read(&self, response: http::Response<Incoming>) -> Result<Replied, FetchError> {
        let status = response.status();
        if status != StatusCode::OK && !status.is_client_error() {
            return Err(FetchError::Status(status.as_u16()));
        }
        let max_age = max_age(response.headers());
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(FetchError::Protocol)?.into_data() else {
                continue;
            };
            if self.body_bytes_max < bytes.len() + piece.len() {
                return Err(FetchError::TooLarge(self.body_bytes_max));
            }
            bytes.extend_from_slice(&piece);
        }
        let body = bytes.freeze();
        Ok(if status == StatusCode::OK {
            Replied::Answer(FetchResponse { body, max_age })
        } else {
            let status = status.as_u16();
            Replied::Refusal { status, body }
        })
    }
}

/// Returns the answer; a refusal becomes an error.
fn answer(replied: Replied) -> Result<FetchResponse, FetchError> {
    match replied {
        Replied::Answer(answer) => Ok(answer),
        Replied::Refusal { status, .. } => Err(FetchError::Status(status)),
    }
}

fn request(
    method: Method,
    authority: &str,
    target: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, FetchError> {
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::new(body))
        .map_err(FetchError::Target)
}

/// Returns the lifetime from `Cache-Control` (RFC 9111 section 5.2.2): the shortest `max-age`, and zero for `no-store`
/// and `no-cache`.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    let ages = directives.filter_map(|directive| {
        let directive = directive.trim().to_ascii_lowercase();
        if matches!(directive.as_str(), "no-store" | "no-cache") {
            return Some(Duration::ZERO);
        }
        let seconds = directive.strip_prefix("max-age=")?.trim_matches('"');
        seconds.parse().ok().map(Duration::from_secs)
    });
    ages.min()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const FETCHER: Fetcher = Fetcher {
        timeout: Duration::from_millis(300),
        body_bytes_max: 64,
    };

    /// Answers one request with these bytes; returns the outcome and the request.
    async fn outcome(answer: &str, stays_open: bool) -> (Result<Bytes, FetchError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            head.truncate(count);
            (
                stays_open.then_some(stream),
                String::from_utf8(head).unwrap(),
            )
        };
        let addresses = [address];
        // The stream stays open until the exchange is over.
        let (answered, (_stream, question)) =
            tokio::join!(FETCHER.get(&addresses, "door:1", "/a?b=%2F"), serve);
        (answered, question)
    }

    #[tokio::test]
    async fn a_200_is_given_and_asked_for_as_told() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n";
        for (answer, stays_open) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", true),
            (chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n[]", false),
        ] {
            let (answered, question) = outcome(answer, stays_open).await;
            assert_eq!(answered.unwrap(), "[]", "{answer}");
            assert!(
                question.starts_with("GET /a?b=%2F HTTP/1.1\r\n"),
                "{question}"
            );
            assert!(
                question.to_lowercase().contains("host: door:1\r\n"),
                "{question}"
            );
        }
    }

    #[tokio::test]
    async fn everything_else_is_an_error_within_the_limits() {
        let long = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n{}",
            "x".repeat(65)
        );
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(100));
        let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let cases = [
            (
                "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",
                true,
                "answered with status 302",
            ),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                true,
                "answered with status 404",
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                true,
                "answered with status 204",
            ),
            (long.as_str(), true, "answered with more than 64 bytes"),
            (endless.as_str(), true, "answered with more than 64 bytes"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]",
                false,
                "did not send a complete HTTP answer",
            ),
            (
                "SSH-2.0-x\r\n\r\n",
                false,
                "did not send a complete HTTP answer",
            ),
            (head.as_str(), true, "did not send a complete HTTP answer"),
            ("", false, "did not send a complete HTTP answer"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]",
                true,
                "did not answer within 300 ms",
            ),
        ];
        for (answer, stays_open, said) in cases {
            let error = outcome(answer, stays_open).await.0.unwrap_err();
            assert_eq!(error.to_string(), said, "{answer:.60}");
        }
    }

    #[test]
    fn the_shortest_life_counts() {
        let cases: [(&[&'static str], Option<u64>); 8] = [
            (&[], None),
            (&["public"], None),
            (&["public, max-age=300"], Some(300)),
            (&["Max-Age=300", "max-age=20"], Some(20)),
            (&["max-age=\"60\""], Some(60)),
            (&["max-age=300, no-store"], Some(0)),
            (&["no-cache"], Some(0)),
            (&["max-age=-1, s-maxage=5, max-age=x"], None),
        ];
        for (fields, seconds) in cases {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::CACHE_CONTROL, HeaderValue::from_static(field));
            }
            assert_eq!(
                max_age(&headers),
                seconds.map(Duration::from_secs),
                "{fields:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_and_none_off_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap();
        drop(listener);
        let refused = FETCHER.get(&[closed], "a", "/").await.unwrap_err();
        assert!(matches!(refused, FetchError::Connect(_)), "{refused}");
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
        let refused = FETCHER.get(&[elsewhere], "a", "/").await.unwrap_err();
        assert!(matches!(refused, FetchError::NotLoopback), "{refused}");
    }
}
