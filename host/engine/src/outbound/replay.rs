//! A request's body that can be sent a second time: keeps the sent part up to a limit, and records
//! when the connection took it and how each attempt ended. Never sends anything itself.

use crate::limits;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body, shared between the attempts to send it.
#[derive(Clone)]
pub(super) struct Replay(Arc<Mutex<State>>);

struct State {
    body: WasiBody,
    /// The size of the whole body, as far as known.
    size: SizeHint,
    /// The frames taken from the body so far; dropped once they exceed the limit.
    taken: Option<Vec<Kept>>,
    taken_bytes: usize,
    has_ended: bool,
    /// Whether the upstream is waiting for the guest's next part of the body.
    waits_for_guest: bool,
    /// When the connection last took a part, or first began.
    last: Instant,
}

/// One frame of a body that has been taken.
#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

/// One attempt's view of the body, from its beginning. When the connection drops it, it sends the
/// result of the transmission.
pub(super) struct Reader {
    body: Replay,
    next: usize,
    /// Whether the connection has polled for a frame. It never polls if the request has no body, or
    /// if it is a GET or HEAD with a body of unknown length: HTTP clients don't send such a body.
    is_polled: bool,
    taken_bytes: u64,
    /// The body's result, once it has ended.
    ended: Option<Result<(), Error>>,
    result: Option<oneshot::Sender<Result<(), Error>>>,
}

/// The result of one attempt's transmission.
pub(super) struct Transmission(oneshot::Receiver<Result<(), Error>>);

impl Transmission {
    /// Waits until the connection has taken the whole body or has dropped it. A failure is never
    /// ready at the first poll: `wasmtime-wasi-http` would then return it in place of the response,
    /// whose head has arrived.
    pub(super) async fn result(self) -> Result<(), Error> {
        let result = self.0.await.unwrap_or(Err(Error::ConnectionTerminated));
        if result.is_err() {
            tokio::task::yield_now().await;
        }
        result
    }
}

impl Replay {
    pub(super) fn new(body: WasiBody) -> Self {
        let (has_ended, size) = (body.is_end_stream(), body.size_hint());
        let (taken, taken_bytes, waits_for_guest, last) = (Some(Vec::new()), 0, false, Instant::now());
        Self(Arc::new(Mutex::new(State { body, size, taken, taken_bytes, has_ended, waits_for_guest, last })))
    }

    /// Returns a reader of the whole body for another attempt, with the result of that attempt.
    /// Only the latest reader may be used.
    pub(super) fn reader(&self) -> (Reader, Transmission) {
        self.lock().last = Instant::now();
        let (result, receiver) = oneshot::channel();
        let (body, result) = (self.clone(), Some(result));
        let reader = Reader { body, next: 0, is_polled: false, taken_bytes: 0, ended: None, result };
        (reader, Transmission(receiver))
    }

    /// Returns whether all sent parts of the body are still kept.
    pub(super) fn can_repeat(&self) -> bool {
        self.lock().taken.is_some()
    }

    /// Returns the deadline for the response's head, counted from the last part of the request that
    /// the upstream took. The timer is paused while the guest is writing the next part.
    pub(super) fn deadline(&self, wait: Duration) -> Instant {
        let state = self.lock();
        if state.waits_for_guest && !state.has_ended { Instant::now() + wait } else { state.last + wait }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.waits_for_guest = polled.is_pending();
        if let Poll::Ready(frame) = &polled {
            self.last = Instant::now();
            match frame {
                None => self.has_ended = true,
                Some(Ok(frame)) => self.keep(frame),
                Some(Err(_)) => self.taken = None,
            }
        }
        polled
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(taken) = &mut self.taken else { return };
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Kept::Data(data.clone()),
            (None, Some(trailers)) => Kept::Trailers(trailers.clone()),
            (None, None) => return,
        };
        // Empty frames count too, so that their number is bounded.
        self.taken_bytes += 64 + frame.data_ref().map_or(0, Bytes::len);
        if self.taken_bytes > limits::OUTBOUND_REPLAY_BYTES_MAX {
            self.taken = None;
        } else {
            taken.push(kept);
        }
    }
}

