//! The client of a request, and the scheme and host that a trusted proxy reports for it.
//!
//! The only code that interprets forwarding fields for address, scheme and host: the decision, the upstream and
//! forward-auth all use it. `proxy/headers` forwards such fields; `web/forward_auth/question` reads those that describe
//! another request.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::model::deny::DenyReason;
use crate::model::field_value::exactly_one;
use crate::model::forwarding::{
    FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, ForwardingField, REAL_IP, TrustedFields,
    web_scheme,
};

/// Maximum number of hops read from a forwarding header.
const HOPS_MAX: usize = 32;

/// Whether a peer is a trusted proxy.
#[must_use]
pub fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&peer))
}

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address, after trusted proxies.
    pub address: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub peer_is_trusted: bool,
    /// The forwarding fields of the peer that are believed: none of a stranger's.
    pub believed: TrustedFields,
}

impl Client {
    /// Finds the client by `X-Forwarded-For` or, if that is absent, by `X-Real-IP`, provided they are believed. Entries
    /// written by anyone but a trusted proxy are not believed, nor are entries to the left of one that is not an
    /// address. `believed`: the fields believed from a trusted proxy.
    ///
    /// Source: RFC 7239 section 8.1.
    #[must_use]
    pub fn find(
        peer: IpAddr,
        headers: &HeaderMap,
        trusted: &[IpNet],
        believed: TrustedFields,
    ) -> Self {
        let peer_is_trusted = is_trusted(peer, trusted);
        let believed = if peer_is_trusted {
            believed
        } else {
            TrustedFields::NONE
        };
        let address = if believed.has(ForwardingField::For) && headers.contains_key(FORWARDED_FOR) {
            nearest_stranger(peer, headers, trusted)
        } else if believed.has(ForwardingField::RealIp) {
            exactly_one(headers, &REAL_IP)
                .and_then(|value| hop_address(value.as_bytes()))
                .unwrap_or(peer)
        } else {
            peer
        };
        Self {
            address,
            peer_is_trusted,
            believed,
        }
    }

    /// Returns the scheme used by the caller: the one that a trusted proxy reports, or else that of `public_url`, since
    /// TLS may end at a proxy that reports nothing.
    ///
    /// # Errors
    /// The same as [`scheme_named`].
    pub fn scheme(self, headers: &HeaderMap, public: &str) -> Result<&'static str, DenyReason> {
        let named = if self.believed.has(ForwardingField::Proto) {
            scheme_named(headers)?
        } else {
            None
        };
        named
            .or_else(|| web_scheme(public))
            .ok_or(DenyReason::RequestMalformed)
    }

    /// Returns the host named by the caller, with its port, if a trusted proxy reports it.
    ///
    /// # Errors
    /// The same as [`host_named`].
    pub fn authority(self, headers: &HeaderMap) -> Result<Option<&str>, DenyReason> {
        if self.believed.has(ForwardingField::Host) {
            host_named(headers)
        } else {
            Ok(None)
        }
    }
}

/// Walks the hops from the right, as long as they are trusted.
fn nearest_stranger(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let fields = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let mut address = peer;
    for hop in hops.take(HOPS_MAX) {
        let Some(named) = hop_address(hop) else { break };
        address = named;
        if !is_trusted(named, trusted) {
            break;
        }
    }
    address
}

/// Returns the scheme in `X-Forwarded-Proto`: the last one of a list, which the nearest hop wrote. An empty value names
/// none.
///
/// # Errors
/// [`DenyReason::RequestMalformed`] if it is not a web scheme.
pub fn scheme_named(headers: &HeaderMap) -> Result<Option<&'static str>, DenyReason> {
    let mut fields = headers.get_all(FORWARDED_PROTO).iter();
    let Some(field) = fields.next_back() else {
        return Ok(None);
    };
    let text = field.to_str().map_err(|_| DenyReason::RequestMalformed)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let last = text.rsplit(',').next().unwrap_or_default();
    web_scheme(last.trim())
        .map(Some)
        .ok_or(DenyReason::RequestMalformed)
}

