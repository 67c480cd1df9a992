//! An app's usage in a month. Owns the definition of a month. Never interprets the sketch of users.

use std::fmt;
use std::str::FromStr;

use isopod_policy::UnknownWord;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::error::shown;
use crate::limits::USAGE_SKETCH_BYTES_MAX;

/// A month in UTC, such as `2026-11`. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u16,
    /// From 1 to 12.
    month: u8,
}

impl Month {
    /// Returns the month of a timestamp.
    pub fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        // Years before 1 don't occur.
        Self { year: u16::try_from(date.year()).unwrap_or(0), month: date.month().unsigned_abs() }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.year, self.month))
    }
}

impl FromStr for Month {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts = text.split_once('-').filter(|(year, month)| digits(year, 4) && digits(month, 2));
        let read = parts.and_then(|(year, month)| Some(Self { year: year.parse().ok()?, month: month.parse().ok()? }));
        let expected = "a year and a month, like 2026-11";
        read.filter(|read| (1..=12).contains(&read.month)).ok_or_else(|| UnknownWord {
            what: "month",
            given: shown(text),
            expected,
        })
    }
}

impl TryFrom<String> for Month {
    type Error = UnknownWord;

    fn try_from(text: String) -> Result<Self, UnknownWord> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> String {
        month.to_string()
    }
}

/// An app's usage in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthUsage {
    /// A sketch of the set of users, in a format that only the host reads.
    pub users: Vec<u8>,
    pub events: u64,
}

impl MonthUsage {
    /// Checks the limits.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.users.len() {
            0..=USAGE_SKETCH_BYTES_MAX => Ok(()),
            bytes => Err(StoreError::SketchTooLarge { bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_in_utc_and_parses_back() {
        for (moment, month) in [
            ("2026-11-30T23:59:59.999Z", "2026-11"),
            ("2026-12-01T00:00:00Z", "2026-12"),
            ("2027-01-01T00:30:00+01:00", "2026-12"),
        ] {
            let of = Month::of(moment.parse().expect("the moment exists"));
            assert_eq!((of.to_string().as_str(), month.parse()), (month, Ok(of)));
        }
        let sorted = ["2026-09", "2026-10", "2027-01"].map(|text| text.parse::<Month>().expect("a valid month"));
        assert!(sorted.is_sorted());
    }

    #[test]
    fn only_a_valid_month_is_parsed() {
        for text in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "+026-11", "2026-11-01", "-2026-11"] {
            assert!(text.parse::<Month>().is_err(), "{text:?}");
        }
    }
}
