//! The clock and timers. Never reads the machine's clock in tests.

use std::time::{Duration, SystemTime};

use crate::platform;

/// Returns the current time.
pub fn now() -> SystemTime {
    platform::now()
}

/// Waits for a duration. In tests, the simulated clock advances instead.
pub async fn sleep(duration: Duration) {
    platform::sleep(duration).await;
}
