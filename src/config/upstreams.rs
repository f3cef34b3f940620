//! `[[upstream]]`: the services behind the gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::forms::{flag, millis, some_texts, text, texts};
use crate::config::keys::keys;
use crate::config::listen::Listen;
use crate::config::pattern;
use crate::config::reader::SectionReader;
use crate::config::roles;
use crate::model::access::Name;
use crate::model::route::{Upstream, UpstreamAddress};

const NAME: &str = "a name: letters, digits, -, _ and ., at most 64";
const ADDRESS: &str = "an address such as 127.0.0.1:9001, an IP address and a port without a scheme, since host names are not \
     resolved, or builtin:echo";
const HOUR_MS: u64 = 3_600_000;
const PUBLIC_PATH: &str = "\"\", or a path such as /api: literal segments, no slash at the end";

keys! { pub(super) UpstreamKeys = "upstream[]"; {
    name: String = text(NAME, name);
    /// Its addresses, ip:port, which are used in turn. "builtin:echo" is a built-in service that answers with the request
    /// that reached it, for trials.
    addresses: Vec<UpstreamAddress> = some_texts(ADDRESS, address);
    /// Resources that the resource map announces at login, and the path that it appends to public_url for them.
    resources: Vec<Name> = texts(roles::NAME, roles::name) => Vec::new();
    public_path: String = text(PUBLIC_PATH, public_path) => String::new();
    /// true: this service treats /A and /a as different paths. false: a path is refused if another case of its letters would
    /// lead to another route, and two routes that differ in case alone are an error.
    case_sensitive: bool = flag() => false;
    /// Time for which an idle connection to it is kept; it should be shorter than the service's own.
    keepalive_timeout_ms: Duration = millis(1..=HOUR_MS) => Duration::from_mins(1);
}}

/// The valid upstreams, and the names of all, against which routes are checked.
pub(super) struct Upstreams {
    pub(super) list: Vec<Upstream>,
    pub(super) names: Vec<String>,
}

pub(super) fn read(readers: Vec<SectionReader<'_>>, listen: &Listen) -> Upstreams {
    let mut names = Vec::new();
    let mut announced = BTreeSet::new();
    let mut list = Vec::new();
    for mut reader in readers {
        let name = reader.required(&UpstreamKeys::name);
        if let Some(name) = &name {
            if names.contains(name) {
                reader.add(&UpstreamKeys::name, "a name that no other upstream has");
            }
            names.push(name.clone());
        }
        list.extend(one(reader, name, listen, &mut announced));
    }
    Upstreams { list, names }
}

fn one(
    mut reader: SectionReader<'_>,
    name: Option<String>,
    listen: &Listen,
    announced: &mut BTreeSet<Name>,
) -> Option<Upstream> {
    let addresses = reader.required(&UpstreamKeys::addresses);
    let leads_to_us = |address: &UpstreamAddress| {
        matches!(address, UpstreamAddress::Socket(socket)
            if *socket == listen.admin_address || listen.addresses.contains(socket))
    };
    if addresses.iter().flatten().any(leads_to_us) {
        reader.add(
            &UpstreamKeys::addresses,
            "addresses that are not the gateway's own",
        );
    }
    let resources = reader.get(&UpstreamKeys::resources);
    for resource in &resources {
        if !announced.insert(resource.clone()) {
            reader.add(
                &UpstreamKeys::resources,
                "resources that no other upstream announces",
            );
        }
    }
    let public_path = reader.get(&UpstreamKeys::public_path);
    let case_sensitive = reader.get(&UpstreamKeys::case_sensitive);
    let keepalive_timeout = reader.get(&UpstreamKeys::keepalive_timeout_ms);
    reader.finish();
    Some(Upstream {
        name: name?,
        addresses: addresses?,
        resources,
        public_path,
        case_sensitive,
        keepalive_timeout,
    })
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    fits.then(|| text.to_owned())
}

fn public_path(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    pattern::literal_path(text)
}

fn address(text: &str) -> Option<UpstreamAddress> {
    if text == "builtin:echo" {
        return Some(UpstreamAddress::BuiltinEcho);
    }
    let socket: SocketAddr = text.parse().ok()?;
    let can_answer = socket.port() != 0 && !socket.ip().is_unspecified();
    can_answer.then_some(UpstreamAddress::Socket(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_until_names_are_looked_up() {
        assert_eq!(address("builtin:echo"), Some(UpstreamAddress::BuiltinEcho));
        assert!(address("[::1]:9001").is_some());
        for bad in [
            "",
            "localhost:9001",
            "127.0.0.1",
            "127.0.0.1:0",
            "0.0.0.0:80",
            "http://127.0.0.1:1",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
