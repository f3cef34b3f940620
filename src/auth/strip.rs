//! Which header names are the gateway's to set, in every spelling.

use std::collections::BTreeMap;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::cookie::{self, CookieNames};
use crate::auth::passing::OwnForms;
use crate::model::credential::{CredentialKind, CredentialRules};
use crate::model::route::{IdentityHeaderNames, Route};

/// Longest name in the set, in bytes; a longer one is compared with nothing.
const NAME_BYTES_MAX: usize = 64;

/// Names that tell an upstream who calls, beside the default ones and those that routes are configured to send.
const IDENTITY: &[&str] = &["x-auth-scope"];

/// Names by which other gateways and identity-aware proxies tell the same, or by which a request claims to be another
/// one than it is: where it was sent, with which method, for which peer.
const FORGEABLE: &[&str] = &[
    // Who
    "remote-user",
    "remote-groups",
    "remote-name",
    "remote-email",
    "x-remote-user",
    "x-remote-groups",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-user",
    "x-user-id",
    "x-user-name",
    "x-user-email",
    "x-user-roles",
    "x-username",
    "x-auth-user",
    "x-auth-user-id",
    "x-auth-name",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-role",
    "x-auth-sub",
    "x-auth-subject",
    "x-authenticated-user",
    "x-authenticated-userid",
    "x-authenticated-groups",
    "x-authenticated-scope",
    "x-webauth-user",
    // Where, how and from whom
    "x-original-url",
    "x-original-uri",
    "x-original-method",
    "x-original-host",
    "x-rewrite-url",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded",
    "x-host",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-envoy-original-path",
    "x-envoy-external-address",
    "x-accel-redirect",
    "x-sendfile",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "front-end-https",
    "forwarded",
    "proxy",
    "proxy-authorization",
    "x-doorward-secret",
    // Set anew for every request
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

/// Names that are fine as they stand, but not in a spelling that some servers read as the same.
const LOOKALIKE: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "cookie",
];

/// All names that begin like this are stripped.
const PREFIXES: &[&str] = &["x-auth-request-"];

/// The gateway's own cookies.
const OWN_COOKIES: &[&str] = &[cookie::HOST, cookie::PLAIN, cookie::DOMAIN];

/// Whether a cookie of this name is the gateway's. Without case, as browsers treat the prefixes.
fn is_own_cookie(name: &[u8]) -> bool {
    OWN_COOKIES
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// Why a name is in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Identity,
    Forgeable,
    Credential,
    Lookalike,
}

/// The names that are removed from what a caller sends, before the gateway sets its own. Two names are the same here if
/// they are alike once ASCII case is dropped and `_` and `.` are read as `-`: CGI, WSGI and PHP make one variable of them.
///
/// Source: contract, "Headers to the upstream"; GHSA-vjrc-mh2v-45x6; CVE-2016-5385; CVE-2018-14773.
#[derive(Debug)]
pub struct StripSet {
    /// Folded names, sorted.
    names: Vec<(Box<[u8]>, Class)>,
    /// For each first byte (the low five bits) the lengths that occur: most names are told apart by this alone.
    lengths: [u64; 32],
    /// What the gateway itself tells upstreams under, whichever route: the default names and those of the routes.
    told: Vec<HeaderName>,
    /// The cookie that routes read: the only one of ours that a route may want passed on.
    route_cookie: &'static str,
    /// What a route that leaves fields to its application still keeps back.
    forms: OwnForms,
}

