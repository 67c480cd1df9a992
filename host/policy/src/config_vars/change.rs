//! What people ask of config vars, as JSON: `{"KEY":"value","OLD":null,"TOKEN":{"secret":"…"}}`. Owns how it is read.
//! Never repeats a value in an error.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{ConfigError, KEY_SHOWN_CHARS};
use crate::json::kind;

/// A change of config vars. What is not mentioned stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigChange(pub BTreeMap<String, VarChange>);

/// What becomes of one config var.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VarChange {
    /// It becomes this, for everybody to read.
    Set(String),
    /// It becomes this secret.
    SetSecret(SecretText),
    /// It is a secret and stays so; this is how a secret is shown, so what was shown can be sent back.
    KeepSecret,
    /// It goes; one that isn't there is gone already.
    Remove,
}

/// A secret before it is sealed. Neither `Debug` nor `Display` shows it, so that no log line can.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Keeps a text from being shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for whoever seals it.
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
    /// Reads the body of a `PATCH`.
    pub fn from_json(body: &Value) -> Result<Self, ConfigError> {
        let object = body.as_object().ok_or_else(|| ConfigError::NoObject { found: kind(body) })?;
        let read = |(key, value): (&String, &Value)| Ok((key.clone(), read_var(key, value)?));
        object.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is asked for.
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