/// Returns the host in `X-Forwarded-Host`, if there is one.
///
/// # Errors
/// [`DenyReason::RequestMalformed`] for more than one, and for a value that is not visible ASCII. Whether it is a host
/// is checked by [`Target::at_host`](crate::auth::view::Target::at_host).
pub fn host_named(headers: &HeaderMap) -> Result<Option<&str>, DenyReason> {
    if !headers.contains_key(FORWARDED_HOST) {
        return Ok(None);
    }
    let text = exactly_one(headers, &FORWARDED_HOST).and_then(|value| value.to_str().ok());
    text.filter(|text| !text.contains(','))
        .map(Some)
        .ok_or(DenyReason::RequestMalformed)
}

/// Parses an address as written by hops: bare, with a port, in brackets or in quotes.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let text = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let address = bare.parse().or_else(|_| with_port()).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::auth::test_kit;

    type Told = Result<Option<&'static str>, DenyReason>;
    type Case<'a> = (&'a [ForwardingField], &'a [(&'a str, &'a str)], &'a str);

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn client(believed: &[ForwardingField]) -> Client {
        Client {
            address: "192.0.2.1".parse().unwrap(),
            peer_is_trusted: true,
            believed: believed.iter().copied().collect(),
        }
    }

    #[test]
    fn the_scheme_is_read_in_one_way() {
        let cases: [(&[&str], Result<&str, DenyReason>); 17] = [
            (&["https"], Ok("https")),
            (&["http"], Ok("http")),
            (&["HTTPS"], Ok("https")),
            (&["wss"], Ok("https")),
            (&["Ws"], Ok("http")),
            (&["https, http"], Ok("http")),
            (&["http,wss"], Ok("https")),
            (&["https", "http"], Ok("http")),
            (&["http", "https"], Ok("https")),
            (&["gopher, https"], Ok("https")),
            (&[""], Ok("https")),
            (&[], Ok("https")),
            (&["gopher"], Err(DenyReason::RequestMalformed)),
            (&["https, gopher"], Err(DenyReason::RequestMalformed)),
            (&["https,"], Err(DenyReason::RequestMalformed)),
            (&["https://a"], Err(DenyReason::RequestMalformed)),
            (&["\u{e9}"], Err(DenyReason::RequestMalformed)),
        ];
        for (fields, wanted) in cases {
            let fields: Vec<_> = fields
                .iter()
                .map(|text| ("x-forwarded-proto", *text))
                .collect();
            let headers = headers(&fields);
            let believing = client(&[ForwardingField::Proto]);
            assert_eq!(believing.scheme(&headers, "https"), wanted, "{fields:?}");
            // Fields that are not believed have no effect.
            for public in ["http", "https"] {
                assert_eq!(
                    client(&[]).scheme(&headers, public),
                    Ok(public),
                    "{fields:?}"
                );
            }
        }
    }

    #[test]
    fn a_host_is_told_once() {
        let malformed = Err(DenyReason::RequestMalformed);
        let cases: [(&[&str], Told); 5] = [
            (&["a.test:81"], Ok(Some("a.test:81"))),
            (&[], Ok(None)),
            (&["a.test, b.test"], malformed),
            (&["a.test", "a.test"], malformed),
            (&["\u{e9}"], malformed),
        ];
        for (fields, wanted) in cases {
            let fields: Vec<_> = fields
                .iter()
                .map(|text| ("x-forwarded-host", *text))
                .collect();
            let headers = headers(&fields);
            let believing = client(&[ForwardingField::Host]);
            assert_eq!(believing.authority(&headers), wanted, "{fields:?}");
            assert_eq!(client(&[]).authority(&headers), Ok(None), "{fields:?}");
        }
    }

    #[test]
    fn only_fields_that_count_name_the_client() {
        use ForwardingField::{For, RealIp};
        let chain = ("x-forwarded-for", "1.1.1.1");
        let real = ("x-real-ip", "2.2.2.2");
        let cases: [Case<'_>; 8] = [
            (&[For], &[chain, real], "1.1.1.1"),
            (&[RealIp], &[chain, real], "2.2.2.2"),
            (&[For, RealIp], &[chain, real], "1.1.1.1"),
            (&[For, RealIp], &[real], "2.2.2.2"),
            (&[For], &[real], "10.0.0.1"),
            (&[], &[chain, real], "10.0.0.1"),
            (&[RealIp], &[real, real], "10.0.0.1"),
            (&[RealIp], &[("x-real-ip", "1.1.1.1, 2.2.2.2")], "10.0.0.1"),
        ];
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        for (believed, fields, wanted) in cases {
            let believed = believed.iter().copied().collect();
            let peer = "10.0.0.1".parse().unwrap();
            let found = Client::find(peer, &headers(fields), &trusted, believed);
            assert_eq!(found.address.to_string(), wanted, "{believed:?} {fields:?}");
            let stranger = "192.0.2.9".parse().unwrap();
            let found = Client::find(stranger, &headers(fields), &trusted, believed);
            assert_eq!(
                (found.address, found.believed),
                (stranger, TrustedFields::NONE)
            );
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let cases = [
            ("192.0.2.1", vec!["1.1.1.1"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            (
                "10.0.0.1",
                vec!["6.6.6.6", "1.1.1.1", "10.0.0.2"],
                "1.1.1.1",
            ),
            ("10.0.0.1", vec!["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1, _x, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["1.1.1.1:80"], "1.1.1.1"),
            ("10.0.0.1", vec!["\"[2001:db8::1]:80\""], "2001:db8::1"),
            ("10.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("::1", vec!["::ffff:1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", vec!["1.1.1.1, "], "10.0.0.1"),
        ];
        for (peer, fields, wanted) in cases {
            let pairs: Vec<_> = fields
                .iter()
                .map(|text| ("x-forwarded-for", *text))
                .collect();
            let peer_address = peer.parse().unwrap();
            let believed = TrustedFields::default();
            let found = Client::find(peer_address, &headers(&pairs), &trusted, believed);
            assert_eq!(found.address.to_string(), wanted, "{peer} {fields:?}");
        }
    }

    /// A stranger's entries are never believed, nor are entries to their left; several fields mean the same as one with
    /// their values joined; and the results are a web scheme and a host without control characters. Each line is a
    /// field, such as `x-real-ip: 192.0.2.1`.
    #[test]
    fn fuzz_forwarded() {
        doorward_fuzz::check("forwarded", |bytes| {
            let headers = test_kit::fields(bytes);
            let trusted = ["10.0.0.0/8".parse().unwrap()];
            let all = TrustedFields::default();
            let stranger = "192.0.2.9".parse().unwrap();
            let found = Client::find(stranger, &headers, &trusted, all);
            assert_eq!(found.address, stranger);
            assert_eq!(found.scheme(&headers, "https"), Ok("https"));
            assert_eq!(found.authority(&headers), Ok(None));

            let peer = "10.0.0.1".parse().unwrap();
            let found = Client::find(peer, &headers, &trusted, all);
            assert_eq!(found.address, found.address.to_canonical());
            if let Ok(scheme) = found.scheme(&headers, "https") {
                assert!(matches!(scheme, "http" | "https"));
            }
            if let Ok(Some(host)) = found.authority(&headers) {
                assert!(
                    !host.contains(',')
                        && host
                            .bytes()
                            .all(|b| (b' '..=b'~').contains(&b) || b == b'\t')
                );
            }
            let hops: Vec<_> = headers.get_all(FORWARDED_FOR).iter().cloned().collect();
            if hops.is_empty() {
                return;
            }
            let told = |hops: &[HeaderValue]| {
                let mut headers = headers.clone();
                headers.remove(FORWARDED_FOR);
                for hop in hops {
                    headers.append(FORWARDED_FOR, hop.clone());
                }
                Client::find(peer, &headers, &trusted, all).address
            };
            let joined = hops.iter().map(HeaderValue::as_bytes);
            let joined = joined.collect::<Vec<_>>().join(&b", "[..]);
            let joined = HeaderValue::from_bytes(&joined).unwrap();
            assert_eq!(told(&[joined]), found.address);
            if !is_trusted(found.address, &trusted) {
                let forged = HeaderValue::from_static("203.0.113.66");
                assert_eq!(told(&[&[forged], &hops[..]].concat()), found.address);
            }
        });
    }
}
