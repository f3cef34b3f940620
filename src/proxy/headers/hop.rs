//! Fields about one connection, which end at the gateway (RFC 9110 section 7.6.1).

use http::header::{
    CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use pingora::http::RequestHeader;

use crate::model::deny::DenyReason;
use crate::model::forwarding::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};
use crate::route::head::is_token;

/// Maximum number of fields that `Connection` may name.
const NAMED_MAX: usize = 9;

/// The fields that `Connection` names in a request.
#[derive(Debug)]
pub(super) struct NamedFields<'a> {
    names: [&'a [u8]; NAMED_MAX],
    count: usize,
}

impl<'a> NamedFields<'a> {
    /// Reads the `Connection` fields of a request.
    ///
    /// # Errors
    /// If they name a field that states where the request came from or leads to, or something that is no name of a
    /// field, or too many fields.
    pub(super) fn read(headers: &'a HeaderMap) -> Result<Self, DenyReason> {
        let mut named = Self {
            names: [b""; NAMED_MAX],
            count: 0,
        };
        let protected = [HOST, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO];
        let is_protected = |token: &[u8]| {
            let mut all = protected.iter().map(|name| name.as_str().as_bytes());
            all.any(|name| token.eq_ignore_ascii_case(name))
        };
        for field in headers.get_all(CONNECTION) {
            let tokens = field.as_bytes().split(|byte| *byte == b',');
            for token in tokens.map(<[u8]>::trim_ascii) {
                if token.is_empty() {
                    continue;
                }
                let Some(place) = named.names.get_mut(named.count) else {
                    return Err(DenyReason::RequestMalformed);
                };
                if !token.iter().copied().all(is_token) || is_protected(token) {
                    return Err(DenyReason::RequestMalformed);
                }
                *place = token;
                named.count += 1;
            }
        }
        Ok(named)
    }

    /// Whether `Connection` names this field.
    pub(super) fn has(&self, name: &HeaderName) -> bool {
        let mut names = self.names.iter().take(self.count);
        names.any(|named| named.eq_ignore_ascii_case(name.as_str().as_bytes()))
    }
}

/// Whether a field of a request is always about one connection.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    let standard = [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        TE,
        TRAILER,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
    ];
    standard.contains(name)
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "http2-settings"
        )
}

/// Whether a request asks to switch to the WebSocket protocol (RFC 6455 section 4.1). The gateway passes on no other
/// switch. A proxy in front that does not know `Upgrade` passes it on without naming it in `Connection`, and would take
/// what follows a switch for HTTP.
pub(in crate::proxy) fn asks_for_websocket(head: &RequestHeader) -> bool {
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    head.headers.get(UPGRADE).is_some_and(is_websocket)
        && head.version == Version::HTTP_11
        && head.method == Method::GET
        && NamedFields::read(&head.headers).is_ok_and(|named| named.has(&UPGRADE))
}
