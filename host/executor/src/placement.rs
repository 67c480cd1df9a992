//! Decides where a call is polled next: inline on the I/O thread, or on a worker thread. Reads no
//! clock and no queue: the facts are arguments.
//!
//! | the account or the call | goes to |
//! | --- | --- |
//! | its calls are typically long | worker threads |
//! | this call used its slice inline, and its part of the time since | worker threads |
//! | others have work on the worker threads, and the account is clearly ahead | worker threads |
//! | it is push work, and pull work waits for a worker thread | worker threads |
//! | anything else, even if the account has work on the worker threads | inline |
//!
//! An account's own work on the worker threads doesn't move a call. Otherwise one long call would
//! move all short calls beside it, and each of those would lengthen the queue that moves the next.

use crate::{class::Class, limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Inline,
    Worker,
}

/// The facts about a call that decide its placement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallFacts {
    /// The typical CPU time of the account's calls.
    pub(crate) typical_ns: u64,
    /// The CPU time that this call used beyond its part of the time since its start.
    pub(crate) burst_ns: u64,
    /// How far the account's virtual time is past the minimum of its class.
    pub(crate) lead_ns: u64,
    /// Whether other accounts have work of this class on the worker threads.
    pub(crate) others_active: bool,
    /// Whether pull work waits for a worker thread.
    pub(crate) pull_waits: bool,
}

impl CallFacts {
    pub(crate) fn placement(&self, class: Class, slice_ns: u64) -> Placement {
        let is_long = self.typical_ns > slice_ns / limits::LONG_CALL_PER_SLICE || self.burst_ns > slice_ns;
        let is_ahead = self.others_active && self.lead_ns > slice_ns * limits::LEAD_SLICES;
        let yields = match class {
            Class::Pull => false,
            Class::Push => self.pull_waits,
        };
        if is_long || is_ahead || yields { Placement::Worker } else { Placement::Inline }
    }
}

/// Returns the CPU time that a call used beyond its part of the time since its start.
pub(crate) fn burst_ns(used_ns: u64, since_begin_ns: u64) -> u64 {
    used_ns.saturating_sub(since_begin_ns / limits::CALL_SHARE_PARTS)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use Class::{Pull, Push};

    const SLICE: u64 = 1_000_000;
    const QUIET: CallFacts =
        CallFacts { typical_ns: 0, burst_ns: 0, lead_ns: 0, others_active: false, pull_waits: false };

    #[test]
    fn a_short_call_is_placed_inline() {
        assert_eq!(QUIET.placement(Pull, SLICE), Placement::Inline);
        assert_eq!(CallFacts { others_active: true, ..QUIET }.placement(Pull, SLICE), Placement::Inline);
        assert_eq!(CallFacts { lead_ns: u64::MAX, ..QUIET }.placement(Pull, SLICE), Placement::Inline);
    }

    #[test]
    fn calls_of_an_account_with_long_calls_start_on_worker_threads() {
        assert_eq!(CallFacts { typical_ns: SLICE / 4 + 1, ..QUIET }.placement(Pull, SLICE), Placement::Worker);
        assert_eq!(CallFacts { typical_ns: SLICE / 4, ..QUIET }.placement(Pull, SLICE), Placement::Inline);
    }

    #[test]
    fn a_call_that_used_its_slice_moves_to_a_worker_thread() {
        assert_eq!(CallFacts { burst_ns: SLICE + 1, ..QUIET }.placement(Pull, SLICE), Placement::Worker);
        assert_eq!(burst_ns(5 * SLICE, 16 * SLICE), 3 * SLICE);
        assert_eq!(burst_ns(SLICE, 3_600 * SLICE), 0, "a long stream may use a little CPU all the time");
    }

    #[test]
    fn an_account_clearly_ahead_of_others_moves_to_worker_threads() {
        let ahead = CallFacts { lead_ns: 10 * SLICE + 1, others_active: true, ..QUIET };
        assert_eq!(ahead.placement(Pull, SLICE), Placement::Worker);
        assert_eq!(CallFacts { lead_ns: 10 * SLICE, ..ahead }.placement(Pull, SLICE), Placement::Inline);
    }

    #[test]
    fn push_work_moves_to_worker_threads_while_pull_work_waits() {
        let busy = CallFacts { pull_waits: true, ..QUIET };
        assert_eq!((busy.placement(Push, SLICE), busy.placement(Pull, SLICE)), (Placement::Worker, Placement::Inline));
    }
}
