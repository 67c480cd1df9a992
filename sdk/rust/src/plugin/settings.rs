//! The settings of a plugin, from the config of each app that uses it. Never interprets them.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{Context, Error, Result, limits};

/// The settings of a plugin that has none. Any key is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoSettings;

impl<'de> Deserialize<'de> for NoSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Empty;

        impl<'de> Visitor<'de> for Empty {
            type Value = NoSettings;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("no settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<NoSettings, A::Error> {
                match keys.next_key::<String>()? {
                    Some(key) => Err(serde::de::Error::unknown_field(&key, &[])),
                    None => Ok(NoSettings),
                }
            }
        }

        deserializer.deserialize_map(Empty)
    }
}

/// Parses settings from their JSON text, as the host passes them. An error names the key, as in
/// `config.keys[0].id`.
pub fn parse_settings<C: DeserializeOwned>(json: &str) -> Result<C> {
    let mut text = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut text)
        .map_err(|error| without_position(error.inner(), &error.path().to_string()));
    let settings = parsed.context("the config is invalid")?;
    text.end().context("the config is invalid")?;
    Ok(settings)
}

/// Returns the error about a key. People write the config as TOML, so its position in the JSON text
/// doesn't help them.
fn without_position(error: &serde_json::Error, path: &str) -> Error {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    let fault = text.strip_suffix(&position).unwrap_or(&text);
    // The path is `.` for the whole config, and contains `?` if the key is not known.
    if path == "." || path.contains('?') {
        return Error::msg(fault);
    }
    Error::msg(format!("`config.{path}`: {fault}"))
}

/// The most recently used settings with their JSON texts, latest first.
type Parsed = Vec<(String, Rc<dyn Any>)>;

thread_local! {
    /// The small settings, and the large ones.
    static PARSED: RefCell<[Parsed; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Returns the settings with this JSON text, from the cache if possible.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a host passes settings as text"))]
pub(crate) fn cached<C: DeserializeOwned + 'static>(json: String) -> Result<Rc<C>> {
    PARSED.with_borrow_mut(|classes| {
        let parsed = &mut classes[usize::from(json.len() > limits::SETTINGS_SMALL_BYTES)];
        if let Some(index) = parsed.iter().position(|(text, _)| *text == json) {
            parsed[..=index].rotate_right(1);
            if let Ok(settings) = Rc::clone(&parsed[0].1).downcast() {
                return Ok(settings);
            }
        }
        let settings = Rc::new(parse_settings::<C>(&json)?);
        let mut bytes = json.len();
        parsed.insert(0, (json, Rc::<C>::clone(&settings)));
        let kept = parsed.iter().skip(1).take(limits::SETTINGS_KEPT - 1).take_while(|(text, _)| {
            bytes += text.len();
            bytes <= limits::SETTINGS_KEPT_BYTES
        });
        let kept = 1 + kept.count();
        parsed.truncate(kept);
        Ok(settings)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        key: String,
    }

    #[test]
    fn settings_are_parsed_once_per_text() {
        let parsed = |key: usize| cached::<Settings>(format!(r#"{{"key": "{key}"}}"#)).unwrap();
        let (first, second) = (parsed(1), parsed(2));
        assert!(Rc::ptr_eq(&first, &parsed(1)) && Rc::ptr_eq(&second, &parsed(2)));
        assert_eq!((first.key.as_str(), second.key.as_str()), ("1", "2"));
        (3..3 + limits::SETTINGS_KEPT).for_each(|key| drop(parsed(key)));
        assert!(!Rc::ptr_eq(&first, &parsed(1)), "the oldest settings are evicted");
        let kept = || PARSED.with_borrow(|classes| [classes[0].len(), classes[1].len()]);
        assert_eq!(kept(), [limits::SETTINGS_KEPT, 0]);
        let long = |letter: &str| cached::<Settings>(format!(r#"{{"key": "{}"}}"#, letter.repeat(600_000))).unwrap();
        ["a", "b"].into_iter().for_each(|letter| drop(long(letter)));
        assert_eq!(kept(), [limits::SETTINGS_KEPT, 1], "large settings don't evict small ones");
    }

    #[test]
    fn the_error_for_invalid_settings_names_the_fault() {
        let error = cached::<Settings>("{}".to_owned()).unwrap_err().to_string();
        assert_eq!(error, "the config is invalid: missing field `key`");
        assert_eq!(parse_settings::<NoSettings>("{}").unwrap(), NoSettings);
        let error = parse_settings::<NoSettings>(r#"{"a": 1}"#).unwrap_err().to_string();
        assert_eq!(error, "the config is invalid: unknown field `a`, there are no fields");
    }

    #[test]
    fn the_error_for_invalid_settings_names_the_key_as_the_manifest_has_it() {
        type Nested = std::collections::BTreeMap<String, Vec<Settings>>;
        let error = |json: &str| parse_settings::<Nested>(json).unwrap_err().to_string();
        let wrong = error("{\"keys\":\n[{\"key\": \"a\"}, {\"key\": 7}]}");
        assert_eq!(wrong, "the config is invalid: `config.keys[1].key`: invalid type: integer `7`, expected a string");
        assert_eq!(error(r#"{"keys": [{}]}"#), "the config is invalid: `config.keys[0]`: missing field `key`");
        assert!(error("{").starts_with("the config is invalid: EOF") && error("{} x").contains("trailing characters"));
    }
}
