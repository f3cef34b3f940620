//! HTTP/1.1 as bytes on a socket: requests are sent exactly as the test specifies, and answers are read strictly.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::harness::PATIENCE;

/// Wait for a further answer after the first one.
const QUIET: Duration = Duration::from_millis(400);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended according to its framing.
    pub(crate) is_whole: bool,
}

impl Response {
    /// Returns the only field of that name; fails if it came twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} came {} times", all.len());
        all.first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        all_of(&self.headers, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "{error}: {} {:?}",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// Returns a text member of a JSON body.
    pub(crate) fn member(&self, name: &str) -> String {
        let json = self.json();
        json[name]
            .as_str()
            .unwrap_or_else(|| panic!("no text {name} in {json}"))
            .to_owned()
    }

    /// Expects a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Expects a refusal in the gateway's own form: a page that shows code and id, or RFC 9457 with the five members,
    /// the request's id in both places, never cached, and a challenge with each 401.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> &Self {
        assert_eq!(
            (self.status, self.code().as_str()),
            (status, code),
            "{}",
            self.text()
        );
        self.is_problem();
        self
    }

    /// Expects any refusal with this status in the gateway's own form.
    #[track_caller]
    pub(crate) fn refused_as(&self, status: u16) -> &Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self.is_problem();
        self
    }

    /// Whether it is a page for people.
    pub(crate) fn is_html(&self) -> bool {
        self.header("content-type") == Some("text/html; charset=utf-8")
    }

    /// Returns the text of the only element of a page with this id, which contains no other element.
    fn element(&self, id: &str) -> String {
        let text = self.text();
        let behind = text.split_once(&format!("id=\"{id}\">"));
        let inner = behind.and_then(|(_, behind)| behind.split_once('<'));
        inner.map_or("", |(inner, _)| inner).to_owned()
    }

    /// Returns the stable code of a refusal.
    pub(crate) fn code(&self) -> String {
        if self.is_html() {
            return self.element("code");
        }
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn is_problem(&self) {
        self.has_fields();
        if self.is_html() {
            assert_eq!(
                Some(self.element("request").as_str()),
                self.header("x-request-id"),
                "{}",
                self.text()
            );
            let policy = self.header("content-security-policy");
            assert!(policy.is_some_and(|it| it.contains("form-action 'none'")));
            return;
        }
        let json = self.json();
        let members: Vec<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for member in ["type", "title", "status", "code", "request_id"] {
            assert!(members.contains(&member), "no {member} in {json}");
        }
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(json["status"], u64::from(self.status));
        assert_eq!(
            json["request_id"].as_str(),
            self.header("x-request-id"),
            "{json}"
        );
    }

    #[track_caller]
    fn has_fields(&self) {
        let told = self.text();
        assert_eq!(self.header("cache-control"), Some("no-store"));
        assert_eq!(
            self.header("server"),
            None,
            "who serves is nobody's business"
        );
        if self.status == 401 {
            assert!(
                self.header("www-authenticate")
                    .is_some_and(|it| it.starts_with("Bearer")),
                "no challenge: {told}"
            );
        }
        if self.status == 405 {
            assert!(self.header("allow").is_some(), "no Allow: {told}");
        }
    }

    /// Returns the answer without the parts unique to each: for answers that must be indistinguishable.
    pub(crate) fn neutral(&self) -> (u16, Vec<String>, Value) {
        let mut names: Vec<_> = self
            .headers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        names.sort();
        let mut json = self.json();
        if let Some(members) = json.as_object_mut() {
            members.remove("request_id");
        }
        (self.status, names, json)
    }
}

pub(crate) fn all_of<'h>(headers: &'h [(String, String)], name: &str) -> Vec<&'h str> {
    let is_it = |(have, _): &&(String, String)| have.eq_ignore_ascii_case(name);
    headers
        .iter()
        .filter(is_it)
        .map(|(_, value)| value.as_str())
        .collect()
}

/// One connection of a caller.
pub(crate) struct Connection {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Writes all bytes; if the gateway has already closed the connection, reading the answer shows it.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Returns the next final answer to any method except HEAD.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Response {
        self.try_answer(false).expect("no answer came")
    }

    /// Returns the next final answer, skipping interim ones; `None` if the connection ended or nothing came in time.
    pub(crate) fn try_answer(&mut self, to_head: bool) -> Option<Response> {
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            if !to_head && response.status != 101 {
                (response.body, response.is_whole) =
                    read_body(&mut self.stream, &response.headers, response.status);
            }
            return Some(response);
        }
    }

    /// Returns the next head, interim ones included; what follows remains unread.
    pub(crate) fn head(&mut self) -> Option<Response> {
        let head = read_head(&mut self.stream)?;
        let (line, headers) = parse_head(&head);
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .unwrap_or_else(|| panic!("not HTTP/1.1: {line}"));
        let status = status
            .get(..3)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("{line}"));
        Some(Response {
            status,
            headers,
            body: Vec::new(),
            is_whole: true,
        })
    }

    /// Reads exactly this number of bytes.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads everything until the gateway closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Whether the gateway closes the connection within that time, without sending anything more.
    pub(crate) fn closes_within(&mut self, time: Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let read = self.stream.read(&mut [0; 1]);
        self.stream
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        match read {
            Ok(count) => count == 0,
            Err(error) => !is_timeout(&error),
        }
    }
}

/// Sends bytes over a connection of their own and reads every answer.
pub(crate) fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<Response> {
    let to_head = bytes.as_ref().starts_with(b"HEAD ");
    let mut connection = Connection::open(address);
    connection.write(bytes);
    let mut answers = Vec::new();
    while let Some(answer) = connection.try_answer(to_head) {
        answers.push(answer);
        connection
            .stream
            .get_ref()
            .set_read_timeout(Some(QUIET))
            .unwrap();
    }
    answers
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Returns the bytes of a head, including its empty line; `None` if the peer closed first.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        if stream.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
        if matches!(&head[start..], b"\r\n" | b"\n") {
            return Some(head);
        }
    }
}

/// Returns the first line and the fields of a head.
pub(crate) fn parse_head(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .unwrap_or_else(|| panic!("no field: {line:?} in {text:?}"));
        (name.to_owned(), value.trim().to_owned())
    });
    (first, fields.collect())
}

/// Returns one chunk of a chunked body; empty: the last one, after its trailers. `None`: the body was cut off.
pub(crate) fn read_chunk(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let size = line.trim_end().split(';').next()?;
    let size = usize::from_str_radix(size, 16).ok()?;
    if size == 0 {
        loop {
            line.clear();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                return Some(Vec::new());
            }
        }
    }
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).ok()?;
    assert!(
        chunk.ends_with(b"\r\n"),
        "a chunk that does not end where it says"
    );
    chunk.truncate(size);
    Some(chunk)
}

fn read_body(
    stream: &mut impl BufRead,
    headers: &[(String, String)],
    status: u16,
) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    if status == 204 || status == 304 {
        return (body, true);
    }
    if all_of(headers, "transfer-encoding") == ["chunked"] {
        loop {
            match read_chunk(stream) {
                Some(chunk) if chunk.is_empty() => return (body, true),
                Some(chunk) => body.extend(chunk),
                None => return (body, false),
            }
        }
    }
    if let [length] = all_of(headers, "content-length").as_slice() {
        let length: u64 = length.parse().unwrap();
        let _ = stream.take(length).read_to_end(&mut body);
        let is_whole = body.len() as u64 == length;
        return (body, is_whole);
    }
    let _ = stream.read_to_end(&mut body);
    (body, true)
}
