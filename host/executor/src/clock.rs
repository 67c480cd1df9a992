//! What time a poll took of a core. Owns the only readings of clocks.
//!
//! The thread's CPU clock is right, but a call into the kernel: more than a microsecond on some machines, where the wall
//! clock takes 0.04. So a short poll on an I/O thread is charged by the wall. A long one may have been interrupted by the
//! kernel; it is charged no more than the thread used since its CPU clock was last read, at most a millisecond before.

use crate::limits;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A reading of both clocks of a thread.
#[derive(Clone, Copy)]
struct Checked {
    at: Instant,
    cpu_ns: u64,
}

thread_local! {
    static CHECKED: Cell<Option<Checked>> = const { Cell::new(None) };
}

/// Begins a poll on an I/O thread: the time on the wall.
#[inline(never)]
pub(crate) fn begin() -> Instant {
    let now = Instant::now();
    let is_old = CHECKED.get().is_none_or(|checked| now - checked.at > limits::CLOCK_CHECKED_EVERY);
    if is_old {
        CHECKED.set(Some(Checked { at: now, cpu_ns: thread_cpu_ns() }));
    }
    now
}

/// Ends it: what it used.
#[inline(never)]
pub(crate) fn end(begun: Instant) -> u64 {
    let now = Instant::now();
    let wall = now - begun;
    if wall <= limits::WALL_TRUSTED {
        return nanoseconds(wall);
    }
    let cpu_ns = thread_cpu_ns();
    let most_ns = CHECKED.replace(Some(Checked { at: now, cpu_ns })).map_or(u64::MAX, |before| cpu_ns - before.cpu_ns);
    nanoseconds(wall).min(most_ns)
}

/// What this thread used of a core since it began.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one every Linux has, and `time` is a place of the right type for its reading.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    debug_assert!(!failed, "the clock of a thread can always be read");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_charged() {
        let worked_ns = 20_000_000;
        let begun = begin();
        let other = std::thread::spawn(move || {
            let cpu = thread_cpu_ns();
            while thread_cpu_ns() - cpu < worked_ns {}
        });
        other.join().unwrap();
        let used = end(begun);
        assert!(used < worked_ns, "waited while another thread worked, and was charged {used} ns");
    }

    #[test]
    fn working_is_charged() {
        let cpu = thread_cpu_ns();
        let begun = begin();
        while thread_cpu_ns() - cpu < 3_000_000 {}
        assert!(end(begun) >= 2_900_000);
    }
}
