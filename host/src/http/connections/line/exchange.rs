//! A request in progress on a connection, as its response and its body report it. Never reads or
//! writes the socket.

use super::{Line, MAYBE_CHUNKED, OTHER, PARTS, REST, Unread};
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// A request in progress. Held by its response and its body.
pub(crate) struct Exchange(pub(super) Arc<Line>);

impl Exchange {
    /// Makes the end of the connection a reset, so that the client doesn't mistake it for the end
    /// of the body.
    pub(in crate::http::connections) fn reset_at_close(&self) {
        self.0.reset_at_close();
    }

    /// Records that the client doesn't send the body before `100 Continue`.
    pub(in crate::http::connections) fn client_waits(&self) {
        self.0.client_waits.store(true, Relaxed);
    }

    pub(in crate::http::connections) fn is_client_waiting(&self) -> bool {
        self.0.client_waits.load(Relaxed)
    }

    /// Records that the body is read, for which hyper sends `100 Continue`.
    pub(crate) fn body_is_read(&self) {
        self.0.client_waits.store(false, Relaxed);
    }

    /// Records that the response begins. `is_streamed`: its length is unknown.
    pub(in crate::http::connections) fn response_begins(&self, is_streamed: bool) {
        // While an earlier response is unwritten, this head can't be distinguished from that
        // response's body.
        let may_be_chunked = is_streamed && self.0.is_flushed.load(Relaxed);
        self.0.response.store(if may_be_chunked { MAYBE_CHUNKED } else { OTHER }, Relaxed);
        self.0.unwritten.store(PARTS, Relaxed);
    }

    /// Records a response that the client of an HTTP/2 connection has to read.
    pub(in crate::http::connections) fn unread(&self) -> Unread {
        Unread::new(Arc::clone(&self.0))
    }

    /// Records that the response is complete, although the rest of the request may still be read.
    pub(in crate::http::connections) fn response_ends(&self) {
        self.0.response.store(OTHER, Relaxed);
        self.0.unwritten.store(REST, Relaxed);
    }
}

impl Clone for Exchange {
    fn clone(&self) -> Self {
        self.0.exchanges.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let line = &self.0;
        debug_assert!(line.is_busy(), "an exchange ended twice");
        // Only the end of the last exchange reads the clock: before, the connection isn't quiet.
        if line.exchanges.load(Relaxed) == 1 {
            line.quiet_since_ms.store(line.now_ms(), Relaxed);
        }
        line.exchanges.fetch_sub(1, Relaxed);
    }
}
