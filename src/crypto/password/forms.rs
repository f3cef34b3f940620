//! The forms of a password: as typed, and composed (Unicode Normalization Form C).

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::model::secret::Secret;

/// A password as typed, and its composed form if that differs.
#[derive(Debug)]
pub(super) struct PasswordForms {
    pub(super) typed: Secret,
    pub(super) composed: Option<Secret>,
}

impl PasswordForms {
    pub(super) fn of(typed: Secret) -> Self {
        let composed = normalized(&typed);
        Self { typed, composed }
    }

    /// The number of forms.
    pub(super) fn count(&self) -> u64 {
        1 + u64::from(self.composed.is_some())
    }
}

/// The composed form of a password, from which new hashes are computed.
#[must_use]
pub fn composed(password: Secret) -> Secret {
    normalized(&password).unwrap_or(password)
}

/// The composed form, if it differs.
fn normalized(password: &Secret) -> Option<Secret> {
    let text = password.expose();
    if text.is_ascii() {
        return None;
    }
    match ComposingNormalizerBorrowed::new_nfc().normalize(text) {
        Cow::Owned(other) if other != text => Some(Secret::new(other)),
        Cow::Owned(same) => {
            // It is wiped like every other copy.
            drop(Secret::new(same));
            None
        }
        Cow::Borrowed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_keyboards_type_is_the_same_composed() {
        let cases = [
            ("plain ASCII", None),
            ("", None),
            ("gr\u{fc}n", None),
            ("gru\u{308}n", Some("gr\u{fc}n")),
            ("\u{212b}", Some("\u{c5}")),
            ("\u{1100}\u{1161}", Some("\u{ac00}")),
            // Compatibility forms are not equal.
            ("\u{ff21}\u{fb01}", None),
            (" e\u{301} ", Some(" \u{e9} ")),
        ];
        for (typed, other) in cases {
            let forms = PasswordForms::of(Secret::new(typed.to_owned()));
            let found = forms.composed.as_ref().map(Secret::expose);
            assert_eq!(found, other, "{typed}");
            let composed = composed(Secret::new(typed.to_owned()));
            assert_eq!(composed.expose(), other.unwrap_or(typed));
            assert_eq!(forms.count(), if other.is_some() { 2 } else { 1 });
        }
    }
}
