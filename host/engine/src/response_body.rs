//! Streams a response's body from a guest to its client, and records how it ended. Never runs the
//! guest, and never ends a body cleanly that the guest has not ended.
//!
//! ```text
//!            open             settle: the guest returned
//! Unopened ────────> Guest ──────────────────────────────> Whole    the guest ended its body
//!                     │  ├────────────────────────────────> Guest    a host's body, passed on
//!                     │  └────────────────────────────────> Broken   the guest left its body open
//!                     └── fail, or the body's own error ──> Broken
//! ```

mod buffer;
mod content;
mod file;
mod pieces;
mod progress;

use crate::{
    body::{BodyError, BodyMonitor},
    fault::Fault,
    host_body, limits,
};
pub use buffer::NotBuffered;
use bytes::Bytes;
use file::FileBody;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use pieces::Pieces;
use progress::Progress;
use std::{
    collections::VecDeque,
    io, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};
use tokio::{sync::Notify, time::Instant};
use wasmtime_wasi_http::WasiBody;

/// A response's body.
pub enum ResponseBody {
    /// Known in full, with its length.
    Full(Full<Bytes>),
    /// Known in full, in several pieces or with trailers.
    Pieces(Pieces),
    /// Streamed while the guest writes it.
    Streamed(Streamed),
    /// Read by the host from a file, with its length.
    File(FileBody),
}

/// Receives the end of a body.
type Watcher = Box<dyn FnOnce(ResponseEnd) + Send>;

/// How a body ended that was not in memory when its head was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseEnd {
    /// Bytes passed to the client.
    pub bytes: u64,
    /// The stable name of the fault that broke this body or the request's; `None` without one.
    pub fault: Option<&'static str>,
}

impl ResponseBody {
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }

    /// Creates a body that the host reads from a file while it is sent. Its length is known.
    pub fn file(body: impl Body<Data = Bytes, Error = io::Error> + Send + 'static) -> Self {
        Self::File(FileBody::new(body.map_err(BodyError::File).boxed_unsync()))
    }

    /// Creates a body from frames that are all available.
    pub(crate) fn whole(mut frames: VecDeque<Frame<Bytes>>) -> Self {
        if frames.len() <= 1 && frames.front().is_none_or(Frame::is_data) {
            return Self::full(frames.pop_front().and_then(|frame| frame.into_data().ok()).unwrap_or_default());
        }
        Self::Pieces(Pieces::of(frames))
    }

    /// Creates a body that the guest is still writing: `begun` has already been received, and the
    /// rest arrives over the link. `length` is the `content-length` of a body that is sent.
    pub(crate) fn streamed(begun: VecDeque<Frame<Bytes>>, link: Arc<Link>, limit: u64, length: Option<u64>) -> Self {
        Self::Streamed(Streamed { begun, link, limit, length, bytes: 0, is_ended: false, watcher: None })
    }

    /// Returns whether the body isn't in memory yet, so that it can still fail.
    pub fn is_streamed(&self) -> bool {
        matches!(self, Self::Streamed(_) | Self::File(_))
    }

    /// Calls `watcher` once a streamed body has ended or its client has disconnected.
    pub fn watch(&mut self, watcher: impl FnOnce(ResponseEnd) + Send + 'static) {
        match self {
            Self::Streamed(streamed) => streamed.watcher = Some(Box::new(watcher)),
            Self::File(file) => file.watcher = Some(Box::new(watcher)),
            Self::Full(_) | Self::Pieces(_) => {}
        }
    }
}

/// A body that a guest writes while the client reads it.
pub struct Streamed {
    begun: VecDeque<Frame<Bytes>>,
    link: Arc<Link>,
    limit: u64,
    length: Option<u64>,
    bytes: u64,
    is_ended: bool,
    watcher: Option<Watcher>,
}

