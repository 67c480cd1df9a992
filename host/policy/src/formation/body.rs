//! Requested changes of a formation, as JSON: `{"web":{"min":1,"max":3}}` and
//! `{"name":"nightly","entry":"events"}`. Owns their parsing, so that every error names the key.
//! Never decides whether a change is allowed.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::FormationError;
use crate::app_limits::{SetError, WrittenLimit};
use crate::json::{kind, whole};
use crate::limits::INSTANCES;
use crate::nearest::nearest;
use crate::{
    Entry, Health, HealthError, LimitError, Missed, Order, Overlap, Process, ProcessName, RetryError, RetryPolicy,
    Schedule, TimeZone, UnknownWord,
};

/// The change of an optional setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Leaves it unchanged.
    #[default]
    Keep,
    /// Clears it.
    Clear,
    /// Sets it.
    Set(T),
}

impl<T: Clone> Change<T> {
    fn apply(&self, present: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *present = None,
            Self::Set(value) => *present = Some(value.clone()),
        }
    }
}

/// The change of one process type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessChange {
    /// The entry, if mentioned; it must equal the current one.
    pub entry: Option<Entry>,
    /// The minimum number of instances; if cleared, the app's type determines it.
    pub min: Change<u32>,
    /// The maximum number of instances.
    pub max: Change<u32>,
    /// The health check.
    pub health: Change<Health>,
    /// The schedule.
    pub schedule: Change<Schedule>,
    /// The time zone of the schedule.
    pub time_zone: Change<TimeZone>,
    /// What happens to missed times of the schedule.
    pub missed: Change<Missed>,
    /// What happens to a time that is due while the previous run is in progress.
    pub overlap: Change<Overlap>,
    /// The arguments, if they change; null clears them.
    pub args: Option<Vec<String>>,
    /// The order of events.
    pub order: Change<Order>,
    /// The retries of events, as a whole.
    pub retry: Change<RetryPolicy>,
}

impl ProcessChange {
    /// Applies the change, except that of the entry, without checking the result.
    pub(super) fn apply(&self, process: &mut Process) {
        self.min.apply(&mut process.min);
        self.max.apply(&mut process.max);
        self.health.apply(&mut process.health);
        self.schedule.apply(&mut process.schedule);
        if self.schedule == Change::Clear {
            // The settings of a schedule have no meaning without it.
            (process.time_zone, process.missed, process.overlap) = (None, None, None);
        }
        self.time_zone.apply(&mut process.time_zone);
        self.missed.apply(&mut process.missed);
        self.overlap.apply(&mut process.overlap);
        if let Some(args) = &self.args {
            process.args.clone_from(args);
        }
        self.order.apply(&mut process.order);
        self.retry.apply(&mut process.retry);
    }
}

/// A change of a formation: `{"web":{"min":1,"max":3,"health":null}}`. `null` clears a setting;
/// absent ones are unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormationChange {
    /// The changes, by process type.
    pub processes: BTreeMap<ProcessName, ProcessChange>,
}

/// A process type to create: `{"name":"nightly","entry":"events","schedule":"0 3 * * *"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProcess {
    /// The name.
    pub name: ProcessName,
    /// Its settings.
    pub process: Process,
}

const CHANGE_KEYS: &[&str] =
    &["min", "max", "health", "schedule", "time_zone", "missed", "overlap", "args", "order", "retry", "entry"];
/// The settings that scale a process type.
const SCALE_KEYS: &[&str] = &["min", "max"];
const NEW_KEYS: &[&str] =
    &["name", "entry", "min", "max", "health", "schedule", "time_zone", "missed", "overlap", "args", "order", "retry"];

impl FormationChange {
    /// Parses the body of a `PATCH`.
    pub fn from_json(body: &Value) -> Result<Self, FormationError> {
        let top = Object::of("formation", body)?;
        let mut processes = BTreeMap::new();
        for (name, value) in top.entries {
            let name: ProcessName = name.parse()?;
            if value.is_null() {
                let expected = "an object; remove a process type with DELETE";
                return Err(FormationError::WrongType { key: name.to_string(), expected, found: "null" });
            }
            let object = Object::of(name.as_str(), value)?;
            object.only(CHANGE_KEYS)?;
            processes.insert(name.clone(), object.change()?);
        }
        Ok(Self { processes })
    }
}

