//! Upstream connections for requests to switch to another protocol.
//!
//! Pingora 0.9.1 notifies the half of an exchange that faces the upstream through a channel, which the handshake's
//! empty body has ended. If that half reads the 101 first, it mistakes this for the end of the tunnel and closes it
//! (cloudflare/pingora#946): on a busy machine, one handshake in a hundred. The first read is therefore pending, once,
//! so that the half reads the channel.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Makes Pingora connect to a peer for a handshake. No other request may use the peer's connections: they have no
/// number by which the pool could distinguish them.
pub(in crate::proxy) fn prepare(peer: &mut HttpPeer) {
    peer.options.custom_l4 = Some(Arc::new(Handshakes));
    // If the upstream does not switch, there is no second request either.
    peer.options.idle_timeout = Some(Duration::ZERO);
}

#[derive(Debug)]
struct Handshakes;

#[async_trait]
impl L4Connect for Handshakes {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| {
            Error::explain(
                ErrorType::InternalError,
                "an upstream has an IP address and a port",
            )
        })?;
        let stream = TcpStream::connect(address).await.map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                    ErrorType::ConnectNoRoute
                }
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, format!("cannot connect to {address}"), error).into_up()
        })?;
        let socket = HandshakeSocket {
            stream,
            has_read: false,
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// A connection whose first read is pending.
#[derive(Debug)]
struct HandshakeSocket {
    stream: TcpStream,
    has_read: bool,
}

impl VirtualSocket for HandshakeSocket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.stream.set_nodelay(true),
            // No other option is set.
            _ => Ok(()),
        }
    }
}

impl AsyncRead for HandshakeSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_read, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HandshakeSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