impl Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = self.body.clone();
        let mut state = body.lock();
        let again = state.taken.as_ref().and_then(|taken| taken.get(self.next)).cloned();
        self.next += 1;
        match again {
            Some(Kept::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(Kept::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => {
                let polled = state.poll_next(cx);
                if polled.is_pending() {
                    self.next -= 1;
                }
                polled
            }
        }
    }

    /// Returns whether the whole body was sent. The connection needn't poll for the end of a body
    /// whose length it knows.
    fn is_whole(&self) -> bool {
        let exact = self.body.lock().size.exact();
        !self.is_polled || self.is_end_stream() || exact == Some(self.taken_bytes)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let ended = self.ended.take();
        let result = ended.unwrap_or_else(|| if self.is_whole() { Ok(()) } else { Err(Error::ConnectionTerminated) });
        if let Some(sender) = self.result.take() {
            let _ = sender.send(result);
        }
    }
}

/// Returns the error that the connection receives for a body's error, which isn't `Clone`. The
/// connection distinguishes only whether the body had the wrong length.
fn for_connection(error: &Error) -> Error {
    match error {
        Error::HttpRequestBodySize(size) => Error::HttpRequestBodySize(*size),
        _ => Error::HttpProtocolError,
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.is_polled = true;
        match ready!(self.poll_next(cx)) {
            Some(Ok(frame)) => {
                self.taken_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if frame.is_trailers() {
                    self.ended = Some(Ok(()));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let shown = for_connection(&error);
                self.ended = Some(Err(error));
                Poll::Ready(Some(Err(shown)))
            }
            None => {
                self.ended = Some(Ok(()));
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.body.lock();
        let is_ahead = state.taken.as_ref().is_some_and(|taken| self.next < taken.len());
        !is_ahead && (state.has_ended || state.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.body.lock();
        match self.next {
            0 if state.has_ended && state.taken.as_ref().is_some_and(Vec::is_empty) => SizeHint::with_exact(0),
            0 => state.size,
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::{BodyExt, Empty, StreamBody};

    fn body(parts: Vec<Vec<u8>>) -> WasiBody {
        let frames = parts.into_iter().map(|part| Ok::<_, Error>(Frame::data(Bytes::from(part))));
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    async fn all(reader: Reader) -> Vec<u8> {
        reader.collect().await.map(|all| all.to_bytes().to_vec()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_second_attempt_sends_the_same_bytes() {
        let replay = Replay::new(body(vec![b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()]));
        let (mut first, _) = replay.reader();
        assert!(first.frame().await.is_some());
        drop(first);
        assert!(replay.can_repeat());
        assert_eq!(all(replay.reader().0).await, b"one two three");
        assert_eq!(all(replay.reader().0).await, b"one two three");
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_cannot_be_repeated() {
        let replay = Replay::new(body(vec![vec![1; limits::OUTBOUND_REPLAY_BYTES_MAX], vec![2; 10]]));
        assert_eq!(all(replay.reader().0).await.len(), limits::OUTBOUND_REPLAY_BYTES_MAX + 10);
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn a_request_without_a_body_has_length_zero() {
        let replay = Replay::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        assert!(replay.reader().0.is_end_stream());
        assert_eq!(replay.reader().0.size_hint().exact(), Some(0));
        assert!(replay.can_repeat());
    }

    #[tokio::test]
    async fn the_timer_is_paused_while_the_guest_writes() {
        let wait = Duration::from_secs(3600);
        let replay = Replay::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Error>>()).boxed_unsync());
        let (mut reader, _) = replay.reader();
        assert!(futures::poll!(std::pin::pin!(reader.frame())).is_pending());
        let asked = Instant::now();
        assert!(replay.deadline(wait) >= asked + wait);
        let sent = Replay::new(body(vec![b"all".to_vec()]));
        assert_eq!(all(sent.reader().0).await, b"all");
        let ended = Instant::now();
        assert!(sent.deadline(wait) <= ended + wait);
    }

    fn failing(error: Error) -> WasiBody {
        let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(error)];
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    /// A body that never ends, of a known or an unknown length.
    struct Unending(SizeHint);

    impl Body for Unending {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part")))))
        }

        fn size_hint(&self) -> SizeHint {
            self.0
        }
    }

    /// Returns the result of an attempt whose connection took this number of frames.
    async fn transmitted(replay: &Replay, frames: usize) -> Result<(), Error> {
        let (mut reader, transmission) = replay.reader();
        for _ in 0..frames {
            let _ = reader.frame().await;
        }
        drop(reader);
        transmission.result().await
    }

    #[tokio::test]
    async fn a_transmission_succeeds_when_the_body_has_ended() {
        assert!(transmitted(&Replay::new(body(vec![b"one".to_vec(), b"two".to_vec()])), 3).await.is_ok());
        let trailers = stream::iter([Ok::<_, Error>(Frame::trailers(http::HeaderMap::new()))]);
        assert!(transmitted(&Replay::new(StreamBody::new(trailers).boxed_unsync()), 1).await.is_ok());
        let empty = Replay::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        assert!(transmitted(&empty, 0).await.is_ok());
        // The connection doesn't poll for the end after the announced length.
        assert!(transmitted(&Replay::new(Unending(SizeHint::with_exact(8)).boxed_unsync()), 2).await.is_ok());
        // A GET has no body unless its length is known.
        assert!(transmitted(&Replay::new(Unending(SizeHint::default()).boxed_unsync()), 0).await.is_ok());
    }

    #[tokio::test]
    async fn a_transmission_fails_with_the_error_of_the_body() {
        let error = Error::InternalError(Some("aborted".to_owned()));
        let failed = transmitted(&Replay::new(failing(error)), 2).await;
        assert!(matches!(failed, Err(Error::InternalError(Some(text))) if text == "aborted"));
        let failed = transmitted(&Replay::new(failing(Error::HttpRequestBodySize(Some(4)))), 2).await;
        assert!(matches!(failed, Err(Error::HttpRequestBodySize(Some(4)))));
    }

    #[tokio::test]
    async fn a_transmission_fails_when_the_connection_drops_the_body_before_its_end() {
        for size in [SizeHint::default(), SizeHint::with_exact(8)] {
            let dropped = transmitted(&Replay::new(Unending(size).boxed_unsync()), 1).await;
            assert!(matches!(dropped, Err(Error::ConnectionTerminated)));
        }
    }

    #[tokio::test]
    async fn each_attempt_has_its_own_result() {
        let replay = Replay::new(body(vec![b"one".to_vec(), b"two".to_vec()]));
        assert!(transmitted(&replay, 1).await.is_err());
        assert!(transmitted(&replay, 3).await.is_ok());
        assert!(transmitted(&replay, 1).await.is_err());
    }

    #[tokio::test]
    async fn a_success_is_ready_at_the_first_poll_and_a_failure_is_not() {
        let (reader, transmission) = Replay::new(body(Vec::new())).reader();
        drop(reader);
        assert!(futures::poll!(std::pin::pin!(transmission.result())).is_ready());
        let (mut reader, transmission) = Replay::new(failing(Error::HttpProtocolError)).reader();
        let mut result = std::pin::pin!(transmission.result());
        assert!(reader.frame().await.is_some_and(|frame| frame.is_ok()));
        assert!(reader.frame().await.is_some_and(|frame| frame.is_err()));
        drop(reader);
        assert!(futures::poll!(result.as_mut()).is_pending());
        assert!(result.await.is_err());
    }
}
