//! Owns the places where a test may stop the host in the middle of its work. Without the feature `failpoints` there
//! are none.

/// A step that a test may want to interrupt, by its name in `FAILPOINTS`.
#[cfg(feature = "failpoints")]
pub(super) async fn reached(step: &'static str) {
    // On a thread for blocking work, since a test lets the step pause for good.
    let paused = tokio::task::spawn_blocking(move || fail::eval(step, |_| ()));
    drop(paused.await);
}

#[cfg(not(feature = "failpoints"))]
pub(super) async fn reached(_: &'static str) {}
