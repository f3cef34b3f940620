//! Whole answers, compared byte by byte with recorded ones: nothing that is visible from outside changes unnoticed.
//!
//! A file contains one group: first the configuration that is merged into `doorward.toml`, then exchanges. Each begins
//! with `## ` and its name. Its steps are lines that begin with
//!
//! - `> `: a request. Without a version in its first line, Host, Connection and Content-Length are added; with one it
//!   is sent as written, with `\0`, `\t`, `\r`, `\n` as in Rust, and `{a*9000}` as that many of these. `@admin` before
//!   it: sent to the admin listener.
//! - `! `: a command, with lines of standard input after `. `.
//! - `* `: an address and a subject; the mail with these.
//! - `= `: a name and a text: the value that follows that text in the outcome is replaced by `{name}` from
//!   there on.
//!
//! The test writes the outcome if `RECORD=1` is set: `< ` the outcome, `<+` the rest of a long line, `| ` the request
//! that reached the upstream, `^ ` the contents of a token. `records/` contains everything that the gateway wrote
//! meanwhile.

mod mask;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::gateway::{BINARY, Gateway};
use crate::harness::http::Connection;
use crate::harness::mailbox::{Mail, Mailbox};
use crate::harness::upstream::Upstream;
use crate::harness::wait_for;
use mask::Mask;

/// Maximum length of a line of JSON; a longer one is broken at the end of one of its parts.
const LINE_CHARS_MAX: usize = 400;
/// Maximum number of differing exchanges to show.
const SHOWN_MAX: usize = 3;
/// Maximum number of lines to show of each.
const LINES_MAX: usize = 12;

/// The upstream's answer to everything, including fields that only the gateway may set.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: upstream\r\nX-Auth-Uid: u-forged\r\n\
    Set-Cookie: doorward_session=forged\r\nSet-Cookie: app=1\r\nContent-Length: 5\r\n\r\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> PathBuf {
    root().join("tests/it/recorded").join(name)
}

/// A group in progress.
struct Group<'g> {
    gateway: &'g Gateway,
    upstream: &'g Upstream,
    mask: Mask,
    values: BTreeMap<String, String>,
    /// The ids of the requests, in order.
    request_ids: Vec<String>,
    seen: usize,
}

impl<'g> Group<'g> {
    fn new(gateway: &'g Gateway, upstream: &'g Upstream) -> Self {
        let mut mask = Mask::default();
        let mut values = BTreeMap::new();
        let addresses = [
            ("host", gateway.address),
            ("admin", gateway.admin),
            ("upstream", upstream.address),
        ];
        for (name, address) in addresses {
            let placeholder = format!("<{name}>");
            mask.fix(&address.to_string(), &placeholder);
            mask.fix(&address.to_string().replace(':', "%3A"), &placeholder);
            values.insert(name.to_owned(), address.to_string());
        }
        let places = [("dir", gateway.dir()), ("root", root())];
        for (name, place) in places {
            let place = place.display().to_string();
            mask.fix(&place, &format!("<{name}>"));
            values.insert(name.to_owned(), place);
        }
        mask.fix(env!("CARGO_PKG_VERSION"), "<version>");
        Self {
            gateway,
            upstream,
            mask,
            values,
            request_ids: Vec::new(),
            seen: 0,
        }
    }

    /// Executes the lines of one exchange, and returns them with the outcome.
    fn exchange(&mut self, name: &str, lines: &[&str]) -> String {
        let all = |mark: &str| -> Vec<String> {
            let of_mark = lines.iter().filter_map(|line| line.strip_prefix(mark));
            of_mark
                .map(|line| self.fill(line.strip_prefix(' ').unwrap_or(line)))
                .collect()
        };
        let (request, command, mail) = (all(">"), all("!"), all("*"));
        let outcome = match (request.as_slice(), command.as_slice(), mail.as_slice()) {
            ([_, ..], [], []) => self.request(&request),
            ([], [command], []) => self.command(command, &all(".").join("\n")),
            ([], [], [wanted]) => {
                let mail = self.mail(wanted);
                format!(
                    "To: {}\nSubject: {}\n\n{}",
                    mail.to, mail.subject, mail.text
                )
            }
            _ => panic!("{name}: one request, command or mail"),
        };
        for line in lines.iter().filter_map(|line| line.strip_prefix("= ")) {
            let (name, before) = line.split_once(' ').unwrap();
            let (_, value) = outcome
                .split_once(before)
                .unwrap_or_else(|| panic!("no {before:?} in {outcome}"));
            let ends = |c: char| c.is_whitespace() || "\";<&".contains(c);
            let value = value.trim_start().split(ends).next().unwrap();
            self.values.insert(name.to_owned(), value.to_owned());
        }
        let mut text = format!("## {name}\n");
        for line in lines {
            writeln!(text, "{line}").unwrap();
        }
        self.tell(&mut text, '<', &outcome);
        for seen in &self.upstream.seen()[self.seen..] {
            self.seen += 1;
            let whole = [seen.text().as_bytes(), &seen.body].concat();
            self.tell(&mut text, '|', &readable(&whole));
        }
        for token in self.mask.tokens() {
            writeln!(text, "^ {token}").unwrap();
        }
        text
    }

