//! Rules for passwords: any Unicode, never truncated, never folded; weak passwords are refused with a reason.

use std::sync::LazyLock;

use crate::account::halt::Refuses;
use crate::config::AccountSettings;
use crate::crypto::password::{PASSWORD_BYTES_MAX, composed};
use crate::model::account::{EmailAddress, Username};
use crate::model::error_code::ErrorCode;
use crate::model::secret::Secret;

/// Maximum length of a password, in characters; this many characters of UTF-8 can be hashed (NIST SP 800-63B-4 section
/// 3.1.1.2 asks for at least 64).
const CHARS_MAX: usize = 256;
/// Length from which character classes are not required and the core of a password is not looked up.
const LONG: usize = 15;
/// Minimum number of different characters; fewer form a pattern, not a password.
const DISTINCT_MIN: usize = 4;
/// Minimum length of names and parts of addresses that are checked; shorter ones occur in too many words by chance.
const CONTEXT_CHARS_MIN: usize = 4;
/// Minimum length of a common number; a shorter one is a date or a house number, not a password.
const NUMBER_DIGITS_MIN: usize = 6;
/// Maximum number of bytes around a common number; with more around it, the number is only a part of the password.
const AROUND_BYTES_MAX: usize = 4;
/// Minimum length of what remains of a password without the context word.
const CONTEXT_REST_MIN: usize = 8;
/// The name of the program: the first guess of an attacker who knows which program this is.
const PROGRAM: &str = "doorward";

/// Entries of the list of common passwords, sorted by bytes, in lower case.
static COMMON: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    include_str!("common_passwords.txt")
        .lines()
        .filter(|line| !line.starts_with("# "))
        .collect()
});

/// Why a password is refused. Contains nothing of the password itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// Too few characters.
    TooShort {
        /// Minimum number of characters.
        min: usize,
    },
    /// Too many characters.
    TooLong,
    /// Under 15 characters and of too few character classes.
    TooFewClasses {
        /// Minimum number of classes.
        min: usize,
    },
    /// Repetitions of the same few characters.
    Repetitive,
    /// In the list of common passwords, or one of them with some characters around it.
    Common,
    /// Little more than the user's name, their address or the program's name.
    Context,
    /// The same as the old password.
    Unchanged,
}

impl Refuses for PasswordFault {
    fn code(&self) -> ErrorCode {
        ErrorCode::PasswordRefused
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::TooShort { min } => format!("the password needs at least {min} characters"),
            Self::TooLong => format!("the password may have at most {CHARS_MAX} characters"),
            Self::TooFewClasses { min } => format!(
                "a password under {LONG} characters needs {min} of these: lower case, upper case, digits, other characters"
            ),
            Self::Repetitive => {
                format!("the password needs at least {DISTINCT_MIN} different characters")
            }
            Self::Common => "the password is one of the most common ones".to_owned(),
            Self::Context => {
                "the password is too close to the user name, the address or the name of this program"
                    .to_owned()
            }
            Self::Unchanged => "the new password is the same as the old one".to_owned(),
        })
    }
}

/// The rules as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRules {
    length_min: usize,
    classes_min: usize,
}

impl PasswordRules {
    /// Returns the rules of `[account]`.
    #[must_use]
    pub fn of(settings: &AccountSettings) -> Self {
        Self {
            length_min: settings.password_length_min,
            classes_min: settings.password_classes_min,
        }
    }

    /// Describes the rules for people who are about to choose a password.
    #[must_use]
    pub fn text(&self) -> String {
        let classes = match self.classes_min {
            0 | 1 => String::new(),
            min => format!(
                " Under {LONG} characters, {min} of these: lower case, upper case, digits, other characters."
            ),
        };
        format!(
            "At least {} characters.{classes} Not a common one, and not your name or address.",
            self.length_min.max(1)
        )
    }

    /// Checks a password for one account.
    ///
    /// # Errors
    /// The first [`PasswordFault`] found.
    ///
    /// Source: NIST SP 800-63B-4 section 3.1.1.2, OWASP ASVS 5.0 section 6.2; the classes are apicrud's.
    pub fn check(
        &self,
        password: &Secret,
        username: &Username,
        identity: &EmailAddress,
    ) -> Result<(), PasswordFault> {
        // The checks apply to the composed form, which is the one that is hashed.
        let password = composed(password.clone());
        let text = password.expose();
        let length = text.chars().count();
        if length < self.length_min || length == 0 {
            return Err(PasswordFault::TooShort {
                min: self.length_min.max(1),
            });
        }
        if CHARS_MAX < length || PASSWORD_BYTES_MAX < text.len() {
            return Err(PasswordFault::TooLong);
        }
        let folded = Secret::new(text.to_lowercase());
        if is_common(folded.expose()) || length < LONG && has_common_core(folded.expose()) {
            return Err(PasswordFault::Common);
        }
        if is_repetitive(folded.expose()) {
            return Err(PasswordFault::Repetitive);
        }
        if is_context(folded.expose(), username, identity) {
            return Err(PasswordFault::Context);
        }
        if length < LONG && classes(text) < self.classes_min {
            return Err(PasswordFault::TooFewClasses {
                min: self.classes_min,
            });
        }
        Ok(())
    }
}

fn is_common(folded: &str) -> bool {
    COMMON.binary_search(&folded).is_ok()
}

