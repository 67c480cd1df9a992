//! Reports the source of each config var of an app, and the effect of a rollback on its secrets.
//! Never shows a secret.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{ConfigValue, ConfigVars};

/// The source of a config var.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigSource {
    /// `[config]` of the current release's manifest.
    Manifest,
    /// Set at the host; overrides the manifest's value.
    Host,
}

/// A config var as guests receive it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EffectiveVar {
    pub key: String,
    /// Absent for a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub secret: bool,
    pub source: ConfigSource,
}

/// The effect on secrets of replacing the current config vars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretChanges<'v> {
    /// Removed, or no longer secret.
    pub dropped: Vec<&'v str>,
    /// The value differs.
    pub changed: Vec<&'v str>,
    /// Currently missing, or not secret.
    pub restored: Vec<&'v str>,
}

impl ConfigVars {
    /// Returns every config var that guests receive, by name, with its source.
    pub fn with_sources(&self, manifest: &BTreeMap<String, String>) -> Vec<EffectiveVar> {
        let of_manifest = manifest.iter().map(|(key, value)| EffectiveVar {
            key: key.clone(),
            value: Some(value.clone()),
            secret: false,
            source: ConfigSource::Manifest,
        });
        let of_host = self.iter().map(|(key, value)| {
            let plain = match value {
                ConfigValue::Plain(text) => Some(text.clone()),
                ConfigValue::Secret(_) => None,
            };
            EffectiveVar { key: key.to_owned(), secret: plain.is_none(), value: plain, source: ConfigSource::Host }
        });
        // The host's vars come last, so that they replace the manifest's.
        let all: BTreeMap<String, EffectiveVar> =
            of_manifest.chain(of_host).map(|var| (var.key.clone(), var)).collect();
        all.into_values().collect()
    }

    /// Returns the effect on secrets of replacing these vars with `next`.
    pub fn secret_changes<'v>(&'v self, next: &'v Self) -> SecretChanges<'v> {
        let mut changes = SecretChanges::default();
        for (key, value) in self.iter().filter(|(_, value)| is_secret(value)) {
            match next.get(key) {
                Some(after) if after == value => {}
                Some(after) if is_secret(after) => changes.changed.push(key),
                Some(_) | None => changes.dropped.push(key),
            }
        }
        let is_new = |key: &str| !self.get(key).is_some_and(is_secret);
        changes.restored =
            next.iter().filter(|(key, value)| is_secret(value) && is_new(key)).map(|(key, _)| key).collect();
        changes
    }
}

fn is_secret(value: &ConfigValue) -> bool {
    matches!(value, ConfigValue::Secret(_))
}

/// The end of a sentence about a change; empty if no secret differs.
impl fmt::Display for SecretChanges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, keys) in [("dropped", &self.dropped), ("changed", &self.changed), ("restored", &self.restored)] {
            if !keys.is_empty() {
                write!(f, "; secrets {what}: {}", keys.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(json: serde_json::Value) -> ConfigVars {
        serde_json::from_value(json).expect("these are config vars")
    }

    #[test]
    fn a_var_set_at_the_host_overrides_the_manifests() {
        let manifest = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
        let set = vars(serde_json::json!({"B": "3", "C": {"sealed": "x"}}));
        let shown = serde_json::to_value(set.with_sources(&manifest)).unwrap();
        let expected = serde_json::json!([
            {"key": "A", "value": "1", "secret": false, "source": "manifest"},
            {"key": "B", "value": "3", "secret": false, "source": "host"},
            {"key": "C", "secret": true, "source": "host"},
        ]);
        assert_eq!(shown, expected);
    }

    #[test]
    fn secrets_that_a_rollback_drops_changes_and_restores_are_named() {
        let now = vars(serde_json::json!({"A": {"sealed": "1"}, "B": {"sealed": "2"}, "C": {"sealed": "3"}, "D": "4"}));
        let then = vars(serde_json::json!({"B": {"sealed": "x"}, "C": {"sealed": "3"}, "D": {"sealed": "y"}}));
        let text = now.secret_changes(&then).to_string();
        assert_eq!(text, "; secrets dropped: A; secrets changed: B; secrets restored: D");
        assert_eq!(now.secret_changes(&now).to_string(), "");
    }
}
