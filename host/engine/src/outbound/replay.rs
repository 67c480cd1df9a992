//! A request's body that can be sent a second time: keeps the sent part up to a limit, and records
//! when the upstream took it. Never sends anything itself.

use crate::limits;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

/// A body, shared between the attempts to send it.
#[derive(Clone)]
pub(super) struct Replay(Arc<Mutex<State>>);

struct State {
    body: WasiBody,
    /// The size of the whole body, as far as it is known.
    size: SizeHint,
    /// The frames taken from the body so far; dropped once they exceed the limit.
    taken: Option<Vec<Kept>>,
    taken_bytes: usize,
    has_ended: bool,
    /// Whether the upstream waits for the guest's next part of the body.
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

/// One attempt's view of the body, from its beginning.
pub(super) struct Reader {
    body: Replay,
    next: usize,
}

impl Replay {
    pub(super) fn new(body: WasiBody) -> Self {
        let (has_ended, size) = (body.is_end_stream(), body.size_hint());
        let (taken, taken_bytes, waits_for_guest, last) = (Some(Vec::new()), 0, false, Instant::now());
        Self(Arc::new(Mutex::new(State { body, size, taken, taken_bytes, has_ended, waits_for_guest, last })))
    }

    /// The whole body, for another attempt. Only the latest reader may be used.
    pub(super) fn reader(&self) -> Reader {
        self.lock().last = Instant::now();
        Reader { body: self.clone(), next: 0 }
    }

    /// Whether everything that was sent of the body is still kept.
    pub(super) fn can_repeat(&self) -> bool {
        self.lock().taken.is_some()
    }

    /// The deadline for the response's head, counted from the last part of the request that the
    /// upstream took. The timer is paused while the guest has to write the next part.
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

impl Body for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
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
        let mut first = replay.reader();
        assert!(first.frame().await.is_some());
        drop(first);
        assert!(replay.can_repeat());
        assert_eq!(all(replay.reader()).await, b"one two three");
        assert_eq!(all(replay.reader()).await, b"one two three");
    }

    #[tokio::test]
    async fn a_body_past_the_bound_is_sent_once_only() {
        let replay = Replay::new(body(vec![vec![1; limits::OUTBOUND_REPLAY_BYTES_MAX], vec![2; 10]]));
        assert_eq!(all(replay.reader()).await.len(), limits::OUTBOUND_REPLAY_BYTES_MAX + 10);
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn a_request_without_a_body_says_so() {
        let replay = Replay::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        assert!(replay.reader().is_end_stream());
        assert_eq!(replay.reader().size_hint().exact(), Some(0));
        assert!(replay.can_repeat());
    }

    #[tokio::test]
    async fn the_timer_is_paused_while_the_guest_writes() {
        let wait = Duration::from_secs(3600);
        let replay = Replay::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Error>>()).boxed_unsync());
        let mut reader = replay.reader();
        assert!(futures::poll!(std::pin::pin!(reader.frame())).is_pending());
        let asked = Instant::now();
        assert!(replay.deadline(wait) >= asked + wait);
        let sent = Replay::new(body(vec![b"all".to_vec()]));
        assert_eq!(all(sent.reader()).await, b"all");
        let ended = Instant::now();
        assert!(sent.deadline(wait) <= ended + wait);
    }
}
