//! `[[route]]`: which requests pass, their requirements, and their upstreams.

use http::{HeaderName, Method};

use crate::config::document::Value;
use crate::config::forms::{
    collected, flag, flag_or_texts, raw_text, some_texts, table, text_or_table, value_of,
};
use crate::config::headers;
use crate::config::keys::{keys, undeclared};
use crate::config::listen;
use crate::config::pass_headers::{self, PassHeadersKeys};
use crate::config::pattern;
use crate::config::reader::SectionReader;
use crate::config::requirement::{self, RequireKeys};
use crate::config::roles::DeclaredRoles;
use crate::model::access::Requirement;
use crate::model::credential::CredentialKind::{self, ApiKey, Bearer, Cookie, Mtls};
use crate::model::credential::{CredentialKinds, CredentialRules};
use crate::model::route::{HostPattern, IdentityHeaderNames, PathPattern, Route};
use crate::route::table::captures;

/// Path of the public signing keys (RFC 7517). No route may match it.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
const ACCEPT: &str = "\"bearer\", \"apikey\", \"cookie\" or \"mtls\"";
const PASS: &str = "\"authorization\", \"apikey\" or \"cookie\"";
const ACCEPTED: &[(&str, CredentialKind)] = &[
    ("bearer", Bearer),
    ("apikey", ApiKey),
    ("cookie", Cookie),
    ("mtls", Mtls),
];
const PASSED: &[(&str, CredentialKind)] = &[
    ("authorization", Bearer),
    ("apikey", ApiKey),
    ("cookie", Cookie),
];
const METHOD: &str = "a method in upper case such as GET, but not TRACE or CONNECT";

const UPSTREAM: &str = "the name of an [[upstream]]";
const PATH: &str = "a path such as /lists/{id}/**";

keys! { pub(super) RouteKeys = "route[]", and [PassHeadersKeys]; {
    /// {name} matches one segment; /x/** matches /x/ and everything below it, but not /x.
    path: String = raw_text(PATH);
    /// Methods, in upper case, and hosts that the route matches. Default: all, except TRACE and CONNECT, which never pass.
    methods: Vec<Method> = some_texts(METHOD, method) => Vec::new();
    hosts: Vec<HostPattern> = some_texts(listen::HOST, host) => Vec::new();
    upstream: String = raw_text(UPSTREAM);
    /// "public": credentials are ignored. "optional": no credential is needed, but a wrong one is refused. "authenticated": a
    /// credential is needed. Or a table of rights, as below.
    require: Value = text_or_table(requirement::REQUIRE, Some(&RequireKeys::SECTION));
    /// Other names for the headers that identify the caller to the upstream.
    identity_headers: Value = table(&IdentityHeaderKeys::SECTION);
    /// Whether X-Auth-Roles has every role of the caller, and not only those that concern the path.
    all_roles: bool = flag() => false;
    /// Accepted kinds of credentials: bearer tokens, API keys, the session cookie, client certificates ("mtls" is reserved:
    /// this release verifies none). A field whose kind is not listed belongs to the application: it is not read, and it is
    /// passed on unless it holds an API key or a token that is accepted elsewhere.
    accept: CredentialKinds = collected(some_texts(ACCEPT, |text: &str| value_of(ACCEPTED, text)));
    /// Credentials of the caller that are passed on to the upstream: "authorization", "apikey", "cookie". "apikey" applies to
    /// an API key in any field; the gateway's own cookie is passed on by "cookie" only. true: the first two.
    pass_credentials: CredentialKinds = collected(flag_or_texts(PASS, &[Bearer, ApiKey], |text| value_of(PASSED, text)));
    /// Whether X-Auth-Assertion is added: the caller's identity, signed for 30 s and bound to route, method and path
    /// (docs/assertion.md).
    assertion: bool = flag() => false;
    /// Whether CORS preflights (OPTIONS with Origin and Access-Control-Request-Method) that announce a method of this route
    /// pass to the upstream without a credential, since browsers send none with them. `methods` need not include OPTIONS.
    cors_preflight: bool = flag() => false;
}}

keys! { pub(super) IdentityHeaderKeys = "route[].identity_headers"; {
    uid: String = raw_text(headers::EXPECTED);
    username: String = raw_text(headers::EXPECTED);
    roles: String = raw_text(headers::EXPECTED);
    scopes: String = raw_text(headers::EXPECTED);
    method: String = raw_text(headers::EXPECTED);
    key_id: String = raw_text(headers::EXPECTED);
    assertion: String = raw_text(headers::EXPECTED);
}}

/// The other sections against which routes are checked.
pub(super) struct RouteContext<'a> {
    pub(super) words: &'a DeclaredRoles,
    pub(super) upstreams: &'a [String],
    pub(super) auth_prefix: &'a str,
    pub(super) api_key_header: &'a HeaderName,
    /// The fields other than `Authorization` that carry tokens of issuers.
    pub(super) token_headers: Vec<&'a HeaderName>,
}

