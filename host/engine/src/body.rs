//! Bodies on their way into a guest and out of it, with their limits.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

/// A request's body.
pub enum RequestBody {
    /// As it comes from the client, up to a limit.
    Incoming { incoming: Incoming, left: u64, trouble: BodyTrouble },
    /// Known in full.
    Full(Full<Bytes>),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request's body is larger than the app's limit (request_body under [limits])")]
    RequestTooLarge,
    #[error("the answer's body is larger than the app's limit (reply_body under [limits])")]
    ReplyTooLarge,
    #[error("the client's body broke off: {0}")]
    Client(#[from] hyper::Error),
    #[error("the guest failed in the middle of its answer")]
    Guest,
    #[error("{0}")]
    Wasi(wasmtime_wasi_http::Error),
}

/// Whether a client's body turned out to be none that can be read: the guest only sees that it broke off, and its answer
/// would put the blame on the app.
#[derive(Clone, Default)]
pub struct BodyTrouble(Arc<OnceLock<BadBody>>);

/// What is wrong with a client's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadBody {
    TooLarge,
    Broken { detail: String },
}

impl BodyTrouble {
    /// What is wrong with the body as far as it was read, if anything is.
    pub fn found(&self) -> Option<&BadBody> {
        self.0.get()
    }

    fn note(&self, bad: BadBody) {
        // The first one is the cause of those that follow.
        let _ = self.0.set(bad);
    }
}

impl RequestBody {
    /// A client's body, of at most `limit` bytes.
    pub fn incoming(incoming: Incoming, limit: u64, trouble: BodyTrouble) -> Self {
        Self::Incoming { incoming, left: limit, trouble }
    }

    /// No body.
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Incoming { incoming, left, trouble } => {
                let Some(frame) = ready!(Pin::new(incoming).poll_frame(cx)) else { return Poll::Ready(None) };
                let frame = frame.inspect_err(|error| trouble.note(BadBody::Broken { detail: error.to_string() }))?;
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(match left.checked_sub(size) {
                    Some(rest) => {
                        *left = rest;
                        Ok(frame)
                    }
                    None => {
                        trouble.note(BadBody::TooLarge);
                        Err(BodyError::RequestTooLarge)
                    }
                }))
            }
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming { incoming, .. } => incoming.is_end_stream(),
            Self::Full(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming { incoming, .. } => incoming.size_hint(),
            Self::Full(full) => full.size_hint(),
        }
    }
}

impl From<BodyError> for wasmtime_wasi_http::Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::RequestTooLarge => Self::HttpRequestBodySize(None),
            BodyError::Client(error) => Self::Hyper(error),
            BodyError::ReplyTooLarge | BodyError::Guest => Self::InternalError(Some(error.to_string())),
            BodyError::Wasi(error) => error,
        }
    }
}

/// An answer's body.
pub enum ReplyBody {
    /// Known in full, so that its length is known too.
    Full(Full<Bytes>),
    /// As the guest writes it.
    Streamed(Streamed),
}

impl ReplyBody {
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }

    pub(crate) fn streamed(body: WasiBody, limit: u64, link: Arc<Link>) -> Self {
        Self::Streamed(Streamed { body, left: limit, link, ended: false })
    }
}

/// A body that a guest writes while the client reads it.
pub struct Streamed {
    body: WasiBody,
    left: u64,
    link: Arc<Link>,
    ended: bool,
}

/// What the writer and the reader of a streamed body must know of each other.
#[derive(Default)]
pub(crate) struct Link {
    /// The guest failed, so that an end of the body is no regular end.
    failed: AtomicBool,
    /// Frames handed on so far.
    progress: AtomicU64,
    /// The reader is gone, before or after the body's end.
    gone: Notify,
    broken_off: AtomicBool,
}

impl Link {
    /// Marks the body as broken, before its writer lets go of it.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Waits until the reader is gone; true if it left before the body's end.
    pub(crate) async fn reader_gone(&self) -> bool {
        self.gone.notified().await;
        self.broken_off.load(Ordering::Acquire)
    }
}

impl Streamed {
    fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.link.broken_off.store(!self.ended, Ordering::Release);
        self.link.gone.notify_one();
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let result = match frame {
            None if self.link.failed.load(Ordering::Acquire) => Some(Err(BodyError::Guest)),
            None => {
                self.end();
                None
            }
            Some(Err(error)) => Some(Err(BodyError::Wasi(error))),
            Some(Ok(frame)) => {
                self.link.progress.fetch_add(1, Ordering::Relaxed);
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match self.left.checked_sub(size) {
                    None => Some(Err(BodyError::ReplyTooLarge)),
                    Some(rest) => {
                        self.left = rest;
                        if frame.is_trailers() {
                            self.end();
                        }
                        Some(Ok(frame))
                    }
                }
            }
        };
        Poll::Ready(result)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(streamed) => Pin::new(streamed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Streamed(streamed) => streamed.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}