/// The state that the writer and the reader of a streamed body share.
#[derive(Default)]
pub(crate) struct Link {
    pipe: Mutex<Pipe>,
    /// The request's body, which the client may have broken; `None` if it was buffered in full.
    request: Option<BodyMonitor>,
    /// The fault that broke the body; only the first one is stored.
    fault: OnceLock<Fault>,
    /// When the last frame was passed on.
    progress: Progress,
    /// Whether the reader is still processing the last frame.
    reader_is_slow: AtomicBool,
    /// Notified when the reader is dropped, before or after the body's end.
    gone: Notify,
    is_broken_off: AtomicBool,
}

#[derive(Default)]
struct Pipe {
    /// Frames already taken from the source.
    ahead: VecDeque<Frame<Bytes>>,
    source: Source,
    /// The waiting reader, if any.
    reader: Option<Waker>,
}

#[derive(Default)]
enum Source {
    /// The response's head is not yet known.
    #[default]
    Unopened,
    Guest(WasiBody),
    /// The guest ended the body; no frame follows.
    Whole,
    /// The guest did not end the body; no frame follows.
    Broken,
}

/// The state in which a guest left its body.
pub(crate) enum Settled {
    Ended,
    /// The guest passes on a body of the host, which has not ended. It needs no guest.
    PassedOn,
    Broken(Fault),
}

/// The state of a body after all available frames were taken.
enum Drained {
    Ended,
    /// Only its guest can end this body.
    GuestOpen,
    /// The host reads this body from a connection.
    HostOpen,
    Broken(Fault),
}

impl Pipe {
    /// Takes all available frames from a body, up to a limit.
    fn drain(&mut self, body: &mut WasiBody) -> Drained {
        let mut bytes = 0;
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let (polled, is_of_host) = host_body::watch(|| content::poll(body, &mut cx));
            let open = if is_of_host { Drained::HostOpen } else { Drained::GuestOpen };
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.ahead.push_back(frame);
                }
                Poll::Ready(Some(Err(error))) => return Drained::Broken(body_fault(&error)),
                Poll::Ready(None) => return Drained::Ended,
                Poll::Pending => return open,
            }
            if bytes > limits::RESPONSE_LEFT_BYTES_MAX {
                return open;
            }
        }
    }
}

impl Link {
    /// Creates the link for the response to a request with this body.
    pub(crate) fn answering(request: Option<BodyMonitor>) -> Self {
        Self { request, ..Self::default() }
    }

    /// Returns the fault of a guest that failed with `fault`, attributed to the client if the
    /// client caused it.
    pub(crate) fn attribute(&self, fault: Fault) -> Fault {
        match &self.request {
            Some(request) => request.attribute(fault),
            None => fault,
        }
    }

    /// Stores the fault that broke the body, unless one is stored already. Returns the stored
    /// fault.
    fn break_with(&self, fault: Fault) -> &Fault {
        self.fault.get_or_init(|| self.attribute(fault))
    }

    /// Passes the body to the link once its head is known.
    pub(crate) fn open(&self, body: WasiBody) {
        self.lock().source = Source::Guest(body);
    }

    /// Breaks the body before its guest is dropped, unless the guest has already ended it.
    pub(crate) fn fail(&self, fault: Fault) {
        let mut pipe = self.lock();
        let source = match mem::replace(&mut pipe.source, Source::Broken) {
            Source::Whole => Source::Whole,
            Source::Guest(mut body) => match pipe.drain(&mut body) {
                Drained::Ended => Source::Whole,
                Drained::GuestOpen | Drained::HostOpen | Drained::Broken(_) => Source::Broken,
            },
            Source::Unopened | Source::Broken => Source::Broken,
        };
        if matches!(source, Source::Broken) {
            // A later fault follows from the first.
            let _ = self.break_with(fault);
        }
        Self::end(pipe, source);
    }

