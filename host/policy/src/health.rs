//! The health check of a process type: its settings and their textual form. `limits.rs` defines the
//! ranges. Never runs a check.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::app_limits::{SetError, WrittenLimit, within};
use crate::units::{parse_duration, show_duration};
use crate::{LimitError, limits};

/// A health check over HTTP: `GET` of a path, where any 2xx response means healthy. Written as the
/// path alone if the other settings have their defaults, or as a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The requested path, starting with '/'.
    pub path: String,
    /// The time after an instance's start in which failed checks are ignored.
    pub grace: Duration,
    /// The time from one check to the next.
    pub interval: Duration,
    /// The timeout of a response.
    pub timeout: Duration,
    /// The number of consecutive failed checks that make an instance unhealthy.
    pub threshold: u32,
}

/// Why a health check is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// The path is invalid.
    #[error("write a path that starts with '/', as in \"/healthz\", in plain ASCII without spaces and '#'")]
    BadPath,
    /// The path is too long.
    #[error("the path has {bytes} bytes; the maximum is {}", limits::TEXT_BYTES_MAX)]
    PathTooLong { bytes: usize },
    /// A duration or the threshold is invalid or out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Checks the path of a request that the host sends to an app.
pub(crate) fn check_request_path(path: &str) -> Result<(), HealthError> {
    let printable = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !printable || path.contains('#') {
        return Err(HealthError::BadPath);
    }
    if path.len() > limits::TEXT_BYTES_MAX {
        return Err(HealthError::PathTooLong { bytes: path.len() });
    }
    Ok(())
}

impl Health {
    /// The keys of the table, `path` first.
    pub(crate) const KEYS: &'static [&'static str] = &["path", "grace", "interval", "timeout", "threshold"];

    /// Returns a check of `path` with the default settings.
    pub fn of_path(path: &str) -> Result<Self, HealthError> {
        check_request_path(path)?;
        Ok(Self {
            path: path.to_owned(),
            grace: limits::HEALTH_GRACE_USUAL,
            interval: limits::HEALTH_INTERVAL_USUAL,
            timeout: limits::HEALTH_TIMEOUT_USUAL,
            threshold: limits::HEALTH_THRESHOLD_USUAL,
        })
    }

    /// Sets the value of `key` in the table, except `path`.
    pub(crate) fn set(&mut self, key: &'static str, value: WrittenLimit<'_>) -> Result<(), SetError> {
        let duration = |range| match value {
            WrittenLimit::Text(text) => {
                let duration = parse_duration(text).map_err(|source| LimitError::Unit { limit: key, source })?;
                Ok(within(key, duration, range, show_duration)?)
            }
            WrittenLimit::Count(_) => {
                Err(SetError::WrongKind { expected: "a duration with its unit, in quotes, such as \"5s\"" })
            }
        };
        match key {
            "grace" => self.grace = duration(&limits::HEALTH_GRACE)?,
            "interval" => self.interval = duration(&limits::HEALTH_INTERVAL)?,
            "timeout" => self.timeout = duration(&limits::HEALTH_TIMEOUT)?,
            "threshold" => match value {
                WrittenLimit::Count(count) => {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    self.threshold = within(key, count, &limits::HEALTH_THRESHOLD, |count| count.to_string())?;
                }
                WrittenLimit::Text(_) => {
                    return Err(SetError::WrongKind { expected: "a whole number without quotes" });
                }
            },
            _ => return Err(SetError::UnknownLimit),
        }
        Ok(())
    }
}

impl Serialize for Health {
    /// Serialises the path alone if all other settings have their defaults, otherwise a table with
    /// every key.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if Self::of_path(&self.path).as_ref() == Ok(self) {
            return serializer.serialize_str(&self.path);
        }
        let mut table = serializer.serialize_struct("Health", Self::KEYS.len())?;
        table.serialize_field("path", &self.path)?;
        table.serialize_field("grace", &show_duration(self.grace))?;
        table.serialize_field("interval", &show_duration(self.interval))?;
        table.serialize_field("timeout", &show_duration(self.timeout))?;
        table.serialize_field("threshold", &self.threshold)?;
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_with_default_settings_is_written_as_its_path() {
        let mut health = Health::of_path("/healthz").expect("it is a path");
        assert_eq!(serde_json::to_string(&health).expect("it serialises"), "\"/healthz\"");
        health.set("grace", WrittenLimit::Text("1m")).expect("a minute is in range");
        assert_eq!(
            serde_json::to_string(&health).expect("it serialises"),
            r#"{"path":"/healthz","grace":"1m","interval":"10s","timeout":"2s","threshold":3}"#
        );
    }

    #[test]
    fn an_invalid_path_is_refused() {
        for path in ["", "healthz", "/a b", "/ä", "/a#b", "/a\n"] {
            assert_eq!(Health::of_path(path), Err(HealthError::BadPath), "{path}");
        }
        let long = Health::of_path(&format!("/{}", "a".repeat(59_999))).expect_err("it is too long");
        assert_eq!(long.to_string(), "the path has 60000 bytes; the maximum is 4096");
        assert!(Health::of_path("/healthz?deep=1").is_ok());
    }

    #[test]
    fn every_key_has_its_range() {
        let table = [
            ("grace", "11m", "grace = 11m is out of range: choose from 0ms to 10m"),
            ("interval", "999ms", "interval = 999ms is out of range: choose from 1s to 10m"),
            ("timeout", "61s", "timeout = 61s is out of range: choose from 100ms to 1m"),
            ("timeout", "5", "timeout: \"5\" has no unit; write \"5s\""),
        ];
        let mut health = Health::of_path("/").expect("it is a path");
        for (key, text, words) in table {
            let error = health.set(key, WrittenLimit::Text(text)).expect_err(text);
            assert_eq!(error.to_string(), words);
        }
        let error = health.set("threshold", WrittenLimit::Count(0)).expect_err("a threshold of zero is invalid");
        assert_eq!(error.to_string(), "threshold = 0 is out of range: choose from 1 to 100");
        for key in Health::KEYS.iter().skip(1) {
            let text = health.set(key, WrittenLimit::Text("2s")).is_ok();
            assert_ne!(text, health.set(key, WrittenLimit::Count(2)).is_ok(), "{key}");
        }
    }
}
