//! Fields of records that callers set: the rule of a value, and a change of a field.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// A value that breaks its rule, by the name of its field. The value itself is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The field, as callers name it.
    pub field: &'static str,
    /// What would be right.
    pub expected: &'static str,
}

/// A type of values that keep a rule: its constructor is the check, its schema is the rule for the API document.
pub trait CheckedField: Sized {
    /// The type of JSON that callers send.
    type Sent: DeserializeOwned;

    /// The name of the field, and the rule in words.
    const RULE: InvalidField;

    /// Checks the rule; `None`: the value breaks it.
    fn check(sent: Self::Sent) -> Option<Self>;

    /// The rule as a JSON schema.
    fn schema() -> Schema;
}

/// A field as it came: its value, or the rule that it breaks.
///
/// A broken rule is no error of the parser. So a body that is malformed further on is refused as malformed, and the use
/// case writes the audit event of the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<T>(Result<T, InvalidField>);

impl<T: CheckedField> Checked<T> {
    /// Checks a value.
    pub fn of(sent: T::Sent) -> Self {
        Self(T::check(sent).ok_or(T::RULE))
    }

    /// A look at the value.
    ///
    /// # Errors
    /// [`InvalidField`] if it breaks its rule.
    pub fn get(&self) -> Result<&T, InvalidField> {
        self.0.as_ref().map_err(|broken| *broken)
    }

    /// The value.
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

/// A change of a field that may be empty. In JSON a field that is left out stays, and `null` clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldChange<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is empty afterwards.
    Clear,
    /// It has this value afterwards.
    Set(T),
}

impl<T> FieldChange<T> {
    /// The field after the change; a value that is set goes through a check.
    ///
    /// # Errors
    /// Those of the check.
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

/// A field that is not there, or is `null`, stays.
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
