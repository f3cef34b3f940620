//! Requests written byte by byte, since a probe sends requests that no client library allows.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::doctor::ProbeCredential;
use crate::fetch::{Trust, secure};

/// Maximum time that a probe waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes read from an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Fields added to every request that has none of the same name.
const DEFAULT_FIELDS: [(&str, &str); 3] = [
    (
        "User-Agent",
        concat!("doorward-doctor/", env!("CARGO_PKG_VERSION")),
    ),
    ("Accept", "application/json"),
    ("Connection", "close"),
];

/// A request as it is written.
#[derive(Clone, Debug)]
pub(super) struct RawRequest {
    pub(super) method: String,
    pub(super) target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl RawRequest {
    pub(super) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(super) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a field, in addition to those of the same name.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a credential, if there is one.
    pub(super) fn by<'c>(self, credential: impl Into<Option<&'c ProbeCredential>>) -> Self {
        match credential.into() {
            Some(ProbeCredential::Token(token)) => {
                self.with("Authorization", &format!("Bearer {}", token.expose()))
            }
            Some(ProbeCredential::ApiKey(name, key)) => self.with(name.as_str(), key.expose()),
            None => self,
        }
    }

    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    fn bytes(&self, host: &str) -> Vec<u8> {
        let (method, target) = (&self.method, &self.target);
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        let mut add = |name: &str, value: &str| head.extend([name, ": ", value, "\r\n"]);
        for (name, value) in DEFAULT_FIELDS {
            let is_name = |(field, _): &(String, String)| field.eq_ignore_ascii_case(name);
            if !self.fields.iter().any(is_name) {
                add(name, value);
            }
        }
        if !self.body.is_empty() || self.method == "POST" {
            add("Content-Length", &self.body.len().to_string());
        }
        for (name, value) in &self.fields {
            add(name, value);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer, with its body decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct RawResponse {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl RawResponse {
    /// Returns the first value of a field; `name` in lower case.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the code of a problem document, as in the gateway's own answers.
    pub(super) fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        Some(problem.get("code")?.as_str()?.to_owned())
    }

    /// Describes the answer in a report.
    pub(super) fn described(&self) -> String {
        match self.code() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// The server that requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct ProbeTarget {
    pub(super) address: SocketAddr,
    /// Host and port, as in the field `Host`.
    pub(super) authority: String,
    /// The local address to connect from; `None`: the system chooses.
    pub(super) source: Option<IpAddr>,
    /// The name that the server must prove by TLS, and the authorities that may certify it; `None`: plain HTTP.
    pub(super) tls: Option<(String, Trust)>,
}

trait ProbeStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ProbeStream for T {}

impl ProbeTarget {
    /// Creates a target reached by plain HTTP.
    pub(super) fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            authority: address.to_string(),
            source: None,
            tls: None,
        }
    }

    /// Sends a request and reads the answer. Returns `None` if the connection is refused or closed, or no answer
    /// arrives in time.
    pub(super) async fn send(&self, request: &RawRequest) -> Option<RawResponse> {
        let exchange = async {
            let mut stream = self.connect().await?;
            // A server that refuses a head may close before it has read all of it, and its answer still counts.
            let _ = stream.write_all(&request.bytes(&self.authority)).await;
            Ok(read(&mut stream).await)
        };
        in_time(exchange).await.ok()?
    }

    /// Connects and returns the local address.
    pub(super) async fn source(&self) -> io::Result<IpAddr> {
        Ok(in_time(self.dial()).await?.local_addr()?.ip())
    }

    /// Checks that the server accepts connections, with TLS where required.
    pub(super) async fn check(&self) -> io::Result<()> {
        in_time(self.connect()).await.map(drop)
    }

    async fn connect(&self) -> io::Result<Box<dyn ProbeStream>> {
        let stream = self.dial().await?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((host, trust)) => {
                let secured = secure(host, stream, trust).await;
                Ok(Box::new(secured.map_err(io::Error::other)?))
            }
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = tokio::time::timeout(TIMEOUT, exchange).await;
    ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Reads one answer, and skips interim ones.
async fn read(stream: &mut Box<dyn ProbeStream>) -> Option<RawResponse> {
    let mut bytes = Vec::new();
    let mut is_over = false;
    loop {
        if let Some((answer, framed)) = parse(&bytes)
            && (framed || is_over)
        {
            return Some(answer);
        }
        if is_over || ANSWER_BYTES_MAX < bytes.len() {
            return None;
        }
        // A reset connection has ended just like a closed one.
        is_over = matches!(stream.read_buf(&mut bytes).await, Ok(0) | Err(_));
    }
}

/// Parses the part of an answer that has arrived. `true`: it is complete by its own framing.
fn parse(bytes: &[u8]) -> Option<(RawResponse, bool)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, rest) = bytes.split_at_checked(end + 4)?;
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?;
    let status: u16 = status_line.split(' ').nth(1)?.parse().ok()?;
    if !status_line.starts_with("HTTP/1.") {
        return None;
    }
    if (100..200).contains(&status) && status != 101 {
        return parse(rest);
    }
    let fields = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = RawResponse {
        status,
        fields,
        body: Vec::new(),
    };
    let is_chunked = answer
        .field("transfer-encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    let length = answer
        .field("content-length")
        .and_then(|length| length.parse::<usize>().ok());
    let (body, whole) = match length {
        _ if matches!(status, 101 | 204 | 304) => (Vec::new(), true),
        _ if is_chunked => unchunk(rest),
        Some(length) => {
            let body = rest.get(..length.min(rest.len())).unwrap_or_default();
            (body.to_vec(), length <= rest.len())
        }
        None => (rest.to_vec(), false),
    };
    answer.body = body;
    Some((answer, whole))
}

/// Decodes the chunks that have arrived. `true`: the last one is among them.
fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        let size = rest.get(..end).map(String::from_utf8_lossy);
        let size =
            size.and_then(|size| usize::from_str_radix(size.split(';').next()?.trim(), 16).ok());
        let chunk = size.and_then(|size| rest.get(end + 2..)?.get(..size));
        let behind = size.and_then(|size| rest.get(end + 2..)?.get(size..)?.get(2..));
        match (size, chunk, behind) {
            (Some(0), ..) => return (body, true),
            (Some(_), Some(chunk), Some(behind)) => {
                body.extend_from_slice(chunk);
                rest = behind;
            }
            _ => return (body, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_in_each_framing() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
                "hi",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nh\r\n1;x\r\ni\r\n0\r\n\r\n",
                "hi",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
                "hi",
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhi", "hi", false),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                "",
                true,
            ),
        ];
        for (text, body, whole) in cases {
            let (answer, is_whole) = parse(text.as_bytes()).unwrap();
            assert_eq!(answer.status, 200, "{text}");
            assert_eq!(
                (answer.body.as_slice(), is_whole),
                (body.as_bytes(), whole),
                "{text}"
            );
        }
        let (upgraded, whole) = parse(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
        assert_eq!((upgraded.status, whole), (101, true));
        for bad in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn requests_are_written_as_spelled() {
        let request = RawRequest::new("POST", "/a%2f..;/b")
            .with("X_Auth-Uid", "1")
            .with("x.auth.uid", "")
            .body(b"hi".to_vec());
        let text = String::from_utf8(request.bytes("a.test:1")).unwrap();
        assert!(
            text.starts_with("POST /a%2f..;/b HTTP/1.1\r\nHost: a.test:1\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nX_Auth-Uid: 1\r\nx.auth.uid: \r\n"),
            "{text}"
        );
        assert!(text.contains("Content-Length: 2\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nhi"), "{text}");
    }
}
