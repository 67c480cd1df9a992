//! Reads a request's body for a guest, within its limits. Never handles a response.

use crate::{fault::Fault, host_body};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// A request's body.
pub enum RequestBody {
    /// Streamed from the client, up to a limit.
    Incoming(FromClient),
    /// Known in full.
    Full(Full<Bytes>),
}

/// A body that a client is still sending.
pub struct FromClient {
    incoming: Pin<Box<dyn Body<Data = Bytes, Error = hyper::Error> + Send>>,
    left: u64,
    /// The bytes that the host has received and holds.
    buffered: u64,
    monitor: BodyMonitor,
    stall_timeout: StallTimeout,
    /// When the guest began to wait for the next part, and the timer for the next check of the
    /// timeout.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// How long a client may keep a guest waiting: for the next part of the request's body, or to read
/// the next part of the response's. The guest occupies a slot meanwhile.
#[derive(Debug, Clone)]
pub struct StallTimeout {
    pub usual: Duration,
    /// The limit while other jobs wait for a slot.
    pub crowded: Duration,
    pub is_crowded: Arc<AtomicBool>,
}

impl StallTimeout {
    /// Returns an unlimited timeout, for a body that the host itself reads.
    pub fn endless() -> Self {
        Self { usual: Duration::MAX, crowded: Duration::MAX, is_crowded: Arc::default() }
    }

    /// Returns whether a client has kept the guest waiting too long. Checked each time `crowded`
    /// has elapsed.
    pub(crate) fn is_over(&self, waited: Duration) -> bool {
        waited >= self.usual || waited >= self.crowded && self.is_crowded.load(Ordering::Relaxed)
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request's body is larger than the app's limit (request_body under [limits])")]
    RequestTooLarge,
    #[error("the client sent its body too slowly")]
    TooSlow,
    #[error("the client's body ended early: {0}")]
    Client(#[from] hyper::Error),
    #[error("{NOT_SENT}")]
    NotSent,
    /// A response's body ended before it was complete.
    #[error("{0}")]
    Response(Fault),
    /// A response's body ended before it was complete, because the client's body is unreadable.
    #[error("{0}")]
    BadRequest(BadBody),
    /// The host can't read the file of a response's body.
    #[error("the response's file can't be read: {0}")]
    File(std::io::Error),
}

impl BodyError {
    /// Returns the error of a response's body that ended with a fault. If the client's body caused
    /// the fault, the error has the reason from `request`.
    pub(crate) fn of_response(fault: Fault, request: Option<&BodyMonitor>) -> Self {
        let bad = request.and_then(BodyMonitor::fault).filter(|_| matches!(fault, Fault::BadRequest { .. }));
        bad.map_or_else(|| Self::Response(fault), |bad| Self::BadRequest(bad.clone()))
    }
}

/// The error of a read after the response has begun: the client sent `Expect: 100-continue`, and
/// was not asked for the body in time.
const NOT_SENT: &str = "the response began before the guest read the body";

/// Describes why a body ended early, with the cause, which hyper's own text lacks.
pub fn broken_off(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Observes how a guest reads a client's body, and records whether the body was unreadable. The
/// guest only sees a body that ends early, so its response would blame the app.
#[derive(Clone, Default)]
pub struct BodyMonitor(Arc<MonitorState>);

#[derive(Default)]
struct MonitorState {
    fault: OnceLock<BadBody>,
    /// Whether the guest is waiting for the client now.
    waits: AtomicBool,
    bytes_read: AtomicU64,
    demand: AtomicU8,
}

/// When the client sends its body: unasked; once the guest reads it; now, since the guest has read
/// it; never, since the response has begun or the guest has dropped the body.
const UNASKED: u8 = 0;
const AWAITED: u8 = 1;
const ASKED: u8 = 2;
const REFUSED: u8 = 3;

/// Why a client's body is unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    #[error("its body is larger than the app's limit")]
    TooLarge,
    #[error("its body arrived too slowly")]
    TooSlow,
    #[error("its body ended early: {detail}")]
    Broken { detail: String },
}

impl From<&BadBody> for Fault {
    fn from(bad: &BadBody) -> Self {
        Self::BadRequest { detail: bad.to_string() }
    }
}

impl BodyMonitor {
    /// Returns the fault found so far, if any.
    pub fn fault(&self) -> Option<&BadBody> {
        self.0.fault.get()
    }

    /// Returns the bytes of the body that the guest has read.
    pub fn bytes_read(&self) -> u64 {
        self.0.bytes_read.load(Ordering::Relaxed)
    }

    /// Attributes a guest's fault. Returns the client's fault if the body was unreadable, or if the
    /// guest timed out while it waited for the body; otherwise `fault`.
    pub fn attribute(&self, fault: Fault) -> Fault {
        if matches!(fault, Fault::Timeout { .. }) && self.0.waits.load(Ordering::Relaxed) {
            self.note(BadBody::TooSlow);
        }
        self.fault().map_or(fault, Fault::from)
    }

    /// Returns whether the client sends its body once the guest reads it.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.demand.load(Ordering::Relaxed) == AWAITED
    }

    /// Refuses later reads of a body that the guest hasn't begun to read. A client that gets a
    /// response instead of `100 Continue` may omit its body and send its next request.
    pub(crate) fn refuse_unread(&self) {
        let _ = self.0.demand.compare_exchange(AWAITED, REFUSED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks the client for the body. Returns false if the body was refused.
    fn ask(&self) -> bool {
        match self.0.demand.load(Ordering::Relaxed) {
            UNASKED | ASKED => true,
            _ => self.0.demand.compare_exchange(AWAITED, ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok(),
        }
    }

    fn note(&self, bad: BadBody) {
        // The first fault is the cause of any later fault.
        let _ = self.0.fault.set(bad);
    }
}

impl RequestBody {
    /// Creates a client's body of at most `limit` bytes.
    pub fn incoming(
        incoming: impl Body<Data = Bytes, Error = hyper::Error> + Send + 'static,
        limit: u64,
        stall_timeout: StallTimeout,
    ) -> Self {
        let incoming = Box::pin(incoming);
        Self::Incoming(FromClient {
            incoming,
            left: limit,
            buffered: 0,
            monitor: BodyMonitor::default(),
            stall_timeout,
            waiting: None,
        })
    }

    /// Creates the body of a request that the host has received in full.
    pub fn received(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        let (size, body) = (bytes.len() as u64, Full::new(bytes));
        let Some(trailers) = trailers else { return Self::Full(body) };
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers)))).map_err(|never| match never {});
        Self::Incoming(FromClient {
            incoming: Box::pin(body),
            left: size,
            buffered: size,
            monitor: BodyMonitor::default(),
            stall_timeout: StallTimeout::endless(),
            waiting: None,
        })
    }

