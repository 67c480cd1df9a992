//! Owns the steps at which a test can pause or crash the host, and the intervals that a test can
//! shorten. Without the feature `failpoints`, it never changes anything.

use std::time::Duration;

/// Runs the action that `FAILPOINTS` sets for this step.
#[cfg(feature = "failpoints")]
pub(crate) async fn reached(step: &'static str) {
    // On a thread for blocking work, since a test may pause the step indefinitely.
    let paused = tokio::task::spawn_blocking(move || fail::eval(step, |_| ()));
    drop(paused.await);
}

#[cfg(not(feature = "failpoints"))]
pub(crate) async fn reached(_: &'static str) {}

/// Returns the interval of a periodic task. `FAILPOINTS` can set another interval in milliseconds,
/// as in `data-check=return(100)`.
#[cfg(feature = "failpoints")]
pub(crate) fn interval(step: &'static str, usual: Duration) -> Duration {
    let milliseconds = fail::eval(step, |given| given.and_then(|text| text.parse().ok())).flatten();
    milliseconds.map_or(usual, Duration::from_millis)
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn interval(_: &'static str, usual: Duration) -> Duration {
    usual
}
