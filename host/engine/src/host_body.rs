//! Distinguishes a body that the host reads from a connection from one that a guest writes. WASI
//! 0.3 boxes both, and passes on a host's body unchanged, so only a poll shows the difference.
//! Never reads a body.

use std::cell::Cell;

thread_local! {
    static IS_POLLED: Cell<bool> = const { Cell::new(false) };
}

/// Records that this thread polls a body of the host. Not inlined, since the stack of the guest
/// that polls the body may move to another thread.
#[inline(never)]
pub(crate) fn note_poll() {
    IS_POLLED.set(true);
}

/// Polls a body. Returns whether the poll reached a body of the host.
pub(crate) fn watch<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    IS_POLLED.set(false);
    (poll(), IS_POLLED.take())
}