    /// Returns a line with names replaced by their values.
    fn fill(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (name, value) in &self.values {
            line = line.replace(&format!("{{{name}}}"), value);
        }
        let open = line
            .match_indices('{')
            .find(|(at, _)| line[at + 1..].starts_with(|c: char| c.is_ascii_lowercase()));
        let is_count = open.is_some_and(|(at, _)| line[at + 2..].starts_with('*'));
        assert!(open.is_none() || is_count, "nothing has this name: {line}");
        line
    }

    fn request(&mut self, lines: &[String]) -> String {
        let is_raw = lines[0].ends_with(" HTTP/1.1")
            || lines[0].ends_with(" HTTP/1.0")
            || lines[0].contains('\\');
        let to_admin = lines[0].strip_prefix("@admin ");
        let address = if to_admin.is_some() {
            self.gateway.admin
        } else {
            self.gateway.address
        };
        let first = to_admin.unwrap_or(&lines[0]);
        let end = lines
            .iter()
            .position(String::is_empty)
            .unwrap_or(lines.len());
        let body = lines.get(end + 1..).unwrap_or_default().join("\n");
        let mut head = if is_raw {
            format!("{first}\r\n")
        } else {
            format!("{first} HTTP/1.1\r\nConnection: close\r\n")
        };
        let names = |name: &str| {
            lines
                .iter()
                .any(|line| line.to_ascii_lowercase().starts_with(name))
        };
        if !is_raw && !names("host:") {
            write!(head, "Host: {address}\r\n").unwrap();
        }
        for line in &lines[1..end] {
            write!(head, "{line}\r\n").unwrap();
        }
        if !is_raw && !body.is_empty() {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut whole = format!("{head}\r\n{body}");
        if is_raw {
            for (escape, meant) in [("\\0", "\0"), ("\\t", "\t"), ("\\r", "\r"), ("\\n", "\n")] {
                whole = whole.replace(escape, meant);
            }
        }
        let mut connection = Connection::open(address);
        connection.write(repeated(&whole));
        let mut answer = Vec::new();
        // A refused head may be answered by a reset after the answer.
        let _ = connection.stream.read_to_end(&mut answer);
        let answer = readable(&answer);
        let id = answer.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("x-request-id: ")
                .map(str::to_owned)
        });
        self.request_ids.extend(id);
        if to_admin != Some("GET /metrics") {
            return answer;
        }
        let (head, body) = answer.split_once("\n\n").unwrap();
        let names: Vec<_> = body
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let length = head
            .lines()
            .filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
        format!(
            "{}\n\n{}",
            length.collect::<Vec<_>>().join("\n"),
            names.join("\n")
        )
    }

    /// Returns the oldest mail with that address and subject: mails are delivered concurrently.
    fn mail(&self, wanted: &str) -> Mail {
        let (address, subject) = wanted.split_once(' ').unwrap();
        wait_for(wanted, || {
            let mailbox = Mailbox::all(self.gateway);
            std::iter::from_fn(|| mailbox.unread(address)).find(|mail| mail.subject == subject)
        })
    }

    fn command(&self, line: &str, stdin: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        let (code, stdout, stderr) = if words.contains(&"--config") {
            let ended = Command::new(BINARY)
                .env_clear()
                .current_dir(root())
                .args(&words)
                .output()
                .unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (ended.status.code(), text(ended.stdout), text(ended.stderr))
        } else {
            let ended = self.gateway.cli(&words, stdin);
            (ended.code, ended.stdout, ended.stderr)
        };
        let mut lines: Vec<_> = stdout.lines().collect();
        if line == "account list" {
            // The lines begin with random ids, so they are sorted by the name at the end.
            lines.sort_by_key(|line| line.rsplit(' ').next());
        }
        let mut outcome = format!("exit {}\n{}", code.unwrap(), lines.join("\n"));
        if !stderr.is_empty() {
            write!(
                outcome,
                "\nstandard error:\n{}",
                stderr.trim_end_matches('\n')
            )
            .unwrap();
        }
        outcome
    }

    fn tell(&mut self, text: &mut String, mark: char, outcome: &str) {
        for line in self.mask.text(outcome).split('\n') {
            let line = line.replace('\r', "\\r");
            let is_long = LINE_CHARS_MAX < line.len() && line.starts_with('{');
            let parts: Vec<_> = if is_long {
                line.split_inclusive("},").collect()
            } else {
                vec![&line]
            };
            for (index, part) in parts.into_iter().enumerate() {
                let between = if index == 0 { " " } else { "+" };
                writeln!(
                    text,
                    "{}",
                    format!("{mark}{between}{part}").trim_end_matches(' ')
                )
                .unwrap();
            }
        }
    }

    /// Returns everything that the gateway wrote, grouped by request and in the order of the requests.
    fn records(&mut self) -> String {
        let stdout = self.gateway.stdout();
        let place = |line: &&str| {
            let record: Value = serde_json::from_str(line).unwrap();
            let id = record["request_id"].as_str().unwrap_or_default();
            let request = self.request_ids.iter().position(|known| known == id);
            (request.unwrap_or(usize::MAX), record["audit"].is_null())
        };
        let mut lines: Vec<_> = stdout.lines().collect();
        lines.sort_by_cached_key(place);
        let masked = lines.into_iter().map(|line| self.mask.text(line) + "\n");
        masked.collect()
    }
}

