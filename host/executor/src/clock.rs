//! Measures the CPU time that a poll used. Owns all clock readings of this crate. Never charges an
//! account.
//!
//! The thread's CPU clock is exact, but reading it is a system call: more than a microsecond on
//! some machines, where the wall clock takes 0.04. So a short poll on an I/O thread is charged by
//! the wall clock. A long poll may have been preempted by the kernel. It is charged at most the CPU
//! time that the thread used since its CPU clock was last read, at most a millisecond before the
//! poll.

use crate::limits;
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A reading of a thread's CPU clock.
#[derive(Clone, Copy)]
struct Reading {
    fresh_until: Instant,
    cpu_ns: u64,
}

impl Reading {
    fn at(now: Instant, cpu_ns: u64) -> Self {
        Self { fresh_until: now + limits::CLOCK_CHECKED_EVERY, cpu_ns }
    }
}

thread_local! {
    static READING: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// Starts measuring a poll on an I/O thread. Returns the wall-clock time.
#[inline(never)]
pub(crate) fn begin() -> Instant {
    let now = Instant::now();
    let is_old = READING.get().is_none_or(|reading| now > reading.fresh_until);
    if is_old {
        READING.set(Some(Reading::at(now, thread_cpu_ns())));
    }
    now
}

/// Ends the measurement that started at `started`. Returns the CPU time used, in nanoseconds.
#[inline(never)]
pub(crate) fn end(started: Instant) -> u64 {
    let now = Instant::now();
    let wall = now - started;
    if wall <= limits::WALL_TRUSTED {
        return nanoseconds(wall);
    }
    let cpu_ns = thread_cpu_ns();
    let most_ns = READING.replace(Some(Reading::at(now, cpu_ns))).map_or(u64::MAX, |before| cpu_ns - before.cpu_ns);
    nanoseconds(wall).min(most_ns)
}

/// Returns the CPU time that this thread has used since its start.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: every Linux has this clock, and `time` is a valid destination for its reading.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    debug_assert!(!failed, "the thread's CPU clock must be readable");
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
        let started = begin();
        let other = std::thread::spawn(move || {
            let cpu = thread_cpu_ns();
            while thread_cpu_ns() - cpu < worked_ns {}
        });
        other.join().unwrap();
        let used = end(started);
        assert!(used < worked_ns, "a poll that waited for another thread was charged {used} ns");
    }

    #[test]
    fn working_is_charged() {
        let cpu = thread_cpu_ns();
        let started = begin();
        while thread_cpu_ns() - cpu < 3_000_000 {}
        assert!(end(started) >= 2_900_000);
    }
}
