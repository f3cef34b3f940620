//! `[[upstream]]`: the services behind us.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::listen::Listen;
use crate::config::pattern;
use crate::config::reader::Reader;
use crate::config::roles;
use crate::model::access::Name;
use crate::model::route::{Upstream, UpstreamAddress};

const NAME: &str = "a name: letters, digits, -, _ and ., at most 64";
const ADDRESS: &str = "an address such as 127.0.0.1:9001, an IP address and a port without a scheme, since names are not \
     resolved, or builtin:echo";
const HOUR_MS: u64 = 3_600_000;
const KEEPALIVE_TIMEOUT: Duration = Duration::from_mins(1);

/// The upstreams, and every name that was written, for routes to be held against even where an upstream is wrong.
pub(super) struct Upstreams {
    pub(super) list: Vec<Upstream>,
    pub(super) names: Vec<String>,
}

pub(super) fn read(readers: Vec<Reader<'_>>, listen: &Listen) -> Upstreams {
    let mut names = Vec::new();
    let mut announced = BTreeSet::new();
    let mut list = Vec::new();
    for mut reader in readers {
        let name = reader.required("name", NAME, name);
        if let Some(name) = &name {
            if names.contains(name) {
                reader.add("name", "a name that no other upstream has");
            }
            names.push(name.clone());
        }
        list.extend(one(reader, name, listen, &mut announced));
    }
    Upstreams { list, names }
}

fn one(
    mut reader: Reader<'_>,
    name: Option<String>,
    listen: &Listen,
    announced: &mut BTreeSet<Name>,
) -> Option<Upstream> {
    let addresses = reader.required_texts("addresses", ADDRESS, address);
    let leads_to_us = |address: &UpstreamAddress| {
        matches!(address, UpstreamAddress::Socket(socket)
            if *socket == listen.admin_address || listen.addresses.contains(socket))
    };
    if addresses.iter().flatten().any(leads_to_us) {
        reader.add("addresses", "addresses other than the gateway's own");
    }
    let resources = reader
        .texts("resources", roles::NAME, roles::name)
        .unwrap_or_default();
    for resource in &resources {
        if !announced.insert(resource.clone()) {
            reader.add("resources", "resources that no other upstream announces");
        }
    }
    let public_path = reader.text(
        "public_path",
        "\"\", or a path such as /api: literal segments, no slash at the end",
        |text| {
            if text.is_empty() {
                return Some(String::new());
            }
            pattern::literal_path(text)
        },
    );
    let case_sensitive = reader.flag("case_sensitive").unwrap_or(false);
    let keepalive_timeout = reader.millis("keepalive_timeout_ms", 1..=HOUR_MS);
    reader.finish();
    Some(Upstream {
        name: name?,
        addresses: addresses?,
        resources,
        public_path: public_path.unwrap_or_default(),
        case_sensitive,
        keepalive_timeout: keepalive_timeout.unwrap_or(KEEPALIVE_TIMEOUT),
    })
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    fits.then(|| text.to_owned())
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
