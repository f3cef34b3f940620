//! The body of a request on its way to an upstream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// A place for one piece of a body: the task that reads the caller fills it, and hyper, which the same task polls after
/// that, empties it. So neither side is woken for the other.
#[derive(Debug, Default)]
pub(super) struct BodySlot(Mutex<SlotState>);

#[derive(Debug, Default)]
struct SlotState {
    piece: Option<Bytes>,
    has_ended: bool,
    /// Whether hyper takes no more of it.
    is_dropped: bool,
}

impl SlotState {
    const fn is_exhausted(&self) -> bool {
        self.has_ended && self.piece.is_none()
    }
}

impl BodySlot {
    /// Whether the slot has room for a piece.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().piece.is_none()
    }

    /// Whether the whole body was taken out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.lock().is_exhausted()
    }

    /// Whether hyper takes no more of the body, although it has not taken all.
    pub(super) fn is_abandoned(&self) -> bool {
        let state = self.lock();
        state.is_dropped && !state.is_exhausted()
    }

    /// Fills the slot. `is_end`: no piece follows. An empty piece is dropped: in chunks it would end the body.
    pub(super) fn fill(&self, piece: Option<Bytes>, is_end: bool) {
        let mut state = self.lock();
        state.piece = piece.filter(|piece| !piece.is_empty());
        state.has_ended |= is_end;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of a request, as hyper reads it.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// No body.
    Empty,
    /// A body that comes in pieces. Its framing is given by the header fields of the request.
    Pieces(Arc<BodySlot>),
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Self::Pieces(slot) = self {
            slot.lock().is_dropped = true;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Self::Pieces(slot) = &*self else {
            return Poll::Ready(None);
        };
        let mut state = slot.lock();
        match state.piece.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if state.has_ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Pieces(slot) => slot.is_exhausted(),
        }
    }
}
