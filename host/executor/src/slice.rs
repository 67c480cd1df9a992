//! The slice that the current thread gives to a guest. The guest's engine reads its age and whether
//! it expired, and marks a yield, which distinguishes an expired slice from a wait. Never
//! interrupts a guest.
//!
//! A guest's stack may move to another thread while it is suspended, and the compiler may cache a
//! thread-local's address across the suspension. So each access to a thread-local is in a function
//! that is never inlined.

use crate::clock::{self, nanoseconds, thread_cpu_ns};
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

#[derive(Clone, Copy)]
struct Slice {
    clock: Clock,
    length_ns: u64,
    has_yielded: bool,
    /// CPU time of a call nested in this one, which is charged to another account.
    nested_ns: u64,
}

#[derive(Clone, Copy)]
enum Clock {
    /// On an I/O thread.
    Wall { started: Instant },
    /// On a worker thread. Other threads often preempt it, which mustn't shorten the guest's slice.
    Cpu { started_ns: u64, ended_ns: Option<u64> },
}

thread_local! {
    static CURRENT: Cell<Option<Slice>> = const { Cell::new(None) };
}

/// Returns how long the current guest has run in this slice, or `None` if no guest runs.
#[inline(never)]
pub fn age() -> Option<Duration> {
    CURRENT.get().map(|slice| Duration::from_nanos(slice.clock.age_ns()))
}

/// Returns whether the guest should yield. The engine checks it at every tick, so a slice ends at
/// the tick nearest to its length. Returns `true` if no guest runs, since nothing is measured then.
#[inline(never)]
pub fn expired() -> bool {
    CURRENT.get().is_none_or(|slice| slice.clock.age_ns() >= slice.length_ns / 2)
}

/// Returns whether the current guest stopped because its slice expired, rather than to wait.
#[inline(never)]
pub fn has_yielded() -> bool {
    CURRENT.get().is_some_and(|slice| slice.has_yielded)
}

/// Returns whether the current guest runs in a slice of a worker thread.
#[inline(never)]
pub fn is_on_worker() -> bool {
    CURRENT.get().is_some_and(|slice| matches!(slice.clock, Clock::Cpu { .. }))
}

/// Yields because the slice expired. The call then moves to the worker threads, or waits there for
/// its next slice.
pub fn yield_now() -> Yield {
    Yield { done: false }
}

/// A future that is pending once; see [`yield_now`].
#[derive(Debug)]
#[must_use = "it yields only when it is awaited"]
pub struct Yield {
    done: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.done {
            return Poll::Ready(());
        }
        self.done = true;
        mark_yielded();
        // A combinator between this future and the call may poll only futures that were woken.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Marks that the guest stopped because its slice expired.
#[inline(never)]
fn mark_yielded() {
    CURRENT.set(CURRENT.get().map(|slice| Slice { has_yielded: true, ..slice }));
}

/// A slice in progress. Slices nest: when an inner slice ends, the outer one continues.
pub(crate) struct SliceGuard {
    outer: Option<Slice>,
}

/// The CPU usage of a slice that ended.
#[derive(Default)]
pub(crate) struct SliceUsage {
    pub(crate) cpu_ns: u64,
    /// On a worker thread, the reading of its CPU clock.
    pub(crate) ended_ns: u64,
    pub(crate) has_yielded: bool,
}

/// Starts a slice on an I/O thread. Also returns the time of the start.
#[inline(never)]
pub(crate) fn begin_inline(length_ns: u64) -> (SliceGuard, Instant) {
    let started = clock::begin();
    (begin(Clock::Wall { started }, length_ns), started)
}

/// Starts a slice on a worker thread, at a reading of its CPU clock.
#[inline(never)]
pub(crate) fn begin_on_worker(length_ns: u64, started_ns: u64) -> SliceGuard {
    begin(Clock::Cpu { started_ns, ended_ns: None }, length_ns)
}

fn begin(clock: Clock, length_ns: u64) -> SliceGuard {
    let slice = Slice { clock, length_ns, has_yielded: false, nested_ns: 0 };
    SliceGuard { outer: CURRENT.replace(Some(slice)) }
}

/// Stops the clock of a slice on a worker thread. Returns the CPU time used, without that of nested
/// slices.
#[inline(never)]
pub(crate) fn stop_worker_clock() -> u64 {
    let Some(Slice { clock: Clock::Cpu { started_ns, .. }, nested_ns, .. }) = CURRENT.get() else { return 0 };
    let now_ns = thread_cpu_ns();
    CURRENT.set(CURRENT.get().map(|slice| Slice { clock: Clock::Cpu { started_ns, ended_ns: Some(now_ns) }, ..slice }));
    (now_ns - started_ns).saturating_sub(nested_ns)
}

impl SliceGuard {
    /// Ends the slice and returns its usage.
    #[inline(never)]
    pub(crate) fn end(mut self) -> SliceUsage {
        let Some(slice) = CURRENT.get() else { return SliceUsage::default() };
        let (cpu_ns, ended_ns) = match slice.clock {
            Clock::Wall { started } => (clock::end(started), 0),
            Clock::Cpu { started_ns, ended_ns } => {
                let ended_ns = ended_ns.unwrap_or_else(thread_cpu_ns);
                (ended_ns - started_ns, ended_ns)
            }
        };
        if let Some(outer) = &mut self.outer {
            outer.nested_ns += cpu_ns;
        }
        let cpu_ns = cpu_ns.saturating_sub(slice.nested_ns);
        SliceUsage { cpu_ns, ended_ns, has_yielded: slice.has_yielded }
    }
}

impl Drop for SliceGuard {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

impl Clock {
    fn age_ns(self) -> u64 {
        match self {
            Self::Wall { started } => nanoseconds(started.elapsed()),
            Self::Cpu { started_ns, .. } => thread_cpu_ns() - started_ns,
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    const LENGTH_NS: u64 = 1_000_000;

    fn work_for(time_ns: u64) {
        let started = thread_cpu_ns();
        while thread_cpu_ns() - started < time_ns {}
    }

    #[test]
    fn without_a_guest_the_slice_has_no_age_and_is_expired() {
        assert_eq!((age(), expired()), (None, true));
    }

    #[test]
    fn a_slice_expires_at_the_tick_nearest_to_its_length() {
        let guard = begin_on_worker(LENGTH_NS, thread_cpu_ns());
        assert!(!expired());
        work_for(LENGTH_NS / 2);
        assert!(expired() && age().is_some_and(|age| age >= Duration::from_micros(500)));
        assert!(!guard.end().has_yielded);
        assert_eq!(age(), None);
    }

    #[test]
    fn a_nested_call_is_not_charged_twice() {
        let outer = begin_on_worker(LENGTH_NS, thread_cpu_ns());
        let (inner, _) = begin_inline(LENGTH_NS);
        work_for(5 * LENGTH_NS);
        mark_yielded();
        let inner = inner.end();
        assert!(inner.cpu_ns >= 4 * LENGTH_NS && inner.has_yielded);
        assert!(stop_worker_clock() < LENGTH_NS);
        let outer = outer.end();
        assert!(outer.cpu_ns < LENGTH_NS && !outer.has_yielded);
    }

    #[test]
    fn a_panic_ends_its_slice() {
        let panicked = std::panic::catch_unwind(|| {
            let (_guard, _) = begin_inline(LENGTH_NS);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err() && age().is_none());
    }
}