impl StripSet {
    /// Collects the names for these routes: the fixed ones, what the routes call their identity headers, and what carries
    /// credentials.
    #[must_use]
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        forms: OwnForms,
        cookies: CookieNames,
    ) -> Self {
        let mut classes = BTreeMap::new();
        let mut add = |name: &str, class| {
            classes.insert(name.bytes().map(fold).collect::<Box<[u8]>>(), class);
        };
        for name in LOOKALIKE {
            add(name, Class::Lookalike);
        }
        for name in FORGEABLE {
            add(name, Class::Forgeable);
        }
        add("authorization", Class::Credential);
        for name in forms.fields() {
            add(name.as_str(), Class::Credential);
        }
        for name in IDENTITY {
            add(name, Class::Identity);
        }
        let mut told: Vec<_> = IdentityHeaderNames::default()
            .all()
            .map(Clone::clone)
            .into();
        for route in routes {
            told.extend(route.identity_headers.all().map(Clone::clone));
        }
        told.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        told.dedup();
        for name in &told {
            add(name.as_str(), Class::Identity);
        }
        let names: Vec<_> = classes.into_iter().collect();
        let mut lengths = [0; 32];
        for (name, _) in &names {
            mark(&mut lengths, name);
        }
        Self {
            names,
            lengths,
            told,
            route_cookie: cookies.on_routes().0,
            forms,
        }
    }

    /// Whether the caller's fields of this name are removed from a request to a route with these rules. `headers`: all
    /// that came, since what carries credentials is told by what it holds.
    #[must_use]
    pub fn strips(&self, name: &HeaderName, headers: &HeaderMap, rules: CredentialRules) -> bool {
        let text = name.as_str();
        match self.class(text) {
            None => false,
            Some((Class::Identity | Class::Forgeable, _)) => true,
            Some((Class::Credential, as_written)) => {
                !as_written || self.forms.withholds(name, headers, rules)
            }
            Some((Class::Lookalike, as_written)) => !as_written,
        }
    }

    /// Whether a cookie of this name is taken out of a request to an upstream, and of what an upstream sets. The cookie of
    /// the gateway's own endpoints is never passed on where there is another for routes.
    #[must_use]
    pub fn strips_cookie(&self, name: &[u8], rules: CredentialRules) -> bool {
        let is_wanted =
            rules.pass.contains(CredentialKind::Cookie) && name == self.route_cookie.as_bytes();
        is_own_cookie(name) && !is_wanted
    }

    /// Takes our cookies out of a request; the others stay, in one field (RFC 9113 section 8.2.3: several only in HTTP/2).
    /// `rules`: those of the route.
    pub fn strip_cookies(&self, headers: &mut HeaderMap, rules: CredentialRules) {
        let is_ours = |pair: &[u8]| self.strips_cookie(cookie_name(pair), rules);
        let holds_ours =
            |field: &HeaderValue| field.as_bytes().split(|byte| *byte == b';').any(is_ours);
        let mut fields = headers.get_all(COOKIE).iter();
        let is_clean =
            fields.next().is_none_or(|field| !holds_ours(field)) && fields.next().is_none();
        if is_clean {
            return;
        }
        let mut left = Vec::new();
        for field in headers.get_all(COOKIE) {
            for pair in field.as_bytes().split(|byte| *byte == b';') {
                let pair = pair.trim_ascii();
                if !pair.is_empty() && !is_ours(pair) {
                    if !left.is_empty() {
                        left.extend_from_slice(b"; ");
                    }
                    left.extend_from_slice(pair);
                }
            }
        }
        headers.remove(COOKIE);
        if !left.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(&left)
        {
            headers.insert(COOKIE, value);
        }
    }

    /// Whether this name tells who calls: an upstream's answer may not carry it to a caller.
    #[must_use]
    pub fn is_identity(&self, name: &HeaderName) -> bool {
        matches!(self.class(name.as_str()), Some((Class::Identity, _)))
    }

    /// Every name under which the gateway tells an upstream who calls, whichever route: a proxy that sets them all lets no
    /// copy of the caller's through.
    #[must_use]
    pub fn told(&self) -> &[HeaderName] {
        &self.told
    }

    /// Whether this is the name of an identity header in a spelling that some servers read as the same.
    #[must_use]
    pub fn is_disguised_identity(&self, name: &HeaderName) -> bool {
        matches!(self.class(name.as_str()), Some((Class::Identity, false)))
    }

    /// The class of a name, and whether it is written as in the set.
    fn class(&self, name: &str) -> Option<(Class, bool)> {
        let bytes = name.as_bytes();
        if !self.may_hold(bytes) {
            let starts = PREFIXES.iter().any(|prefix| starts_like(bytes, prefix));
            return starts.then_some((Class::Forgeable, true));
        }
        let mut buffer = [0; NAME_BYTES_MAX];
        let folded = buffer.get_mut(..bytes.len())?;
        for (to, from) in folded.iter_mut().zip(bytes) {
            *to = fold(*from);
        }
        let found = self
            .names
            .binary_search_by(|(known, _)| known.as_ref().cmp(folded));
        if let Some((_, class)) = found.ok().and_then(|place| self.names.get(place)) {
            return Some((*class, folded == bytes));
        }
        let starts = PREFIXES.iter().any(|prefix| starts_like(bytes, prefix));
        starts.then_some((Class::Forgeable, true))
    }

    fn may_hold(&self, name: &[u8]) -> bool {
        let Some(first) = name.first() else {
            return false;
        };
        let lengths = self.lengths.get(usize::from(first & 31)).copied();
        name.len() < NAME_BYTES_MAX && lengths.unwrap_or(0) >> name.len() & 1 == 1
    }
}

