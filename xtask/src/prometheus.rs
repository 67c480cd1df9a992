//! Installs Prometheus and `promtool` for the tests of the metrics, if they are missing and that
//! needs no permission. Never fails: these tests are skipped without them.

use crate::browser::{answers, install};

/// Installs what is missing, or prints why the tests are skipped.
pub fn prepare() {
    if ["prometheus", "promtool"].into_iter().all(answers) {
        return;
    }
    if let Err(error) = install("prometheus", "Prometheus") {
        println!("         -- prometheus: {error:#}; the tests with Prometheus are skipped");
    }
}