    /// Takes the rest of a returned guest's body, and determines whether the guest ended it.
    pub(crate) fn settle(&self) -> Settled {
        let mut pipe = self.lock();
        let mut body = match mem::take(&mut pipe.source) {
            Source::Guest(body) => body,
            source => {
                let fault = self.fault.get().filter(|_| matches!(source, Source::Broken));
                Self::end(pipe, source);
                return fault.cloned().map_or(Settled::Ended, Settled::Broken);
            }
        };
        let fault = match pipe.drain(&mut body) {
            Drained::Ended => {
                Self::end(pipe, Source::Whole);
                return Settled::Ended;
            }
            Drained::HostOpen => {
                Self::end(pipe, Source::Guest(body));
                return Settled::PassedOn;
            }
            Drained::GuestOpen => Fault::BodyLeftOpen,
            Drained::Broken(fault) => fault,
        };
        let fault = self.break_with(fault).clone();
        Self::end(pipe, Source::Broken);
        Settled::Broken(fault)
    }

    /// Polls the next frame, the end, or the fault that broke the body.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let pipe = &mut *self.lock();
        if let Some(frame) = pipe.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = match &mut pipe.source {
            Source::Guest(body) => content::poll(body, cx),
            Source::Unopened => Poll::Pending,
            Source::Whole => return Poll::Ready(None),
            Source::Broken => return Poll::Ready(self.fault.get().cloned().map(Err)),
        };
        match polled {
            Poll::Pending => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                pipe.source = Source::Broken;
                Poll::Ready(Some(Err(self.break_with(body_fault(&error)).clone())))
            }
            Poll::Ready(None) => {
                pipe.source = Source::Whole;
                Poll::Ready(None)
            }
        }
    }

    /// Returns whether all remaining frames are available, so that the guest is no longer needed.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.lock().source, Source::Whole | Source::Broken)
    }

    /// Returns the fault that broke the body, if any.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Returns the name of the fault for the record of a response whose reader is dropped.
    fn recorded_fault(&self, is_whole: bool) -> Option<&'static str> {
        match (self.fault(), is_whole) {
            (_, true) => self.request.as_ref()?.fault().map(|bad| Fault::from(bad).code()),
            (Some(fault), false) => Some(fault.code()),
            (None, false) => Some(self.attribute(Fault::ClientGone).code()),
        }
    }

    /// Returns when the last frame was passed on; the link's creation if no frame was.
    pub(crate) fn last_progress(&self) -> Instant {
        self.progress.last()
    }

    /// Returns whether the guest is waiting for the reader, rather than the reader for the guest.
    pub(crate) fn reader_is_slow(&self) -> bool {
        self.reader_is_slow.load(Ordering::Relaxed)
    }

    /// Waits until the reader is dropped. Returns true if it was dropped before the body's end.
    pub(crate) async fn reader_gone(&self) -> bool {
        self.gone.notified().await;
        self.is_broken_off.load(Ordering::Acquire)
    }

    /// Marks the reader as dropped. If the body is incomplete, the guest's next write fails.
    fn close(&self, is_whole: bool) {
        if !is_whole {
            let body = mem::replace(&mut *self.lock(), Pipe { source: Source::Broken, ..Pipe::default() });
            drop(body);
        }
        self.is_broken_off.store(!is_whole, Ordering::Release);
        self.gone.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pipe> {
        // A poisoned pipe still has a valid source.
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a source in the pipe and wakes the reader.
    fn end(mut pipe: MutexGuard<'_, Pipe>, source: Source) {
        pipe.source = source;
        let reader = pipe.reader.take();
        drop(pipe);
        reader.into_iter().for_each(Waker::wake);
    }
}

fn body_fault(error: &wasmtime_wasi_http::Error) -> Fault {
    use wasmtime_wasi_http::Error;
    let detail = match error {
        Error::HttpResponseBodySize(Some(bytes)) => {
            format!("it wrote {bytes} bytes of its body, which differs from its content-length")
        }
        // WASI 0.2 reports both cases by this error only.
        Error::HttpProtocolError => "it abandoned its body, or ended it short of its content-length".to_owned(),
        error => format!("its body ended early: {error}"),
    };
    Fault::InvalidResponse { detail }
}

/// Returns the fault of a body that exceeds its app's limit.
pub(crate) fn too_large(limit: u64) -> Fault {
    Fault::InvalidResponse {
        detail: format!("its body exceeds the limit of {limit} bytes (reply_body under [limits])"),
    }
}

impl Streamed {
    /// Counts a frame and enforces the body's limit and its `content-length`: bytes beyond that
    /// length would make the message malformed (RFC 9113, section 8.1.1).
    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        self.link.progress.note();
        let bytes = self.bytes + frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > self.limit {
            self.link.fail(too_large(self.limit));
            return Err(too_large(self.limit));
        }
        if let Some(length) = self.length.filter(|length| bytes > *length) {
            let fault =
                Fault::InvalidResponse { detail: format!("its body is longer than its content-length of {length}") };
            self.link.fail(fault.clone());
            return Err(fault);
        }
        self.bytes = bytes;
        self.is_ended = frame.is_trailers();
        Ok(frame)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // A body with `content-length` is complete at its last byte: its reader need not wait for
        // its end.
        let is_whole = self.is_ended || self.length == Some(self.bytes);
        self.link.close(is_whole);
        let Some(watcher) = self.watcher.take() else { return };
        watcher(ResponseEnd { bytes: self.bytes, fault: self.link.recorded_fault(is_whole) });
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let polled = match self.begun.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.link.poll_frame(cx),
        };
        self.link.reader_is_slow.store(polled.is_ready(), Ordering::Relaxed);
        let next = match ready!(polled) {
            Some(next) => next.and_then(|frame| self.count(frame)),
            None => {
                self.is_ended = true;
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(next.map_err(|fault| BodyError::of_response(fault, self.link.request.as_ref()))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Pieces(pieces) => Poll::Ready(pieces.next().map(Ok)),
            Self::Streamed(streamed) => Pin::new(streamed).poll_frame(cx),
            Self::File(file) => file.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Pieces(pieces) => pieces.is_end(),
            Self::Streamed(streamed) => streamed.is_ended,
            Self::File(file) => file.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::File(file) => file.size_hint(),
            Self::Pieces(pieces) => pieces.size_hint(),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::{RequestBody, StallTimeout};
    use tokio::sync::mpsc;

    type Frames = mpsc::Receiver<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>;

    /// A body that lasts as long as its sender.
    struct Sent {
        frames: Frames,
        is_of_host: bool,
    }

    impl Body for Sent {
        type Data = Bytes;
        type Error = wasmtime_wasi_http::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>> {
            if self.is_of_host {
                host_body::note_poll();
            }
            self.frames.poll_recv(cx)
        }
    }

    type Sender = mpsc::Sender<Result<Frame<Bytes>, wasmtime_wasi_http::Error>>;

    fn opened(words: &[&'static str], is_of_host: bool) -> (Link, Sender) {
        let (sender, frames) = mpsc::channel(3);
        for word in words {
            sender.try_send(Ok(Frame::data(Bytes::from_static(word.as_bytes())))).expect("the body is open");
        }
        let link = Link::default();
        link.open(WasiBody::new(Sent { frames, is_of_host }));
        (link, sender)
    }

    /// Creates a link to a guest that has written these frames.
    fn written(words: &[&'static str]) -> (Link, Sender) {
        opened(words, false)
    }

    /// Creates a link to a guest that passes on these frames of the host's.
    fn received(words: &[&'static str]) -> (Link, Sender) {
        opened(words, true)
    }

    fn next(link: &Link) -> Poll<Option<Result<Bytes, &'static str>>> {
        let polled = link.poll_frame(&mut Context::from_waker(Waker::noop()));
        polled.map(|next| Some(next?.map(|frame| frame.into_data().expect("data")).map_err(|fault| fault.code())))
    }

    fn data(word: &'static str) -> Poll<Option<Result<Bytes, &'static str>>> {
        Poll::Ready(Some(Ok(Bytes::from_static(word.as_bytes()))))
    }

    #[test]
    fn a_body_that_was_not_read_before_its_guest_returned_is_whole() {
        let (link, guest) = written(&["one", "two"]);
        drop(guest);
        assert!(matches!(link.settle(), Settled::Ended));
        assert_eq!([next(&link), next(&link), next(&link)], [data("one"), data("two"), Poll::Ready(None)]);
    }

    #[test]
    fn a_body_that_its_guest_has_not_ended_was_left_open() {
        let (link, _guest) = written(&["one"]);
        assert!(matches!(link.settle(), Settled::Broken(Fault::BodyLeftOpen)));
        assert_eq!([next(&link), next(&link)], [data("one"), Poll::Ready(Some(Err("body-left-open")))]);
    }

    #[test]
    fn a_body_of_the_host_is_passed_on_after_its_guest_has_returned() {
        let (link, host) = received(&["one"]);
        assert!(matches!(link.settle(), Settled::PassedOn));
        host.try_send(Ok(Frame::data(Bytes::from_static(b"two")))).expect("the body is open");
        drop(host);
        assert_eq!([next(&link), next(&link), next(&link)], [data("one"), data("two"), Poll::Ready(None)]);
    }

    #[test]
    fn a_body_whose_guest_fails_has_no_clean_end() {
        let (link, guest) = written(&["one"]);
        link.fail(Fault::Stopped);
        drop(guest);
        assert_eq!([next(&link), next(&link)], [data("one"), Poll::Ready(Some(Err("stopped")))]);
        assert!(matches!(link.settle(), Settled::Broken(Fault::Stopped)));
    }

    #[test]
    fn a_body_that_breaks_after_the_requests_body_is_the_clients_fault() {
        for (words, fault) in [("four", "bad-request"), ("two", "stopped")] {
            let body = Full::new(Bytes::from_static(words.as_bytes())).map_err(|never| match never {});
            let mut request = RequestBody::incoming(body, 3, StallTimeout::endless());
            let link = Link::answering(request.monitor());
            let _ = Pin::new(&mut request).poll_frame(&mut Context::from_waker(Waker::noop()));
            link.fail(Fault::Stopped);
            assert_eq!(next(&link), Poll::Ready(Some(Err(fault))));
            assert_eq!(link.recorded_fault(false), Some(fault));
            // The guest may end its response despite the error.
            assert_eq!(link.recorded_fault(true), Some(fault).filter(|fault| *fault == "bad-request"));
        }
    }

    #[test]
    fn a_response_whose_client_disconnects_has_no_fault_of_its_guest() {
        let link = Link::default();
        assert_eq!((link.recorded_fault(false), link.recorded_fault(true)), (Some("client-gone"), None));
    }

    #[test]
    fn a_body_that_had_ended_before_its_guest_failed_is_whole() {
        let (link, guest) = written(&["one"]);
        drop(guest);
        link.fail(Fault::Stopped);
        assert_eq!([next(&link), next(&link)], [data("one"), Poll::Ready(None)]);
    }

    #[test]
    fn whole_bodies_have_a_known_length_and_are_not_streamed() {
        let frame = |word: &'static str| Frame::data(Bytes::from_static(word.as_bytes()));
        for (frames, length) in [(vec![], 0), (vec![frame("one")], 3), (vec![frame("one"), frame("four")], 7)] {
            let body = ResponseBody::whole(frames.into());
            assert_eq!((body.size_hint().exact(), body.is_streamed()), (Some(length), false));
        }
        let with_trailers = ResponseBody::whole([frame("one"), Frame::trailers(http::HeaderMap::new())].into());
        assert_eq!(with_trailers.size_hint().exact(), None);
    }
}
