//! Claims that list words, in the shapes that issuers use, and the values omitted from them.

use serde_json::Value;

use crate::model::token_fault::shown;

/// Maximum number of omitted values listed.
const NAMED_MAX: usize = 8;

/// The unusable values of a token's claims.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OmittedClaims {
    /// Number of all omitted values.
    pub(super) count: usize,
    /// The first of them with the reasons, for operators.
    pub(super) named: Vec<String>,
}

impl OmittedClaims {
    /// Notes an omitted value, escaped for display, and the reason.
    pub(super) fn note(&mut self, what: &str, value: &str, why: &str) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push(format!("{what} {}: {why}", shown(value)));
        }
    }

    /// Returns the listed values, and the number of the remaining ones; `None` if nothing was omitted.
    pub(super) fn text(&self) -> Option<String> {
        let more = self.count.checked_sub(self.named.len())?;
        let named = self.named.join("; ");
        match (self.count, more) {
            (0, _) => None,
            (_, 0) => Some(named),
            (_, more) => Some(format!("{named}; and {more} more")),
        }
    }
}

/// Returns the words that a claim lists: an array of texts, a text separated by spaces or commas, or an object whose
/// names are words unless their value is false or null. All other values are omitted.
pub(super) fn words<'c>(
    claim: Option<&'c Value>,
    what: &str,
    left_out: &mut OmittedClaims,
) -> Vec<&'c str> {
    match claim {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => {
            let words = text.split([' ', ',']);
            words.filter(|word| !word.is_empty()).collect()
        }
        Some(Value::Array(values)) => {
            let mut words = Vec::with_capacity(values.len());
            for value in values {
                match value.as_str() {
                    Some(word) => words.push(word),
                    None => left_out.note(what, kind(value), "not a string"),
                }
            }
            words
        }
        Some(Value::Object(members)) => {
            let given = members
                .iter()
                .filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
            given.map(|(name, _)| name.as_str()).collect()
        }
        Some(value @ (Value::Bool(_) | Value::Number(_))) => {
            left_out.note(what, kind(value), "not an array, a string or an object");
            Vec::new()
        }
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_in_every_shape_that_issuers_write() {
        let cases = [
            (json!(["a", "b c", ""]), vec!["a", "b c", ""], 0),
            (json!("a b,c,  d "), vec!["a", "b", "c", "d"], 0),
            (json!("a\tb\nc d"), vec!["a\tb\nc", "d"], 0),
            (json!("a\u{a0}b"), vec!["a\u{a0}b"], 0),
            (
                json!({"a": {"o": "x"}, "b": true, "c": []}),
                vec!["a", "b", "c"],
                0,
            ),
            (json!({"a": false, "b": null, "c": 0}), vec!["c"], 0),
            (json!(["a", 5, null, ["b"], {"c": 1}, true]), vec!["a"], 5),
            (json!(5), vec![], 1),
            (json!(true), vec![], 1),
            (json!(""), vec![], 0),
            (json!(null), vec![], 0),
        ];
        for (claim, expected, count) in cases {
            let mut left_out = OmittedClaims::default();
            assert_eq!(
                words(Some(&claim), "role", &mut left_out),
                expected,
                "{claim}"
            );
            assert_eq!(left_out.count, count, "{claim}");
        }
        assert_eq!(words(None, "role", &mut OmittedClaims::default()), [""; 0]);
    }

    #[test]
    fn few_are_named_and_all_are_counted() {
        let mut left_out = OmittedClaims::default();
        assert_eq!(left_out.text(), None);
        left_out.note("role", "a\nb", "no role");
        assert_eq!(left_out.text().unwrap(), "role \"a\\u{a}b\": no role");
        for _ in 0..1000 {
            left_out.note("role", "x", "no role");
        }
        let text = left_out.text().unwrap();
        assert!(
            text.ends_with("; and 993 more") && text.len() < 300,
            "{text}"
        );
    }
}
