//! The caller's header fields that are removed before a request goes to an upstream, in every spelling.

use std::collections::BTreeMap;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::cookie::{self, CookieNames};
use crate::auth::passing::OwnTokenForms;
use crate::model::credential::{CredentialKind, CredentialRules};
use crate::model::field_name::{FoldedName, NAME_BYTES_MAX, families};
use crate::model::route::{IdentityHeaderNames, Route};

/// Names that pass as written, but are removed in other spellings that some servers read as the same.
const LOOKALIKE: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "cookie",
];

/// Names that state the caller's identity to an upstream, besides the default ones and those that routes are configured
/// to send.
const IDENTITY: &[&str] = &["x-auth-scope"];

/// The gateway's own cookies.
const OWN_COOKIES: &[&str] = &[cookie::HOST, cookie::PLAIN, cookie::DOMAIN];

/// Whether a cookie of this name is the gateway's. Case is ignored, as browsers do for the prefixes.
fn is_own_cookie(name: &[u8]) -> bool {
    OWN_COOKIES
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// The reason why a name is in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StripReason {
    /// It states the caller's identity, for this gateway.
    Identity,
    /// It belongs to a gateway or a proxy.
    Family,
    Credential,
    Lookalike,
}

/// The names that are removed from a caller's request before the gateway sets its own. Two names are the same if they
/// fold to the same text ([`FoldedName`]); names of gateways and proxies are removed by family.
#[derive(Debug)]
pub struct StripSet {
    /// Folded names, by their length: of any length there are few.
    names: Vec<Vec<(Box<[u8]>, StripReason)>>,
    /// For each first byte (its low five bits), the second bytes that occur: these alone rule out most names.
    beginnings: [u32; 32],
    /// Names of the identity headers sent to upstreams: the defaults and those of all routes.
    told: Vec<HeaderName>,
    /// The cookie of routes: the only one of the gateway's that a route may pass on.
    route_cookie: &'static str,
    /// The credentials withheld even on routes that leave fields to their application.
    forms: OwnTokenForms,
}

impl StripSet {
    /// Collects the names for these routes: their identity headers, and the fields that carry credentials.
    #[must_use]
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        forms: OwnTokenForms,
        cookies: CookieNames,
    ) -> Self {
        let mut told: Vec<_> = IdentityHeaderNames::default()
            .all()
            .map(Clone::clone)
            .into();
        for route in routes {
            told.extend(route.identity_headers.all().map(Clone::clone));
        }
        told.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        told.dedup();

        let mut classes = BTreeMap::<Box<[u8]>, _>::new();
        let mut beginnings = [0; 32];
        let mut add = |name: &str, class| {
            mark(&mut beginnings, name.as_bytes());
            if let Some(name) = FoldedName::of(name.as_bytes()).whole() {
                classes.insert(Box::from(name), class);
            }
        };
        for name in LOOKALIKE {
            add(name, StripReason::Lookalike);
        }
        add("authorization", StripReason::Credential);
        for name in forms.fields() {
            add(name.as_str(), StripReason::Credential);
        }
        let identity = told.iter().map(HeaderName::as_str);
        for name in identity.chain(IDENTITY.iter().copied()) {
            add(name, StripReason::Identity);
        }
        families().for_each(|family| mark(&mut beginnings, family.as_bytes()));
        let mut names = vec![Vec::new(); NAME_BYTES_MAX + 1];
        for (name, class) in classes {
            if let Some(of_length) = names.get_mut(name.len()) {
                of_length.push((name, class));
            }
        }
        Self {
            names,
            beginnings,
            told,
            route_cookie: cookies.on_routes().0,
            forms,
        }
    }

    /// Whether the caller's fields of this name are removed on the way to this route's upstream. `headers`: all fields,
    /// since credentials are recognised by their values.
    #[must_use]
    pub fn strips(&self, name: &HeaderName, headers: &HeaderMap, route: &Route) -> bool {
        match self.class(name.as_str()) {
            None => false,
            Some((StripReason::Identity, _)) => true,
            Some((StripReason::Family, _)) => !route.pass_headers.contains(name),
            Some((StripReason::Credential, as_written)) => {
                !as_written || self.forms.withholds(name, headers, route.credentials)
            }
            Some((StripReason::Lookalike, as_written)) => !as_written,
        }
    }

    /// Whether a cookie of this name is removed from requests to an upstream, and from the cookies that an upstream
    /// sets. The cookie of the gateway's own endpoints is never passed on where routes have another one.
    #[must_use]
    pub fn strips_cookie(&self, name: &[u8], rules: CredentialRules) -> bool {
        let is_wanted =
            rules.pass.contains(CredentialKind::Cookie) && name == self.route_cookie.as_bytes();
        is_own_cookie(name) && !is_wanted
    }

    /// Removes the gateway's cookies from a request; the others are kept, in one field (RFC 9113 section 8.2.3: several
    /// only in HTTP/2). `rules`: those of the route.
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

    /// Whether this is the name of an identity header, which an upstream's response must not carry to a caller.
    #[must_use]
    pub fn is_identity(&self, name: &HeaderName) -> bool {
        matches!(self.class(name.as_str()), Some((StripReason::Identity, _)))
    }

    /// Returns the name of every identity header sent to upstreams, for all routes: a proxy that sets them all lets no
    /// copy of the caller's through.
    #[must_use]
    pub fn told(&self) -> &[HeaderName] {
        &self.told
    }

    /// Whether this is the name of an identity header in a spelling that some servers read as the same.
    #[must_use]
    pub fn is_disguised_identity(&self, name: &HeaderName) -> bool {
        matches!(
            self.class(name.as_str()),
            Some((StripReason::Identity, false))
        )
    }

    /// Returns the class of a name, and whether it is written as in the set.
    fn class(&self, name: &str) -> Option<(StripReason, bool)> {
        let name = name.as_bytes();
        if !self.may_hold(name) {
            return None;
        }
        // Most names of the set come in the spelling that they fold to.
        if let Some(class) = self.known(name) {
            return Some((class, true));
        }
        let folded = FoldedName::of(name);
        let class = match folded.whole().and_then(|whole| self.known(whole)) {
            Some(class) => class,
            None => folded.is_of_family().then_some(StripReason::Family)?,
        };
        Some((class, folded.is_as_written()))
    }

    /// Returns the class of a folded name.
    fn known(&self, folded: &[u8]) -> Option<StripReason> {
        let mut of_length = self.names.get(folded.len())?.iter();
        let found = of_length.find(|(known, _)| **known == *folded);
        found.map(|(_, class)| *class)
    }

    fn may_hold(&self, name: &[u8]) -> bool {
        let (Some(first), second) = (name.first(), name.get(1)) else {
            return false;
        };
        let seconds = self.beginnings.get(usize::from(first & 31));
        // A name that begins with a separator may be any of them.
        !first.is_ascii_alphanumeric()
            || seconds.is_some_and(|seconds| seconds >> place_of(second) & 1 == 1)
    }
}

