//! The configs that plugins have accepted during one change. Never calls a plugin.

use isopod_policy::{MiddlewareUse, ReleaseNumber};

/// The configs that plugins have accepted during one change.
#[derive(Default)]
pub(in crate::control) struct AcceptedConfigs(Vec<(Option<ReleaseNumber>, MiddlewareUse)>);

impl AcceptedConfigs {
    /// Returns whether this release of the plugin has accepted the config.
    pub(in crate::control) fn contains(&self, release: Option<ReleaseNumber>, used: &MiddlewareUse) -> bool {
        self.0.iter().any(|(by, accepted)| *by == release && has_same_config(accepted, used))
    }

    pub(in crate::control) fn add(&mut self, release: Option<ReleaseNumber>, used: MiddlewareUse) {
        self.0.push((release, used));
    }
}

/// Returns whether two uses pass the same config to the same plugin.
pub(in crate::control) fn has_same_config(one: &MiddlewareUse, other: &MiddlewareUse) -> bool {
    one.plugin.name == other.plugin.name && one.config == other.config
}
