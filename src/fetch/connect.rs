//! From an endpoint to a connection with a verified server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fetch::{FetchError, Trust};
use crate::model::endpoint::Endpoint;

/// Connect timeout for each of several addresses but the last: the next one may answer.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(1500);

/// Connects to the first loopback address that accepts.
pub(in crate::fetch) async fn loopback(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    if !addresses.iter().all(|address| address.ip().is_loopback()) {
        return Err(FetchError::NotLoopback);
    }
    first(addresses).await
}

/// Connects to an endpoint over TLS with a verified certificate.
pub(in crate::fetch) async fn secured(
    endpoint: &Endpoint,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let host = endpoint.host();
    let name = name_of(&host)?;
    let addresses = match endpoint.addresses() {
        Some(addresses) => addresses,
        None => tokio::net::lookup_host((host, endpoint.port()))
            .await
            .map_err(FetchError::Resolve)?
            .collect(),
    };
    if addresses.iter().any(|address| is_forbidden(address.ip())) {
        return Err(FetchError::Forbidden);
    }
    handshake(name, first(&addresses).await?, trust).await
}

/// Starts TLS on an open connection and verifies that it leads to `host`, a name or an address without brackets.
///
/// # Errors
/// [`FetchError::Name`] and [`FetchError::Tls`].
pub async fn secure(
    host: &str,
    stream: TcpStream,
    trust: &Trust,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, FetchError> {
    handshake(name_of(host)?, stream, trust).await
}

fn name_of(host: &str) -> Result<ServerName<'static>, FetchError> {
    ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Name)
}

async fn handshake(
    name: ServerName<'static>,
    stream: TcpStream,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let connector = TlsConnector::from(Arc::clone(&trust.config));
    let secured = connector.connect(name, stream).await;
    secured.map_err(FetchError::Tls)
}

/// Whether no server can have this address, or a name must not lead to it, such as a cloud's metadata service.
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_unspecified() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, FetchError> {
    let mut failed = FetchError::NoAddress;
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let is_last = index + 1 == addresses.len();
        let connected = if is_last {
            connecting.await
        } else {
            let within = tokio::time::timeout(ONE_OF_SEVERAL, connecting).await;
            within.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => {
                // Sends small requests at once; if the option cannot be set, they leave a little later.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = FetchError::Connect(error),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_no_forbidden_address() {
        for bad in [
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_forbidden(bad.parse().unwrap()), "{bad}");
        }
        for good in ["127.0.0.1", "10.0.0.1", "192.0.2.1", "::1", "2001:db8::1"] {
            assert!(!is_forbidden(good.parse().unwrap()), "{good}");
        }
    }
}
