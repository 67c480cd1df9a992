//! Owns the steps on the host's own threads at which a test can make it fail. They exist only with
//! the feature `failpoints`.

/// A step that a test may want to fail, by its name in `FAILPOINTS`. Blocks the calling thread where a test says so.
#[cfg(feature = "failpoints")]
pub(crate) fn here(step: &'static str) {
    let _ = fail::eval(step, |_| ());
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn here(_: &'static str) {}
