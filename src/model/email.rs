//! E-mail addresses.

use std::sync::Arc;

use schemars::{Schema, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::access::Invalid;
use crate::model::field::{CheckedField, InvalidField};
use crate::model::text::text_conversions;

/// The primary address of an account: an e-mail address, kept as typed.
///
/// One `@` with something on both sides, at most 254 bytes, visible characters without space, `<`, `>`, `,`, `;`, `"`
/// and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(Arc<str>);

impl EmailAddress {
    /// Parses an address that follows the rule.
    ///
    /// # Errors
    /// [`Invalid`] for a text that breaks the rule.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let sides = text.split_once('@');
        let fits = text.len() <= 254
            && sides.is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.contains('@')
            })
            && !text.chars().any(|c| {
                c.is_control()
                    || c.is_whitespace()
                    || matches!(c, '<' | '>' | ',' | ';' | '"' | '(' | ')' | '\\')
            });
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(Invalid("e-mail address"))
        }
    }

    /// Parses an address that mail can reach over every transport. Applies to newly entered addresses;
    /// [`EmailAddress::parse`] reads stored ones.
    ///
    /// A dot-string of at most 64 bytes, and a domain of labels of at most 63 (RFC 5321 sections 2.3.5 and 4.5.3.1),
    /// all in ASCII, since few servers accept others (SMTPUTF8). No quoted local part, no address literal or other
    /// numeric domain, and no source routes (`%` and `!`): these would allow endless names for one mailbox.
    ///
    /// # Errors
    /// [`Invalid`] for a text that breaks the rule.
    pub fn reachable(text: &str) -> Result<Self, Invalid> {
        let fits = text
            .split_once('@')
            .is_some_and(|(local, domain)| is_local_part(local) && is_domain(domain));
        if fits {
            Self::parse(text)
        } else {
            Err(Invalid("e-mail address"))
        }
    }

    /// Returns the address as typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the form that login and password reset compare: ASCII case folded, nothing else changed.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Returns the form that registration compares to find duplicates: lower case, `+tag` dropped, dots dropped for
    /// gmail.com.
    #[must_use]
    pub fn normalized(&self) -> String {
        let lower = self.0.to_lowercase();
        let Some((local, domain)) = lower.split_once('@') else {
            return lower;
        };
        let local = local.split_once('+').map_or(local, |(before, _)| before);
        if domain == "gmail.com" {
            format!("{}@{domain}", local.replace('.', ""))
        } else {
            format!("{local}@{domain}")
        }
    }
}

/// The pattern (ECMA-262) of an address that mail can reach, with white space around it, which is trimmed.
const REACHABLE: &str = r"^[ \t\r\n]*(?=[^@]{1,64}@)[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*(?![0-9]+[ \t\r\n]*$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[ \t\r\n]*$";

/// A newly entered address: no address that mail cannot reach could ever be confirmed. Trims white space.
impl CheckedField for EmailAddress {
    type Sent = String;

    const RULE: InvalidField = InvalidField {
        field: "identity",
        expected: "an e-mail address such as anna@example.org in ASCII, at most 254 bytes; a domain beyond ASCII in its \
            xn-- form",
    };

    fn check(text: String) -> Option<Self> {
        Self::reachable(text.trim()).ok()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "maxLength": 254, "pattern": REACHABLE })
    }
}

/// Whether a text is `dot-atom-text` of RFC 5322 section 3.2.3.
fn is_local_part(text: &str) -> bool {
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"#$&'*+-/=?^_`{|}~".contains(&b))
    };
    text.len() <= 64 && text.split('.').all(is_atom)
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

text_conversions!(EmailAddress, Invalid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_at_sign_and_no_control_characters() {
        assert_eq!(
            EmailAddress::parse("Anna+x@Example.org").unwrap().as_str(),
            "Anna+x@Example.org"
        );
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a@b\r\nBcc: c@d",
            "a b@c",
            "<a@b>",
            "a@b,c@d",
            &format!("{}@b", "x".repeat(253)),
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_that_is_typed_can_be_mailed_to() {
        let local = "x".repeat(64);
        let label = "x".repeat(63);
        let longest = format!("{local}@{label}.{label}.{}", "x".repeat(61));
        assert_eq!(longest.len(), 254);
        for good in [
            "anna@example.org",
            "Anna+x@Example.ORG",
            "a@b",
            "a.b-c_d'e@x-y.z2",
            "-a@b.c",
            "a@1.b",
            "a@xn--mller-kva.example",
            longest.as_str(),
        ] {
            assert_eq!(EmailAddress::reachable(good).unwrap().as_str(), good);
        }
        for bad in [
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a@127.0.0.1",
            "a@1",
            "\"a b\"@example.org",
            "a..b@c",
            ".a@b",
            "a.@b",
            "a@b.",
            "a@.b",
            "a@b..c",
            "a@-b",
            "a@b-.c",
            "a@b_c",
            "a@m\u{fc}ller.example",
            "m\u{fc}ller@example.org",
            "a@b@c",
            "a%b@c",
            "b!a@c",
            "a@",
            "@b",
            "a",
            "",
            " a@b",
            "a@b\r\nBcc: c@d",
            &format!("{local}x@b"),
            &format!("a@{label}x.c"),
            &format!("x{longest}"),
            &format!("{longest}x"),
        ] {
            assert!(EmailAddress::reachable(bad).is_err(), "{bad}");
        }
        // Addresses stored by older versions can still be read.
        assert!(EmailAddress::parse("a@[127.0.0.1]").is_ok());
    }

    #[test]
    fn the_normalized_form_finds_duplicates_only() {
        let address = EmailAddress::parse("An.Na+tag@GMail.com").unwrap();
        assert_eq!(address.normalized(), "anna@gmail.com");
        assert_eq!(address.folded(), "an.na+tag@gmail.com");
        assert_eq!(
            EmailAddress::parse("an.na@b.org").unwrap().normalized(),
            "an.na@b.org"
        );
    }
}
