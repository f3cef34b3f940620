//! `[[role_source]]`: services that own their memberships.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::uri::Authority;

use crate::config::forms::{raw_text, seconds, some_texts};
use crate::config::keys::keys;
use crate::config::reader::SectionReader;
use crate::config::roles::{self, SourcedResources};
use crate::model::access::Name;
use crate::model::role_source::{RoleSource, TargetTemplate, TemplatePiece};

const URL: &str = "http://, a loopback address or localhost, and a path or query with {uid}, and {resource} and {id} \
     where needed, such as http://127.0.0.1:9101/members?uid={uid}&resource={resource}&id={id}";
const DAY_S: u64 = 86_400;

keys! { pub(super) RoleSourceKeys = "role_source[]"; {
    /// Kinds of resources whose memberships it owns. They are declared here, and not in [roles] resources too.
    resources: Vec<Name> = some_texts(roles::NAME, roles::name);
    /// URL at which it is asked: http:// on a loopback address. Each value is inserted as one piece, percent-encoded. {uid}
    /// is required; without {id}, it is asked once for all ids.
    url: String = raw_text("a text");
    /// Time for which an answer is cached.
    ttl_s: Duration = seconds(1..=DAY_S) => Duration::from_mins(1);
    /// Additional time for which a cached answer is used while the source does not answer. After it, the routes that need it
    /// answer 503.
    stale_max_s: Duration = seconds(0..=DAY_S) => Duration::from_mins(5);
}}

/// Reads all sources, and the resources that they declare.
pub(super) fn read(readers: Vec<SectionReader<'_>>) -> (Vec<RoleSource>, SourcedResources) {
    let mut sources = Vec::new();
    let mut declared = Vec::new();
    let mut are_sound = true;
    for mut reader in readers {
        let resources = reader.required(&RoleSourceKeys::resources);
        are_sound &= resources.is_some();
        for resource in resources.iter().flatten() {
            if declared.contains(resource) {
                reader.add(
                    &RoleSourceKeys::resources,
                    "resources that no other source declares",
                );
            } else {
                declared.push(resource.clone());
            }
        }
        sources.extend(one(reader, resources));
    }
    let words = SourcedResources {
        resources: declared,
        are_sound,
    };
    (sources, words)
}

fn one(mut reader: SectionReader<'_>, resources: Option<Vec<Name>>) -> Option<RoleSource> {
    let is_one_kind = resources
        .as_ref()
        .is_none_or(|resources| resources.len() < 2);
    if !reader.has(&RoleSourceKeys::url) {
        reader.add(&RoleSourceKeys::url, URL);
    }
    let text = reader.take(&RoleSourceKeys::url);
    let place = text.and_then(|text| match place(&text, is_one_kind) {
        Ok(place) => Some(place),
        Err(expected) => {
            reader.add(&RoleSourceKeys::url, expected);
            None
        }
    });
    let ttl = reader.get(&RoleSourceKeys::ttl_s);
    let stale_max = reader.get(&RoleSourceKeys::stale_max_s);
    reader.finish();
    let (addresses, authority, target) = place?;
    Some(RoleSource {
        resources: resources?,
        addresses,
        authority,
        target,
        ttl,
        stale_max,
    })
}

/// Parses a URL into addresses, authority and target.
///
/// # Errors
/// The expectation to report.
fn place(
    text: &str,
    is_one_kind: bool,
) -> Result<(Vec<SocketAddr>, String, TargetTemplate), String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(if text.starts_with("https://") {
            format!("{URL}; https:// is not supported in this release")
        } else {
            URL.to_owned()
        });
    };
    let (authority, target) = rest
        .split_at_checked(rest.find('/').ok_or(URL)?)
        .ok_or(URL)?;
    let addresses = addresses(authority).ok_or(URL)?;
    let template = TargetTemplate::parse(target).ok_or(URL)?;
    // The text between the places must be valid in a target.
    let is_target = http::uri::PathAndQuery::try_from(template.fill("u", "r", "i")).is_ok();
    if !is_target || !template.has(&TemplatePiece::Uid) {
        return Err(URL.to_owned());
    }
    if !is_one_kind && !template.has(&TemplatePiece::Resource) {
        return Err(
            "{resource} in it, since the source answers for more than one resource".to_owned(),
        );
    }
    Ok((addresses, authority.to_owned(), template))
}

/// Returns the loopback addresses of a host and port; `None` if the text is no host and port, or the host is not on
/// loopback.
fn addresses(authority: &str) -> Option<Vec<SocketAddr>> {
    if authority.contains(['@', '{', '}']) {
        return None;
    }
    let parsed: Authority = authority.parse().ok()?;
    let port = match parsed.port() {
        Some(port) => port.as_u16(),
        // A colon without a port does not mean port 80.
        None if authority.ends_with(':') => return None,
        None => 80,
    };
    let host = parsed.host();
    let hosts: Vec<IpAddr> = if host.eq_ignore_ascii_case("localhost") {
        vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        vec![bare.parse().ok().filter(IpAddr::is_loopback)?]
    };
    let all = hosts.into_iter().map(|host| SocketAddr::from((host, port)));
    (port != 0).then(|| all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lead_to_loopback_and_have_the_places_that_they_need() {
        let cases = [
            (
                "http://127.0.0.1:9101/m?uid={uid}&r={resource}&id={id}",
                Some("127.0.0.1:9101"),
            ),
            ("http://[::1]:9101/{uid}", Some("[::1]:9101")),
            ("http://localhost/{uid}/{id}", Some("127.0.0.1:80")),
            ("http://127.9.9.9/{uid}", Some("127.9.9.9:80")),
            ("http://127.0.0.1:9101/m", None),
            ("http://127.0.0.1:9101", None),
            ("http://127.0.0.1:9101?uid={uid}", None),
            ("http://192.0.2.1/{uid}", None),
            ("http://example.com/{uid}", None),
            ("http://127.0.0.1@example.com/{uid}", None),
            ("http://a:b@127.0.0.1/{uid}", None),
            ("http://127.0.0.1:0/{uid}", None),
            ("http://127.0.0.1:/{uid}", None),
            ("http://{uid}/{uid}", None),
            ("http://127.0.0.1/{name}/{uid}", None),
            ("http://127.0.0.1/{uid}#x", None),
            ("https://127.0.0.1/{uid}", None),
            ("ftp://127.0.0.1/{uid}", None),
            ("", None),
        ];
        for (text, first) in cases {
            let found = place(text, true)
                .ok()
                .map(|(addresses, _, _)| addresses[0].to_string());
            assert_eq!(found.as_deref(), first, "{text}");
        }
        assert!(place("http://127.0.0.1/{uid}", false).is_err());
        assert!(place("http://127.0.0.1/{uid}/{resource}", false).is_ok());
    }
}
