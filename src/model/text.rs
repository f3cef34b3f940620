//! Rules and conversions shared by the types that wrap a checked text.

use std::ops::RangeInclusive;

use schemars::{Schema, json_schema};

/// Whether a text has this many characters and no control character.
pub(in crate::model) fn is_printed(text: &str, chars: &RangeInclusive<usize>) -> bool {
    chars.contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// Returns the rule of [`is_printed`] as a JSON schema; its pattern is one of ECMA-262.
pub(in crate::model) fn printed_schema(chars: &RangeInclusive<usize>) -> Schema {
    let (min, max) = (*chars.start(), *chars.end());
    if min == 0 {
        let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$";
        json_schema!({ "type": "string", "maxLength": max, "pattern": pattern })
    } else {
        let pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$";
        json_schema!({ "type": "string", "minLength": min, "maxLength": max, "pattern": pattern })
    }
}

/// Declares a checked field for people: a text of so many characters, none of them a control character.
macro_rules! printed_field {
    ($(#[$about:meta])* $name:ident, $chars:expr, $rule:expr) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $crate::model::field::CheckedField for $name {
            type Sent = String;

            const RULE: $crate::model::field::InvalidField = $rule;

            fn check(text: String) -> Option<Self> {
                $crate::model::text::is_printed(&text, &$chars).then_some(Self(text))
            }

            fn schema() -> schemars::Schema {
                $crate::model::text::printed_schema(&$chars)
            }
        }
    };
}

/// Implements the conversions of a checked text: from `String` (and so from records and JSON) by its `parse`, and back
/// to the text.
macro_rules! text_conversions {
    ($name:ident, $error:ty) => {
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// Declares a type that wraps a text which satisfies a rule, with the error for one that does not.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ident $(($what:literal))?, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Parses a text that follows the rule of this type.
            ///
            /// # Errors
            #[doc = concat!("[`", stringify!($error), "`] for any other text.")]
            pub fn parse(text: &str) -> Result<Self, $error> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) { Ok(Self(text.into())) } else { Err($error $(($what))?) }
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        $crate::model::text::text_conversions!($name, $error);
    };
}

pub(in crate::model) use {checked_text, printed_field, text_conversions};
