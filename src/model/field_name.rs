//! Names of header fields as upstream servers read them, and the ones that a caller may not set.

/// Maximum length of a name that is compared whole, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Names that state facts of a gateway or a proxy: the caller, the certificate, the target, the origin. Each entry
/// covers that name and all names that begin with it and a `-`.
///
/// Source: RFC 7239; RFC 9440; GHSA-vjrc-mh2v-45x6; CVE-2016-5385; CVE-2018-14773.
const FAMILIES: &[&str] = &[
    "cf-access",
    "cf-connecting",
    "client-cert",
    "client-ip",
    "fastly-client",
    "forwarded",
    "front-end",
    "oidc",
    "proxy",
    "remote",
    "ssl-client",
    "tailscale-user",
    "true-client",
    "wl-proxy",
    "x-accel",
    "x-amzn-mtls",
    "x-amzn-oidc",
    "x-apigateway",
    "x-appengine",
    "x-arr",
    "x-auth",
    "x-authenticated",
    "x-authentik",
    "x-client-cert",
    "x-client-ip",
    "x-clientip",
    "x-cluster-client",
    "x-consumer",
    "x-credential",
    "x-doorward",
    "x-endpoint-api",
    "x-envoy",
    "x-forwarded",
    "x-goog-authenticated",
    "x-goog-iap",
    "x-host",
    "x-http-destination",
    "x-http-host",
    "x-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-token",
    "x-original",
    "x-originating",
    "x-override-url",
    "x-pomerium",
    "x-proxy",
    "x-proxyuser",
    "x-real",
    "x-remote",
    "x-request-id",
    "x-rewrite",
    "x-scheme",
    "x-sendfile",
    "x-ssl",
    "x-tls-client",
    "x-url-scheme",
    "x-userinfo",
    "x-vouch",
    "x-webauth",
];

/// For each third byte (its low five bits), the indexes in [`FAMILIES`] of the families that have it, as bits: it rules
/// out nearly all of them. A family is longer than that, and there are fewer than 64.
#[expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds here would end the build"
)]
const FAMILIES_BY_THIRD: [u64; 32] = {
    let mut table = [0; 32];
    let mut place = 0;
    while place < FAMILIES.len() {
        table[(FAMILIES[place].as_bytes()[2] & 31) as usize] |= 1 << place;
        place += 1;
    }
    table
};

/// The only family with members that may be an application's own, such as its token or signature.
const AUTH_FAMILY: &[u8] = b"x-auth-";

/// The words after that prefix in names that state an identity, here or elsewhere.
const AUTH_IDENTITY: &[&str] = &[
    "account",
    "admin",
    "amr",
    "assertion",
    "email",
    "group",
    "id",
    "identity",
    "key-id",
    "method",
    "name",
    "request",
    "role",
    "scope",
    "sub",
    "uid",
    "user",
];

/// Names of header fields whose value frameworks use instead of the request's method.
const METHOD_OVERRIDES: &[&[u8]] = &[
    b"http-method-override",
    b"method-override",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
];

/// The shortest of [`METHOD_OVERRIDES`].
const SHORTEST_OVERRIDE: &[u8] = b"x-http-method";

/// A name in the form for comparison: lower case, one `-` for each run of bytes that are neither letter nor digit, and
/// none at the ends. CGI and its successors may map all these spellings to one variable.
#[derive(Clone, Copy, Debug)]
pub struct FoldedName {
    bytes: [u8; NAME_BYTES_MAX],
    len: usize,
    is_cut: bool,
    is_as_written: bool,
}

impl FoldedName {
    /// Folds a name.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut folded = Self {
            bytes: [0; NAME_BYTES_MAX],
            len: 0,
            is_cut: false,
            is_as_written: true,
        };
        let mut ends_word = false;
        for byte in name {
            if !byte.is_ascii_alphanumeric() {
                folded.is_as_written &= *byte == b'-' && !ends_word && 0 < folded.len;
                ends_word = true;
                continue;
            }
            if ends_word && 0 < folded.len {
                folded.push(b'-');
            }
            ends_word = false;
            folded.push(byte.to_ascii_lowercase());
        }
        folded.is_as_written &= !ends_word;
        folded
    }

    fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len += 1;
            }
            None => self.is_cut = true,
        }
    }

    /// Returns the folded name, cut to the maximum length.
    fn beginning(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Returns the folded name; `None` if it is too long to be compared.
    #[must_use]
    pub fn whole(&self) -> Option<&[u8]> {
        (!self.is_cut).then(|| self.beginning())
    }

    /// Whether the name as written equals its folded form, except for case.
    #[must_use]
    pub const fn is_as_written(&self) -> bool {
        self.is_as_written
    }

    /// Whether the name belongs to a gateway or a proxy.
    #[must_use]
    pub fn is_of_family(&self) -> bool {
        let name = self.beginning();
        let is_of = |family: &&str| {
            let rest = name.strip_prefix(family.as_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'-')))
        };
        let third = name.get(2).map(|byte| usize::from(byte & 31));
        let mut candidates = third
            .and_then(|third| FAMILIES_BY_THIRD.get(third).copied())
            .unwrap_or_default();
        while candidates != 0 {
            if FAMILIES
                .get(candidates.trailing_zeros() as usize)
                .is_some_and(is_of)
            {
                return true;
            }
            candidates &= candidates - 1;
        }
        false
    }

    /// Whether the name states an identity, a target or an origin: no configuration passes on the caller's.
    #[must_use]
    pub fn is_never_the_callers(&self) -> bool {
        let Some(rest) = self.beginning().strip_prefix(AUTH_FAMILY) else {
            return self.is_of_family();
        };
        AUTH_IDENTITY
            .iter()
            .any(|word| rest.starts_with(word.as_bytes()))
    }
}

