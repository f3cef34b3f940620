//! Credential kinds, and sets of them.

/// A kind of credential, regardless of the header field that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A bearer token.
    Bearer,
    /// An API key.
    ApiKey,
    /// A session cookie.
    Cookie,
    /// A client certificate.
    Mtls,
}

/// A set of credential kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialKinds(u8);

impl CredentialKinds {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// The set of all kinds.
    pub const ALL: Self = Self::NONE
        .with(CredentialKind::Bearer)
        .with(CredentialKind::ApiKey)
        .with(CredentialKind::Cookie)
        .with(CredentialKind::Mtls);

    /// Returns the set with one more kind.
    #[must_use]
    pub const fn with(self, kind: CredentialKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Returns the kinds in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether a kind is in the set.
    #[must_use]
    pub const fn contains(self, kind: CredentialKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

impl FromIterator<CredentialKind> for CredentialKinds {
    fn from_iter<I: IntoIterator<Item = CredentialKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

/// The rules of a route for its caller's credentials: which kinds it accepts, and which it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialRules {
    /// The accepted kinds. A header field that could only carry another kind belongs to the application, and is passed
    /// on unless it contains a credential of the gateway.
    pub accept: CredentialKinds,
    /// The kinds passed on; bearer tokens with the whole `Authorization` field.
    pub pass: CredentialKinds,
}

impl Default for CredentialRules {
    /// Returns the rules that accept every kind and pass none on.
    fn default() -> Self {
        Self {
            accept: CredentialKinds::ALL,
            pass: CredentialKinds::NONE,
        }
    }
}

impl CredentialRules {
    /// Whether a header field of this kind may reach the upstream.
    #[must_use]
    pub const fn may_pass(self, kind: CredentialKind) -> bool {
        self.pass.contains(kind) || !self.accept.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        use CredentialKind::{ApiKey, Bearer, Cookie, Mtls};
        let set: CredentialKinds = [Bearer, Cookie].into_iter().collect();
        for (kind, is_in) in [
            (Bearer, true),
            (ApiKey, false),
            (Cookie, true),
            (Mtls, false),
        ] {
            assert_eq!(set.contains(kind), is_in, "{kind:?}");
            assert!(CredentialKinds::ALL.contains(kind));
            assert_eq!(set.and(CredentialKinds::ALL), set);
            assert!(!set.and(CredentialKinds::NONE).contains(kind));
            assert!(!CredentialKinds::NONE.contains(kind));
        }
    }
}
