//! Rules and conversions shared by the types that wrap a checked text.

/// Whether a text, which may be empty, has at most `chars_max` characters and no control character.
pub(in crate::model) fn is_printed(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max && !text.chars().any(char::is_control)
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

pub(in crate::model) use text_conversions;