/// Formats bytes as text: the lines of the head, and the body unchanged. A line of the head with another line end shows
/// it.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return text.into_owned();
    };
    let head: Vec<_> = head
        .split("\r\n")
        .map(|line| line.replace('\n', "\\n"))
        .collect();
    format!("{}\n\n{body}", head.join("\n"))
}

/// Expands `{a*3}` to `aaa`.
fn repeated(text: &str) -> String {
    let Some((before, (count, after))) = text
        .split_once("{a*")
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return text.to_owned();
    };
    let many = "a".repeat(count.parse().unwrap());
    repeated(&format!("{before}{many}{after}"))
}

/// Runs a group, and compares or records the outcome.
fn run(name: &str) {
    let recorded = fs::read_to_string(file(&format!("{name}.txt"))).unwrap();
    let mut parts = recorded.split("\n## ");
    let config = parts.next().unwrap();
    let upstream = Upstream::serving(|exchange| {
        exchange.body();
        let body = if exchange.seen.method == "HEAD" {
            ""
        } else {
            "hello"
        };
        exchange.write(format!("{ANSWER}{body}"));
    });
    let base = fs::read_to_string(file("doorward.toml")).unwrap();
    let base = base.replace("{upstream}", &upstream.address.to_string());
    let gateway = Gateway::start(&format!("{base}\n{config}"));
    let mut group = Group::new(&gateway, &upstream);
    let mut now = format!("{config}\n");
    for part in parts {
        let mut lines = part.lines();
        let title = lines.next().unwrap();
        let asked: Vec<_> = lines
            .filter(|line| line.starts_with(['>', '!', '.', '*', '=']))
            .collect();
        now.push_str(&group.exchange(title, &asked));
        now.push('\n');
    }
    assert!(gateway.stop().success());
    let records = group.records();
    let differ = [
        settle(&format!("{name}.txt"), &now),
        settle(&format!("records/{name}.txt"), &records),
    ];
    assert!(
        differ.iter().all(String::is_empty),
        "where this is meant, RECORD=1 writes it anew{}",
        differ.concat()
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the person who runs the test decides"
)]
fn is_to_be_recorded() -> bool {
    std::env::var("RECORD").is_ok_and(|value| value == "1")
}

/// Writes a file, or returns what differs from it: the first exchanges or records, `-` as recorded, `+` as it is now.
fn settle(name: &str, now: &str) -> String {
    let now = now.trim_end();
    if is_to_be_recorded() {
        fs::write(file(name), format!("{now}\n")).unwrap();
        return String::new();
    }
    let recorded = fs::read_to_string(file(name)).unwrap();
    let recorded = recorded.trim_end();
    let between = if recorded.starts_with('{') {
        "\n"
    } else {
        "\n## "
    };
    let (old, new): (Vec<_>, Vec<_>) = (
        recorded.split(between).collect(),
        now.split(between).collect(),
    );
    let all = 0..old.len().max(new.len());
    let differ: Vec<_> = all
        .filter(|index| old.get(*index) != new.get(*index))
        .collect();
    let mut shown = String::new();
    for index in differ.iter().take(SHOWN_MAX) {
        let lines = |parts: &[&'_ str]| -> Vec<String> {
            let part = parts.get(*index).copied().unwrap_or_default();
            part.lines().map(str::to_owned).collect()
        };
        let (old, new) = (lines(&old), lines(&new));
        let title = if between == "\n" {
            ""
        } else {
            new.first().or(old.first()).unwrap()
        };
        write!(shown, "\n\n{name}: {title}").unwrap();
        for (mark, lines, others) in [('-', &old, &new), ('+', &new, &old)] {
            for line in lines
                .iter()
                .filter(|line| !others.contains(line))
                .take(LINES_MAX)
            {
                write!(shown, "\n{mark} {line}").unwrap();
            }
        }
    }
    if SHOWN_MAX < differ.len() {
        write!(shown, "\n\n{name}: {} more", differ.len() - SHOWN_MAX).unwrap();
    }
    shown
}

#[test]
fn own_endpoints_answer_as_recorded() {
    run("own");
}

#[test]
fn pages_are_as_recorded() {
    run("pages");
}

#[test]
fn proxies_that_ask_are_answered_as_recorded() {
    run("forward_auth");
}

#[test]
fn routes_let_through_and_refuse_as_recorded() {
    run("routes");
}

#[test]
fn broken_heads_are_refused_as_recorded() {
    run("heads");
}

#[test]
fn the_admin_listener_answers_as_recorded() {
    run("admin");
}

#[test]
fn commands_print_the_recorded_output() {
    run("commands");
}
