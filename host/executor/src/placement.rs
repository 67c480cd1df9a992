//! Where a call is polled next: here on the I/O thread, or on the fair threads. Decides by numbers that are given to it.
//!
//! | the account or the call | goes to |
//! | --- | --- |
//! | its calls usually are long | fair threads |
//! | this call had its slice here, and its part of the time since | fair threads |
//! | others have work on the fair threads, and the account is clearly ahead of them | fair threads |
//! | it is push work, and pull work waits for a fair thread | fair threads |
//! | anything else, whatever the account itself has on the fair threads | here |
//!
//! That an account has tasks on the fair threads is no reason: one long call would then move all the short ones beside
//! it, and each would lengthen the queue that moves the next.

use crate::{class::Class, limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Here,
    Fair,
}

/// What is known about a call at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallFacts {
    /// What the account's calls usually take.
    pub(crate) typical_ns: u64,
    /// What this call used more than its part of the time since it began.
    pub(crate) burst_ns: u64,
    /// How far the account's virtual time is past the minimum of its class.
    pub(crate) lead_ns: u64,
    /// Whether other accounts have work of this class on the fair threads.
    pub(crate) others_active: bool,
    /// Whether pull work waits for a fair thread.
    pub(crate) pull_waits: bool,
}

impl CallFacts {
    pub(crate) fn place(&self, class: Class, slice_ns: u64) -> Placement {
        let is_long = self.typical_ns > slice_ns / limits::LONG_CALL_PER_SLICE || self.burst_ns > slice_ns;
        let is_ahead = self.others_active && self.lead_ns > slice_ns * limits::LEAD_SLICES;
        let yields = match class {
            Class::Pull => false,
            Class::Push => self.pull_waits,
        };
        if is_long || is_ahead || yields { Placement::Fair } else { Placement::Here }
    }
}

/// What a call used more than its part of the time since it began.
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
    fn a_short_call_stays_where_it_is() {
        assert_eq!(QUIET.place(Pull, SLICE), Placement::Here);
        assert_eq!(CallFacts { others_active: true, ..QUIET }.place(Pull, SLICE), Placement::Here);
        assert_eq!(CallFacts { lead_ns: u64::MAX, ..QUIET }.place(Pull, SLICE), Placement::Here);
    }

    #[test]
    fn long_calls_go_to_the_fair_threads_at_once() {
        assert_eq!(CallFacts { typical_ns: SLICE / 4 + 1, ..QUIET }.place(Pull, SLICE), Placement::Fair);
        assert_eq!(CallFacts { typical_ns: SLICE / 4, ..QUIET }.place(Pull, SLICE), Placement::Here);
    }

    #[test]
    fn a_call_that_had_its_slice_goes_on_elsewhere() {
        assert_eq!(CallFacts { burst_ns: SLICE + 1, ..QUIET }.place(Pull, SLICE), Placement::Fair);
        assert_eq!(burst_ns(5 * SLICE, 16 * SLICE), 3 * SLICE);
        assert_eq!(burst_ns(SLICE, 3_600 * SLICE), 0, "a long stream may work a little all the time");
    }

    #[test]
    fn who_is_clearly_ahead_of_others_gets_in_line() {
        let ahead = CallFacts { lead_ns: 10 * SLICE + 1, others_active: true, ..QUIET };
        assert_eq!(ahead.place(Pull, SLICE), Placement::Fair);
        assert_eq!(CallFacts { lead_ns: 10 * SLICE, ..ahead }.place(Pull, SLICE), Placement::Here);
    }

    #[test]
    fn push_work_stands_back_where_pull_work_waits() {
        let busy = CallFacts { pull_waits: true, ..QUIET };
        assert_eq!((busy.place(Push, SLICE), busy.place(Pull, SLICE)), (Placement::Fair, Placement::Here));
    }
}
