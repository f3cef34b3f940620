//! The configuration of a proxy in front: the tested example, with the operator's own addresses, prefix and headers.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::config::Config;
use crate::doctor::outsiders::reachable;
use crate::doctor::{Proxy, identity_names};
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
            text: include_str!(concat!("../../config/examples/forward-auth/", $name)),
        }
    };
}

const NGINX: [Example; 1] = [example!("nginx.conf", "#")];
const TRAEFIK: [Example; 1] = [example!("traefik-dynamic.yml", "#")];
const CADDY: [Example; 1] = [example!("Caddyfile", "#")];
const ENVOY: [Example; 1] = [example!("envoy.yaml", "#")];
const ENVOY_GRPC: [Example; 1] = [example!("envoy-grpc.yaml", "#")];
const HAPROXY: [Example; 2] = [example!("haproxy.cfg", "#"), example!("doorward.lua", "--")];

/// What the examples say, and a configuration may say otherwise.
const LISTEN_PORT: &str = "8000";
const GATEWAY: &str = "127.0.0.1:8080";
const GRPC: &str = "127.0.0.1:9191";
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
        Proxy::EnvoyGrpc => &ENVOY_GRPC,
        Proxy::Haproxy => &HAPROXY,
    }
}

/// What a proxy needs, and what is left to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Its files; where there are several each begins with a comment that names it.
    pub text: String,
    /// For the operator to read.
    pub notes: Vec<String>,
}

/// Writes the files of a proxy. `port`: on which it listens.
pub(super) fn write(config: &Config, proxy: Proxy, port: Option<u16>) -> Snippet {
    let examples = examples(proxy);
    let mut text = String::new();
    for example in examples {
        if 1 < examples.len() {
            // A text takes whatever is written.
            let _ = writeln!(text, "{} ==== {} ====", example.comment, example.name);
        }
        let filled = fill(config, example.text, port);
        text.push_str(&with_more_names(config, proxy, filled));
    }
    Snippet {
        text,
        notes: notes(config, proxy),
    }
}

fn notes(config: &Config, proxy: Proxy) -> Vec<String> {
    let mut notes = Vec::new();
    if config.forward_auth.secret.is_none() {
        notes.push(
            "No secret is set. Draw one, and name its file in [forward_auth] secret_file: \
             umask 077; openssl rand -hex 32 > SECRET_FILE"
                .to_owned(),
        );
    }
    notes.push(format!(
        "The secret is not in what is printed. To write it in its place: umask 077; awk \
         'NR==FNR{{s=$0;next}}i=index($0,\"{SECRET_PLACE}\"){{$0=substr($0,1,i-1) s substr($0,i+{})}}1' \
         SECRET_FILE PRINTED > CONFIGURATION",
        SECRET_PLACE.len()
    ));
    if proxy == Proxy::EnvoyGrpc && config.forward_auth.grpc_address.is_none() {
        notes.push(format!(
            "Nothing listens for gRPC. Set [forward_auth] grpc_address, to {GRPC} for one."
        ));
    }
    let trusted = &config.listen.trusted_proxies;
    let nets: Vec<_> = trusted.iter().map(ToString::to_string).collect();
    let now = if nets.is_empty() {
        "nobody, so that no question is answered".to_owned()
    } else {
        nets.join(", ")
    };
    notes.push(format!(
        "[listen] trusted_proxies must have the address from which {} asks. It has {now}.",
        proxy.title()
    ));
    notes
}

fn fill(config: &Config, text: &str, port: Option<u16>) -> String {
    let service = config
        .upstreams
        .iter()
        .flat_map(|upstream| &upstream.addresses)
        .find_map(|address| match address {
            UpstreamAddress::Socket(address) => Some(*address),
            UpstreamAddress::BuiltinEcho => None,
        });
    let gateway = config.listen.addresses.first().copied().map(reachable);
    let grpc = config.forward_auth.grpc_address.map(reachable);
    let told = |shown: &str, address: Option<SocketAddr>| {
        address.map_or_else(|| shown.to_owned(), |address| address.to_string())
    };
    let mut changes = vec![(
        LISTEN_PORT.to_owned(),
        port.map_or_else(|| LISTEN_PORT.to_owned(), |port| port.to_string()),
    )];
    for (shown, address) in [(GATEWAY, gateway), (GRPC, grpc), (SERVICE, service)] {
        let address = told(shown, address);
        changes.push((in_envoy(shown), in_envoy(&address)));
        changes.push((shown.to_owned(), address));
    }
    // In two steps, since what is written for one may be what another one was.
    let mut text = text.to_owned();
    for (place, (shown, _)) in changes.iter().enumerate() {
        text = text.replace(shown, &format!("<{place}>"));
    }
    for (place, (_, written)) in changes.iter().enumerate() {
        text = text.replace(&format!("<{place}>"), written);
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
    let pattern = name.replace('-', "[^a-z0-9]");
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
            Proxy::Haproxy if line.contains("del-header ^x[^a-z0-9](auth|") => {
                let (before, _) = line.split_once('^').unwrap_or((line, ""));
                (line.to_owned(), Some(format!("{before}^{pattern}$ -m reg")))
            }
            Proxy::Envoy if line.contains("x[^a-z0-9](auth|") => (
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
        for proxy in Proxy::ALL {
            let Snippet {
                text: printed,
                notes,
            } = write(&config, proxy, None);
            for example in examples(proxy) {
                let text = example.text.replace(SECRET, SECRET_PLACE);
                assert!(printed.contains(&text), "{proxy:?}: {printed}");
            }
            assert!(notes.concat().contains("It has 127.0.0.1/32."), "{notes:?}");
        }
    }

    #[test]
    fn addresses_may_be_those_that_another_has_in_the_example() {
        let text = PLAIN.replace("127.0.0.1:8080", "127.0.0.1:9001").replace(
            "addresses = [\"127.0.0.1:9001\"]",
            "addresses = [\"127.0.0.1:8000\"]",
        );
        let printed = write(&config(&text), Proxy::Caddy, Some(8080)).text;
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
            } = write(&config, proxy, Some(7000));
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
                // nginx takes the caller's copies of these away under any names of the operator's.
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
