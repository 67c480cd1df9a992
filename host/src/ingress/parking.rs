//! Yields the processor once before an I/O thread parks, while its requests arrive in quick
//! succession. Other threads run during the yield, so the I/O thread often finds new requests and
//! doesn't sleep. A sleep and its wake-up cost more than a yield. Never prevents the thread from
//! parking.

use crate::ingress::limits;
use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

thread_local! {
    static PARKED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    static WAITS: Cell<Waits> = const { Cell::new(Waits::new()) };
}

/// Yields the processor if waits have been short. The runtime calls it before the thread parks.
pub(super) fn before_park() {
    PARKED_AT.set(Some(Instant::now()));
    if WAITS.get().are_short() {
        thread::yield_now();
    }
}

/// Counts the wait, including the yield. The runtime calls it after the thread unparks.
pub(super) fn after_park() {
    if let Some(parked_at) = PARKED_AT.take() {
        WAITS.set(WAITS.get().with(parked_at.elapsed()));
    }
}

/// The moving average of a thread's waits. Older waits have less weight.
#[derive(Clone, Copy)]
struct Waits {
    average: Duration,
}

impl Waits {
    /// The newest wait has a weight of one in this many.
    const WEIGHT: u32 = 8;

    const fn new() -> Self {
        Self { average: limits::PARK_COUNTED_MAX }
    }

    fn with(self, wait: Duration) -> Self {
        let wait = wait.min(limits::PARK_COUNTED_MAX);
        Self { average: (self.average * (Self::WEIGHT - 1) + wait) / Self::WEIGHT }
    }

    fn are_short(self) -> bool {
        self.average < limits::PARK_YIELDS_BELOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(30);

    fn after(waits: impl IntoIterator<Item = Duration>) -> Waits {
        waits.into_iter().fold(Waits::new(), Waits::with)
    }

    #[test]
    fn a_new_thread_does_not_yield() {
        assert!(!Waits::new().are_short());
        assert!(!after([SHORT]).are_short());
    }

    #[test]
    fn a_thread_yields_after_many_short_waits() {
        assert!(after([SHORT; 60]).are_short());
    }

    #[test]
    fn one_long_wait_ends_the_yields_and_counts_for_a_limited_time() {
        let dense = || std::iter::repeat_n(SHORT, 60);
        let hour = Duration::from_secs(3_600);
        assert!(!after(dense().chain([hour])).are_short());
        assert!(after(dense().chain([hour]).chain(dense())).are_short());
    }

    #[test]
    fn a_thread_with_a_request_per_millisecond_does_not_yield() {
        assert!(!after([Duration::from_millis(1); 100]).are_short());
    }
}
