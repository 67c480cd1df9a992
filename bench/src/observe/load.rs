//! The two loads of `bench observe`. Never sends a request.

/// The apps of the load in which each request has a line. An app has at most 1,000 access lines per
/// second (`LOG_ACCESS_LINES_PER_SECOND`), and together the apps get fewer requests than that each.
const APPS: usize = 100;

/// What `wrk` requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// One app, whose access lines reach their limit per second.
    OneApp,
    /// Many apps in turn, so that each request has a line.
    ManyApps,
}

impl Load {
    pub(super) fn label(self) -> &'static str {
        match self {
            Load::OneApp => "one app",
            Load::ManyApps => "100 apps",
        }
    }

    /// Returns the names of the apps.
    pub(super) fn apps(self) -> Vec<String> {
        let number = match self {
            Load::OneApp => 1,
            Load::ManyApps => APPS,
        };
        (0..number).map(|app| format!("hello-{app}")).collect()
    }
}
