//! The clock, and waiting.

use std::time::{Duration, SystemTime};

use crate::platform;

/// The time of day.
pub fn now() -> SystemTime {
    platform::now()
}

/// Waits. In tests, the clock is put forward instead.
pub async fn sleep(duration: Duration) {
    platform::sleep(duration).await;
}
