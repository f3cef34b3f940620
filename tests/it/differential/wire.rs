//! HTTP/1.1 as bytes: as much of it as the two ends of a case need to find where a message ends.

/// The framing of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestFraming {
    None,
    Length(usize),
    Chunked,
}

/// The framing of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    Length(usize),
    Chunked,
    /// The body ends with the connection.
    Close,
    /// The connection has another protocol now.
    Tunnel,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where its framing says.
    Whole,
    /// The connection ended before.
    Cut,
    /// Nothing came for a long time.
    Stalled,
}

/// The first line and the fields of a message. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) line: String,
    pub(super) fields: Vec<(String, String)>,
}

impl Head {
    /// Reads a head leniently; bytes become characters of the same number.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let text = latin1(bytes);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.trim_matches([' ', '\t']);
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            line,
            fields: fields.collect(),
        }
    }

    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(have, _)| have == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the status of an answer; 0 if there is none.
    pub(super) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1);
        status.and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

/// An answer as it reached the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) interim: Vec<Head>,
    pub(super) head: Option<Head>,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) end: End,
    /// What came after its end.
    pub(super) excess: Vec<u8>,
}

/// Returns bytes as text, each as the character of its number.
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Returns the length of the head with its empty line.
pub(super) fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

/// Returns the framing of a request that a proxy sent.
pub(super) fn request_framing(head: &[u8]) -> RequestFraming {
    let head = Head::read(head);
    if !head.all("transfer-encoding").is_empty() {
        return RequestFraming::Chunked;
    }
    let length = head
        .all("content-length")
        .first()
        .and_then(|it| it.parse().ok());
    length.map_or(RequestFraming::None, RequestFraming::Length)
}

/// Returns the length of a body on the wire; `None` if it is not complete.
pub(super) fn end_of_body(bytes: &[u8], framing: RequestFraming) -> Option<usize> {
    match framing {
        RequestFraming::None => Some(0),
        RequestFraming::Length(length) => (length <= bytes.len()).then_some(length),
        RequestFraming::Chunked => match chunks(bytes) {
            (_, ChunksEnd::At(end)) => Some(end),
            // What follows has no meaning.
            (_, ChunksEnd::Bad) => Some(bytes.len()),
            (_, ChunksEnd::Open) => None,
        },
    }
}

/// Where a chunked body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunksEnd {
    At(usize),
    /// More bytes are needed.
    Open,
    /// It does not follow the grammar.
    Bad,
}

/// Returns the data of a chunked body, as strictly as RFC 9112 section 7.1 allows.
pub(super) fn chunks(bytes: &[u8]) -> (Vec<u8>, ChunksEnd) {
    let mut body = Vec::new();
    let mut place = 0;
    loop {
        let Some(line) = line_at(bytes, place) else {
            let is_hopeless = 4096 < bytes.len() - place;
            let end = if is_hopeless {
                ChunksEnd::Bad
            } else {
                ChunksEnd::Open
            };
            return (body, end);
        };
        place += line.len() + 2;
        let Some(size) = chunk_size(line) else {
            return (body, ChunksEnd::Bad);
        };
        if size == 0 {
            return (body, end_of_trailers(bytes, place));
        }
        let data = bytes.get(place..).unwrap_or_default();
        body.extend_from_slice(&data[..size.min(data.len())]);
        let after = data.get(size..).unwrap_or_default();
        match after {
            [b'\r', b'\n', ..] => place += size + 2,
            [] | [b'\r'] => return (body, ChunksEnd::Open),
            _ => return (body, ChunksEnd::Bad),
        }
    }
}

fn end_of_trailers(bytes: &[u8], mut place: usize) -> ChunksEnd {
    loop {
        match line_at(bytes, place) {
            Some([]) => return ChunksEnd::At(place + 2),
            Some(line) if is_field(line) => place += line.len() + 2,
            Some(_) => return ChunksEnd::Bad,
            None => return ChunksEnd::Open,
        }
    }
}

/// Returns the line that begins here, without its CRLF.
pub(super) fn line_at(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let rest = bytes.get(place..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some(&rest[..end])
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.iter().take_while(|it| it.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at(digits);
    let is_extension = extension.is_empty() || extension.starts_with(b";");
    let is_sound = is_extension && (1..=8).contains(&digits.len()) && is_text(extension);
    let digits = std::str::from_utf8(digits).ok()?;
    is_sound.then(|| usize::from_str_radix(digits, 16).ok())?
}

/// Whether this contains no control character other than a tab.
fn is_text(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// Whether this is a field line, strictly (RFC 9112 section 5).
pub(super) fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    0 < colon && line[..colon].iter().all(is_token) && is_text(&line[colon..])
}

/// Reads the answer to a request from all bytes so far. `None`: it is not complete, and more may come.
pub(super) fn read_answer(bytes: &[u8], to_head: bool, is_ended: bool) -> Option<Answer> {
    let mut interim = Vec::new();
    let mut rest = bytes;
    let head = loop {
        let Some(end) = end_of_head(rest) else {
            return is_ended.then(|| Answer {
                interim,
                head: None,
                framing: Framing::None,
                body: Vec::new(),
                end: End::Cut,
                excess: rest.to_vec(),
            });
        };
        let head = Head::read(&rest[..end]);
        rest = &rest[end..];
        if !(100..200).contains(&head.status()) || head.status() == 101 {
            break head;
        }
        interim.push(head);
    };
    let framing = answer_framing(&head, to_head);
    let (body, length) = match framing {
        Framing::None => (Vec::new(), Some(0)),
        Framing::Length(length) => {
            let is_whole = length <= rest.len();
            let body = rest[..length.min(rest.len())].to_vec();
            (body, is_whole.then_some(length))
        }
        Framing::Chunked => match chunks(rest) {
            (body, ChunksEnd::At(end)) => (body, Some(end)),
            (body, _) => (body, None),
        },
        Framing::Close | Framing::Tunnel => (rest.to_vec(), is_ended.then_some(rest.len())),
    };
    if length.is_none() && !is_ended {
        return None;
    }
    Some(Answer {
        interim,
        head: Some(head),
        framing,
        body,
        end: if length.is_some() {
            End::Whole
        } else {
            End::Cut
        },
        excess: rest[length.unwrap_or(rest.len())..].to_vec(),
    })
}

fn answer_framing(head: &Head, to_head: bool) -> Framing {
    match head.status() {
        101 => return Framing::Tunnel,
        204 | 304 => return Framing::None,
        _ if to_head => return Framing::None,
        _ => {}
    }
    if !head.all("transfer-encoding").is_empty() {
        return Framing::Chunked;
    }
    let length = head.all("content-length").first().copied();
    length.map_or(Framing::Close, |length| {
        // A list of equal lengths, as callers may read it (RFC 9110 section 8.6).
        let length = length.split(',').next().unwrap_or_default();
        Framing::Length(length.parse().unwrap_or(usize::MAX))
    })
}
