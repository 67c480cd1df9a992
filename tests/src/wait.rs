//! Polls for a state. The only place that sleeps: a test never waits for a time, only for a state.

use crate::limits::{LOOK_AGAIN, PATIENCE};
use std::time::{Duration, Instant};

/// Polls until `look` returns a value, and returns it.
///
/// # Panics
/// If it doesn't in time; `what` names the expected state.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(PATIENCE, what, look)
}

/// Polls with another timeout, for states that take longer.
///
/// # Panics
/// If it doesn't in time.
pub fn wait_up_to<T>(timeout: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < timeout, "timed out after {} s waiting for {what}", timeout.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Polls with a timeout that starts again with each change of `progress`, for work whose length
/// depends on the speed of the machine.
///
/// # Panics
/// If `progress` doesn't change for this time.
pub fn wait_while_it_progresses<T>(
    timeout: Duration,
    what: &str,
    mut progress: impl FnMut() -> f64,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let (mut before, mut since) = (progress(), Instant::now());
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        let now = progress();
        if now != before {
            (before, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < timeout, "no progress for {} s while waiting for {what}", timeout.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
}
