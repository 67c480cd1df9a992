//! A finding of `isopod doctor`: the result of one check. Never checks anything.

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Fine,
    /// The host works, but with a restriction.
    Warning,
    /// The host can't work, or data is missing.
    Broken,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) level: Level,
    pub(super) detail: String,
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn new(name: &str, level: Level, detail: impl Into<String>, fix: Option<&str>) -> Finding {
        Finding { name: name.into(), level, detail: detail.into(), fix: fix.map(str::to_owned) }
    }
}
