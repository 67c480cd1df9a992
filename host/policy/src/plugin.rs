//! Plugins: components that extend the host. Owns their kinds and settings. Never starts a plugin;
//! `middleware.rs` owns how apps use them.

use std::time::Duration;

use semver::Version;
use serde::{Serialize, Serializer};

use crate::hook::Subscription;
use crate::limits::{PLUGIN_TIME_LIMIT_USUAL, TEXT_NAME_BYTES_SHOWN};
use crate::setting_word::setting_word;
use crate::text::excerpt;
use crate::units::show_duration;

setting_word! {
    /// Whether a record of the host is an app or a plugin. Both have releases, process types,
    /// grants, limits and logs; only apps have a host name.
    AppKind, "kind", "\"app\" or \"plugin\"" {
        /// Serves requests or handles events.
        App = "app",
        /// Extends the host for other apps.
        Plugin = "plugin",
    }
}

setting_word! {
    /// What a plugin extends, from its exports.
    PluginKind, "kind of plugin", "\"middleware\", \"hook\", \"gate\" or \"provider\"" {
        /// Receives requests before an app does, and the app's responses.
        Middleware = "middleware",
        /// Receives the activity of apps.
        Hook = "hook",
        /// Decides whether a release is activated.
        Gate = "gate",
        /// Offers an interface to apps.
        Provider = "provider",
    }
}

impl AppKind {
    /// Returns whether this is `App`.
    pub fn is_app(&self) -> bool {
        *self == Self::App
    }
}

/// The `[plugin]` table of a plugin's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginSettings {
    /// The plugin's version, which apps select by a range.
    pub version: Version,
    /// The longest time for one call of the plugin; a longer one fails.
    #[serde(serialize_with = "as_duration")]
    pub time_limit: Duration,
    /// The events that it receives, if it is a hook.
    #[serde(skip_serializing_if = "Subscription::is_all")]
    pub subscribe: Subscription,
}

fn as_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show_duration(*duration))
}

impl PluginSettings {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["version", "time_limit", "subscribe"];

    /// Returns the settings of a plugin with this version and defaults.
    pub fn new(version: Version) -> Self {
        Self { version, time_limit: PLUGIN_TIME_LIMIT_USUAL, subscribe: Subscription::default() }
    }
}

/// A text that isn't a version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a semantic version ({why}); write three numbers, such as \"1.2.0\"")]
pub struct VersionError {
    given: String,
    why: String,
}

/// Parses the version of a plugin.
pub(crate) fn parse_version(text: &str) -> Result<Version, VersionError> {
    Version::parse(text).map_err(|error| VersionError {
        given: excerpt(text, TEXT_NAME_BYTES_SHOWN).into_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_three_numbers() {
        assert_eq!(parse_version("1.2.0").map(|version| version.to_string()), Ok("1.2.0".to_owned()));
        for text in ["", "1", "1.2", "v1.2.0", "1.2.0 ", "01.2.0"] {
            let error = parse_version(text).expect_err(text).to_string();
            assert!(error.contains("is not a semantic version") && error.contains("\"1.2.0\""), "{error}");
        }
    }
}
