//! The slice of time that the thread is giving to a guest, as the guest's engine may ask for it: how old it is, whether it
//! is over, and a way to say that a guest stopped because of that and not because it waits. Never stops anybody.
//!
//! A guest's stack may move to another thread while it is suspended, and the compiler may keep the address of a thread's
//! variable across that. So whoever touches one here is a function of its own, never compiled into its caller.

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
    /// What a call within this one used, which is charged to another account.
    elsewhere_ns: u64,
}

#[derive(Clone, Copy)]
enum Clock {
    /// On an I/O thread.
    Wall { begun: Instant },
    /// On a fair thread: other threads often interrupt it, which does not make the guest's slice shorter.
    Cpu { begun_ns: u64, ended_ns: Option<u64> },
}

thread_local! {
    static CURRENT: Cell<Option<Slice>> = const { Cell::new(None) };
}

/// How long the guest that this thread runs has had the CPU; none where no guest runs.
#[inline(never)]
pub fn age() -> Option<Duration> {
    CURRENT.get().map(|slice| Duration::from_nanos(slice.clock.age_ns()))
}

/// Whether the guest should give way: asked at every tick, it ends a slice at the tick nearest to its length. Where no
/// guest runs, nobody measures, and it says yes.
#[inline(never)]
pub fn expired() -> bool {
    CURRENT.get().is_none_or(|slice| slice.clock.age_ns() >= slice.length_ns / 2)
}

/// Gives way since the slice is over. The call is then moved to the fair threads, or waits there for its next turn.
pub fn yield_now() -> Yield {
    Yield { done: false }
}

/// Pending once: see [`yield_now`].
#[derive(Debug)]
#[must_use = "it gives way only where it is awaited"]
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
        // Whatever is between this future and the call's may poll only what was woken.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Marks that the guest stopped because its slice was over.
#[inline(never)]
fn mark_yielded() {
    CURRENT.set(CURRENT.get().map(|slice| Slice { has_yielded: true, ..slice }));
}

/// A slice that is being given. Another one may be given within it; the outer one goes on when that ends.
pub(crate) struct Giving {
    outer: Option<Slice>,
}

/// What became of a slice.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) cpu_ns: u64,
    /// On a fair thread, the reading of its CPU clock.
    pub(crate) ended_ns: u64,
    pub(crate) has_yielded: bool,
}

/// Begins a slice on an I/O thread. Also tells when that is.
#[inline(never)]
pub(crate) fn give_here(length_ns: u64) -> (Giving, Instant) {
    let begun = clock::begin();
    (give(Clock::Wall { begun }, length_ns), begun)
}

/// Begins a slice on a fair thread, at a reading of its CPU clock.
#[inline(never)]
pub(crate) fn give_fair(length_ns: u64, begun_ns: u64) -> Giving {
    give(Clock::Cpu { begun_ns, ended_ns: None }, length_ns)
}

fn give(clock: Clock, length_ns: u64) -> Giving {
    let slice = Slice { clock, length_ns, has_yielded: false, elsewhere_ns: 0 };
    Giving { outer: CURRENT.replace(Some(slice)) }
}

/// Stops the clock of a slice on a fair thread, and tells what was used without what was given within it.
#[inline(never)]
pub(crate) fn stop_fair() -> u64 {
    let Some(Slice { clock: Clock::Cpu { begun_ns, .. }, elsewhere_ns, .. }) = CURRENT.get() else { return 0 };
    let now_ns = thread_cpu_ns();
    CURRENT.set(CURRENT.get().map(|slice| Slice { clock: Clock::Cpu { begun_ns, ended_ns: Some(now_ns) }, ..slice }));
    (now_ns - begun_ns).saturating_sub(elsewhere_ns)
}

impl Giving {
    /// Ends the slice.
    #[inline(never)]
    pub(crate) fn end(mut self) -> Given {
        let Some(slice) = CURRENT.get() else { return Given::default() };
        let (cpu_ns, ended_ns) = match slice.clock {
            Clock::Wall { begun } => (clock::end(begun), 0),
            Clock::Cpu { begun_ns, ended_ns } => {
                let ended_ns = ended_ns.unwrap_or_else(thread_cpu_ns);
                (ended_ns - begun_ns, ended_ns)
            }
        };
        if let Some(outer) = &mut self.outer {
            outer.elsewhere_ns += cpu_ns;
        }
        let cpu_ns = cpu_ns.saturating_sub(slice.elsewhere_ns);
        Given { cpu_ns, ended_ns, has_yielded: slice.has_yielded }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
    }
}

impl Clock {
    fn age_ns(self) -> u64 {
        match self {
            Self::Wall { begun } => nanoseconds(begun.elapsed()),
            Self::Cpu { begun_ns, .. } => thread_cpu_ns() - begun_ns,
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    const LENGTH_NS: u64 = 1_000_000;

    fn work_for(time_ns: u64) {
        let begun = thread_cpu_ns();
        while thread_cpu_ns() - begun < time_ns {}
    }

    #[test]
    fn where_no_guest_runs_nobody_measures() {
        assert_eq!((age(), expired()), (None, true));
    }

    #[test]
    fn a_slice_is_over_at_the_tick_nearest_to_its_length() {
        let giving = give_fair(LENGTH_NS, thread_cpu_ns());
        assert!(!expired());
        work_for(LENGTH_NS / 2);
        assert!(expired() && age().is_some_and(|age| age >= Duration::from_micros(500)));
        assert!(!giving.end().has_yielded);
        assert_eq!(age(), None);
    }

    #[test]
    fn a_call_within_a_call_is_not_charged_twice() {
        let outer = give_fair(LENGTH_NS, thread_cpu_ns());
        let (inner, _) = give_here(LENGTH_NS);
        work_for(5 * LENGTH_NS);
        mark_yielded();
        let inner = inner.end();
        assert!(inner.cpu_ns >= 4 * LENGTH_NS && inner.has_yielded);
        assert!(stop_fair() < LENGTH_NS);
        let outer = outer.end();
        assert!(outer.cpu_ns < LENGTH_NS && !outer.has_yielded);
    }

    #[test]
    fn a_panic_ends_its_slice() {
        let panicked = std::panic::catch_unwind(|| {
            let (_giving, _) = give_here(LENGTH_NS);
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err() && age().is_none());
    }
}
