//! Installs Prometheus and `promtool` for the tests of the metrics, if they are missing and no
//! password is needed. Never fails: these tests are skipped without them, unless their environment
//! variable is set.

use crate::browser::{answers, install};

/// The environment variable that makes a missing Prometheus an error of the tests.
pub const REQUIRED: &str = "ISOPOD_REQUIRE_PROMETHEUS";

/// Installs what is missing. Returns whether the tests can run, and prints why not.
pub fn prepare() -> bool {
    if ["prometheus", "promtool"].into_iter().all(answers) {
        return true;
    }
    let installed = install("prometheus", "Prometheus");
    if let Err(error) = &installed {
        println!("         -- prometheus: {error:#}; the tests with Prometheus are skipped");
    }
    installed.is_ok()
}
