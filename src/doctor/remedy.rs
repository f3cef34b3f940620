//! Why a mistake matters, and what mends it: in general, and in the words of each proxy's own configuration.

use crate::doctor::{Fault, Proxy};

/// Why it matters, and how to mend it.
pub(super) fn of(fault: Fault, proxy: Option<Proxy>) -> (&'static str, String) {
    let row = GENERAL.iter().find(|(known, ..)| *known == fault);
    let (why, general) = row.map_or(("", ""), |(_, why, mend)| (*why, *mend));
    let Some(proxy) = proxy else {
        return (why, general.to_owned());
    };
    let line = LINES
        .iter()
        .find(|(of, faults, _)| of.contains(&proxy) && faults.contains(&fault));
    let mend = match line {
        Some((.., line)) => format!("{general}. {}: {line}", proxy.title()),
        None => format!(
            "{general}. `doorward doctor forward-auth --proxy {}` prints a configuration that does",
            proxy.name()
        ),
    };
    (why, mend)
}

/// Each mistake, why it matters, and what mends it with any proxy.
const GENERAL: [(Fault, &str, &str); Fault::ALL.len()] = [
    (
        Fault::NotAsked,
        "whoever calls reaches the service, with whatever identity it claims",
        "have the proxy ask /auth/verify before each request to the service",
    ),
    (
        Fault::ForwarderRefused,
        "every request is refused, since the gateway takes questions from its own proxies only",
        "put the address from which the proxy asks (the field `client` of the gateway's access record) into \
             [listen] trusted_proxies; if [forward_auth] secret is set, have the proxy send it in X-Doorward-Secret",
    ),
    (
        Fault::MethodMissing,
        "without a method nothing is decided, and where the caller's own field fills the gap the caller chooses \
             what is judged",
        "have the proxy set X-Original-Method or X-Forwarded-Method itself, to the method of the request",
    ),
    (
        Fault::TargetMissing,
        "without a target nothing is decided, and where the caller's own field fills the gap the caller chooses \
             what is judged",
        "have the proxy set X-Original-URL, or X-Forwarded-Uri, itself, to the target of the request as it came",
    ),
    (
        Fault::QuestionFailed,
        "what should pass is refused",
        "see the code in the gateway's access record of that time: it says what the question lacks; or the \
             gateway is not where the proxy asks",
    ),
    (
        Fault::MethodBelieved,
        "a caller that names another method is judged by that: a write passes as a read, or as a preflight",
        "have the proxy overwrite X-Forwarded-Method and X-Original-Method in the question",
    ),
    (
        Fault::TargetBelieved,
        "a caller that names a public path reaches every other one",
        "have the proxy overwrite X-Forwarded-Uri, X-Original-URI and X-Original-URL in the question",
    ),
    (
        Fault::DescriptionPassed,
        "the gateway refuses a request that is described in two ways, but only that stands between a caller and \
             choosing what is judged",
        "have the proxy remove X-Forwarded-* and X-Original-* of callers from the question and set its own",
    ),
    (
        Fault::ClientBelieved,
        "a caller chooses the address that limits, key restrictions and the audit trail go by",
        "have the proxy replace X-Forwarded-For, or append the peer's address to it",
    ),
    (
        Fault::ClientLost,
        "all callers are one to limits, key restrictions and the audit trail: one of them locks the others out",
        "have the proxy tell the caller's address in X-Forwarded-For of the question",
    ),
    (
        Fault::IdentityForged,
        "whoever calls can be anybody to the service",
        "have the proxy remove the caller's copies, in every spelling, and set each identity header from the answer",
    ),
    (
        Fault::IdentityLeft,
        "a caller can add what it is not, such as roles, wherever the gateway tells an empty value",
        "have the proxy remove the caller's copies before it sets those of the answer",
    ),
    (
        Fault::IdentityLost,
        "the service cannot tell who calls, nor an anonymous caller from a proxy that asks nobody",
        "have the proxy copy each identity header from the answer to the request",
    ),
    (
        Fault::IdentityDropped,
        "a caller that names an identity header in Connection takes it away from the service",
        "have the proxy set the identity headers after it has dropped what Connection names",
    ),
    (
        Fault::CredentialPassed,
        "the service, its log and whoever reads that can act for the caller",
        "have the proxy remove Authorization and the API key before the service, unless the route has \
             pass_credentials",
    ),
    (
        Fault::CookieLost,
        "whoever logs in on the login page stays a stranger to the service",
        "have the proxy send Cookie with the question",
    ),
    (
        Fault::PreflightBlocked,
        "browsers send no credential with a preflight, so pages of other origins cannot call the service",
        "let the proxy ask about OPTIONS with its Origin and Access-Control-Request-Method",
    ),
    (
        Fault::BodyLost,
        "what people send is lost or cut",
        "keep the body out of the question and in the request",
    ),
    (
        Fault::CookieRefused,
        "a browser that has gathered many cookies gets nothing but errors, the login page included",
        "let the proxy take heads with 12,000 bytes of cookies",
    ),
    (
        Fault::WebsocketLost,
        "WebSockets do not open",
        "have the proxy pass on Upgrade and Connection",
    ),
    (
        Fault::PathMismatch,
        "the decision is about one path and the service serves another: a public one opens what is not",
        "have the proxy ask about the target as it came, and send on that very target",
    ),
    (
        Fault::VerifyReachable,
        "a stranger can try out who may what, and with the proxy's address as its own",
        "answer the endpoint and all below it with 404 at the proxy",
    ),
    (
        Fault::VerifyOpen,
        "a stranger can describe any request and be believed",
        "list in [listen] trusted_proxies the addresses of the proxies and nothing more, and load that",
    ),
    (
        Fault::LongAnswerLost,
        "whoever has many roles or groups gets an error for every page, and so does a browser with a long URL before \
             its login",
        "let the proxy take answers of the gateway with heads of 64 KiB",
    ),
    (
        Fault::LoginNotOffered,
        "people who are not logged in see an error instead of the login page",
        "have the proxy pass Accept and Sec-Fetch-Mode on to the question, and the redirect back to the browser",
    ),
    (
        Fault::RefusalBroken,
        "a caller cannot tell a wrong credential from a broken service",
        "have the proxy pass on the refusals of the gateway as they are",
    ),
    (
        Fault::RefusalIsSuccess,
        "caches and programs take the refusal for the page that was asked for",
        "have the proxy keep the status of the refusal",
    ),
    (
        Fault::ApiRedirected,
        "programs follow to a page that they cannot read, and never learn that they lack a login",
        "redirect where the gateway answers with Location, and nowhere else",
    ),
    (
        Fault::ChallengeLost,
        "clients that log in by challenge (RFC 6750) do not learn how",
        "have the proxy pass WWW-Authenticate on with a 401",
    ),
    (
        Fault::FailsOpen,
        "whoever can bring the gateway down, or wait for it, is let in everywhere",
        "refuse whatever is not allowed, a missing or unreadable answer included",
    ),
];

