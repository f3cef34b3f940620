//! The configuration of a proxy in front: the tested example, with the operator's own addresses, prefix and headers.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::app::doctor::outsiders::reachable;
use crate::app::doctor::{Proxy, identity_names};
use crate::config::Config;
use crate::model::route::{IdentityHeaderNames, UpstreamAddress};

/// One file of an example.
struct Example {
    name: &'static str,
    /// Begins a comment in it.
    comment: &'static str,
    text: &'static str,
}

macro_rules! example {
    ($name:literal, $comment:literal) => {
        Example {
            name: $name,
            comment: $comment,
            text: include_str!(concat!("../../../config/examples/forward-auth/", $name)),
        }
    };
}

const NGINX: [Example; 1] = [example!("nginx.conf", "#")];
const TRAEFIK: [Example; 1] = [example!("traefik-dynamic.yml", "#")];
const CADDY: [Example; 1] = [example!("Caddyfile", "#")];
const ENVOY: [Example; 1] = [example!("envoy.yaml", "#")];
const HAPROXY: [Example; 2] = [example!("haproxy.cfg", "#"), example!("doorward.lua", "--")];

/// What the examples say, and a configuration may say otherwise.
const LISTEN_PORT: &str = "8000";
const GATEWAY: &str = "127.0.0.1:8080";
const SERVICE: &str = "127.0.0.1:9001";
const SECRET: &str = "change-me-change-me";
const PREFIX: &str = "/auth/";
const API_KEY: &str = "x-api-key";
/// The last of the identity headers: where it stands the others stand too.
const LAST: &str = "x-auth-assertion";

/// Stands for the secret, which is printed nowhere.
const SECRET_PLACE: &str = "@DOORWARD_SECRET@";

const fn examples(proxy: Proxy) -> &'static [Example] {
    match proxy {
        Proxy::Nginx => &NGINX,
        Proxy::Traefik => &TRAEFIK,
        Proxy::Caddy => &CADDY,
        Proxy::Envoy => &ENVOY,
        Proxy::Haproxy => &HAPROXY,
    }
}

/// Writes the files of a proxy, one after the other. `port`: on which it listens.
pub(super) fn write(config: &Config, proxy: Proxy, port: Option<u16>) -> String {
    let mut all = String::new();
    for example in examples(proxy) {
        all.push_str(&head(config, proxy, example));
        let text = fill(config, example.text, port);
        all.push_str(&with_more_names(config, proxy, text));
    }
    all
}

/// What the operator has to do beside copying it.
fn head(config: &Config, proxy: Proxy, example: &Example) -> String {
    let (mut text, comment) = (String::new(), example.comment);
    let mut line = |words: &str| {
        // A text takes whatever is written.
        let _ = writeln!(text, "{comment} {words}");
    };
    line(&format!("==== {} ====", example.name));
    line(&format!(
        "The secret is not in here, but its place {SECRET_PLACE} is. To fill it from the file that"
    ));
    line("[forward_auth] secret_file names, keep this in a file and run:");
    line(&format!(
        "  umask 077; awk 'NR==FNR{{s=$0;next}}{{gsub(\"{SECRET_PLACE}\",s)}}1' SECRET_FILE PRINTED > {}",
        example.name
    ));
    if config.forward_auth.secret.is_none() {
        line("No secret is set. Draw one: umask 077; openssl rand -hex 32 > SECRET_FILE");
    }
    let trusted = &config.listen.trusted_proxies;
    let nets: Vec<_> = trusted.iter().map(ToString::to_string).collect();
    let now = if nets.is_empty() {
        "nobody: no question is answered".to_owned()
    } else {
        nets.join(", ")
    };
    line(&format!(
        "[listen] trusted_proxies must have the address from which {} asks; it has {now}.",
        proxy.title()
    ));
    text
}

fn fill(config: &Config, text: &str, port: Option<u16>) -> String {
    let mut text = text.to_owned();
    if let Some(port) = port {
        text = text.replace(LISTEN_PORT, &port.to_string());
    }
    let gateway = config.listen.addresses.first().copied().map(reachable);
    let service = config
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.addresses)
        .find_map(|address| match address {
            UpstreamAddress::Socket(address) => Some(*address),
            UpstreamAddress::BuiltinEcho => None,
        });
    // In two steps, since one may be what the other was.
    text = text
        .replace(GATEWAY, "<gateway>")
        .replace(&in_envoy(GATEWAY), "<envoy gateway>");
    text = text
        .replace(SERVICE, "<service>")
        .replace(&in_envoy(SERVICE), "<envoy service>");
    let told = |address: Option<SocketAddr>, shown: &str| {
        address.map_or_else(|| shown.to_owned(), |address| address.to_string())
    };
    for (place, address) in [
        ("gateway", told(gateway, GATEWAY)),
        ("service", told(service, SERVICE)),
    ] {
        text = text
            .replace(&format!("<{place}>"), &address)
            .replace(&format!("<envoy {place}>"), &in_envoy(&address));
    }
    let prefix = format!("{}/", config.listen.auth_prefix);
    let api_key = config.account.api_key_header.as_str();
    text.replace(PREFIX, &prefix)
        .replace(&titled(API_KEY), &titled(api_key))
        .replace(API_KEY, api_key)
        .replace(SECRET, SECRET_PLACE)
}

