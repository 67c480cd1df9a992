//! Owns waiting for a state. The only place that rests: a test never waits for a time, but until something is so.

use crate::limits::{LOOK_AGAIN, PATIENCE};
use std::time::{Duration, Instant};

/// Looks until there is something to see, and gives that.
///
/// # Panics
/// When it does not come; `what` says what was waited for.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(PATIENCE, what, look)
}

/// The same for what may take longer by its nature.
///
/// # Panics
/// When it does not come.
pub fn wait_up_to<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < patience, "waited {} s in vain for {what}", patience.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
}
