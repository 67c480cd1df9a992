//! The body of a response as hyper receives it. Keeps the request in progress until it is dropped,
//! and records how long an HTTP/2 client reads nothing of it. Holds a piece back only while hyper
//! has too many pieces.

use super::line::{Exchange, Unread};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
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
        if let Some(unread) = this.unread {
            ready!(unread.poll_room(cx));
        }
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

#[cfg(test)]
mod tests {
    use super::{super::line::Line, *};
    use crate::http::limits;
    use futures::FutureExt;
    use http_body_util::{BodyExt, StreamBody};
    use std::{
        convert::Infallible,
        pin::pin,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        task::{Wake, Waker},
    };
    use tokio::net::{TcpListener, TcpStream};

    /// Records that it was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    async fn exchange() -> Exchange {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        Arc::new(Line::new(client)).begin()
    }

    /// Creates the body of an endless response in pieces of one byte.
    async fn endless(is_http2: bool) -> ResponseBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let frames = std::iter::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"x"))));
        ResponseBody::new(StreamBody::new(futures::stream::iter(frames)), is_http2, false, exchange().await)
    }

    #[tokio::test]
    async fn an_http2_response_has_a_bounded_number_of_pieces_in_hyper() {
        let mut body = endless(true).await;
        let more = 2 * limits::HTTP2_PIECES_HELD_MAX;
        let mut held: Vec<_> = (0..more).map_while(|_| body.frame().now_or_never()).collect();
        assert_eq!(held.len(), limits::HTTP2_PIECES_HELD_MAX);
        let (woken, mut next) = (Arc::<Woken>::default(), pin!(body.frame()));
        let waker = Waker::from(Arc::clone(&woken));
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() && !woken.0.load(Relaxed));
        held.pop();
        assert!(woken.0.load(Relaxed), "a piece was sent");
        assert!(next.now_or_never().is_some());
    }

    #[tokio::test]
    async fn hyper_limits_the_pieces_of_an_http1_response() {
        let mut body = endless(false).await;
        let held: Vec<_> = (0..=limits::HTTP2_PIECES_HELD_MAX).map_while(|_| body.frame().now_or_never()).collect();
        assert_eq!(held.len(), limits::HTTP2_PIECES_HELD_MAX + 1);
    }
}
