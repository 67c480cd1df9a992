//! IANA time zones with the rules of the bundled database, so that a host without time zone files
//! knows every zone. Owns the names, and when a zone's local clock first reaches a time. Never
//! reads a clock.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{self, AmbiguousOffset, TimeZoneDatabase};
use serde::{Serialize, Serializer};

use crate::nearest::nearest;

/// A time zone of the IANA database, such as `Europe/Berlin`. The default is UTC.
#[derive(Clone, PartialEq, Eq)]
pub struct TimeZone {
    name: String,
    rules: tz::TimeZone,
}

/// Why a text is not a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown time zone {given:?}; {}",
    match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "write an IANA name, such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
    }
)]
pub struct TimeZoneError {
    given: String,
    nearest: Option<String>,
}

/// How much of a refused text an error repeats.
const GIVEN_SHOWN_CHARS: usize = 80;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

impl TimeZone {
    /// Returns the name, as the database spells it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the first instant at which the local clock reads `local` or a later time. A time
    /// that the clock skips is reached at the first instant after the gap; a time that it repeats
    /// is reached the first time. `None` at the end of representable time.
    pub(super) fn first_instant_at(&self, local: DateTime) -> Option<Timestamp> {
        match self.rules.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { before, after } => {
                let start = after.to_timestamp(local).ok()?;
                let end = before.to_timestamp(local).ok()?;
                let mut transitions = self.rules.following(start).take_while(|found| found.timestamp() <= end);
                Some(transitions.find(|found| found.offset() == after).map_or(end, |found| found.timestamp()))
            }
        }
    }

    /// Returns the local time at `instant`.
    pub(super) fn reading(&self, instant: Timestamp) -> DateTime {
        self.rules.to_datetime(instant)
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), rules: tz::TimeZone::UTC }
    }
}

impl FromStr for TimeZone {
    type Err = TimeZoneError;

    fn from_str(text: &str) -> Result<Self, TimeZoneError> {
        if text == "UTC" {
            return Ok(Self::default());
        }
        match DATABASE.get(text) {
            // The database ignores the case of letters; one spelling keeps settings comparable.
            Ok(rules) if rules.iana_name() == Some(text) => Ok(Self { name: text.to_owned(), rules }),
            Ok(_) | Err(_) => Err(TimeZoneError {
                given: text.chars().take(GIVEN_SHOWN_CHARS).collect(),
                nearest: nearest_name(text),
            }),
        }
    }
}

/// Returns the zone that a user probably meant: in another spelling, by its city alone, or with a
/// typing error.
fn nearest_name(given: &str) -> Option<String> {
    let given = given.chars().take(GIVEN_SHOWN_CHARS).collect::<String>().to_ascii_lowercase().replace(' ', "_");
    let names: Vec<(String, String)> =
        DATABASE.available().map(|name| (name.as_str().to_ascii_lowercase(), name.as_str().to_owned())).collect();
    let is_city = |name: &str| name.rsplit('/').next() == Some(given.as_str());
    let found =
        names.iter().find(|(lower, _)| *lower == given).or_else(|| names.iter().find(|(lower, _)| is_city(lower)));
    let typed = || {
        let near = nearest(&given, names.iter().map(|(lower, _)| lower.as_str())).filter(|_| given.contains('/'))?;
        names.iter().find(|(lower, _)| lower == near)
    };
    found.or_else(typed).map(|(_, name)| name.clone())
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeZone({:?})", self.name)
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}