/// The name in a pair of a `Cookie` field.
#[must_use]
pub fn cookie_name(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|byte| *byte == b'=');
    pair.get(..end.unwrap_or(pair.len()))
        .unwrap_or_default()
        .trim_ascii()
}

fn mark(lengths: &mut [u64; 32], name: &[u8]) {
    let place = name.first().map_or(0, |first| usize::from(first & 31));
    if let Some(slot) = lengths.get_mut(place)
        && name.len() < NAME_BYTES_MAX
    {
        *slot |= 1 << name.len();
    }
}

fn starts_like(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && name.iter().zip(prefix.bytes()).all(|(b, p)| fold(*b) == p)
}

/// One byte as it counts here.
const fn fold(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::credential::CredentialKinds;

    fn set() -> StripSet {
        let cookies = CookieNames {
            is_secure: true,
            has_domain: true,
        };
        let forms = OwnForms::without_issuers(HeaderName::from_static("x-api-key"));
        StripSet::new([], forms, cookies)
    }

    /// Whether a field of this name goes from a request to a route that passes on every kind of credential, or none.
    fn strips(name: &HeaderName, passes: bool) -> bool {
        let pass = [CredentialKinds::NONE, CredentialKinds::ALL];
        let rules = CredentialRules {
            pass: pass[usize::from(passes)],
            ..CredentialRules::default()
        };
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        set().strips(name, &headers, rules)
    }

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_spelling_of_a_guarded_name_is_stripped() {
        for text in [
            "X-Auth-Uid",
            "x_auth_uid",
            "X-Auth_Uid",
            "x.auth.uid",
            "Remote_User",
            "X-Auth-Request-Anything",
            "x_auth_request_user",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_for",
            "Proxy",
            "Proxy-Authorization",
            "Content_Length",
        ] {
            assert!(strips(&name(text), true), "{text}");
        }
    }

    #[test]
    fn other_names_stay() {
        for text in [
            "Accept",
            "Host",
            "Content-Length",
            "Cookie",
            "X-Auth-Token",
            "X-Authority",
            "X-Users",
            "Via",
            "x",
            "X-Auth-Uid-2",
            &"x".repeat(200),
        ] {
            assert!(!strips(&name(text), false), "{text}");
        }
    }

    #[test]
    fn credentials_stay_where_the_route_says_so() {
        let cases = [
            ("Authorization", false, true),
            ("Authorization", true, false),
            ("X-Api-Key", false, true),
            ("X-Api-Key", true, false),
            // The decision does not read this spelling, so nobody behind it may.
            ("X_Api_Key", true, true),
        ];
        for (text, pass, stripped) in cases {
            assert_eq!(strips(&name(text), pass), stripped, "{text} {pass}");
        }
    }

    #[test]
    fn only_identity_names_are_taken_from_answers() {
        assert!(set().is_identity(&name("X-Auth-Roles")));
        assert!(!set().is_identity(&name("X-Accel-Redirect")));
        assert!(!set().is_identity(&name("Authorization")));
    }
}
