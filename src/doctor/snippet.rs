//! The configuration of a proxy in front: a template, filled in with the operator's addresses, prefix and headers.
//!
//! With the values of `config/examples/forward-auth.toml`, each template yields the example of the same name in
//! `config/examples/forward-auth`.

use std::net::SocketAddr;

use http::HeaderName;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::config::Config;
use crate::doctor::outsiders::reachable;
use crate::doctor::{DoctorError, Proxy, identity_names};
use crate::model::route::{IdentityHeaderNames, UpstreamAddress};

/// Printed in place of the secret, which is never printed.
const SECRET_PLACE: &str = "@DOORWARD_SECRET@";

/// Remaining tasks of the operator, one note per line.
const NOTES: &str = include_str!("templates/notes.jinja");

/// Returns the templates of a proxy's files, each with the line above it that names the file where there are several.
const fn templates(proxy: Proxy) -> &'static [(&'static str, &'static str)] {
    match proxy {
        Proxy::Nginx => &[("", include_str!("templates/nginx.conf.jinja"))],
        Proxy::Traefik => &[("", include_str!("templates/traefik-dynamic.yml.jinja"))],
        Proxy::Caddy => &[("", include_str!("templates/Caddyfile.jinja"))],
        Proxy::Envoy => &[("", include_str!("templates/envoy.yaml.jinja"))],
        Proxy::EnvoyGrpc => &[("", include_str!("templates/envoy-grpc.yaml.jinja"))],
        Proxy::Haproxy => &[
            (
                "# ==== haproxy.cfg ====\n",
                include_str!("templates/haproxy.cfg.jinja"),
            ),
            (
                "-- ==== doorward.lua ====\n",
                include_str!("templates/doorward.lua.jinja"),
            ),
        ],
    }
}

/// A configuration of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Its files, one after the other.
    pub text: String,
    /// Remaining tasks of the operator.
    pub notes: Vec<String>,
}

/// The values for the templates.
#[derive(Serialize)]
struct TemplateFields<'a> {
    proxy: Proxy,
    title: &'a str,
    port: u16,
    gateway: String,
    grpc: String,
    service: String,
    prefix: &'a str,
    api_key: &'a str,
    /// The identity headers that routes set instead of the default ones, last one first.
    names: Vec<&'a str>,
    secret: &'a str,
    has_secret: bool,
    has_grpc: bool,
    trusted: String,
}

