//! The traits that Pingora requires of a stream, beyond reading and writing.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::stream::{CallerStream, H2_PREFACE, READ_BYTES};

/// Timeout for flushing and closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a refused caller that is still sending may continue, so that it can read the answer: closing with unread
/// bytes would reset the connection and could discard the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How many bytes such a caller may continue to send.
const LINGER_BYTES_MAX: usize = 256 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> CallerStream<S> {
    /// Reads and discards what a refused caller still sends.
    async fn drain(&mut self) {
        let mut bytes = [0; READ_BYTES];
        let mut left = LINGER_BYTES_MAX;
        while 0 < left {
            match self.socket().read(&mut bytes).await {
                Ok(count) if 0 < count => left = left.saturating_sub(count),
                _ => return,
            }
        }
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Shutdown for CallerStream<S> {
    async fn shutdown(&mut self) {
        let closed = timeout(CLOSE_TIMEOUT, AsyncWriteExt::shutdown(&mut self.inner)).await;
        if matches!(closed, Ok(Ok(()))) && self.connection.lingering.is_set() {
            // A caller that is too slow or sends too much is cut off.
            let _ = timeout(LINGER_TIMEOUT, self.drain()).await;
        }
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Peek for CallerStream<S> {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        if self.see_preface().await?
            && let Some(place) = buf.get_mut(..H2_PREFACE.len())
        {
            place.copy_from_slice(H2_PREFACE);
        }
        Ok(true)
    }
}

impl<S> UniqueID for CallerStream<S> {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl<S> Ssl for CallerStream<S> {}

impl<S> GetTimingDigest for CallerStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S> GetProxyDigest for CallerStream<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.proxy_digest))
    }
}

impl<S> GetSocketDigest for CallerStream<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket_digest))
    }
}

impl<S> fmt::Debug for CallerStream<S> {
    /// Omits received bytes, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerStream")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
