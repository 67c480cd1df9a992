//! Owns the steps at which a test can pause or crash the host, and the intervals that a test can
//! shorten. Without the feature `failpoints`, it never changes anything.

use std::time::Duration;

/// Runs the action that `FAILPOINTS` sets for this step. As in `release-booted=return(FILE)`, a
/// test can hold the step until it removes the file, which the host creates.
#[cfg(feature = "failpoints")]
pub(crate) async fn reached(step: &'static str) {
    // On a thread for blocking work, since a test may pause the step indefinitely.
    let paused = tokio::task::spawn_blocking(move || fail::eval(step, |file| file).flatten());
    let Ok(Some(file)) = paused.await else { return };
    if tokio::fs::write(&file, "").await.is_ok() {
        while tokio::fs::try_exists(&file).await.unwrap_or(false) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
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
