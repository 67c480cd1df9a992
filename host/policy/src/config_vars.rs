//! Config vars that are set at the host, some of them secret. Owns their names, changes, stored
//! form and display. Never sees a key or a cipher: the caller passes in functions that seal and
//! open secrets.

mod change;
mod sources;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use change::{ConfigChange, SecretText, VarChange};
pub use sources::{ConfigSource, EffectiveVar, SecretChanges};

use crate::limits::{CONFIG_BYTES_MAX, CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIG_VARS_MAX};

/// The config vars of an app or a release as they are stored: plain values as text, secrets sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigVars(BTreeMap<String, ConfigValue>);

/// The value of one config var.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConfigValue {
    /// A plain value: readable with read access to the app.
    Plain(String),
    /// A secret: never shown again.
    Secret(Sealed),
}

/// A secret that only the host's key can open, as base64, stored as `{"sealed":"…"}`. Its `Debug`
/// output is redacted, and it has no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    sealed: String,
}

impl Sealed {
    /// Wraps the base64 text that a cipher produced from a secret.
    pub fn new(base64: String) -> Self {
        Self { sealed: base64 }
    }

    /// Returns the sealed text, for opening or storing it.
    pub fn as_base64(&self) -> &str {
        &self.sealed
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// Why a change of config vars is refused. Never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The name isn't valid for a config var.
    #[error("invalid config var {key:?}: use at most {CONFIG_KEY_BYTES_MAX} letters, digits and '_', no digit first")]
    BadKey { key: String },
    /// The host sets this config var itself.
    #[error("{key} is set by the host and can't be changed; choose another name")]
    Reserved { key: String },
    /// The value is too long.
    #[error("{key} has {bytes} bytes; the maximum is {CONFIG_VALUE_BYTES_MAX}. Keep larger data in a file")]
    ValueTooLong { key: String, bytes: usize },
    /// The value contains a NUL, which no environment supports.
    #[error("{key} contains a NUL character, which environment variables can't contain")]
    Nul { key: String },
    /// The change would exceed the maximum number of config vars.
    #[error("too many config vars: {count}, the maximum is {CONFIG_VARS_MAX}")]
    TooMany { count: usize },
    /// The change would exceed the maximum size of keys and values.
    #[error("the config vars would have {bytes} bytes in total; the maximum is {CONFIG_BYTES_MAX}")]
    TooLarge { bytes: usize },
    /// The value has the wrong JSON type.
    #[error("{key:?} is {found}, but must be text, {{\"secret\":\"…\"}}, or null to remove it")]
    WrongType { key: String, found: &'static str },
    /// A secret should be kept, but no secret has this name.
    #[error("{key} is not a stored secret; give its value, as in {{\"secret\":\"…\"}}")]
    NoSuchSecret { key: String },
    /// The body isn't an object.
    #[error("expected an object, as in {{\"KEY\":\"value\",\"OLD\":null}}, but found {found}")]
    NoObject { found: &'static str },
}

/// The config vars that the host sets for each app: its name, and the number of its release.
pub const RESERVED_VARS: [&str; 2] = ["ISOPOD_APP", "ISOPOD_RELEASE"];

/// How much of a refused key an error repeats.
const KEY_SHOWN_CHARS: usize = 80;

/// Checks the name of a config var: it must be a portable name of an environment variable.
pub(crate) fn check_key(key: &str) -> Result<(), ConfigError> {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let plain = key.starts_with(letter) && key.chars().all(|c| letter(c) || c.is_ascii_digit());
    if plain && key.len() <= CONFIG_KEY_BYTES_MAX {
        return Ok(());
    }
    Err(ConfigError::BadKey { key: key.chars().take(KEY_SHOWN_CHARS).collect() })
}

/// Checks the value of a config var.
pub(crate) fn check_value(key: &str, value: &str) -> Result<(), ConfigError> {
    if RESERVED_VARS.contains(&key) {
        return Err(ConfigError::Reserved { key: key.to_owned() });
    }
    if value.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(ConfigError::ValueTooLong { key: key.to_owned(), bytes: value.len() });
    }
    if value.contains('\0') {
        return Err(ConfigError::Nul { key: key.to_owned() });
    }
    Ok(())
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// All config vars after the change.
    pub vars: ConfigVars,
    /// The sorted names of those that changed; empty if nothing needs to be done.
    pub changed: Vec<String>,
}

impl ConfigVars {
    /// Returns the config vars after `change`. `seal` seals a secret, given the config var's name.
    pub fn apply(
        &self,
        change: &ConfigChange,
        mut seal: impl FnMut(&str, &str) -> Sealed,
    ) -> Result<Applied, ConfigError> {
        let mut vars = self.clone();
        let mut changed = Vec::new();
        for (key, change) in &change.0 {
            if vars.apply_one(key, change, &mut seal)? {
                changed.push(key.clone());
            }
        }
        let (count, bytes) = (vars.0.len(), vars.bytes());
        // An app above the limits, set when they were higher, may still change and remove config
        // vars.
        if count > CONFIG_VARS_MAX.max(self.0.len()) {
            return Err(ConfigError::TooMany { count });
        }
        if bytes > CONFIG_BYTES_MAX.max(self.bytes()) {
            return Err(ConfigError::TooLarge { bytes });
        }
        Ok(Applied { vars, changed })
    }

    /// Changes one config var and returns whether it differs from before. Setting a secret always
    /// counts as a change, since the old value can't be compared without opening it.
    fn apply_one(
        &mut self,
        key: &str,
        change: &VarChange,
        seal: &mut impl FnMut(&str, &str) -> Sealed,
    ) -> Result<bool, ConfigError> {
        match change {
            VarChange::Remove => Ok(self.0.remove(key).is_some()),
            VarChange::KeepSecret => match self.0.get(key) {
                Some(ConfigValue::Secret(_)) => Ok(false),
                Some(ConfigValue::Plain(_)) | None => {
                    check_key(key)?;
                    Err(ConfigError::NoSuchSecret { key: key.to_owned() })
                }
            },
            VarChange::Set(value) => {
                check_key(key)?;
                check_value(key, value)?;
                let new = ConfigValue::Plain(value.clone());
                let before = self.0.insert(key.to_owned(), new.clone());
                Ok(before != Some(new))
            }
            VarChange::SetSecret(secret) => {
                check_key(key)?;
                check_value(key, secret.reveal())?;
                self.0.insert(key.to_owned(), ConfigValue::Secret(seal(key, secret.reveal())));
                Ok(true)
            }
        }
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.bytes()).sum()
    }

    /// Iterates over all config vars, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConfigValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the value of one config var.
    pub fn get(&self, key: &str) -> Option<&ConfigValue> {
        self.0.get(key)
    }

    /// Returns whether there are no config vars.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the config vars with secrets redacted.
    pub fn redacted(&self) -> BTreeMap<String, RedactedValue> {
        self.iter().map(|(key, value)| (key.to_owned(), RedactedValue::from(value))).collect()
    }

    /// Returns what guests receive: the manifest's config vars, overlaid by these. `open` opens a
    /// secret, given its name.
    pub fn effective<E>(
        &self,
        manifest: &BTreeMap<String, String>,
        mut open: impl FnMut(&str, &Sealed) -> Result<String, E>,
    ) -> Result<BTreeMap<String, String>, E> {
        let mut all = manifest.clone();
        for (key, value) in &self.0 {
            let text = match value {
                ConfigValue::Plain(text) => text.clone(),
                ConfigValue::Secret(sealed) => open(key, sealed)?,
            };
            all.insert(key.clone(), text);
        }
        Ok(all)
    }
}

impl ConfigValue {
    /// Returns the bytes that count towards the limit; a secret counts in its stored form.
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Secret(sealed) => sealed.sealed.len(),
        }
    }
}

/// A config var as users see it, with `{"secret":true}` in place of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = ConfigVar)]
pub enum RedactedValue {
    Plain(String),
    Secret { secret: bool },
}

impl From<&ConfigValue> for RedactedValue {
    fn from(value: &ConfigValue) -> Self {
        match value {
            ConfigValue::Plain(text) => Self::Plain(text.clone()),
            ConfigValue::Secret(_) => Self::Secret { secret: true },
        }
    }
}
