//! Fields of records that callers set: the rule for a value, and a change to a field.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The field of an invalid value and its rule. The value itself is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The name of the field, as callers write it.
    pub field: &'static str,
    /// A description of valid values.
    pub expected: &'static str,
}

/// A type whose values satisfy a rule: its constructor is the check, its schema is the rule for the API document.
pub trait CheckedField: Sized {
    /// The JSON type that callers send.
    type Sent: DeserializeOwned;

    /// The name of the field and the rule in words.
    const RULE: InvalidField;

    /// Checks a value; `None` if it breaks the rule.
    fn check(sent: Self::Sent) -> Option<Self>;

    /// Returns the rule as a JSON schema.
    fn schema() -> Schema;
}

/// A field as received: its value, or the rule that it breaks.
///
/// A broken rule is not a parse error. A body that is malformed further on is therefore refused as malformed, and the
/// use case writes the audit event of the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<T>(Result<T, InvalidField>);

impl<T: CheckedField> Checked<T> {
    /// Checks a value.
    pub fn of(sent: T::Sent) -> Self {
        Self(T::check(sent).ok_or(T::RULE))
    }

    /// Returns a reference to the value.
    ///
    /// # Errors
    /// [`InvalidField`] if it breaks its rule.
    pub fn get(&self) -> Result<&T, InvalidField> {
        self.0.as_ref().map_err(|broken| *broken)
    }

    /// Returns the value.
    ///
    /// # Errors
    /// [`InvalidField`] if it breaks its rule.
    pub fn valid(self) -> Result<T, InvalidField> {
        self.0
    }
}

impl<'de, T: CheckedField> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::Sent::deserialize(deserializer).map(Self::of)
    }
}

impl<T: CheckedField> JsonSchema for Checked<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::RULE.field.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

/// A change to a field that may be empty. In JSON, a field that is left out is kept and `null` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldChange<T> {
    /// The field keeps its value.
    #[default]
    Keep,
    /// The field is cleared.
    Clear,
    /// The field is set to this value.
    Set(T),
}

impl<T> FieldChange<T> {
    /// Returns the field after the change. A value to be set is passed through `check`.
    ///
    /// # Errors
    /// The errors of `check`.
    pub fn apply<U, E>(
        self,
        before: Option<U>,
        check: impl FnOnce(T) -> Result<U, E>,
    ) -> Result<Option<U>, E> {
        match self {
            Self::Keep => Ok(before),
            Self::Clear => Ok(None),
            Self::Set(value) => check(value).map(Some),
        }
    }
}

/// Keeps a field that is missing or `null`.
impl<T> From<Option<T>> for FieldChange<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldChange<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for FieldChange<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

/// Returns the members of a record as JSON.
pub fn members_of<T: Serialize>(record: &T) -> Map<String, Value> {
    match serde_json::to_value(record) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_stays_and_null_clears() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            rate: FieldChange<u32>,
        }
        for (body, after) in [
            ("{}", Some(1)),
            (r#"{"rate":null}"#, None),
            (r#"{"rate":7}"#, Some(7)),
        ] {
            let body: Body = serde_json::from_str(body).unwrap();
            assert_eq!(body.rate.apply(Some(1), Ok::<_, ()>), Ok(after));
        }
    }
}