/// The place to look at in a proxy's own configuration, where it is one line.
const LINES: &[(&[Proxy], &[Fault], &str)] = &[
    (
        &[Proxy::Nginx],
        &[Fault::NotAsked],
        "auth_request /_doorward; in each location that leads to the service, without satisfy any",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::MethodMissing, Fault::MethodBelieved],
        "proxy_set_header X-Original-Method $request_method; and proxy_set_header X-Forwarded-Method \"\";",
    ),
    (
        &[Proxy::Nginx],
        &[
            Fault::TargetMissing,
            Fault::TargetBelieved,
            Fault::PathMismatch,
        ],
        "proxy_set_header X-Original-URL $scheme://$host:$server_port$request_uri; with $request_uri, not $uri, \
             and proxy_pass without a path",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::DescriptionPassed],
        "proxy_set_header X-Forwarded-Uri \"\"; and the like, for each of the other fields",
    ),
    (
        &[Proxy::Nginx],
        &[
            Fault::IdentityForged,
            Fault::IdentityLeft,
            Fault::IdentityLost,
        ],
        "auth_request_set and proxy_set_header for each identity header, underscores_in_headers off, \
             ignore_invalid_headers on",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::ClientBelieved, Fault::ClientLost],
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::VerifyReachable],
        "location /auth/verify { return 404; }",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::CookieRefused],
        "large_client_header_buffers 4 16k;",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::LongAnswerLost],
        "proxy_buffer_size 64k; and proxy_buffers 4 64k; where it asks",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::LongAnswerLost],
        "tune.bufsize 32768 or more: the heads of request and answer must each fit into it",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::BodyLost],
        "proxy_pass_request_body off; and proxy_set_header Content-Length \"\"; where it asks",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::WebsocketLost],
        "proxy_http_version 1.1; and proxy_set_header Upgrade $http_upgrade;",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::LoginNotOffered, Fault::ApiRedirected],
        "error_page 401 to a location that returns 302 if the answer had a Location, else 401",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::RefusalIsSuccess],
        "error_page 401 @name; without an equals sign",
    ),
    (
        &[Proxy::Nginx],
        &[Fault::FailsOpen],
        "no error_page 500 that leads to the service",
    ),
    (
        &[Proxy::Traefik],
        &[
            Fault::MethodBelieved,
            Fault::TargetBelieved,
            Fault::ClientBelieved,
        ],
        "trustForwardHeader: false, and no forwardedHeaders.insecure at the entry point",
    ),
    (
        &[Proxy::Traefik],
        &[
            Fault::IdentityForged,
            Fault::IdentityLeft,
            Fault::IdentityLost,
        ],
        "each identity header in authResponseHeaders, and no authRequestHeaders, so that the gateway sees all that comes",
    ),
    (
        &[Proxy::Traefik],
        &[Fault::VerifyReachable],
        "!PathPrefix(`/auth/verify`) in the rule",
    ),
    (
        &[Proxy::Traefik],
        &[Fault::NotAsked],
        "the forwardAuth middleware in middlewares of the router",
    ),
    (
        &[Proxy::Traefik],
        &[Fault::CookieLost],
        "no authRequestHeaders, or one with Cookie",
    ),
    (
        &[Proxy::Caddy],
        &[Fault::IdentityForged, Fault::IdentityLeft],
        "request_header -X-Auth-* before forward_auth, and each identity header in copy_headers",
    ),
    (
        &[Proxy::Caddy],
        &[Fault::IdentityLost],
        "each identity header in copy_headers",
    ),
    (
        &[Proxy::Caddy],
        &[Fault::ClientBelieved],
        "no trusted_proxies that takes in callers",
    ),
    (
        &[Proxy::Caddy],
        &[Fault::VerifyReachable],
        "handle /auth/verify* { respond 404 }",
    ),
    (
        &[Proxy::Caddy],
        &[Fault::NotAsked],
        "forward_auth inside route, before reverse_proxy",
    ),
    (
        &[Proxy::Envoy, Proxy::EnvoyGrpc],
        &[Fault::FailsOpen],
        "failure_mode_allow: false",
    ),
    (
        &[Proxy::Envoy, Proxy::EnvoyGrpc],
        &[Fault::ClientBelieved],
        "use_remote_address: true",
    ),
    (
        &[Proxy::Envoy],
        &[
            Fault::IdentityForged,
            Fault::IdentityLeft,
            Fault::IdentityLost,
        ],
        "early_header_mutation, headers_with_underscores_action: REJECT_REQUEST, and each identity header in \
             allowed_upstream_headers",
    ),
    (
        &[Proxy::Envoy],
        &[
            Fault::LoginNotOffered,
            Fault::PreflightBlocked,
            Fault::CookieLost,
            Fault::ClientLost,
        ],
        "the fields that the gateway judges by in allowed_headers: cookie, accept, origin, sec-fetch-mode, \
             access-control-request-method, x-forwarded-for and the others",
    ),
    (
        &[Proxy::Envoy, Proxy::EnvoyGrpc],
        &[Fault::WebsocketLost],
        "upgrade_configs with websocket",
    ),
    (
        &[Proxy::Envoy, Proxy::EnvoyGrpc],
        &[Fault::VerifyReachable],
        "a route for /auth/verify with direct_response 404, first",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::IdentityForged, Fault::IdentityLeft],
        "http-request del-header ^x[^a-z0-9](auth|original|doorward)[^a-z0-9] -m reg, before the question",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::NotAsked],
        "http-request lua.doorward before use_backend",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::CookieRefused],
        "tune.bufsize 32768",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::VerifyReachable],
        "http-request deny deny_status 404 if { path_beg,url_dec -m beg /auth/verify }",
    ),
    (
        &[Proxy::Haproxy],
        &[Fault::ClientBelieved, Fault::ClientLost],
        "headers[\"x-forwarded-for\"] = { txn.sf:src() } in the question",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mistake_has_its_reason_and_remedy() {
        let codes: BTreeSet<_> = Fault::ALL.iter().map(|fault| fault.code()).collect();
        assert_eq!(codes.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            for proxy in [None].into_iter().chain(Proxy::ALL.map(Some)) {
                let (why, mend) = of(fault, proxy);
                assert!(!why.is_empty() && !mend.is_empty(), "{fault:?}");
            }
        }
    }
}
