//! `[[route]]`: what is let in, on what conditions, and where it leads.

use http::{HeaderName, Method};

use crate::config::headers;
use crate::config::keys::undeclared;
use crate::config::listen;
use crate::config::pass_headers;
use crate::config::pattern;
use crate::config::reader::Reader;
use crate::config::requirement;
use crate::config::roles::Words;
use crate::model::access::Requirement;
use crate::model::credential::CredentialKind::{self, ApiKey, Bearer, Cookie, Mtls};
use crate::model::credential::{CredentialKinds, CredentialRules};
use crate::model::route::{HostPattern, IdentityHeaderNames, PathPattern, Route};

/// Where everybody finds the public signing keys (RFC 7517; the place is the usual one). No route may stand there.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
const ACCEPT: &str = "\"bearer\", \"apikey\", \"cookie\" or \"mtls\"";
const PASS: &str = "\"authorization\", \"apikey\" or \"cookie\"";
const METHOD: &str = "a method in upper case such as GET; TRACE and CONNECT never pass";

/// What routes are held against.
pub(super) struct Rest<'a> {
    pub(super) words: &'a Words,
    pub(super) upstreams: &'a [String],
    pub(super) auth_prefix: &'a str,
    pub(super) api_key_header: &'a HeaderName,
    /// Where issuers' tokens come, beside `Authorization`.
    pub(super) token_headers: Vec<&'a HeaderName>,
}

pub(super) fn read(readers: Vec<Reader<'_>>, rest: &Rest<'_>) -> Vec<Route> {
    let problems = readers.first().map(Reader::problems);
    let (places, routes): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .filter_map(|reader| Some((reader.place("pass_headers"), one(reader, rest)?)))
        .unzip();
    if let Some(problems) = problems {
        let carriers =
            std::iter::once(rest.api_key_header).chain(rest.token_headers.iter().copied());
        pass_headers::check(&places, &routes, &carriers.collect::<Vec<_>>(), problems);
    }
    routes
}

fn one(mut reader: Reader<'_>, rest: &Rest<'_>) -> Option<Route> {
    let path = path(&mut reader, rest.auth_prefix);
    let captures: Option<Vec<_>> = path
        .as_ref()
        .map(|(_, pattern)| pattern::captures(pattern).collect());
    let require = requirement::read(&mut reader, captures.as_deref(), rest.words);
    let methods = methods(&mut reader);
    let hosts = reader.some_texts("hosts", listen::HOST, |text| {
        listen::host(text).map(HostPattern)
    });
    let upstream = upstream(&mut reader, rest.upstreams);
    let identity_headers = identity_headers(&mut reader, rest);
    let credentials = credentials(&mut reader, require.as_ref());
    let all_roles = reader.flag("all_roles").unwrap_or(false);
    let pass_headers = pass_headers::read(&mut reader);
    let assertion = reader.flag("assertion").unwrap_or(false);
    let cors_preflight = reader.flag("cors_preflight").unwrap_or(false);
    reader.finish();
    let (text, path) = path?;
    Some(Route {
        text,
        path,
        hosts: hosts.unwrap_or_default(),
        methods,
        require: require?,
        upstream: upstream?,
        identity_headers,
        all_roles,
        credentials,
        pass_headers,
        assertion,
        cors_preflight,
    })
}

fn upstream(reader: &mut Reader<'_>, names: &[String]) -> Option<usize> {
    const UPSTREAM: &str = "the name of an [[upstream]]";
    let text = reader.required("upstream", UPSTREAM, |text| Some(text.to_owned()))?;
    let found = names.iter().position(|name| *name == text);
    if found.is_none() {
        let names = names.iter().map(String::as_str);
        reader.add("upstream", undeclared(UPSTREAM, &text, names));
    }
    found
}

fn path(reader: &mut Reader<'_>, auth_prefix: &str) -> Option<(String, PathPattern)> {
    let text = reader.required("path", "a path such as /lists/{id}/**", |text| {
        Some(text.to_owned())
    })?;
    match pattern::parse(&text) {
        Ok(pattern) => {
            let is_ours = [auth_prefix, JWKS_PATH]
                .iter()
                .any(|own| pattern::is_under(&pattern, own));
            if is_ours {
                reader.add(
                    "path",
                    "a path outside the gateway's own: `listen.auth_prefix` and /.well-known/jwks.json",
                );
            }
            Some((text, pattern))
        }
        Err(expected) => {
            reader.add("path", expected);
            None
        }
    }
}

fn methods(reader: &mut Reader<'_>) -> Vec<Method> {
    let methods = reader.some_texts("methods", METHOD, |text| {
        let chars_fit = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        let method = Method::from_bytes(text.as_bytes()).ok()?;
        let passes = method != Method::TRACE && method != Method::CONNECT;
        (chars_fit && passes).then_some(method)
    });
    let mut methods = methods.unwrap_or_default();
    methods.sort_unstable();
    methods
}

/// `accept` and `pass_credentials`.
fn credentials(reader: &mut Reader<'_>, require: Option<&Requirement>) -> CredentialRules {
    let accept = reader.some_texts("accept", ACCEPT, |text| {
        word(
            text,
            &[
                ("bearer", Bearer),
                ("apikey", ApiKey),
                ("cookie", Cookie),
                ("mtls", Mtls),
            ],
        )
    });
    let is_lone = accept.as_deref() == Some(&[Mtls]);
    if is_lone && require.is_some_and(|require| *require != Requirement::Public) {
        reader.warn(
            "accept",
            "one more kind: client certificates are not verified in this release, so nobody is recognised by \
             \"mtls\" alone",
        );
    }
    let pass = reader.flag_or_texts("pass_credentials", PASS, &[Bearer, ApiKey], |text| {
        word(
            text,
            &[
                ("authorization", Bearer),
                ("apikey", ApiKey),
                ("cookie", Cookie),
            ],
        )
    });
    let default = CredentialRules::default();
    let set = |kinds: Vec<CredentialKind>| kinds.into_iter().collect::<CredentialKinds>();
    CredentialRules {
        accept: accept.map_or(default.accept, set),
        pass: pass.map_or(default.pass, set),
    }
}

fn word(text: &str, words: &[(&str, CredentialKind)]) -> Option<CredentialKind> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, kind)| *kind)
}

fn identity_headers(route: &mut Reader<'_>, rest: &Rest<'_>) -> IdentityHeaderNames {
    let mut reader = route.table("identity_headers");
    let mut names = IdentityHeaderNames::default();
    for (key, name) in [
        ("uid", &mut names.uid),
        ("username", &mut names.username),
        ("roles", &mut names.roles),
        ("scopes", &mut names.scopes),
        ("method", &mut names.method),
        ("key_id", &mut names.key_id),
        ("assertion", &mut names.assertion),
    ] {
        let chosen = reader.text(key, headers::EXPECTED, |text| {
            headers::name(text)
                .filter(|name| name != rest.api_key_header && !rest.token_headers.contains(&name))
        });
        if let Some(chosen) = chosen {
            *name = chosen;
        }
    }
    let all = names.all();
    let are_distinct = all
        .iter()
        .enumerate()
        .all(|(index, name)| !all.iter().skip(index + 1).any(|other| other == name));
    if !are_distinct {
        route.add(
            "identity_headers",
            "seven different names, those left out included",
        );
    }
    reader.finish();
    names
}
