//! Requested changes of config vars, as JSON: `{"KEY":"value","OLD":null,"TOKEN":{"secret":"…"}}`.
//! Owns their parsing. Never repeats a value in an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ConfigError, KEY_SHOWN_CHARS};
use crate::json::kind;

/// A change of config vars. Config vars that it doesn't mention are unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange(pub BTreeMap<String, VarChange>);

/// The change of one config var.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VarChange {
    /// Sets a plain value.
    Set(String),
    /// Sets a secret.
    SetSecret(SecretText),
    /// Keeps an existing secret. A secret is displayed in this form, so a displayed config can be
    /// sent back.
    KeepSecret,
    /// Removes the config var; succeeds if it doesn't exist.
    Remove,
}

/// A secret before it is sealed. `Debug` and `Display` are redacted, so that it never appears in a
/// log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the secret itself, for sealing it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl ConfigChange {
    /// Parses the body of a `PATCH`.
    pub fn from_json(body: &Value) -> Result<Self, ConfigError> {
        let object = body.as_object().ok_or_else(|| ConfigError::NoObject { found: kind(body) })?;
        let read = |(key, value): (&String, &Value)| Ok((key.clone(), read_var(key, value)?));
        object.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether the change is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn read_var(key: &str, value: &Value) -> Result<VarChange, ConfigError> {
    let wrong = |found| Err(ConfigError::WrongType { key: key.chars().take(KEY_SHOWN_CHARS).collect(), found });
    match value {
        Value::Null => Ok(VarChange::Remove),
        Value::String(text) => Ok(VarChange::Set(text.clone())),
        Value::Object(object) => match (object.get("secret"), object.len()) {
            (Some(Value::String(text)), 1) => Ok(VarChange::SetSecret(SecretText(text.clone()))),
            (Some(Value::Bool(true)), 1) => Ok(VarChange::KeepSecret),
            _ => wrong("an object of another form"),
        },
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => wrong(kind(value)),
    }
}

impl<'de> Deserialize<'de> for ConfigChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
