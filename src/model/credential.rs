//! Kinds of credentials, and sets of them.

/// A kind of credential, whatever header field carries it.
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

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialKinds(u8);

impl CredentialKinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self::NONE
        .with(CredentialKind::Bearer)
        .with(CredentialKind::ApiKey)
        .with(CredentialKind::Cookie)
        .with(CredentialKind::Mtls);

    /// The set with one more kind.
    #[must_use]
    pub const fn with(self, kind: CredentialKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// The kinds that both sets have.
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

/// What becomes of a caller's credentials on a route: which kinds count there, and which are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialRules {
    /// The kinds that count. A field that could carry another kind only is the application's own, and is passed on unless
    /// it holds a credential of ours.
    pub accept: CredentialKinds,
    /// The kinds that are passed on, bearer tokens with all of `Authorization`.
    pub pass: CredentialKinds,
}

impl Default for CredentialRules {
    /// Every kind counts, and none is passed on.
    fn default() -> Self {
        Self {
            accept: CredentialKinds::ALL,
            pass: CredentialKinds::NONE,
        }
    }
}

impl CredentialRules {
    /// Whether a field that carries this kind may reach the upstream at all.
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
