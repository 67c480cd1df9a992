//! Owns the steps at which a test can pause or crash the host. Without the feature `failpoints`, it
//! never interrupts anything.

/// Runs the action that `FAILPOINTS` sets for this step.
#[cfg(feature = "failpoints")]
pub(crate) async fn reached(step: &'static str) {
    // On a thread for blocking work, since a test may pause the step indefinitely.
    let paused = tokio::task::spawn_blocking(move || fail::eval(step, |_| ()));
    drop(paused.await);
}

#[cfg(not(feature = "failpoints"))]
pub(crate) async fn reached(_: &'static str) {}