    /// Returns the bytes of the body that the host holds before the guest reads it. They count
    /// toward the size of the app's queue.
    pub fn buffered_bytes(&self) -> u64 {
        match self {
            Self::Incoming(body) => body.buffered,
            Self::Full(full) => full.size_hint().lower(),
        }
    }

    /// Marks the body as one that the client sends only once it is read.
    #[must_use]
    pub fn sent_on_demand(self) -> Self {
        if let Self::Incoming(body) = &self {
            body.monitor.0.demand.store(AWAITED, Ordering::Relaxed);
        }
        self
    }

    /// Returns the body's monitor; `None` if the whole body was buffered.
    pub fn monitor(&self) -> Option<BodyMonitor> {
        match self {
            Self::Incoming(body) => Some(body.monitor.clone()),
            Self::Full(_) => None,
        }
    }

    /// Creates an empty body.
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Incoming(body) => body.poll_next(cx),
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.incoming.is_end_stream(),
            Self::Full(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.incoming.size_hint(),
            Self::Full(full) => full.size_hint(),
        }
    }
}

impl FromClient {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        host_body::note_poll();
        if !self.monitor.ask() {
            self.monitor.note(BadBody::Broken { detail: NOT_SENT.to_owned() });
            return Poll::Ready(Some(Err(BodyError::NotSent)));
        }
        let Poll::Ready(next) = self.incoming.as_mut().poll_frame(cx) else {
            return self.poll_patience(cx).map(|error| Some(Err(error)));
        };
        self.waiting = None;
        self.monitor.0.waits.store(false, Ordering::Relaxed);
        let Some(frame) = next else { return Poll::Ready(None) };
        let frame = frame.inspect_err(|error| self.monitor.note(BadBody::Broken { detail: broken_off(error) }))?;
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        Poll::Ready(Some(match self.left.checked_sub(size) {
            Some(rest) => {
                self.left = rest;
                self.monitor.0.bytes_read.fetch_add(size, Ordering::Relaxed);
                Ok(frame)
            }
            None => {
                self.monitor.note(BadBody::TooLarge);
                Err(BodyError::RequestTooLarge)
            }
        }))
    }

    /// Becomes ready once the client has kept the guest waiting too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let crowded = self.stall_timeout.crowded;
        self.monitor.0.waits.store(true, Ordering::Relaxed);
        let (since, look) = self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(crowded))));
        loop {
            ready!(look.as_mut().poll(cx));
            if self.stall_timeout.is_over(since.elapsed()) {
                self.monitor.note(BadBody::TooSlow);
                return Poll::Ready(BodyError::TooSlow);
            }
            look.as_mut().reset(Instant::now() + crowded);
        }
    }
}

