//! Another protocol, after an upstream has agreed to it: bytes pass both ways unchanged.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::proxy::respond::ProxyFailure;
use crate::upstream::exchange::{ExchangeLimits, UpstreamExchange};
use crate::upstream::failure::FailureKind;

/// Bytes read from the upstream at a time.
const READ_BYTES: usize = 16 * 1024;

/// Passes bytes between the caller and the upstream until either side ends the connection, or both are silent for longer
/// than an upstream may be.
pub(super) async fn pass(
    session: &mut ServerSession,
    exchange: UpstreamExchange,
    limits: ExchangeLimits,
) -> Result<(), ProxyFailure> {
    let (mut socket, read) = exchange.into_socket();
    let (mut reader, writer) = socket.split();
    let mut writer = PendingWrite::new(writer, limits.write);
    let mut buffer = BytesMut::new();
    if !read.is_empty() {
        writer
            .flush_while(session.write_response_body(read, false))
            .await?;
    }
    loop {
        let step = tokio::select! {
            piece = session.read_body_or_idle(false), if writer.piece.is_empty() => {
                TunnelStep::FromCaller(piece)
            }
            sent = writer.flush(), if !writer.piece.is_empty() => TunnelStep::Sent(sent),
            piece = timeout(limits.read, next_piece(&mut reader, &mut buffer)) => {
                TunnelStep::FromUpstream(piece.map_err(|_| FailureKind::ReadTimedout))
            }
        };
        match step {
            TunnelStep::FromCaller(piece) => match piece.map_err(ProxyFailure::of_caller)? {
                Some(piece) => writer.accept(piece),
                None => return Ok(()),
            },
            TunnelStep::Sent(sent) => sent.map_err(ProxyFailure::of_upstream)?,
            TunnelStep::FromUpstream(piece) => match piece.map_err(ProxyFailure::of_upstream)? {
                Ok(piece) if piece.is_empty() => return Ok(()),
                Ok(piece) => {
                    let written = session.write_response_body(piece, false);
                    writer.flush_while(written).await?;
                }
                Err(_) => return Err(ProxyFailure::of_upstream(FailureKind::Read)),
            },
        }
    }
}

enum TunnelStep {
    FromCaller(pingora::Result<Option<Bytes>>),
    Sent(Result<(), FailureKind>),
    FromUpstream(Result<std::io::Result<Bytes>, FailureKind>),
}

/// The upstream's side of a tunnel, with bytes that it has not accepted yet.
struct PendingWrite<'a> {
    writer: WriteHalf<'a>,
    piece: Bytes,
    /// How long the upstream may accept nothing.
    limit: Duration,
    /// When it has accepted nothing for too long.
    deadline: Instant,
    /// Whether a write has failed. What the upstream has sent before it closed is still read.
    has_failed: bool,
}

impl<'a> PendingWrite<'a> {
    fn new(writer: WriteHalf<'a>, limit: Duration) -> Self {
        Self {
            writer,
            piece: Bytes::new(),
            limit,
            deadline: Instant::now(),
            has_failed: false,
        }
    }

    /// Accepts the next piece, once the last one was written.
    fn accept(&mut self, piece: Bytes) {
        if !self.has_failed {
            self.piece = piece;
            self.deadline = Instant::now() + self.limit;
        }
    }

    /// Writes the rest of the piece. If it is dropped, the bytes written so far are not written again.
    async fn flush(&mut self) -> Result<(), FailureKind> {
        while !self.piece.is_empty() {
            let written = self.writer.write_buf(&mut self.piece);
            let written = timeout_at(self.deadline, written).await;
            if !matches!(written.map_err(|_| FailureKind::WriteTimedout)?, Ok(1..)) {
                self.has_failed = true;
                self.piece = Bytes::new();
            }
            self.deadline = Instant::now() + self.limit;
        }
        Ok(())
    }

    /// Writes the rest of the piece while the caller is written to, so that two peers that each write before they read
    /// do not wait for each other.
    async fn flush_while(
        &mut self,
        written: impl Future<Output = pingora::Result<()>>,
    ) -> Result<(), ProxyFailure> {
        tokio::pin!(written);
        tokio::select! {
            biased;
            done = &mut written => return done.map_err(ProxyFailure::of_caller),
            sent = self.flush(), if !self.piece.is_empty() => {
                sent.map_err(ProxyFailure::of_upstream)?;
            }
        }
        written.await.map_err(ProxyFailure::of_caller)
    }
}

/// Reads from the upstream; an empty piece is the end.
async fn next_piece(reader: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> std::io::Result<Bytes> {
    buffer.reserve(READ_BYTES);
    reader.read_buf(buffer).await?;
    Ok(buffer.split().freeze())
}
