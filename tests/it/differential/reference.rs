//! The reference: a proxy that consists of Pingora alone, with its own exchange and its own pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Socket;
use pingora::proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::differential::rig::{IDLE_MAX, SILENCE_MS, slot_address, slot_of};

/// The phases of the reference: it finds the upstream in the path, and leaves everything else to Pingora.
struct Bare {
    /// The port of the scripted upstream.
    port: u16,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        session: &mut Session,
        (): &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        let path = session.req_header().uri.path();
        let address = slot_of(path).map(|slot| slot_address(slot, self.port));
        let address =
            address.ok_or_else(|| pingora::Error::new(pingora::ErrorType::HTTPStatus(404)))?;
        let mut peer = HttpPeer::new(address, false, String::new());
        // The same patience as that of the gateway under test.
        let silence = Duration::from_millis(SILENCE_MS);
        peer.options.read_timeout = Some(silence);
        peer.options.write_timeout = Some(silence);
        Ok(Box::new(peer))
    }
}

/// Starts the reference on the current runtime, in front of the scripted upstream with this port.
pub(super) async fn start(port: u16) -> SocketAddr {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: IDLE_MAX,
        ..ServerConf::default()
    };
    let proxy: Arc<HttpProxy<Bare>> = Arc::new(http_proxy(&Arc::new(conf), Bare { port }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (keep_open, closing) = watch::channel(false);
    tokio::spawn(async move {
        let _keep_open = keep_open;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (proxy, closing) = (Arc::clone(&proxy), closing.clone());
            tokio::spawn(async move {
                let mut next: Option<Stream> = Some(Box::new(Socket::from(stream)));
                while let Some(stream) = next {
                    next = proxy.process_new(stream, &closing).await;
                }
            });
        }
    });
    address
}
