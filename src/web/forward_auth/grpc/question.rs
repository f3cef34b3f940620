//! Parses the request that Envoy describes.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::auth::asked::ForwardedRequest;
use crate::auth::client::Client;
use crate::auth::view::Target;
use crate::config::Limits;
use crate::model::deny::DenyReason;
use crate::model::forwarding::web_scheme;
use crate::route::head::{check_field_name, check_method};
use crate::snapshot::Snapshot;
use crate::web::forward_auth::question::is_disguised;

/// Returns the header fields of the described request. Repeated fields remain separate if Envoy is configured with
/// `encode_raw_headers`; otherwise Envoy has joined them with commas.
///
/// # Errors
/// [`DenyReason::ForwardMalformed`] if the request is missing or its fields are present in both forms;
/// [`DenyReason::HeadTooLarge`] and [`DenyReason::RequestMalformed`] as for a request to the gateway itself.
pub(super) fn fields(question: &CheckRequest, limits: &Limits) -> Result<HeaderMap, DenyReason> {
    let http = described(question)?;
    let raw = http.header_map.as_ref().map(|map| map.headers.as_slice());
    if raw.is_some() && !http.headers.is_empty() {
        return Err(DenyReason::ForwardMalformed);
    }
    let raw = raw.unwrap_or_default().iter().map(|field| {
        let value = if field.raw_value.is_empty() {
            field.value.as_bytes()
        } else {
            &field.raw_value
        };
        (field.key.as_str(), value)
    });
    let joined = http.headers.iter();
    let joined = joined.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut headers = HeaderMap::with_capacity(raw.len() + joined.len());
    let mut bytes = http.path.len();
    for (name, value) in raw.chain(joined) {
        if let Some(pseudo) = name.strip_prefix(':') {
            agrees(http, pseudo, value)?;
            continue;
        }
        bytes += name.len() + value.len() + 4;
        if limits.head_bytes_max < bytes || limits.head_fields_max <= headers.len() {
            return Err(DenyReason::HeadTooLarge);
        }
        check_field_name(name.as_bytes())?;
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(DenyReason::RequestMalformed);
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Parses the question. `peer` is the asking proxy, `headers` the result of [`fields`].
///
/// The client address is derived from the peer address that Envoy reports. A caller's own `X-Forwarded-For` therefore
/// counts only behind another trusted proxy, however Envoy treats that field.
///
/// # Errors
/// [`DenyReason::ForwardMalformed`] if Envoy does not describe exactly one request; other reasons are faults of Envoy's
/// caller.
pub(super) fn read<'a>(
    question: &'a CheckRequest,
    headers: &'a HeaderMap,
    snapshot: &'a Snapshot,
    peer: IpAddr,
) -> Result<(ForwardedRequest<'a>, Client), DenyReason> {
    let http = described(question)?;
    if headers
        .keys()
        .any(|name| is_disguised(&snapshot.strip, name))
    {
        return Err(DenyReason::ForwardMalformed);
    }
    // The path already includes both; a separate value would be another target.
    let is_one_target = http.query.is_empty() && http.fragment.is_empty();
    let is_one_host = !http.host.contains(',');
    if !is_one_target || !is_one_host || http.path.is_empty() || http.method.is_empty() {
        return Err(DenyReason::ForwardMalformed);
    }
    if snapshot.config.limits.target_bytes_max < http.path.len() {
        return Err(DenyReason::TargetTooLong);
    }
    // The authority has replaced `Host`; a caller that sends different values for the two may mean two hosts.
    let mut hosts = headers.get_all(header::HOST).iter();
    if hosts.any(|host| !host.as_bytes().eq_ignore_ascii_case(http.host.as_bytes())) {
        return Err(DenyReason::RequestMalformed);
    }
    check_method(http.method.as_bytes())?;
    let method =
        Method::from_bytes(http.method.as_bytes()).map_err(|_| DenyReason::RequestMalformed)?;
    if !http.path.starts_with('/') {
        return Err(DenyReason::PathRefused);
    }
    let listen = &snapshot.config.listen;
    let client = Client::find(
        source(question).unwrap_or(peer),
        headers,
        &listen.trusted_proxies,
        listen.trusted_headers,
    );
    let malformed = |_| DenyReason::ForwardMalformed;
    let own_scheme = match http.scheme.as_str() {
        "" => &listen.public_url.scheme,
        told => told,
    };
    let own_scheme = web_scheme(own_scheme).ok_or(DenyReason::ForwardMalformed)?;
    let told_host = client.authority(headers).map_err(malformed)?;
    let authority = told_host.unwrap_or(&http.host);
    let asked = ForwardedRequest {
        method,
        scheme: client.scheme(headers, own_scheme).map_err(malformed)?,
        target: Target::read(authority.as_bytes(), http.path.as_bytes())?,
        client: client.address,
        headers,
    };
    Ok((asked, client))
}

fn described(question: &CheckRequest) -> Result<&HttpRequest, DenyReason> {
    let attributes = question.attributes.as_ref();
    let request = attributes.and_then(|it| it.request.as_ref());
    let http = request.and_then(|it| it.http.as_ref());
    http.ok_or(DenyReason::ForwardMalformed)
}

/// Checks that a pseudo-header agrees with the description.
fn agrees(http: &HttpRequest, name: &str, value: &[u8]) -> Result<(), DenyReason> {
    let described = match name {
        "method" => &http.method,
        "path" => &http.path,
        "authority" => &http.host,
        _ => return Ok(()),
    };
    (value == described.as_bytes())
        .then_some(())
        .ok_or(DenyReason::ForwardMalformed)
}

/// Returns the address of Envoy's peer; `None` if it has none, such as a local socket.
fn source(question: &CheckRequest) -> Option<IpAddr> {
    let source = question.attributes.as_ref()?.source.as_ref()?;
    match source.address.as_ref()?.address.as_ref()? {
        Address::SocketAddress(socket) => {
            let address: IpAddr = socket.address.parse().ok()?;
            Some(address.to_canonical())
        }
        Address::Pipe(_) | Address::EnvoyInternalAddress(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use prost::Message as _;

    use super::*;
    use crate::web::test_kit::Gateway;

    /// An accepted question is one well-formed request and parses to the same target again; the asking proxy's address
    /// is used only if Envoy reports none.
    #[test]
    fn fuzz_question() {
        static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| Gateway::start().snapshot);
        doorward_fuzz::check("question", |bytes| {
            let Ok(question) = CheckRequest::decode(bytes) else {
                return;
            };
            let snapshot = &**SNAPSHOT;
            let limits = &snapshot.config.limits;
            let peer = IpAddr::from([10, 0, 0, 1]);
            let Ok(headers) = fields(&question, limits) else {
                return;
            };
            assert!(headers.len() <= limits.head_fields_max);
            for (name, value) in &headers {
                assert_eq!(check_field_name(name.as_str().as_bytes()), Ok(()));
                let is_control = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
                assert!(!value.as_bytes().iter().any(is_control));
            }
            let Ok((asked, client)) = read(&question, &headers, snapshot, peer) else {
                return;
            };
            assert_eq!(client.address, source(&question).unwrap_or(peer));
            assert_eq!(check_method(asked.method.as_str().as_bytes()), Ok(()));
            assert!(matches!(asked.scheme, "http" | "https"));
            let http = described(&question).unwrap();
            let target = &asked.target;
            assert!(target.authority.eq_ignore_ascii_case(&http.host));
            let sent = target.path_and_query.as_str().as_bytes();
            let again = Target::read(target.authority.as_bytes(), sent).unwrap();
            assert_eq!(again.host, target.host);
            assert_eq!(again.path, target.path);
            assert_eq!(again.path_and_query, target.path_and_query);
        });
    }
}
