//! The apps that use a plugin, and their names in texts. Never reads the store.

use std::fmt;

use isopod_policy::{AppName, limits::APP_NAME_CHARS_MAX, text};
use tokio::sync::OwnedRwLockWriteGuard;

/// The lock that prevents apps from starting to use an unused plugin.
pub(in crate::control) type UnusedPlugin = OwnedRwLockWriteGuard<()>;

/// The users of a plugin.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) apps: Vec<AppName>,
    /// Whether the host's settings require the plugin for all apps.
    pub(crate) is_required: bool,
    /// The apps whose rollout watch may return to a release that uses the plugin. Empty unless the
    /// plugin is to be removed.
    pub(crate) on_standby: Vec<AppName>,
}

impl Users {
    /// Returns whether nothing uses the plugin.
    pub(in crate::control) fn is_none(&self) -> bool {
        self.apps.is_empty() && !self.is_required && self.on_standby.is_empty()
    }
}

/// Returns the names in order, each once.
pub(in crate::control) fn sorted(apps: impl Iterator<Item = AppName>) -> Vec<AppName> {
    let mut apps: Vec<AppName> = apps.collect();
    apps.sort_unstable();
    apps.dedup();
    apps
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.is_required.then_some("the host's settings");
        let names = host.into_iter().chain(self.apps.iter().map(AppName::as_str));
        f.write_str(&text::list(names, APP_NAME_CHARS_MAX))?;
        if self.on_standby.is_empty() {
            return Ok(());
        }
        let names = text::list(self.on_standby.iter().map(AppName::as_str), APP_NAME_CHARS_MAX);
        let separator = if self.apps.is_empty() && !self.is_required { "" } else { ", and " };
        write!(f, "{separator}a release on standby of {names}")
    }
}
