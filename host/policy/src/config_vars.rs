//! Config vars that are set at the host, some of them secret. Owns which there may be, how they change, how they are
//! kept and how they are shown. Never sees a key or a cipher: sealing and opening secrets is handed in.

mod change;
mod sources;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

pub use change::{ConfigChange, SecretText, VarChange};
pub use sources::{ConfigSource, EffectiveVar, SecretChanges};

use crate::limits::{CONFIG_BYTES_MAX, CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIG_VARS_MAX};

/// The config vars of an app or of one of its releases, as they are stored: plain ones as text, secrets sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConfigVars(BTreeMap<String, ConfigValue>);

/// The value of one config var.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ConfigValue {
    /// Anybody who may read the app may read it.
    Plain(String),
    /// Nobody is shown it again.
    Secret(Sealed),
}

/// A secret that only the host's key opens, as base64, stored as `{"sealed":"…"}`. Its `Debug` shows nothing of it,
/// and it has no `Display`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    sealed: String,
}

impl Sealed {
    /// What a cipher made of a secret, already as text.
    pub fn new(base64: String) -> Self {
        Self { sealed: base64 }
    }

    /// The sealed text, for whoever opens or stores it.
    pub fn as_base64(&self) -> &str {
        &self.sealed
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// Why config vars cannot be changed as asked. Never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No name for a config var.
    #[error("{key:?} names no config var: use at most {CONFIG_KEY_BYTES_MAX} letters, digits and '_', no digit first")]
    BadKey { key: String },
    /// A name that the host gives a value itself.
    #[error("{key} is what the host says of an app, so it can't be set; choose another name")]
    Reserved { key: String },
    /// A value that is too long.
    #[error("{key} has {bytes} bytes, and at most {CONFIG_VALUE_BYTES_MAX} are allowed; keep larger data in a file")]
    ValueTooLong { key: String, bytes: usize },
    /// A value with a NUL, which no environment can hold.
    #[error("{key} holds a NUL character, which no environment can")]
    Nul { key: String },
    /// More config vars than allowed.
    #[error("that would make {count} config vars, and at most {CONFIG_VARS_MAX} are allowed")]
    TooMany { count: usize },
    /// More bytes of keys and values than allowed.
    #[error("the config vars would have {bytes} bytes together, and at most {CONFIG_BYTES_MAX} are allowed")]
    TooLarge { bytes: usize },
    /// A value of another kind than expected.
    #[error("{key:?} is {found}, but must be text, {{\"secret\":\"…\"}}, or null to remove it")]
    WrongType { key: String, found: &'static str },
    /// A secret is to stay that is none.
    #[error("{key} is no secret that could stay; give its value, as in {{\"secret\":\"…\"}}")]
    NoSuchSecret { key: String },
    /// The whole is no object.
    #[error("config vars are changed by an object, as in {{\"KEY\":\"value\",\"OLD\":null}}, but this is {found}")]
    NoObject { found: &'static str },
}

/// What the host itself tells each app: its name, and the number of its release.
pub const RESERVED_VARS: [&str; 2] = ["ISOPOD_APP", "ISOPOD_RELEASE"];

/// How much of a refused key an error repeats.
const KEY_SHOWN_CHARS: usize = 80;

/// Checks the name of a config var: what is a variable of the environment everywhere.
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

/// Config vars after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// All of them.
    pub vars: ConfigVars,
    /// The names of those that differ from before, in order. None: nothing needs to be done.
    pub changed: Vec<String>,
}

impl ConfigVars {
    /// The config vars after `change`. `seal` makes a secret fit to be stored, by the name of its config var.
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
        // Whoever has more than is allowed, since more was allowed before, may still change and remove some.
        if count > CONFIG_VARS_MAX.max(self.0.len()) {
            return Err(ConfigError::TooMany { count });
        }
        if bytes > CONFIG_BYTES_MAX.max(self.bytes()) {
            return Err(ConfigError::TooLarge { bytes });
        }
        Ok(Applied { vars, changed })
    }

    /// Changes one config var and says whether it differs from before. A secret that is set always differs: whether
    /// it is the same as before is nothing that can be seen without opening it.
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

    /// Every config var by name, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConfigValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of one config var.
    pub fn get(&self, key: &str) -> Option<&ConfigValue> {
        self.0.get(key)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The config vars as anybody may see them.
    pub fn redacted(&self) -> Redacted<'_> {
        Redacted(self)
    }

    /// What guests are given: the manifest's own config vars, overlaid by these. `open` opens a secret by its key.
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
    /// How many bytes count towards the bound; a secret counts as it is stored.
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Secret(sealed) => sealed.sealed.len(),
        }
    }
}

/// Config vars with `{"secret":true}` in place of every secret.
#[derive(Debug, Clone, Copy)]
pub struct Redacted<'a>(&'a ConfigVars);

impl Serialize for Redacted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, RedactedValue::from(value))))
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum RedactedValue<'a> {
    Plain(&'a str),
    Secret { secret: bool },
}

impl<'a> From<&'a ConfigValue> for RedactedValue<'a> {
    fn from(value: &'a ConfigValue) -> Self {
        match value {
            ConfigValue::Plain(text) => Self::Plain(text),
            ConfigValue::Secret(_) => Self::Secret { secret: true },
        }
    }
}
