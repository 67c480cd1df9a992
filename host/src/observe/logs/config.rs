//! The location and the retention of logs. Never touches a file.

use std::{path::PathBuf, time::Duration};

use isopod_policy::AppName;

/// The location and the retention of logs.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The folder that holds one folder per app; an app's segments are in its `logs`.
    pub(crate) apps_dir: PathBuf,
    pub(crate) segment_bytes: u64,
    pub(crate) kept_bytes: u64,
    pub(crate) kept_for: Duration,
}

impl Config {
    /// Returns the folder of an app's segments.
    pub(super) fn folder(&self, app: &AppName) -> PathBuf {
        self.apps_dir.join(app.as_ref()).join("logs")
    }
}
