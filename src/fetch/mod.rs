//! Floor 1: the one outgoing HTTP client, with limits of size and time.
//!
//! It asks over TLS with verified certificates, over plain HTTP on loopback only. It follows no redirect, and opens a
//! connection of its own for each question: nothing that one answer leaves behind can be taken for the next.

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

/// Most bytes of an answer's head that are looked at.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A question that got no answer that counts. What came instead is not part of it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Only loopback is asked over plain HTTP.
    #[error("is not on loopback")]
    NotLoopback,
    /// The host cannot have a certificate.
    #[error("has no name that a certificate could be for")]
    Name,
    /// The name leads nowhere.
    #[error("cannot be found by its name")]
    Resolve(#[source] std::io::Error),
    /// The name leads nowhere, and nothing went wrong.
    #[error("has no address")]
    NoAddress,
    /// The name leads to where no server may be.
    #[error("has an address that is asked for nothing: link-local, unspecified or multicast")]
    Forbidden,
    /// Nobody listens there.
    #[error("cannot be connected to")]
    Connect(#[source] std::io::Error),
    /// It could not prove who it is.
    #[error("did not prove by TLS who it is")]
    Tls(#[source] std::io::Error),
    /// The whole of it took too long.
    #[error("did not answer within {} ms", .0.as_millis())]
    TooSlow(Duration),
    /// What came is no HTTP, or it broke off.
    #[error("did not answer in HTTP")]
    Protocol(#[source] hyper::Error),
    /// The question cannot be written.
    #[error("cannot be asked for that target")]
    Target(#[source] http::Error),
    /// Another status than 200, a redirect included.
    #[error("answered with status {0}")]
    Status(u16),
    /// The answer is too long.
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
}

/// An answer with status 200.
#[derive(Debug)]
pub struct Answer {
    /// The whole body.
    pub body: Bytes,
    /// For how long `Cache-Control` lets it be kept, if it says so.
    pub max_age: Option<Duration>,
}

/// What came of a question that may be refused.
#[derive(Debug)]
pub enum Replied {
    /// An answer with status 200.
    Answer(Answer),
    /// Another status between 400 and 499, with the body.
    Refusal {
        /// The status.
        status: u16,
        /// The whole body.
        body: Bytes,
    },
}

/// Asks questions within limits.
#[derive(Clone, Copy, Debug)]
pub struct Fetcher {
    /// From the first connect to the last byte.
    pub timeout: Duration,
    /// Longest body.
    pub body_bytes_max: usize,
}

impl Fetcher {
    /// Sends `GET target` to the first of the loopback addresses that can be connected to, and gives the body of a 200.
    ///
    /// `authority`: host and port for `Host`. `target`: path and query as they are sent.
    ///
    /// # Errors
    /// [`FetchError`] for everything else, and as soon as a limit is reached.
    pub async fn get(
        &self,
        addresses: &[SocketAddr],
        authority: &str,
        target: &str,
    ) -> Result<Bytes, FetchError> {
        let asked = self.in_time(async {
            let request = question(Method::GET, authority, target, Bytes::new())?;
            self.exchange(connect::loopback(addresses).await?, request)
                .await
        });
        Ok(answer(asked.await?)?.body)
    }

    /// Asks an endpoint with GET; `trust`: who may vouch for it where it is asked over TLS.
    ///
    /// # Errors
    /// [`FetchError`] for everything but a whole 200, and as soon as a limit is reached.
    pub async fn get_from(&self, endpoint: &Endpoint, trust: &Trust) -> Result<Answer, FetchError> {
        let (authority, target) = (endpoint.authority(), endpoint.target());
        let request = question(Method::GET, authority, target, Bytes::new())?;
        answer(self.in_time(self.ask(endpoint, trust, request)).await?)
    }

    /// Posts a form to an endpoint, with `Authorization` if it is given.
    ///
    /// # Errors
    /// As [`Fetcher::get_from`], but a refusal of the form is no error.
    pub async fn post_form(
        &self,
        endpoint: &Endpoint,
        trust: &Trust,
        authorization: Option<&HeaderValue>,
        form: String,
    ) -> Result<Replied, FetchError> {
        let (authority, target) = (endpoint.authority(), endpoint.target());
        let mut request = question(Method::POST, authority, target, form.into())?;
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
            self.exchange(connect::plain(endpoint).await?, request)
                .await
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
        // The connection moves only while it is polled; what ends it is told by the answer.
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
            Replied::Answer(Answer { body, max_age })
        } else {
            let status = status.as_u16();
            Replied::Refusal { status, body }
        })
    }
}

/// The answer of a question that nothing but an answer counts for.
fn answer(replied: Replied) -> Result<Answer, FetchError> {
    match replied {
        Replied::Answer(answer) => Ok(answer),
        Replied::Refusal { status, .. } => Err(FetchError::Status(status)),
    }
}

fn question(
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
        .header(
            header::USER_AGENT,
            concat!("doorward/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::new(body))
        .map_err(FetchError::Target)
}

/// What `Cache-Control` says (RFC 9111 section 5.2.2): the shortest `max-age` there is, and none at all for `no-store`
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

    /// Answers one question with these bytes; gives the outcome and the question.
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
        // The stream stays open until the question is over.
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
                "did not answer in HTTP",
            ),
            ("SSH-2.0-x\r\n\r\n", false, "did not answer in HTTP"),
            (head.as_str(), true, "did not answer in HTTP"),
            ("", false, "did not answer in HTTP"),
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
