//! Owns the settings of the public status in the configuration file. Never shows a status.

use serde::Deserialize;

use super::ConfigError;
use crate::api::{StatusPageConfig, limits};

/// The table `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusSection {
    title: Option<String>,
    #[serde(default)]
    apps: Vec<String>,
}

impl StatusSection {
    pub(super) fn resolve(self) -> Result<StatusPageConfig, ConfigError> {
        let invalid = |setting: &str, reason: String| ConfigError::Setting { setting: setting.to_owned(), reason };
        let title = self.title.unwrap_or_else(|| "Status".to_owned());
        if !(1..=limits::STATUS_TITLE_CHARS_MAX).contains(&title.chars().count()) {
            let most = limits::STATUS_TITLE_CHARS_MAX;
            return Err(invalid("status.title", format!("it must have 1 to {most} characters")));
        }
        if self.apps.len() > limits::STATUS_PATTERNS_MAX {
            let most = limits::STATUS_PATTERNS_MAX;
            return Err(invalid("status.apps", format!("it has {} entries; the maximum is {most}", self.apps.len())));
        }
        let apps = self.apps.iter().map(|text| {
            text.parse().map_err(|error: isopod_policy::AppPatternError| invalid("status.apps", error.to_string()))
        });
        Ok(StatusPageConfig { title, apps: apps.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<StatusPageConfig, ConfigError> {
        toml::from_str::<StatusSection>(text).expect(text).resolve()
    }

    #[test]
    fn no_app_is_public_by_default() {
        let config = resolved("").expect("resolves");
        assert_eq!((config.title.as_str(), config.apps.len()), ("Status", 0));
        assert_eq!(resolved("apps = [\"shop\", \"pay-*\"]").expect("resolves").apps.len(), 2);
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        let many = format!("apps = [{}]", "\"a\",".repeat(limits::STATUS_PATTERNS_MAX + 1));
        let long = format!("title = \"{}\"", "x".repeat(limits::STATUS_TITLE_CHARS_MAX + 1));
        for (text, name) in [
            ("apps = [\"Not an app\"]", "status.apps"),
            (&many, "status.apps"),
            (&long, "status.title"),
            ("title = \"\"", "status.title"),
        ] {
            assert!(resolved(text).expect_err(text).to_string().contains(name), "{text}");
        }
    }
}