/// An address as Envoy writes it.
fn in_envoy(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // A value with colons would be a mapping.
    let quoted = if host.contains(':') {
        format!("\"{host}\"")
    } else {
        host.to_owned()
    };
    format!("address: {quoted}, port_value: {port}")
}

/// Adds the names that routes have chosen to wherever the default ones stand.
fn with_more_names(config: &Config, proxy: Proxy, text: String) -> String {
    let default = IdentityHeaderNames::default();
    let names = identity_names(config);
    let more = names.iter().filter(|name| !default.all().contains(name));
    more.fold(text, |text, name| with_name(proxy, &text, name.as_str()))
}

fn with_name(proxy: Proxy, text: &str, name: &str) -> String {
    let pattern = name.replace('-', "[-_.]");
    let mut written = String::new();
    for line in text.lines() {
        let lists = line.to_ascii_lowercase().replace('_', "-").contains(LAST);
        let (line, below) = match proxy {
            Proxy::Nginx | Proxy::Traefik | Proxy::Envoy if lists => {
                (line.to_owned(), Some(renamed(line, name)))
            }
            Proxy::Caddy if lists => {
                let both = format!("{} {}", titled(LAST), titled(name));
                (line.replace(&titled(LAST), &both), None)
            }
            Proxy::Haproxy if lists => {
                let both = format!("\"{LAST}\", \"{name}\"");
                (line.replace(&format!("\"{LAST}\""), &both), None)
            }
            // Where callers' copies are removed by a pattern that these names do not match.
            Proxy::Caddy if line.trim() == "request_header -X-Auth-*" => (
                line.to_owned(),
                Some(line.replace("X-Auth-*", &titled(name))),
            ),
            Proxy::Haproxy if line.contains("del-header ^x[-_.](auth|") => {
                let (before, _) = line.split_once('^').unwrap_or((line, ""));
                (line.to_owned(), Some(format!("{before}^{pattern}$ -m reg")))
            }
            Proxy::Envoy if line.contains("regex: \"") => (
                line.replacen("regex: \"", &format!("regex: \"{pattern}|"), 1),
                None,
            ),
            _ => (line.to_owned(), None),
        };
        for line in [Some(line), below].into_iter().flatten() {
            written.push_str(&line);
            written.push('\n');
        }
    }
    written
}

/// A line about the last of the default names, about another one.
fn renamed(line: &str, name: &str) -> String {
    let snake = name.replace('-', "_");
    line.replace("$doorward_assertion", &format!("$doorward_as_{snake}"))
        .replace(&LAST.replace('-', "_"), &snake)
        .replace(&titled(LAST), &titled(name))
        .replace(LAST, name)
}

/// `x-auth-uid` as people write it: `X-Auth-Uid`.
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

    const PLAIN: &str = include_str!("../../../config/examples/forward-auth.toml");

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
        for proxy in Proxy::ALL {
            let printed = write(&config, proxy, None);
            for example in examples(proxy) {
                let text = example.text.replace(SECRET, SECRET_PLACE);
                assert!(printed.contains(&text), "{proxy:?}: {printed}");
            }
            assert!(printed.contains("it has 127.0.0.1/32."), "{printed}");
        }
    }

    #[test]
    fn an_operators_own_words_take_the_place_of_the_examples() {
        let config = config(OTHER);
        for proxy in Proxy::ALL {
            let printed = write(&config, proxy, Some(7000));
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
            for there in [
                "7000",
                "9000",
                "8443",
                "/door/verify",
                SECRET_PLACE,
                "10.0.0.0/8",
            ] {
                assert!(printed.contains(there), "{proxy:?} {there}: {printed}");
            }
            // As often as the default ones: in each list, and where callers' copies are removed.
            let lower = printed.to_ascii_lowercase();
            let count = |name: &str| lower.matches(name).count();
            for name in ["remote-user", "remote-groups"] {
                let dashed = count(name)
                    + count(&name.replace('-', "_"))
                    + count(&name.replace('-', "[-_.]"));
                let by_pattern = usize::from(matches!(
                    proxy,
                    Proxy::Caddy | Proxy::Haproxy | Proxy::Envoy
                ));
                let variables = if proxy == Proxy::Nginx { 2 } else { 0 };
                let default = count(LAST) + count(&LAST.replace('-', "_"));
                assert_eq!(
                    dashed,
                    default + by_pattern + variables,
                    "{proxy:?} {name}: {printed}"
                );
            }
        }
    }
}
