//! The body of a response as hyper receives it. Keeps the request in progress until it is dropped,
//! and records how long an HTTP/2 client reads nothing of it. Never holds a piece back.

use super::line::{Exchange, Unread};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pin_project_lite::pin_project! {
    /// The body of a response.
    pub(super) struct ResponseBody<B> {
        #[pin]
        body: B,
        // HTTP/1.0 has no chunks: without a length, the end of the connection ends the body.
        is_ended_by_close: bool,
        // `None` on HTTP/1: the kernel shows that the client reads nothing.
        unread: Option<Arc<Unread>>,
        ends: Ends,
    }
}

struct Ends(Exchange);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.response_ends();
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(body: B, is_http2: bool, is_ended_by_close: bool, exchange: Exchange) -> Self {
        let unread = (is_http2 && !body.is_end_stream()).then(|| Arc::new(exchange.unread()));
        Self { body, is_ended_by_close, unread, ends: Ends(exchange) }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let Poll::Ready(frame) = this.body.poll_frame(cx) else {
            this.unread.iter().for_each(|unread| unread.pause());
            return Poll::Pending;
        };
        if *this.is_ended_by_close && matches!(frame, Some(Err(_))) {
            this.ends.0.reset_at_close();
        }
        if frame.is_none() {
            this.unread.iter().for_each(|unread| unread.pause());
        }
        let piece = |data| Piece::new(data, this.unread.clone());
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A piece of a body. hyper may hold it after the end of the body, until the client reads it.
pub(super) struct Piece<D> {
    data: D,
    unread: Option<Arc<Unread>>,
}

impl<D> Piece<D> {
    fn new(data: D, unread: Option<Arc<Unread>>) -> Self {
        unread.iter().for_each(|unread| unread.piece_begins());
        Self { data, unread }
    }

    fn note(&self) {
        self.unread.iter().for_each(|unread| unread.advance());
    }
}

impl<D> Drop for Piece<D> {
    fn drop(&mut self) {
        self.unread.iter().for_each(|unread| unread.piece_ends());
    }
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.note();
        self.data.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.note();
        self.data.copy_to_bytes(length)
    }
}
