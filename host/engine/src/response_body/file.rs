//! A response's body that the host reads from a file while it is sent. Records how it ended. Never
//! opens the file.

use super::{ResponseEnd, Watcher};
use crate::{body::BodyError, fault::Fault};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The name of the fault of a body whose file can't be read.
const READ_FAILED: &str = "disk";

/// A body that the host reads from a file.
pub struct FileBody {
    body: UnsyncBoxBody<Bytes, BodyError>,
    bytes: u64,
    has_failed: bool,
    pub(super) watcher: Option<Watcher>,
}

impl FileBody {
    pub(super) fn new(body: UnsyncBoxBody<Bytes, BodyError>) -> Self {
        Self { body, bytes: 0, has_failed: false, watcher: None }
    }

    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &next {
            Some(Ok(frame)) => self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => self.has_failed = true,
            None => {}
        }
        Poll::Ready(next)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        let Some(watcher) = self.watcher.take() else { return };
        let fault = match self.has_failed {
            true => Some(READ_FAILED),
            false => (!self.is_end_stream()).then(|| Fault::ClientGone.code()),
        };
        watcher(ResponseEnd { bytes: self.bytes, fault });
    }
}

#[cfg(test)]
mod tests {
    use crate::response_body::{ResponseBody, ResponseEnd};
    use bytes::Bytes;
    use http_body::{Body, Frame, SizeHint};
    use http_body_util::BodyExt;
    use std::{
        collections::VecDeque,
        io,
        pin::Pin,
        sync::mpsc,
        task::{Context, Poll},
    };

    /// The pieces of a file; `None` is a read that fails.
    struct Pieces(VecDeque<Option<&'static str>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            let failed = || io::Error::other("the disk failed");
            let next = self.0.pop_front();
            Poll::Ready(
                next.map(|piece| piece.map(|text| Frame::data(Bytes::from_static(text.as_bytes()))).ok_or_else(failed)),
            )
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().flatten().map(|text| text.len() as u64).sum())
        }
    }

    /// Returns the recorded end of a body that is polled this many times.
    async fn end_after(polls: usize, pieces: &[Option<&'static str>]) -> ResponseEnd {
        let mut body = ResponseBody::file(Pieces(pieces.iter().copied().collect()));
        let (ended, end) = mpsc::sync_channel(1);
        body.watch(move |end| ended.send(end).expect("the test waits"));
        for _ in 0..polls {
            let _ = body.frame().await;
        }
        drop(body);
        end.recv().expect("the end is recorded")
    }

    #[tokio::test]
    async fn the_end_of_a_file_is_recorded_with_its_sent_bytes() {
        let end = |bytes, fault| ResponseEnd { bytes, fault };
        assert_eq!(end_after(2, &[Some("one"), Some("four")]).await, end(7, None));
        assert_eq!(end_after(1, &[Some("one"), Some("four")]).await, end(3, Some("client-gone")));
        assert_eq!(end_after(2, &[Some("one"), None]).await, end(3, Some("disk")));
        assert_eq!(end_after(0, &[Some("one")]).await, end(0, Some("client-gone")));
    }
}