/// Returns whether the body of a `PATCH` names no setting but `min` and `max`. A body that isn't
/// valid changes nothing.
pub fn only_scales(body: &Value) -> bool {
    let mut processes = body.as_object().into_iter().flat_map(Map::values);
    processes.all(|process| process.as_object().into_iter().flat_map(Map::keys).all(|key| SCALE_KEYS.contains(&&**key)))
}

impl NewProcess {
    /// Parses the body of a `POST`.
    pub fn from_json(body: &Value) -> Result<Self, FormationError> {
        let object = Object::of("", body)?;
        object.only(NEW_KEYS)?;
        let missing = |key: &str, example| FormationError::Missing { key: key.to_owned(), example };
        let name = object.entries.get("name").ok_or_else(|| missing("name", "{\"name\":\"nightly\"}"))?;
        let name: ProcessName = object.text("name", name)?.parse()?;
        let change = object.change()?;
        let entry = change.entry.ok_or_else(|| missing("entry", "{\"entry\":\"events\"}"))?;
        let mut process = Process::new(entry);
        change.apply(&mut process);
        Ok(Self { name, process })
    }
}

/// An object of the body, with the path of keys that leads to it.
struct Object<'v> {
    path: &'v str,
    entries: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    fn of(path: &'v str, value: &'v Value) -> Result<Self, FormationError> {
        let wrong = || FormationError::WrongType {
            key: if path.is_empty() { "process type".to_owned() } else { path.to_owned() },
            expected: "an object",
            found: kind(value),
        };
        Ok(Self { path, entries: value.as_object().ok_or_else(wrong)? })
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Refuses unknown keys, and names the nearest known one.
    fn only(&self, known: &[&str]) -> Result<(), FormationError> {
        let Some(given) = self.entries.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let given: String = given.chars().take(80).collect();
        let nearest = nearest(&given, known.iter().copied()).map(|near| self.key(near));
        Err(FormationError::UnknownKey { key: self.key(&given), nearest, known: known.join(", ") })
    }

    fn wrong(&self, name: &str, expected: &'static str, value: &Value) -> FormationError {
        FormationError::WrongType { key: self.key(name), expected, found: kind(value) }
    }

    fn text(&self, name: &str, value: &'v Value) -> Result<&'v str, FormationError> {
        value.as_str().ok_or_else(|| self.wrong(name, "text", value))
    }

    /// Parses the value of a key, if present; null clears.
    fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'v Value) -> Result<T, FormationError>,
    ) -> Result<Change<T>, FormationError> {
        match self.entries.get(name) {
            None => Ok(Change::Keep),
            Some(Value::Null) => Ok(Change::Clear),
            Some(value) => read(value).map(Change::Set),
        }
    }

    fn change(&self) -> Result<ProcessChange, FormationError> {
        let entry = self.entries.get("entry").map(|value| self.entry(value)).transpose()?;
        let args = match self.optional("args", |value| self.args(value))? {
            Change::Keep => None,
            Change::Clear => Some(Vec::new()),
            Change::Set(args) => Some(args),
        };
        Ok(ProcessChange {
            entry,
            min: self.optional("min", |value| self.count("min", value))?,
            max: self.optional("max", |value| self.count("max", value))?,
            health: self.optional("health", |value| self.health(value))?,
            schedule: self.optional("schedule", |value| {
                let text = self.text("schedule", value)?;
                Schedule::parse(text).map_err(|source| FormationError::Schedule { key: self.key("schedule"), source })
            })?,
            time_zone: self.optional("time_zone", |value| {
                let text = self.text("time_zone", value)?;
                text.parse().map_err(|source| FormationError::TimeZone { key: self.key("time_zone"), source })
            })?,
            missed: self.optional("missed", |value| self.word("missed", "\"once\", \"skip\" or \"all\"", value))?,
            overlap: self
                .optional("overlap", |value| self.word("overlap", "\"skip\", \"queue\" or \"allow\"", value))?,
            args,
            order: self.optional("order", |value| self.word("order", "\"none\" or \"subject\"", value))?,
            retry: self.optional("retry", |value| self.retry(value))?,
        })
    }

    fn entry(&self, value: &Value) -> Result<Entry, FormationError> {
        self.word("entry", "\"http\", \"events\" or \"command\"", value)
    }

    fn word<T: FromStr<Err = UnknownWord>>(
        &self,
        name: &str,
        expected: &'static str,
        value: &Value,
    ) -> Result<T, FormationError> {
        let text = value.as_str().ok_or_else(|| self.wrong(name, expected, value))?;
        text.parse().map_err(|source| FormationError::UnknownWord { key: self.key(name), source })
    }

    fn count(&self, name: &str, value: &Value) -> Result<u32, FormationError> {
        let count = whole(value).and_then(|count| u32::try_from(count).ok());
        count.ok_or_else(|| FormationError::NotACount { key: self.key(name), most: *INSTANCES.end() })
    }

    fn args(&self, value: &Value) -> Result<Vec<String>, FormationError> {
        let texts = value.as_array().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        texts.ok_or_else(|| self.wrong("args", "a list of texts", value))
    }

    /// Parses a health check: its path alone, or an object with the key `path`.
    fn health(&self, value: &Value) -> Result<Health, FormationError> {
        let not_so = |key: String| move |source: HealthError| FormationError::Health { key, source };
        if let Value::String(path) = value {
            return Health::of_path(path).map_err(not_so(self.key("health")));
        }
        let path = self.key("health");
        let Ok(object) = Object::of(&path, value) else {
            return Err(self.wrong("health", "a path or an object", value));
        };
        object.only(Health::KEYS)?;
        let example = "{\"path\":\"/healthz\"}";
        let missing = || FormationError::Missing { key: object.key("path"), example };
        let path_value = object.entries.get("path").ok_or_else(missing)?;
        let mut health = Health::of_path(object.text("path", path_value)?).map_err(not_so(object.key("path")))?;
        for key in Health::KEYS.iter().copied().filter(|key| *key != "path") {
            object.set(
                key,
                |written| health.set(key, written),
                |source| FormationError::Health { key: path.clone(), source: source.into() },
            )?;
        }
        Ok(health)
    }

    /// Parses a retry policy: an object whose absent keys have their defaults.
    fn retry(&self, value: &Value) -> Result<RetryPolicy, FormationError> {
        let path = self.key("retry");
        let object = Object::of(&path, value)?;
        object.only(RetryPolicy::KEYS)?;
        let invalid = |source: RetryError| FormationError::Retry { key: path.clone(), source: Box::new(source) };
        let mut retry = RetryPolicy::default();
        for key in RetryPolicy::KEYS.iter().copied() {
            object.set(key, |written| retry.set(key, written), |source| invalid(source.into()))?;
        }
        retry.check().map_err(invalid)?;
        Ok(retry)
    }

    /// Sets a duration or a count from the value of a key, if present.
    fn set(
        &self,
        key: &'static str,
        set: impl FnOnce(WrittenLimit<'v>) -> Result<(), SetError>,
        invalid: impl FnOnce(LimitError) -> FormationError,
    ) -> Result<(), FormationError> {
        let Some(value) = self.entries.get(key) else { return Ok(()) };
        let written = match (value.as_str(), whole(value)) {
            (Some(text), _) => WrittenLimit::Text(text),
            (None, Some(count)) => WrittenLimit::Count(count),
            (None, None) => {
                // Only the setter determines which kind of value the key takes.
                let expected = match set(WrittenLimit::Count(0)) {
                    Err(SetError::WrongKind { expected }) => expected,
                    Ok(()) | Err(SetError::Value(_) | SetError::UnknownLimit) => "a positive whole number",
                };
                return Err(self.wrong(key, expected, value));
            }
        };
        set(written).map_err(|error| match error {
            SetError::Value(source) => invalid(source),
            SetError::WrongKind { expected } => self.wrong(key, expected, value),
            SetError::UnknownLimit => unreachable!("{key} is one of the keys of its table"),
        })
    }
}

impl<'de> Deserialize<'de> for FormationChange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for NewProcess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
