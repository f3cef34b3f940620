//! One line of an export, with the field names of apicrud's models.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::model::account::Digest;
use crate::model::clock::Timestamp;
use crate::model::secret::Secret;

/// The content of a line.
pub(super) enum ImportLine {
    Person(PersonLine),
    Account(Box<AccountLine>),
    Key(KeyLine),
    Member(MemberLine),
}

/// Model `Person`.
#[derive(Deserialize)]
pub(super) struct PersonLine {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) status: Option<String>,
}

/// Model `Account`.
#[derive(Deserialize)]
pub(super) struct AccountLine {
    pub(super) id: String,
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) password: Secret,
    pub(super) password_must_change: Option<bool>,
    pub(super) is_admin: Option<bool>,
    pub(super) totp_secret: Option<Secret>,
    pub(super) created: Option<String>,
    pub(super) status: Option<String>,
}

/// Model `APIkey`, with the names of its scopes.
#[derive(Deserialize)]
pub(super) struct KeyLine {
    pub(super) uid: String,
    pub(super) name: Option<String>,
    pub(super) prefix: String,
    hashvalue: Secret,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) created: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) status: Option<String>,
}

/// A membership model such as `ListMember`; the field `<resource>_id` identifies the resource.
pub(super) struct MemberLine {
    pub(super) uid: String,
    pub(super) resource: String,
    pub(super) id: String,
    pub(super) level: String,
}

/// The fields common to all models, then those of each model; fields that are not read here are of no use to the
/// gateway.
const COMMON: [&str; 6] = ["model", "id", "uid", "created", "modified", "status"];
const PERSON: [&str; 4] = ["name", "identity", "referrer_id", "privacy"];
const ACCOUNT: [&str; 8] = [
    "name",
    "password",
    "password_must_change",
    "is_admin",
    "totp_secret",
    "backup_codes",
    "settings_id",
    "last_login",
];
const KEY: [&str; 6] = [
    "name",
    "prefix",
    "hashvalue",
    "scopes",
    "expires",
    "last_used",
];

/// Reads one line. The error states what would be right and never quotes the line.
pub(super) fn read(text: &[u8]) -> Result<ImportLine, String> {
    let fields: Map<String, Value> =
        serde_json::from_slice(text).map_err(|_| "not a JSON object".to_owned())?;
    let model = fields.get("model").and_then(Value::as_str);
    match model {
        Some("Person") => typed(text, &fields, &PERSON).map(ImportLine::Person),
        Some("Account") => {
            let line = typed(text, &fields, &ACCOUNT)?;
            Ok(ImportLine::Account(Box::new(line)))
        }
        Some("APIkey") => typed(text, &fields, &KEY).map(ImportLine::Key),
        Some(model) => match model.strip_suffix("Member") {
            Some(resource) if !resource.is_empty() => {
                member(&fields, resource).map(ImportLine::Member)
            }
            _ => Err(MODELS.to_owned()),
        },
        None => Err(MODELS.to_owned()),
    }
}

const MODELS: &str =
    "model must be Person, Account, APIkey, or a resource followed by Member, such as ListMember";

fn member(fields: &Map<String, Value>, resource: &str) -> Result<MemberLine, String> {
    let resource = resource.to_ascii_lowercase();
    let column = format!("{resource}_id");
    known(fields, &[column.as_str(), "authorization"])?;
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("{name} must be a string")),
    };
    if !is_active(fields.get("status").and_then(Value::as_str)) {
        return Err("the membership is not active".to_owned());
    }
    Ok(MemberLine {
        uid: text("uid")?,
        id: text(&column)?,
        level: text("authorization")?,
        resource,
    })
}

fn known(fields: &Map<String, Value>, own: &[&str]) -> Result<(), String> {
    let is_known = |name: &str| COMMON.contains(&name) || own.contains(&name);
    if fields.keys().all(|name| is_known(name)) {
        Ok(())
    } else {
        Err(format!(
            "unknown field; the model has {} and {}",
            COMMON.join(", "),
            own.join(", ")
        ))
    }
}

/// Parses the text of these fields again, so that a repeated field is detected. The parser's own message may contain a
/// value.
fn typed<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    fields: &Map<String, Value>,
    own: &[&str],
) -> Result<T, String> {
    known(fields, own)?;
    serde_json::from_slice(text).map_err(|error| {
        let column = error.column();
        format!("a field is missing, duplicated or of the wrong type (column {column})")
    })
}

/// Whether a status lets a record act; a missing one does.
pub(super) fn is_active(status: Option<&str>) -> bool {
    status.is_none_or(|status| status == "active")
}

impl ImportLine {
    /// Returns the uid of the owner, as assigned by apicrud.
    pub(super) fn uid(&self) -> &str {
        match self {
            Self::Person(line) => &line.id,
            Self::Account(line) => &line.uid,
            Self::Key(line) => &line.uid,
            Self::Member(line) => &line.uid,
        }
    }

    /// Returns the rank of this line among those of its uid: before the lines that depend on it.
    pub(super) fn order(&self) -> u8 {
        match self {
            Self::Person(_) => 0,
            Self::Account(_) => 1,
            Self::Key(_) => 2,
            Self::Member(_) => 3,
        }
    }
}

impl KeyLine {
    /// Returns the SHA-256 of the secret, which the line contains in base 64.
    pub(super) fn hash(&self) -> Option<Digest> {
        let bytes = STANDARD.decode(self.hashvalue.expose()).ok()?;
        bytes.try_into().ok().map(Digest)
    }
}

/// Parses a point in time as Python writes it, `2026-01-31 12:00:00`, or as in RFC 3339; without an offset it is UTC.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.replacen(' ', "T", 1);
    Timestamp::parse_rfc3339(&text).or_else(|| Timestamp::parse_rfc3339(&format!("{text}Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_pythons_or_rfc_3339() {
        let expected = Timestamp::parse_rfc3339("2026-01-31T12:00:00Z");
        for text in [
            "2026-01-31 12:00:00",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00Z",
            "2026-01-31T13:00:00+01:00",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!(time("31.1.2026"), None);
    }

    #[test]
    fn a_line_that_is_none_is_told_without_its_values() {
        for (text, part) in [
            ("", "JSON"),
            ("[]", "JSON"),
            ("{\"model\":\"Contact\"}", "model must be"),
            ("{\"model\":\"Member\"}", "model must be"),
            ("{\"id\":\"hunter2\"}", "model must be"),
            ("{\"model\":\"Person\",\"hunter2\":1}", "unknown field"),
            (
                "{\"model\":\"Person\",\"id\":\"hunter2\",\"name\":\"A\",\"identity\":7}",
                "of the wrong type",
            ),
            (
                "{\"model\":\"Person\",\"id\":\"1\",\"id\":\"hunter2\",\"name\":\"A\",\"identity\":\"a@b\"}",
                "duplicated",
            ),
            (
                "{\"model\":\"ListMember\",\"uid\":\"hunter2\",\"list_id\":42,\"authorization\":\"member\"}",
                "list_id must be a string",
            ),
            (
                "{\"model\":\"ListMember\",\"uid\":\"1\",\"event_id\":\"42\",\"authorization\":\"member\"}",
                "unknown field",
            ),
        ] {
            let Err(reason) = read(text.as_bytes()) else {
                panic!("taken: {text}");
            };
            assert!(reason.contains(part), "{text}: {reason}");
            assert!(!reason.contains("hunter2"), "{reason}");
        }
    }
}
