//! Placeholders for values that change with each run: numbered, so that equal values have the same number.

use std::collections::HashMap;

use crate::harness::tokens::part;

/// As in `Mon, 30 Nov 2026 06:50:36 GMT`.
const HTTP_DATE_CHARS: usize = 29;

/// The values seen so far.
#[derive(Default)]
pub(super) struct Mask {
    /// Texts that are known in advance, such as addresses, in the order of their replacement.
    fixed: Vec<(String, String)>,
    known: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
    /// Tokens seen since they were last taken.
    tokens: Vec<String>,
}

impl Mask {
    /// Replaces a text wherever it occurs.
    pub(super) fn fix(&mut self, text: &str, placeholder: &str) {
        self.fixed.push((text.to_owned(), placeholder.to_owned()));
    }

    /// Returns a text with everything replaced that changes with each run.
    pub(super) fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (value, placeholder) in &self.fixed {
            text = text.replace(value, placeholder);
        }
        for word in text.split(|c| !is_word(c)) {
            // The id of a key occurs only inside of the key.
            if let Some(id) = word.strip_prefix("dwk_").and_then(|key| key.get(..8))
                && word.len() == 45
            {
                self.number("key-id", id);
            }
        }
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let (piece, tail) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            if out.ends_with("\nDate: ") || out.ends_with("\ndate: ") {
                out.push_str("<date>");
                rest = &rest[HTTP_DATE_CHARS..];
            } else if piece.is_empty() {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            } else if let Some(len) = time_len(rest) {
                out.push_str("<time>");
                rest = &rest[len..];
            } else {
                let is_duration = ["\"duration_us\":", ";t=", "etry-after: ", "etry-After: "]
                    .iter()
                    .any(|before| out.ends_with(before));
                let word = if is_duration {
                    "<duration>".to_owned()
                } else {
                    self.word(piece)
                };
                out.push_str(&word);
                rest = tail;
            }
        }
        out
    }

    /// Returns the contents of the tokens seen since the last call, one line each.
    pub(super) fn tokens(&mut self) -> Vec<String> {
        let tokens = std::mem::take(&mut self.tokens);
        let tell = |token: String| {
            let held = format!("{} {}", part(&token, 0), part(&token, 1));
            format!("{} {}", self.text(&token), self.text(&held))
        };
        tokens.into_iter().map(tell).collect()
    }

    fn word(&mut self, word: &str) -> String {
        let pieces: Vec<_> = word.split('.').collect();
        if pieces.len() == 3 && word.starts_with("eyJ") && pieces[2].len() == 86 {
            if !self.known.contains_key(word) {
                self.tokens.push(word.to_owned());
            }
            return self.number("jwt", word);
        }
        let kinds = [
            ("dwk_", "api-key"),
            ("dwr_", "refresh-token"),
            ("dws_", "cookie"),
            ("dwo_", "one-time-token"),
        ];
        for (prefix, kind) in kinds {
            if word.starts_with(prefix) && 40 < word.len() {
                return self.number(kind, word);
            }
        }
        let pieces: Vec<_> = pieces.into_iter().map(|piece| self.piece(piece)).collect();
        pieces.join(".")
    }

    fn piece(&mut self, piece: &str) -> String {
        if let Some(placeholder) = self.known.get(piece) {
            return placeholder.clone();
        }
        let kinds = [
            ("u-", "uid"),
            ("a-", "account-id"),
            ("s-", "session-id"),
            ("set-", "settings-id"),
        ];
        for (prefix, kind) in kinds {
            if piece.strip_prefix(prefix).is_some_and(|id| id.len() == 22) {
                return self.number(kind, piece);
            }
        }
        match piece.len() {
            10 if piece.bytes().all(|b| b.is_ascii_digit()) => "<time>".to_owned(),
            16 if piece
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                self.number("request-id", piece)
            }
            22 | 43
                if piece
                    .bytes()
                    .any(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) =>
            {
                self.number("random", piece)
            }
            _ => piece.to_owned(),
        }
    }

    fn number(&mut self, kind: &'static str, value: &str) -> String {
        if let Some(placeholder) = self.known.get(value) {
            return placeholder.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let placeholder = format!("<{kind}-{count}>");
        self.known.insert(value.to_owned(), placeholder.clone());
        placeholder
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Returns the length of the RFC 3339 time at the start of a text. Years from 2900 on are those that tests send.
fn time_len(text: &str) -> Option<usize> {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let fits = |(c, shape): (char, char)| {
        if shape == 'd' {
            c.is_ascii_digit()
        } else {
            c == shape
        }
    };
    let begins =
        text.len() > shape.len() && text.chars().zip(shape.chars()).all(fits) && text < "29";
    let end = text
        .find('Z')
        .filter(|end| begins && *end <= shape.len() + 10)?;
    text[shape.len()..end]
        .bytes()
        .all(|b| b == b'.' || b.is_ascii_digit())
        .then_some(end + 1)
}
