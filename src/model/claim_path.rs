//! The path of a claim: its name, or names through nested objects.

use serde_json::{Map, Value};

/// Maximum length of a path, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// The path of a claim: `groups`, `realm_access.roles`, `resource_access."my.app".roles`.
///
/// Dots step into objects, and quotes enclose a name that contains dots. A path without quotes matches a claim of that
/// whole name first, so `https://example.com/roles` needs no quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    text: String,
    pieces: Vec<String>,
    has_quotes: bool,
}

impl ClaimPath {
    /// Parses a path; `None` for an empty or overlong text, control characters, and quotes that do not enclose whole
    /// names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || PATH_BYTES_MAX < text.len() || text.chars().any(char::is_control) {
            return None;
        }
        let has_quotes = text.contains('"');
        let pieces = if has_quotes {
            quoted_pieces(text)?
        } else if text.split('.').any(str::is_empty) {
            vec![text.to_owned()]
        } else {
            text.split('.').map(str::to_owned).collect()
        };
        Some(Self {
            text: text.to_owned(),
            pieces,
            has_quotes,
        })
    }

    /// Returns the path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the claim at this path.
    #[must_use]
    pub fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        if !self.has_quotes
            && let Some(value) = claims.get(&self.text)
        {
            return Some(value);
        }
        let (first, rest) = self.pieces.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, piece| {
            value.as_object()?.get(piece)
        })
    }
}

/// Splits a path at its dots, except inside quotes.
fn quoted_pieces(text: &str) -> Option<Vec<String>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let (piece, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if piece.is_empty() || !rest.starts_with('"') && piece.contains('"') {
            return None;
        }
        pieces.push(piece.to_owned());
        if after.is_empty() {
            return Some(pieces);
        }
        rest = after.strip_prefix('.')?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_leads_by_its_whole_name_by_dots_and_by_quotes() {
        let claims = json!({
            "groups": 1,
            "realm_access": {"roles": 2},
            "https://example.com/roles": 3,
            "a.b": 4,
            "a": {"b": 5, "c.d": {"e": 6}},
            "x\"y": 7,
        });
        let cases = [
            ("groups", Some(1)),
            ("realm_access.roles", Some(2)),
            ("https://example.com/roles", Some(3)),
            ("\"https://example.com/roles\"", Some(3)),
            ("a.b", Some(4)),
            ("\"a.b\"", Some(4)),
            ("\"a\".b", Some(5)),
            ("a.\"c.d\".e", Some(6)),
            ("a.c.d.e", None),
            ("realm_access.none", None),
            ("realm_access.roles.x", None),
            ("a..b", None),
            ("Groups", None),
        ];
        for (path, expected) in cases {
            let path = ClaimPath::parse(path).unwrap();
            let found = path.find(claims.as_object().unwrap());
            assert_eq!(found, expected.map(Value::from).as_ref(), "{path:?}");
        }
    }

    #[test]
    fn quotes_enclose_whole_names() {
        for bad in [
            "",
            "\"",
            "\"a",
            "a\"",
            "\"a\"b",
            "a\"b\"",
            "\"\"",
            "\"a\".",
            ".\"a\"",
            "\"a\"..b",
            "\"a\"\"b\"",
            "a\n",
            &"x".repeat(257),
        ] {
            assert_eq!(ClaimPath::parse(bad), None, "{bad:?}");
        }
    }
}
