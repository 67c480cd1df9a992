//! Owns waiting for a state. The only place that rests: a test never waits for a time, but until something is so.

use crate::limits::{LOOK_AGAIN, PATIENCE};
use std::time::Instant;

/// Looks until there is something to see, and gives that.
///
/// # Panics
/// When it does not come; `what` says what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {} s in vain for {what}", PATIENCE.as_secs());
        std::thread::sleep(LOOK_AGAIN);
    }
}