pub(super) fn read(readers: Vec<SectionReader<'_>>, context: &RouteContext<'_>) -> Vec<Route> {
    let problems = readers.first().map(SectionReader::problems);
    let (places, routes): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .filter_map(|reader| {
            Some((
                reader.place(&PassHeadersKeys::pass_headers),
                one(reader, context)?,
            ))
        })
        .unzip();
    if let Some(problems) = problems {
        let carriers =
            std::iter::once(context.api_key_header).chain(context.token_headers.iter().copied());
        pass_headers::check(&places, &routes, &carriers.collect::<Vec<_>>(), problems);
    }
    routes
}

fn one(mut reader: SectionReader<'_>, context: &RouteContext<'_>) -> Option<Route> {
    let path = path(&mut reader, context.auth_prefix);
    let captures: Option<Vec<_>> = path
        .as_ref()
        .map(|(_, pattern)| captures(pattern).collect());
    let require = requirement::read(
        &mut reader,
        &RouteKeys::require,
        captures.as_deref(),
        context.words,
    );
    let mut methods = reader.get(&RouteKeys::methods);
    methods.sort_unstable();
    let hosts = reader.get(&RouteKeys::hosts);
    let upstream = upstream(&mut reader, context.upstreams);
    let identity_headers = identity_headers(&mut reader, context);
    let credentials = credentials(&mut reader, require.as_ref());
    let all_roles = reader.get(&RouteKeys::all_roles);
    let pass_headers = pass_headers::read(&mut reader);
    let assertion = reader.get(&RouteKeys::assertion);
    let cors_preflight = reader.get(&RouteKeys::cors_preflight);
    reader.finish();
    let (text, path) = path?;
    Some(Route {
        text,
        path,
        hosts,
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

fn upstream(reader: &mut SectionReader<'_>, names: &[String]) -> Option<usize> {
    let text = reader.required(&RouteKeys::upstream)?;
    let found = names.iter().position(|name| *name == text);
    if found.is_none() {
        let names = names.iter().map(String::as_str);
        reader.add(&RouteKeys::upstream, undeclared(UPSTREAM, &text, names));
    }
    found
}

fn path(reader: &mut SectionReader<'_>, auth_prefix: &str) -> Option<(String, PathPattern)> {
    let text = reader.required(&RouteKeys::path)?;
    match pattern::parse(&text) {
        Ok(pattern) => {
            let is_ours = [auth_prefix, JWKS_PATH]
                .iter()
                .any(|own| pattern::is_under(&pattern, own));
            if is_ours {
                reader.add(
                    &RouteKeys::path,
                    "a path outside of the gateway's own paths, `listen.auth_prefix` and /.well-known/jwks.json",
                );
            }
            Some((text, pattern))
        }
        Err(expected) => {
            reader.add(&RouteKeys::path, expected);
            None
        }
    }
}

fn method(text: &str) -> Option<Method> {
    let chars_fit = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    let method = Method::from_bytes(text.as_bytes()).ok()?;
    let passes = method != Method::TRACE && method != Method::CONNECT;
    (chars_fit && passes).then_some(method)
}

fn host(text: &str) -> Option<HostPattern> {
    listen::host(text).map(HostPattern)
}

/// Reads `accept` and `pass_credentials`.
fn credentials(reader: &mut SectionReader<'_>, require: Option<&Requirement>) -> CredentialRules {
    let default = CredentialRules::default();
    let accept = reader.take(&RouteKeys::accept).unwrap_or(default.accept);
    let is_lone = accept == CredentialKinds::NONE.with(Mtls);
    if is_lone && require.is_some_and(|require| *require != Requirement::Public) {
        reader.warn(
            &RouteKeys::accept,
            "at least one other kind: client certificates are not verified in this release, so no caller is recognised by \
             \"mtls\" alone",
        );
    }
    let pass = reader.take(&RouteKeys::pass_credentials);
    CredentialRules {
        accept,
        pass: pass.unwrap_or(default.pass),
    }
}

fn identity_headers(
    route: &mut SectionReader<'_>,
    context: &RouteContext<'_>,
) -> IdentityHeaderNames {
    let mut reader = route.table(&RouteKeys::identity_headers);
    let mut names = IdentityHeaderNames::default();
    for (key, name) in [
        (&IdentityHeaderKeys::uid, &mut names.uid),
        (&IdentityHeaderKeys::username, &mut names.username),
        (&IdentityHeaderKeys::roles, &mut names.roles),
        (&IdentityHeaderKeys::scopes, &mut names.scopes),
        (&IdentityHeaderKeys::method, &mut names.method),
        (&IdentityHeaderKeys::key_id, &mut names.key_id),
        (&IdentityHeaderKeys::assertion, &mut names.assertion),
    ] {
        let chosen = reader.text(key, |text| {
            headers::name(text).filter(|name| {
                name != context.api_key_header && !context.token_headers.contains(&name)
            })
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
            &RouteKeys::identity_headers,
            "seven different names, defaults included",
        );
    }
    reader.finish();
    names
}