/// Writes the files of a proxy that listens on `port`.
pub(super) fn write(
    config: &Config,
    proxy: Proxy,
    port: Option<u16>,
) -> Result<Snippet, DoctorError> {
    let upstreams = config.upstreams.iter();
    let mut addresses = upstreams.flat_map(|upstream| &upstream.addresses);
    let service = addresses.find_map(|address| match address {
        UpstreamAddress::Socket(address) => Some(*address),
        UpstreamAddress::BuiltinEcho => None,
    });
    let gateway = config.listen.addresses.first().copied();
    let grpc = config.forward_auth.grpc_address;
    // Addresses missing from the configuration are replaced by those of the examples.
    let address_or = |example: &str, address: Option<SocketAddr>| {
        address.map_or_else(|| example.to_owned(), |address| address.to_string())
    };
    let default = IdentityHeaderNames::default();
    let names = identity_names(config);
    let chosen = names.iter().filter(|name| !default.all().contains(name));
    let trusted = config.listen.trusted_proxies.iter();
    let fields = TemplateFields {
        proxy,
        title: proxy.title(),
        port: port.unwrap_or(8000),
        gateway: address_or("127.0.0.1:8080", gateway.map(reachable)),
        grpc: address_or("127.0.0.1:9191", grpc.map(reachable)),
        service: address_or("127.0.0.1:9001", service),
        prefix: &config.listen.auth_prefix,
        api_key: config.account.api_key_header.as_str(),
        names: chosen.rev().map(HeaderName::as_str).collect(),
        secret: SECRET_PLACE,
        has_secret: config.forward_auth.secret.is_some(),
        has_grpc: grpc.is_some(),
        trusted: trusted
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let environment = environment()?;
    let mut text = String::new();
    for (heading, template) in templates(proxy) {
        text.push_str(heading);
        text.push_str(&environment.render_str(template, Serde(&fields))?);
    }
    let notes = environment.render_str(NOTES, Serde(&fields))?;
    let notes = notes.lines().map(str::to_owned).collect();
    Ok(Snippet { text, notes })
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.add_filter("titled", titled);
    environment.add_filter("snake", |name: &str| name.replace('-', "_"));
    // Matches all spellings that a service may mistake for the name.
    environment.add_filter("pattern", |name: &str| name.replace('-', "[^a-z0-9]"));
    environment.add_filter("length", |text: &str| text.len());
    environment.add_filter("host", |address: &str| {
        let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // YAML would parse a value with colons as a mapping.
        let quote = if host.contains(':') { "\"" } else { "" };
        format!("{quote}{host}{quote}")
    });
    environment.add_filter("port", |address: &str| {
        address.rsplit(':').next().map(str::to_owned)
    });
    Ok(environment)
}

/// Capitalises a header name: `X-Auth-Uid` for `x-auth-uid`.
pub(super) fn titled(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EnvOverlay;

    fn config(text: &str) -> Config {
        Config::parse(text, &EnvOverlay::default()).unwrap().0
    }

    /// The secret of the examples.
    const SECRET: &str = "change-me-change-me";
    /// The last of the default identity headers: other names follow it in each list.
    const LAST: &str = "x-auth-assertion";

    const PLAIN: &str = include_str!("../../config/examples/forward-auth.toml");

    const OTHER: &str = r#"
[listen]
address = "0.0.0.0:9000"
public_url = "https://a.example.com"
auth_prefix = "/door"
trusted_proxies = ["10.0.0.0/8"]

[account]
api_key_header = "X-Our-Key"

[forward_auth]
secret = "not-to-be-printed"
grpc_address = "0.0.0.0:9300"

[[upstream]]
name = "a"
addresses = ["[2001:db8::1]:8443"]

[[route]]
path = "/**"
upstream = "a"
require = "authenticated"
identity_headers = { uid = "Remote-User", roles = "Remote-Groups" }
"#;

    #[test]
    fn the_example_is_printed_as_it_is_but_for_the_secret() {
        let config = config(PLAIN);
        for (proxy, files) in [
            (Proxy::Nginx, &["nginx.conf"][..]),
            (Proxy::Traefik, &["traefik-dynamic.yml"]),
            (Proxy::Caddy, &["Caddyfile"]),
            (Proxy::Envoy, &["envoy.yaml"]),
            (Proxy::EnvoyGrpc, &["envoy-grpc.yaml"]),
            (Proxy::Haproxy, &["haproxy.cfg", "doorward.lua"]),
        ] {
            let Snippet { text, notes } = write(&config, proxy, None).unwrap();
            let mut wanted = String::new();
            for (file, (heading, _)) in files.iter().zip(templates(proxy)) {
                let example = format!("config/examples/forward-auth/{file}");
                let example = std::fs::read_to_string(example).unwrap();
                wanted.push_str(heading);
                wanted.push_str(&example.replace(SECRET, SECRET_PLACE));
            }
            assert_eq!(text, wanted, "{proxy}");
            assert!(
                notes.concat().contains("It contains 127.0.0.1/32."),
                "{notes:?}"
            );
        }
    }

    #[test]
    fn addresses_may_be_those_that_another_has_in_the_example() {
        let text = PLAIN.replace("127.0.0.1:8080", "127.0.0.1:9001").replace(
            "addresses = [\"127.0.0.1:9001\"]",
            "addresses = [\"127.0.0.1:8000\"]",
        );
        let printed = write(&config(&text), Proxy::Caddy, Some(8080))
            .unwrap()
            .text;
        for line in [
            "http://:8080 {",
            "forward_auth 127.0.0.1:9001 {",
            "\treverse_proxy 127.0.0.1:8000\n",
        ] {
            assert!(printed.contains(line), "{line}: {printed}");
        }
    }

    #[test]
    fn an_operators_own_words_take_the_place_of_the_examples() {
        let config = config(OTHER);
        for proxy in Proxy::ALL {
            let Snippet {
                text: printed,
                notes,
            } = write(&config, proxy, Some(7000)).unwrap();
            for gone in [
                "8000",
                "8080",
                "9001",
                "/auth/",
                "X-Api-Key",
                "x-api-key",
                "not-to-be-printed",
                SECRET,
            ] {
                assert!(!printed.contains(gone), "{proxy:?} {gone}: {printed}");
            }
            for there in ["7000", "9000", "8443", "/door/verify", SECRET_PLACE] {
                assert!(printed.contains(there), "{proxy:?} {there}: {printed}");
            }
            assert!(notes.concat().contains("10.0.0.0/8"), "{notes:?}");
            // As often as the default ones: in each list, and where callers' copies are removed.
            let lower = printed.to_ascii_lowercase();
            let count = |name: &str| lower.matches(name).count();
            for name in ["remote-user", "remote-groups"] {
                let dashed = count(name)
                    + count(&name.replace('-', "_"))
                    + count(&name.replace('-', "[^a-z0-9]"));
                let by_pattern = usize::from(matches!(
                    proxy,
                    Proxy::Caddy | Proxy::Haproxy | Proxy::Envoy
                ));
                let variables = if proxy == Proxy::Nginx { 2 } else { 0 };
                // nginx removes the caller's copies of these whatever names the operator has chosen.
                let emptied = match (proxy, name) {
                    (Proxy::Nginx, "remote-user") => 2,
                    _ => 0,
                };
                let default = count(LAST) + count(&LAST.replace('-', "_"));
                assert_eq!(
                    dashed,
                    default + by_pattern + variables + emptied,
                    "{proxy:?} {name}: {printed}"
                );
            }
        }
    }
}
