//! Mails that the gateway has written as files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine;

use crate::harness::gateway::Gateway;
use crate::harness::wait_for;

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) raw: String,
    pub(crate) to: String,
    pub(crate) subject: String,
    /// The plain part, decoded.
    pub(crate) text: String,
}

impl Mail {
    /// Returns the one-time token of the link; `None`: the mail has none.
    pub(crate) fn token(&self) -> Option<String> {
        let (_, rest) = self.text.split_once("token=")?;
        let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        Some(rest.chars().take_while(|c| is_token(*c)).collect())
    }
}

/// The directory of mails; each mail is returned once.
pub(crate) struct Mailbox<'g> {
    gateway: &'g Gateway,
    read: Mutex<BTreeSet<PathBuf>>,
}

impl<'g> Mailbox<'g> {
    /// Opens the mailbox with all present mails counted as read.
    pub(crate) fn new(gateway: &'g Gateway) -> Self {
        let mailbox = Self {
            gateway,
            read: Mutex::default(),
        };
        let old = mailbox.files();
        mailbox.read.lock().unwrap().extend(old);
        mailbox
    }

    /// Opens the mailbox with all mails unread.
    pub(crate) fn all(gateway: &'g Gateway) -> Self {
        Self {
            gateway,
            read: Mutex::default(),
        }
    }

    /// Waits for the next mail to that address.
    #[track_caller]
    pub(crate) fn next(&self, to: &str) -> Mail {
        wait_for(&format!("a mail to {to}"), || self.unread(to))
    }

    /// Returns the token of the next mail to that address.
    #[track_caller]
    pub(crate) fn token(&self, to: &str) -> String {
        let mail = self.next(to);
        let token = mail
            .token()
            .unwrap_or_else(|| panic!("no token in {mail:?}"));
        self.gateway.secret(&token);
        token
    }

    /// Returns an unread mail to that address, if there is one now.
    pub(crate) fn unread(&self, to: &str) -> Option<Mail> {
        let mut read = self.read.lock().unwrap();
        for file in self.files() {
            if read.contains(&file) {
                continue;
            }
            let mail = parse(&std::fs::read_to_string(&file).unwrap());
            if mail.to.contains(to) {
                read.insert(file);
                return Some(mail);
            }
        }
        None
    }

    /// Returns all files, oldest first.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.gateway.dir().join("mail")) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .map(|path| (path.metadata().unwrap().modified().unwrap(), path))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| path).collect()
    }
}

/// Parses a message.
pub(crate) fn parse(raw: &str) -> Mail {
    let (headers, body) = split(raw);
    let kind = field(&headers, "content-type");
    let text = match kind.split_once("boundary=") {
        Some((_, boundary)) => {
            let boundary = boundary
                .split(';')
                .next()
                .unwrap()
                .trim()
                .trim_matches('"')
                .to_owned();
            let marker = format!("--{boundary}");
            let parts: Vec<_> = body
                .split(marker.as_str())
                .map(|part| split(part.trim_start()))
                .collect();
            let plain = parts
                .iter()
                .find(|(headers, _)| field(headers, "content-type").contains("text/plain"));
            let (headers, body) = plain.unwrap_or_else(|| panic!("no plain part: {raw}"));
            decode(headers, body)
        }
        None => decode(&headers, &body),
    };
    Mail {
        raw: raw.to_owned(),
        to: field(&headers, "to"),
        subject: field(&headers, "subject"),
        text,
    }
}

/// Returns the unfolded header lines, and the body.
fn split(text: &str) -> (Vec<String>, String) {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let head = head.replace("\n ", " ").replace("\n\t", " ");
    (head.lines().map(str::to_owned).collect(), body.to_owned())
}

fn field(headers: &[String], name: &str) -> String {
    let fields = headers.iter().filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(have, _)| have.eq_ignore_ascii_case(name));
    found
        .next()
        .map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn decode(headers: &[String], body: &str) -> String {
    match field(headers, "content-transfer-encoding")
        .to_ascii_lowercase()
        .as_str()
    {
        "base64" => {
            let packed: String = body.split_whitespace().collect();
            String::from_utf8(
                base64::engine::general_purpose::STANDARD
                    .decode(packed)
                    .unwrap(),
            )
            .unwrap()
        }
        "quoted-printable" => quoted_printable(&body.replace("=\n", "")),
        _ => body.to_owned(),
    }
}

fn quoted_printable(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut pieces = text.split('=');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}
