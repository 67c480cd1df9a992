//! Copies a large body of a flat response out of the guest's memory. Lifting a response can't be
//! interrupted, so a large body is copied afterwards, in pieces between which other guests run, and
//! before the guest's post-return function frees it. Every guest function checks the epoch on
//! entry, and the epoch callback does the copying. Never interprets a body.

use crate::limits;
use isopod_executor::slice;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};
use wasmtime::{Engine, UpdateDeadline};

/// The bytes of a response's body. The guest's memory limits their number, so they use no host-call
/// fuel.
pub(crate) enum Body {
    Copied(Vec<u8>),
    /// Copied before the call returns.
    Deferred(Arc<Mutex<Vec<u8>>>),
}

/// A body in the memory of a guest that isn't running.
pub(crate) struct Unread {
    start: *const u8,
    length: usize,
    copied: Arc<Mutex<Vec<u8>>>,
}

// SAFETY: the memory belongs to the store of the call, and moves between threads with it.
unsafe impl Send for Unread {}

/// A call that this thread is polling.
struct Lifting {
    engine: Engine,
    unread: Option<Unread>,
}

thread_local! {
    static LIFTING: Cell<Option<Lifting>> = const { Cell::new(None) };
}

impl Body {
    /// Reads a body from the guest's memory, now or later.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let is_deferred = bytes.len() > limits::FLAT_COPIED_AT_ONCE_BYTES;
        let deferred = if is_deferred { defer(bytes) } else { None };
        deferred.map_or_else(|| Self::Copied(bytes.to_vec()), Self::Deferred)
    }

    /// Returns the bytes, after the call has returned.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Deferred(copied) => std::mem::take(&mut *copied.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Registers a body as unread in the call that this thread is polling. Returns `None` if the thread
/// polls no call.
///
/// The guest's stack may move between threads, so the caller must not keep the variable's address.
#[inline(never)]
fn defer(bytes: &[u8]) -> Option<Arc<Mutex<Vec<u8>>>> {
    let mut lifting = LIFTING.take()?;
    let copied = Arc::<Mutex<Vec<u8>>>::default();
    lifting.unread = Some(Unread { start: bytes.as_ptr(), length: bytes.len(), copied: Arc::clone(&copied) });
    // The guest reaches its deadline when it enters its next function.
    lifting.engine.increment_epoch();
    LIFTING.set(Some(lifting));
    Some(copied)
}

#[inline(never)]
fn take_unread() -> Option<Unread> {
    let mut lifting = LIFTING.take()?;
    let unread = lifting.unread.take();
    LIFTING.set(Some(lifting));
    unread
}

/// Returns the action of the epoch callback if the guest has an unread body.
pub(crate) fn on_epoch() -> Option<UpdateDeadline> {
    take_unread().map(|unread| UpdateDeadline::YieldCustom(1, Box::pin(unread.copy())))
}

/// Runs a call of the flat interface, until its response's body is copied. The call is pinned by
/// the caller, since this future would hold it twice.
pub(crate) async fn call<F: Future>(engine: Engine, mut call: Pin<&mut F>) -> F::Output {
    let (output, unread) = poll_fn(|cx| {
        let outer = LIFTING.replace(Some(Lifting { engine: engine.clone(), unread: None }));
        let polled = call.as_mut().poll(cx);
        let unread = LIFTING.replace(outer).and_then(|lifting| lifting.unread);
        match polled {
            Poll::Ready(output) => Poll::Ready((output, unread)),
            Poll::Pending => {
                // The call may continue on another thread.
                unread.into_iter().for_each(|unread| unread.copy_piece(0, unread.length));
                Poll::Pending
            }
        }
    })
    .await;
    // A guest without a post-return function keeps the body until its next call.
    if let Some(unread) = unread {
        unread.copy().await;
    }
    output
}

impl Unread {
    async fn copy(self) {
        for start in (0..self.length).step_by(limits::FLAT_PIECE_BYTES) {
            self.copy_piece(start, (self.length - start).min(limits::FLAT_PIECE_BYTES));
            if slice::expired() {
                slice::yield_now().await;
            }
        }
    }

    fn copy_piece(&self, start: usize, length: usize) {
        debug_assert!(start + length <= self.length, "a piece is within the body");
        // SAFETY: the range was checked against the guest's memory. The memory neither moves nor
        // changes, since the guest doesn't run until the copy is complete.
        let piece = unsafe { std::slice::from_raw_parts(self.start.add(start), length) };
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        copied.reserve_exact(self.length - start);
        copied.extend_from_slice(piece);
    }
}
