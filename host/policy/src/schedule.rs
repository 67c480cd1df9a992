//! Schedules: five cron fields, and the local times that they match. Owns which expressions are
//! allowed. Never reads a clock, and knows no time zone: `timetable.rs` combines both.

mod time_zone;
mod timetable;

use std::fmt;
use std::str::FromStr;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::civil::DateTime;
use jiff::{SignedDuration, tz};
use serde::{Deserialize, Serialize};

pub use self::time_zone::{TimeZone, TimeZoneError};
pub use self::timetable::{Due, Missed, Overlap, Timetable, counted_since};

use crate::limits::{SCHEDULE_SEARCH_YEARS, TEXT_BYTES_MAX};

/// A recurring local time, written as `minute hour day month weekday`.
///
/// As in every cron since Vixie's, a day matches if the day of the month *or* the weekday matches,
/// unless one of the two starts with `*`; then both must match.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    crontab: Crontab,
}

/// Why a text is not a valid schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The wrong number of fields.
    #[error("a schedule has five fields, as in \"0 3 * * *\", but this has {count}")]
    FieldCount { count: usize },
    /// A field that is invalid or out of range.
    #[error(
        "invalid {what} {field:?}: write *, a number from {min} to {max}, a range 1-3, a step */2, or a list of these"
    )]
    Field { field: String, what: &'static str, min: u32, max: u32 },
    /// The cron parser rejects the expression although its fields are valid.
    #[error("invalid schedule {given:?}: {why}")]
    NotRead { given: String, why: String },
    /// The expression is valid, but no day matches.
    #[error("schedule {given:?} never matches: no chosen month has such a day; choose another day or month")]
    NeverComes { given: String },
}

/// One of the five fields.
struct Field {
    what: &'static str,
    min: u32,
    max: u32,
    /// Names of the values; the first is `names_from`.
    names: &'static [&'static str],
    names_from: u32,
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { what: "minute", min: 0, max: 59, names: &[], names_from: 0 },
    Field { what: "hour", min: 0, max: 23, names: &[], names_from: 0 },
    Field { what: "day", min: 1, max: 31, names: &[], names_from: 0 },
    Field { what: "month", min: 1, max: 12, names: MONTHS, names_from: 1 },
    Field { what: "weekday", min: 0, max: 7, names: WEEKDAYS, names_from: 0 },
];

/// How much of a refused text an error repeats.
const GIVEN_SHOWN_CHARS: usize = 80;

/// The span of one search by the cron parser, slightly less than its four years, so that
/// consecutive searches leave no gap.
const SEARCH: SignedDuration = SignedDuration::from_hours(1_460 * 24);

impl Schedule {
    /// Parses a schedule, such as `0 3 * * *` or `*/15 8-17 * * mon-fri`.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let given = || text.chars().take(GIVEN_SHOWN_CHARS).collect::<String>();
        if text.len() > TEXT_BYTES_MAX {
            let why = format!("it is longer than {TEXT_BYTES_MAX} bytes");
            return Err(ScheduleError::NotRead { given: given(), why });
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(ScheduleError::FieldCount { count: fields.len() });
        }
        let fields: Result<Vec<String>, ScheduleError> =
            FIELDS.iter().zip(fields).map(|(field, text)| field.read(text)).collect();
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let crontab = cronexpr::parse_crontab_with(&fields?.join(" "), options)
            .map_err(|error| ScheduleError::NotRead { given: given(), why: error.to_string() })?;
        let schedule = Self { text: text.to_owned(), crontab };
        match schedule.next_local(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::NeverComes { given: given() }),
        }
    }

    /// Returns the first local time after `after` that matches, always a whole minute. `None` only
    /// at the ends of representable time, in the years -9999 and 9999.
    pub(crate) fn next_local(&self, after: DateTime) -> Option<DateTime> {
        // The cron parser sees the local time as UTC, which has neither gaps nor repeated times.
        let after = tz::Offset::UTC.to_timestamp(after).ok()?;
        let last = after.checked_add(SignedDuration::from_hours(SCHEDULE_SEARCH_YEARS * 366 * 24)).ok()?;
        // The search below looks some years past its argument.
        last.checked_add(SEARCH).ok()?.checked_add(SEARCH).ok()?;
        let mut from = after;
        while from < last {
            if let Ok(found) = self.crontab.find_next(MakeTimestamp(from)) {
                return Some(found.datetime());
            }
            from += SEARCH;
        }
        None
    }

    /// Returns the schedule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Field {
    /// Checks a field, a list of parts, and returns it with numbers instead of names.
    fn read(&self, text: &str) -> Result<String, ScheduleError> {
        let parts: Option<Vec<String>> = text.split(',').map(|part| self.read_part(part)).collect();
        parts.map(|parts| parts.join(",")).ok_or_else(|| ScheduleError::Field {
            field: text.chars().take(GIVEN_SHOWN_CHARS).collect(),
            what: self.what,
            min: self.min,
            max: self.max,
        })
    }

    /// Checks one part of a field: `*`, `3` or `1-5`, the first and the last optionally with a step
    /// as in `*/2`.
    fn read_part(&self, part: &str) -> Option<String> {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(number(step).filter(|step| (1..=self.max).contains(step))?)),
            None => (part, None),
        };
        let step = step.map(|step| format!("/{step}")).unwrap_or_default();
        if values == "*" {
            return Some(format!("*{step}"));
        }
        match values.split_once('-') {
            Some((from, to)) => {
                let (from, to) = (self.value(from)?, self.value(to)?);
                // Sunday is both the first and the last day of a week: "fri-sun".
                let to = if to == 0 && from > 0 && self.max == 7 { 7 } else { to };
                (from <= to).then(|| format!("{from}-{to}{step}"))
            }
            None if step.is_empty() => self.value(values).map(|value| value.to_string()),
            None => None,
        }
    }

    fn value(&self, text: &str) -> Option<u32> {
        let name = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match name {
            Some(position) => self.names_from + u32::try_from(position).ok()?,
            None => number(text)?,
        };
        (self.min..=self.max).contains(&value).then_some(value)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl PartialEq for Schedule {
    /// Compares the text, so that a different spelling counts as a change.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Schedule {}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({:?})", self.text)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        Self::parse(&text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> String {
        schedule.text
    }
}
