//! A response's body from the upstream, with a timeout between its parts, and the mapping of
//! connection failures to errors of `wasi:http`. Never sends anything.

use super::pool::RequestPermit;
use crate::{
    host_body,
    waits::{CallWaits, Operation},
};
use bytes::Bytes;
use http_body::{Body, Frame};
use isopod_policy::Phase;
use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error;

/// A response's body that fails when its next part takes too long. The request is counted until
/// this is dropped.
pub(super) struct TimedBody {
    incoming: hyper::body::Incoming,
    wait: Duration,
    alarm: Pin<Box<Sleep>>,
    waits: Arc<CallWaits>,
    /// Set while the guest reads and no part is available.
    waiting: Option<Operation>,
    _permit: RequestPermit,
}

impl TimedBody {
    pub(super) fn new(
        incoming: hyper::body::Incoming,
        wait: Duration,
        permit: RequestPermit,
        waits: Arc<CallWaits>,
    ) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now() + wait));
        Self { incoming, wait, alarm, waits, waiting: None, _permit: permit }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        host_body::note_poll();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.waiting = None;
                let deadline = Instant::now() + this.wait;
                this.alarm.as_mut().reset(deadline);
                Poll::Ready(frame.map(|frame| frame.map_err(explain)))
            }
            Poll::Pending => {
                this.waiting.get_or_insert_with(|| this.waits.begin(Phase::Http));
                ready!(this.alarm.as_mut().poll(cx));
                this.waiting = None;
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}

/// Maps a failure to an error of `wasi:http`: a failure after the response has begun, or any
/// failure other than a closed connection.
pub(super) fn explain(error: hyper::Error) -> Error {
    let is_cut_off = source::<io::Error>(&error).is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof);
    if error.is_incomplete_message() || is_cut_off {
        return Error::HttpResponseIncomplete;
    }
    if is_broken(&error) || error.is_closed() || error.is_canceled() {
        return Error::ConnectionTerminated;
    }
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    // The request's own body failed: the guest aborted it, or its length differs from
    // `content-length`.
    match source::<Error>(&error) {
        Some(Error::HttpRequestBodySize(size)) => Error::HttpRequestBodySize(*size),
        _ => Error::HttpProtocolError,
    }
}

/// Returns whether the connection itself broke.
pub(super) fn is_broken(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    source::<io::Error>(error).is_some_and(|error| {
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    })
}

fn source<T: StdError + 'static>(error: &hyper::Error) -> Option<&T> {
    std::iter::successors(error.source(), |error| (*error).source()).find_map(|error| error.downcast_ref())
}
