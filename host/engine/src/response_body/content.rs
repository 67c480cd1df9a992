//! Polls a body for content. Never returns an empty frame: no client sees one, and a guest could
//! fill the queues of the host with them, whose limits count bytes.

use crate::limits;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use wasmtime_wasi_http::{Error, WasiBody};

/// Polls the next frame that has content or trailers.
pub(super) fn poll(body: &mut WasiBody, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    for _ in 0..limits::EMPTY_FRAMES_SKIPPED_AT_ONCE {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            polled => return polled,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use std::future::poll_fn;

    fn body(frames: usize, last: &'static [u8]) -> WasiBody {
        let empty = (0..frames).map(|_| Bytes::new());
        let frames = empty.chain([Bytes::from_static(last)]).map(|bytes| Ok(Frame::data(bytes)));
        StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn empty_frames_are_skipped() {
        let mut body = body(10 * limits::EMPTY_FRAMES_SKIPPED_AT_ONCE, b"word");
        let mut next = async || poll_fn(|cx| poll(&mut body, cx)).await;
        let frame = next().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        assert_eq!(frame.as_deref(), Some(&b"word"[..]));
        assert!(next().await.is_none());
    }

    #[test]
    fn a_poll_ends_although_further_empty_frames_are_available() {
        let mut body = body(usize::MAX - 1, b"");
        assert!(poll(&mut body, &mut Context::from_waker(std::task::Waker::noop())).is_pending());
    }
}
