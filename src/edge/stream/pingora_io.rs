//! The traits that Pingora requires of a stream, beyond reading and writing.

use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::edge::stream::{CallerStream, H2_PREFACE};

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Shutdown for CallerStream<S> {
    async fn shutdown(&mut self) {
        // Nothing can be done about an error: the connection ends in any case.
        let _ = AsyncWriteExt::shutdown(self).await;
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
