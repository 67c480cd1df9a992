//! How the host uses gates: the plugin, its config, the apps that it applies to, and the reaction
//! to a failure. Never calls a plugin.

use std::fmt;
use std::str::FromStr;

use crate::limits::{APP_NAME_CHARS_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::text::excerpt;
use crate::{AppName, AppType, MiddlewareConfig, OnFailure, PluginReference};

/// One `[[gates]]` table of the host's settings: a plugin that may refuse releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateUse {
    /// The plugin, and the range of versions that the host accepts.
    pub plugin: PluginReference,
    /// The plugin's config.
    pub config: MiddlewareConfig,
    /// What happens to a release if the plugin fails.
    pub on_failure: OnFailure,
    /// The apps that the gate applies to; if empty, all.
    pub apps: Vec<AppPattern>,
    /// The app types that the gate applies to; if empty, all.
    pub types: Vec<AppType>,
}

impl GateUse {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["use", "config", "on_failure", "apps", "types"];

    /// Returns a use of the plugin with default settings.
    pub fn new(plugin: PluginReference) -> Self {
        let (config, on_failure) = Default::default();
        Self { plugin, config, on_failure, apps: Vec::new(), types: Vec::new() }
    }

    /// Returns whether the gate applies to this app.
    pub fn applies_to(&self, app: &AppName, app_type: AppType) -> bool {
        let is_named = self.apps.is_empty() || self.apps.iter().any(|pattern| pattern.matches(app));
        is_named && (self.types.is_empty() || self.types.contains(&app_type))
    }
}

/// A pattern of app names: a name, or a prefix followed by `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPattern {
    /// The name or the prefix, without the `*`.
    name: String,
    is_prefix: bool,
}

impl AppPattern {
    /// Returns whether the pattern matches this app.
    pub fn matches(&self, app: &AppName) -> bool {
        match self.is_prefix {
            true => app.as_str().starts_with(&self.name),
            false => app.as_str() == self.name,
        }
    }
}

/// A text that no app's name can match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} matches no app; write the name of an app, or a prefix such as \"pay-*\"")]
pub struct AppPatternError {
    given: String,
}

impl FromStr for AppPattern {
    type Err = AppPatternError;

    fn from_str(text: &str) -> Result<Self, AppPatternError> {
        let is_valid = match text.strip_suffix('*') {
            Some(start) => {
                let has_characters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                start.len() <= APP_NAME_CHARS_MAX && start.chars().all(has_characters) && !start.starts_with('-')
            }
            None => text.parse::<AppName>().is_ok(),
        };
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        match is_valid {
            true => Ok(Self { name: name.to_owned(), is_prefix }),
            false => Err(AppPatternError { given: excerpt(text, TEXT_NAME_BYTES_SHOWN).into_owned() }),
        }
    }
}

impl fmt::Display for AppPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.is_prefix { "*" } else { "" })
    }
}

/// The kind of change that creates a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseCause {
    /// The upload of a bundle.
    Push,
    /// A rollback to an earlier release, by a person.
    Rollback,
    /// A change of config vars.
    Config,
    /// A change of process types.
    Formation,
    /// A change of grants.
    Grants,
    /// The approval of a release that asks for more than its ceiling allows.
    Approval,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().expect(name)
    }

    fn pattern(text: &str) -> AppPattern {
        text.parse().expect(text)
    }

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        assert!(pattern("shop").matches(&app("shop")) && !pattern("shop").matches(&app("shop2")));
        assert!(pattern("pay-*").matches(&app("pay-in")) && !pattern("pay-*").matches(&app("pay")));
        assert!(pattern("*").matches(&app("any")) && !pattern("shop").matches(&app("sho")));
        for text in ["shop", "pay-*", "*", "2nd"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for text in ["", "Shop", "-pay*", "a*b", "**", "shop ", "pay_*", &format!("{}*", "a".repeat(64))] {
            let error = text.parse::<AppPattern>().expect_err(text).to_string();
            assert!(error.contains("\"pay-*\""), "{error}");
        }
    }

    #[test]
    fn a_table_of_the_hosts_settings_is_read_with_its_defaults() {
        let read = |text: &str| toml::from_str::<GateUse>(text).map_err(|error| error.to_string());
        let used =
            read("use = \"gate@^1\"\nconfig = { a = 1 }\napps = [\"pay-*\"]\ntypes = [\"staging\"]\n").expect("valid");
        assert_eq!((used.plugin.to_string().as_str(), used.config.as_str()), ("gate@^1", r#"{"a":1}"#));
        assert_eq!((used.apps, used.types), (vec![pattern("pay-*")], vec![AppType::Staging]));
        let least = read("use = \"gate\"").expect("valid");
        assert_eq!(least, GateUse::new(app("gate").into()));
        assert_eq!(least.on_failure, OnFailure::Refuse);
        for (text, words) in [
            ("apps = [\"shop\"]", "\"use\" is missing"),
            ("use = \"gate\"\napps = []", "the list is empty"),
            ("use = \"gate\"\ntypes = []", "the list is empty"),
            ("use = \"gate\"\non_failure = \"retry\"", "\"refuse\" or \"pass\""),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_gate_applies_to_the_apps_and_types_in_its_settings() {
        let mut used = GateUse::new(app("deploy-window").into());
        assert!(used.applies_to(&app("shop"), AppType::Dev));
        used.apps = vec![pattern("shop"), pattern("pay-*")];
        assert!(used.applies_to(&app("pay-in"), AppType::Dev) && !used.applies_to(&app("blog"), AppType::Dev));
        used.types = vec![AppType::Production];
        assert!(used.applies_to(&app("shop"), AppType::Production) && !used.applies_to(&app("shop"), AppType::Dev));
        assert!(!used.applies_to(&app("blog"), AppType::Production));
    }
}
