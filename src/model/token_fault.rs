//! The reasons why a bearer token is not accepted, for operators. Callers learn no more than a [`DenyReason`].

use std::borrow::Cow;
use std::fmt;

use crate::model::deny::DenyReason;
use crate::model::table::table;

table! {
    /// The kind of fault of a bearer token. The code is a metric label and part of logs: its meaning never changes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum FaultKind {
        /// Longer than a request head may be.
        TooLong => ("too_long", "the token is longer than limits.head_bytes_max"),
        /// Not a compact JWS of strict JSON.
        Malformed => (
            "malformed",
            "the token is not a JWT: three parts of base64url without padding, the first two being JSON objects",
        ),
        /// An encrypted JWT.
        Encrypted => ("encrypted", "the token is an encrypted JWT, which only its issuer can read"),
        /// The header requires an extension, such as `crit`.
        Header => ("header", "the token's header has crit, b64, zip or enc, which are not supported"),
        /// The header's `typ` is that of another kind of token.
        Type => ("type", "the token's header has a typ that is neither JWT nor at+jwt nor listed in the issuer's typ"),
        /// Claim `iss` is missing.
        IssuerMissing => ("issuer_missing", "the token has no string claim iss"),
        /// Claim `iss` names no configured issuer.
        IssuerUnknown => ("issuer_unknown", "claim iss equals the issuer of no [[issuer]], byte for byte"),
        /// Sent in a header field other than the one of its issuer.
        OtherField => (
            "other_header",
            "the token came in another header than the one configured for its issuer (header of [[issuer]])",
        ),
        /// No key of the issuer has the key id.
        KeyUnknown => ("key_unknown", "no usable key of the issuer fits the token's kid"),
        /// No key of the issuer is for the algorithm.
        Algorithm => ("algorithm", "no key of the issuer fits the token's alg"),
        /// The signature is wrong.
        Signature => ("signature", "the signature does not verify with the issuer's key"),
        /// Issued for another audience.
        Audience => ("audience", "the token is for none of the configured audiences"),
        /// Expired.
        Expired => ("expired", "the token has expired"),
        /// Not valid yet.
        NotYetValid => ("not_yet_valid", "the token is not valid yet, or was issued in the future"),
        /// A required claim is missing.
        ClaimMissing => ("claim_missing", "a claim is missing"),
        /// A claim has an invalid value.
        ClaimInvalid => ("claim_invalid", "a claim has a malformed value"),
        /// A claim does not match `required_claims`.
        ClaimRequired => ("claim_required", "a claim does not have the value that required_claims demands"),
        /// The subject or username could be a uid of this gateway.
        Reserved => (
            "reserved",
            "a subject or username that begins with u- is reserved, unless the issuer has a prefix",
        ),
        /// Bound to its sender, so that it must not be accepted from any other.
        SenderBound => (
            "sender_bound",
            "the token is bound to its sender (claim cnf or token_type), so it is not a bearer token",
        ),
        /// A refresh token, a logout token or another token that is not an access token.
        NotAccess => ("not_access", "the token is a refresh or logout token, not an access token"),
        /// Not a JWT, and no issuer introspects such tokens.
        Opaque => ("opaque", "the token is not a JWT, and no issuer has an introspection_url"),
        /// In the form of a secret of this gateway, but not a bearer token.
        OwnForm => ("own_form", "the token has the form of one of this gateway's secrets that are not bearer tokens"),
        /// Reported as not active by the issuer.
        Inactive => ("inactive", "the issuer says that the token is not active"),
        /// The issuer refused to answer about it.
        NotAnswered => ("not_answered", "the issuer refuses to answer about this token"),
    }
    /// Returns the stable code and the sentence for operators.
    pub(in crate::model) fn row() -> (&'static str, &'static str);
    /// Returns the stable code, `snake_case`.
    pub fn code() -> &'static str = row.0;
    /// Returns a sentence for operators.
    pub fn text() -> &'static str = row.1;
}

impl FaultKind {
    /// Returns the reason that the caller learns.
    #[must_use]
    pub const fn reason(self) -> DenyReason {
        match self {
            Self::Expired => DenyReason::BearerExpired,
            _ => DenyReason::BearerInvalid,
        }
    }

    /// Returns a fault of this kind with details.
    #[must_use]
    pub fn with(self, detail: impl Into<Cow<'static, str>>) -> TokenFault {
        TokenFault {
            kind: self,
            detail: detail.into(),
        }
    }
}

/// A fault of one bearer token. Foreign text in it is escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFault {
    /// The kind of fault.
    pub kind: FaultKind,
    /// The found and the expected value; may be empty.
    pub detail: Cow<'static, str>,
}

impl From<FaultKind> for TokenFault {
    fn from(kind: FaultKind) -> Self {
        kind.with("")
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code(), self.kind.text())?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.detail)
        }
    }
}

/// Maximum number of characters shown of a foreign text.
const SHOWN_CHARS_MAX: usize = 80;

/// Formats a foreign text for operators: quoted, cut, and in visible ASCII only.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown = String::from("\"");
    for c in text.chars().take(SHOWN_CHARS_MAX) {
        if c == ' ' || c.is_ascii_graphic() {
            shown.extend(c.escape_debug());
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    let is_cut = text.chars().nth(SHOWN_CHARS_MAX).is_some();
    shown.push_str(if is_cut { "...\"" } else { "\"" });
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_only_an_expired_token_is_told_apart() {
        let codes: std::collections::BTreeSet<_> =
            FaultKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), FaultKind::ALL.len());
        for kind in FaultKind::ALL {
            let is_expired = kind.reason() == DenyReason::BearerExpired;
            assert_eq!(is_expired, kind == FaultKind::Expired);
            assert!(
                kind.code()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
        }
    }

    #[test]
    fn the_page_tells_every_code_and_no_other() {
        let page = include_str!("../../docs/issuers.md");
        let (_, section) = page
            .split_once("\n## What is wrong with a token\n")
            .unwrap();
        let rows: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let row = |kind: FaultKind| format!("| `{}` | {} |", kind.code(), kind.text());
        assert_eq!(rows, FaultKind::ALL.map(row));
    }

    #[test]
    fn foreign_text_stays_one_line_of_ascii_and_short() {
        for (text, expected) in [
            ("api", "\"api\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("a\n\u{1b}[2J", "\"a\\u{a}\\u{1b}[2J\""),
            ("\u{202e}x\u{2028}", "\"\\u{202e}x\\u{2028}\""),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(shown(&"x".repeat(10_000)).len() <= 85);
    }
}