/// Returns the families, for callers that check the first two bytes before they fold a name.
pub fn families() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().copied()
}

/// Whether frameworks may take the value of this field as the request's method.
///
/// The last byte and the length rule out most names: `x-http-method` is the shortest.
#[must_use]
pub fn is_method_override(name: &[u8]) -> bool {
    let may_be = match name.last() {
        Some(last) => matches!(last | 0x20, b'd' | b'e') || !last.is_ascii_alphanumeric(),
        None => false,
    };
    may_be
        && SHORTEST_OVERRIDE.len() <= name.len()
        && FoldedName::of(name)
            .whole()
            .is_some_and(|name| METHOD_OVERRIDES.contains(&name))
}

/// Whether every server reads this byte of a name as itself or as a separator. No field in use has any of the other
/// bytes that a token may contain (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_its_name_and_what_begins_with_it() {
        for family in FAMILIES {
            let is_of_family = |name: &str| FoldedName::of(name.as_bytes()).is_of_family();
            assert!(is_of_family(family), "{family}");
            assert!(is_of_family(&format!("{family}-x")), "{family}");
            let longer = format!("{family}q");
            let other = FAMILIES
                .iter()
                .any(|other| longer.starts_with(&format!("{other}-")));
            assert_eq!(is_of_family(&longer), other, "{longer}");
        }
        for name in ["", "x", "x-", "x-a", "via"] {
            assert!(!FoldedName::of(name.as_bytes()).is_of_family(), "{name}");
        }
    }

    #[test]
    fn every_separator_is_one() {
        for byte in 0..=u8::MAX {
            let name = [
                b"X".as_slice(),
                &[byte],
                b"Auth",
                &[byte, byte],
                b"uid",
                &[byte],
            ]
            .concat();
            let folded = FoldedName::of(&name);
            let is_separator = !byte.is_ascii_alphanumeric();
            assert_eq!(
                folded.whole() == Some(b"x-auth-uid"),
                is_separator,
                "{byte}"
            );
            assert_eq!(folded.is_of_family(), is_separator, "{byte}");
            assert!(!(is_separator && folded.is_as_written()), "{byte}");
        }
        assert!(FoldedName::of(b"X-Auth-Uid").is_as_written());
        for disguised in ["-x-auth", "x-auth-", "x--auth", "x_auth", "x.auth"] {
            assert!(
                !FoldedName::of(disguised.as_bytes()).is_as_written(),
                "{disguised}"
            );
        }
    }

    #[test]
    fn families_hold_what_begins_like_them_and_no_longer_words() {
        let long = format!("x-auth-{}", "x".repeat(200));
        let cases = [
            ("x-auth", true),
            ("x_auth_anything", true),
            (&long, true),
            ("X-SSL-Client-S-DN", true),
            ("Client-Cert-Chain", true),
            ("X-Forwarded-Client-Cert", true),
            ("X-Real-IP", true),
            ("Forwarded", true),
            ("Forwarded-For", true),
            ("WL-Proxy-Client-IP", true),
            ("x-author", false),
            ("x-authority", false),
            ("x-user-id", false),
            ("x-username", false),
            ("x-hosting", false),
            ("x-realm", false),
            ("x-request-identity", false),
            ("x", false),
            ("", false),
            (&"x".repeat(200), false),
        ];
        for (name, wanted) in cases {
            assert_eq!(
                FoldedName::of(name.as_bytes()).is_of_family(),
                wanted,
                "{name}"
            );
        }
    }

    #[test]
    fn an_application_has_tokens_of_its_own_and_no_identity() {
        let cases = [
            ("X-Auth-Token", false),
            ("X-Auth-Key", false),
            ("X-Auth-Signature", false),
            ("X-Custom", false),
            ("X-Auth-Uid", true),
            ("x_auth_uid_2", true),
            ("X-Auth-User", true),
            ("X-Auth-Key-Id", true),
            ("X-Auth-Request-Email", true),
            ("Remote-User", true),
            ("X-Original-URL", true),
            ("X-Real-IP", true),
            ("Client-Cert", true),
        ];
        for (name, wanted) in cases {
            let folded = FoldedName::of(name.as_bytes());
            assert_eq!(folded.is_never_the_callers(), wanted, "{name}");
        }
    }

    #[test]
    fn method_overrides_have_many_spellings() {
        for name in [
            "X-HTTP-Method-Override",
            "x_http_method_override",
            "X.HTTP.Method",
            "X-Http-Method-",
            "X--Method--Override",
            "Method-Override",
        ] {
            assert!(is_method_override(name.as_bytes()), "{name}");
        }
        for name in [
            "X-Method",
            "Method",
            "X-Payment-Method-Override",
            "Access-Control-Request-Method",
            "X-HTTP-Methods",
            "",
        ] {
            assert!(!is_method_override(name.as_bytes()), "{name}");
        }
    }
}