/// Returns the name in a pair of a `Cookie` field.
#[must_use]
pub fn cookie_name(pair: &[u8]) -> &[u8] {
    let end = pair.iter().position(|byte| *byte == b'=');
    pair.get(..end.unwrap_or(pair.len()))
        .unwrap_or_default()
        .trim_ascii()
}

fn mark(beginnings: &mut [u32; 32], name: &[u8]) {
    let place = name.first().map_or(0, |first| usize::from(first & 31));
    if let Some(slot) = beginnings.get_mut(place) {
        *slot |= 1 << place_of(name.get(1));
    }
}

/// Returns the bit of a second byte; all separators share one.
fn place_of(second: Option<&u8>) -> u8 {
    match second {
        Some(byte) if byte.is_ascii_alphanumeric() => byte & 31,
        _ => 0,
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
        let forms = OwnTokenForms::without_issuers(HeaderName::from_static("x-api-key"));
        StripSet::new([], forms, cookies)
    }

    /// Whether a field of this name is removed on a route that passes on every kind of credential, or none.
    fn strips(name: &HeaderName, passes: bool) -> bool {
        let pass = [CredentialKinds::NONE, CredentialKinds::ALL];
        let rules = CredentialRules {
            pass: pass[usize::from(passes)],
            ..CredentialRules::default()
        };
        let route = Route {
            credentials: rules,
            ..Route::bare()
        };
        strips_on(&route, name)
    }

    fn strips_on(route: &Route, name: &HeaderName) -> bool {
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
        set().strips(name, &headers, route)
    }

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn headers_stay_where_the_route_says_so_and_as_it_writes_them() {
        let wanting = Route {
            pass_headers: vec![name("X-Auth-Token")],
            ..Route::bare()
        };
        assert!(!strips_on(&wanting, &name("X-AUTH-Token")));
        assert!(strips_on(&wanting, &name("X_Auth_Token")));
        assert!(strips_on(&wanting, &name("X-Auth-Tokens")));
    }

    #[test]
    fn every_spelling_of_a_guarded_name_is_stripped() {
        for text in [
            "X-Auth-Uid",
            "x_auth_uid",
            "X-Auth_Uid",
            "x.auth.uid",
            "X~Auth~Uid",
            "X+Auth+Roles",
            "X!Auth!Uid",
            "x__auth__uid",
            "-X-Auth-Uid",
            "_x_auth_uid_",
            "X-Auth-Uid-2",
            "X-Auth-Token",
            "X-Original-Anything",
            "X-SSL-Client-Verify",
            "Client-Cert",
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
            "X-Authority",
            "X-User-Id",
            "X-User",
            "X-Username",
            "X-Users",
            "Via",
            "x",
            "-",
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
            // The decision does not read this spelling, so no upstream may.
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