impl Drop for FromClient {
    fn drop(&mut self) {
        self.monitor.refuse_unread();
    }
}

impl From<BodyError> for wasmtime_wasi_http::Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::RequestTooLarge => Self::HttpRequestBodySize(None),
            BodyError::TooSlow => Self::ConnectionReadTimeout,
            BodyError::Client(error) => Self::Hyper(error),
            BodyError::NotSent => Self::ConnectionTerminated,
            error @ (BodyError::Response(_) | BodyError::BadRequest(_) | BodyError::File(_)) => {
                Self::InternalError(Some(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::task::Waker;

    fn timeout() -> Fault {
        Fault::Timeout { limit: Duration::from_secs(1) }
    }

    #[test]
    fn only_a_timeout_while_the_guest_waits_for_the_body_is_the_clients_fault() {
        let monitor = BodyMonitor::default();
        assert_eq!(monitor.attribute(timeout()).code(), "timeout");
        monitor.0.waits.store(true, Ordering::Relaxed);
        assert_eq!(monitor.attribute(Fault::NoResponse).code(), "no-answer");
        assert_eq!(monitor.fault(), None);
        assert_eq!(monitor.attribute(timeout()).code(), "bad-request");
        assert_eq!(monitor.fault(), Some(&BadBody::TooSlow));
    }

    #[test]
    fn a_received_body_counts_as_buffered_with_and_without_trailers() {
        let bytes = || Bytes::from_static(b"word");
        let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("4"))]);
        assert_eq!(RequestBody::received(bytes(), None).buffered_bytes(), 4);
        let mut body = RequestBody::received(bytes(), Some(trailers.clone()));
        assert_eq!((body.buffered_bytes(), body.size_hint().lower()), (4, 4));

        let mut next = || Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(next(), Poll::Ready(Some(Ok(frame))) if frame.data_ref() == Some(&bytes())));
        assert!(matches!(next(), Poll::Ready(Some(Ok(frame))) if frame.trailers_ref() == Some(&trailers)));
        assert!(matches!(next(), Poll::Ready(None)));

        let incoming = Full::new(bytes()).map_err(|never| match never {});
        assert_eq!(RequestBody::incoming(incoming, 9, StallTimeout::endless()).buffered_bytes(), 0);
    }

    #[test]
    fn a_body_sent_on_demand_is_read_before_the_response_begins_or_never() {
        let body = || {
            let body = Full::new(Bytes::from_static(b"word")).map_err(|never| match never {});
            RequestBody::incoming(body, 9, StallTimeout::endless()).sent_on_demand()
        };
        let is_read = |body: &mut RequestBody| {
            let polled = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
            matches!(polled, Poll::Ready(Some(Ok(_))))
        };
        for read_first in [true, false] {
            let mut body = body();
            let monitor = body.monitor().expect("a streamed body has a monitor");
            assert!(monitor.is_awaited());
            assert!(!read_first || is_read(&mut body));
            monitor.refuse_unread();
            assert_eq!((monitor.is_awaited(), monitor.fault().is_some()), (false, false));
            assert!(read_first || !is_read(&mut body));
            assert_eq!(
                monitor.attribute(Fault::NoResponse).code(),
                if read_first { "no-answer" } else { "bad-request" }
            );
        }
        let dropped = body();
        let monitor = dropped.monitor().expect("a streamed body has a monitor");
        drop(dropped);
        assert!(!monitor.is_awaited() && monitor.fault().is_none());
    }

    #[test]
    fn each_fault_after_an_unreadable_body_is_the_clients_fault() {
        let detail = "no end".to_owned();
        for bad in [BadBody::TooLarge, BadBody::TooSlow, BadBody::Broken { detail }] {
            let monitor = BodyMonitor::default();
            monitor.note(bad.clone());
            for fault in [timeout(), Fault::NoResponse, Fault::BodyLeftOpen, Fault::Exited { code: 1 }] {
                assert!(matches!(monitor.attribute(fault), Fault::BadRequest { detail } if detail == bad.to_string()));
            }
            let of_client = BodyError::of_response(Fault::from(&bad), Some(&monitor));
            assert!(matches!(of_client, BodyError::BadRequest(found) if found == bad));
            let of_guest = BodyError::of_response(Fault::NoResponse, Some(&monitor));
            assert!(matches!(of_guest, BodyError::Response(Fault::NoResponse)));
        }
    }
}
