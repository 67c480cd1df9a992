//! Owns the points on the host's own threads at which a test can inject a fault. Never injects one
//! without the feature `failpoints`.

/// Evaluates a failpoint by its name in `FAILPOINTS`. Blocks the calling thread if a test requests
/// it.
#[cfg(feature = "failpoints")]
pub(crate) fn here(step: &'static str) {
    let _ = fail::eval(step, |_| ());
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn here(_: &'static str) {}