/// Whether the password is a common word or number in disguise: `Summer2026!`, `P@ssw0rd1` and `12345678Aa!` are
/// `summer`, `password` and `12345678` to an attacker.
fn has_common_core(folded: &str) -> bool {
    let core = folded.trim_matches(|c: char| !c.is_alphabetic());
    let plain = Secret::new(core.chars().map(unleet).collect());
    let is_word =
        CONTEXT_CHARS_MIN <= core.chars().count() && (is_common(core) || is_common(plain.expose()));
    let number = folded.trim_matches(|c: char| !c.is_ascii_digit());
    let around = folded.len().saturating_sub(number.len());
    is_word || NUMBER_DIGITS_MIN <= number.len() && around <= AROUND_BYTES_MAX && is_common(number)
}

/// Returns the letter that a look-alike character replaces.
fn unleet(c: char) -> char {
    match c {
        '@' | '4' => 'a',
        '3' => 'e',
        '1' | '!' => 'i',
        '0' => 'o',
        '$' | '5' => 's',
        '7' => 't',
        other => other,
    }
}

fn is_repetitive(folded: &str) -> bool {
    let mut seen: Vec<char> = Vec::with_capacity(DISTINCT_MIN);
    for c in folded.chars() {
        if !seen.contains(&c) {
            seen.push(c);
        }
        if DISTINCT_MIN <= seen.len() {
            return false;
        }
    }
    true
}

/// Whether a publicly known name makes up so much of the password that the rest is too short.
fn is_context(folded: &str, username: &Username, identity: &EmailAddress) -> bool {
    let address = identity.as_str().to_lowercase();
    let local = address.split_once('@').map_or("", |(local, _)| local);
    [username.as_str(), local, PROGRAM].iter().any(|word| {
        CONTEXT_CHARS_MIN <= word.chars().count()
            && folded.contains(word)
            && folded.replace(word, "").chars().count() < CONTEXT_REST_MIN
    })
}

/// Counts the classes of characters in a text: lower case, upper case, digits, others.
fn classes(text: &str) -> usize {
    let lower = text.chars().any(char::is_lowercase);
    let upper = text.chars().any(char::is_uppercase);
    let digit = text.chars().any(char::is_numeric);
    let other = text
        .chars()
        .any(|c| !c.is_lowercase() && !c.is_uppercase() && !c.is_numeric());
    [lower, upper, digit, other]
        .iter()
        .filter(|has| **has)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, classes_min: usize) -> Result<(), PasswordFault> {
        PasswordRules {
            length_min: 8,
            classes_min,
        }
        .check(
            &Secret::new(text.to_owned()),
            &Username::parse("annabel").unwrap(),
            &EmailAddress::parse("Wanda.Fish@example.org").unwrap(),
        )
    }

    #[test]
    fn the_list_is_sorted_folded_and_long_enough() {
        assert!(COMMON.is_sorted());
        assert!(20_000 < COMMON.len());
        assert!(COMMON.iter().all(|entry| *entry == entry.to_lowercase()));
    }

    #[test]
    fn strong_passwords_are_taken_whole() {
        let longest = "aB3-".repeat(64);
        for good in [
            "correct-horse-7-battery Staple",
            "Vj4#tq9!Lw2_x",
            "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c}-\u{434}\u{43b}\u{44f}-\u{442}\u{435}\u{441}\u{442}\u{430}-42A!",
            "\u{1f511} keys in 3 Drawers, ok?",
            "x Y 9 - lead and trail spaces ",
            "T3st;\"'<>&%${}[]()|\\/~`quoted",
            "\u{1e9b}\u{323} Nfkc Check 1-2-3",
            "Abcdef12xyq",
            "abcdef1!xyq",
            "ABCDEF1!XYQ",
            "Abcdef!!xyq",
            "uV-123456-Wx",
            "onlylowercasebutverylong",
            longest.as_str(),
            "doorward and eleven hedgehogs",
        ] {
            assert_eq!(check(good, 3), Ok(()), "{good}");
        }
    }

    #[test]
    fn weak_passwords_are_refused_with_the_reason() {
        let short = PasswordFault::TooShort { min: 8 };
        let few = PasswordFault::TooFewClasses { min: 3 };
        let too_long = format!("{}x", "aB3-".repeat(64));
        let cases = [
            ("", &short),
            ("aB3-xyz", &short),
            (too_long.as_str(), &PasswordFault::TooLong),
            ("123456789", &PasswordFault::Common),
            ("TrustNo1", &PasswordFault::Common),
            ("Password1!", &PasswordFault::Common),
            ("P@ssw0rd1", &PasswordFault::Common),
            ("Summer2026!", &PasswordFault::Common),
            ("12345678Aa!", &PasswordFault::Common),
            ("aBaBaBaB!!!!!!!!!", &PasswordFault::Repetitive),
            ("Annabel1A!", &PasswordFault::Context),
            ("Wanda.Fish2026", &PasswordFault::Context),
            ("Doorward2026!", &PasswordFault::Context),
            ("abcdefghxyq", &few),
            ("ABCDEFGHXYQ", &few),
            ("73918264905", &few),
            ("abcdef12xyq", &few),
            ("Abcdefghxyq", &few),
        ];
        for (bad, fault) in cases {
            assert_eq!(check(bad, 3).as_ref(), Err(fault), "{bad}");
        }
    }

    #[test]
    fn classes_can_be_turned_off_and_the_list_still_holds() {
        assert_eq!(check("abcdefghxyq", 0), Ok(()));
        assert_eq!(check("sunflower", 0), Err(PasswordFault::Common));
    }

    #[test]
    fn a_refusal_names_no_part_of_the_password() {
        let fault = check("Summer2026!", 3).unwrap_err();
        assert!(!fault.detail().unwrap().to_lowercase().contains("summer"));
    }
}
