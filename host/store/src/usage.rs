//! How much an app was used in a month. Owns what a month is; the sketch of its users is opaque here.

use std::fmt;
use std::str::FromStr;

use isopod_policy::UnknownWord;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::error::shown;
use crate::limits::USAGE_SKETCH_BYTES_MAX;

/// A month in UTC, such as `2026-11`. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: u16,
    /// From 1 to 12.
    month: u8,
}

impl Month {
    /// The month that a moment is in.
    pub fn of(at: Timestamp) -> Self {
        let date = at.to_zoned(TimeZone::UTC).date();
        // Years before Christ are of no use to anybody here.
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

/// How much an app was used in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthUsage {
    /// A sketch of who its users were, in a form that only the host reads.
    pub users: Vec<u8>,
    pub events: u64,
}

impl MonthUsage {
    /// Whether it is within the bounds.
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
    fn a_month_is_that_of_utc_and_reads_back() {
        for (moment, month) in [
            ("2026-11-30T23:59:59.999Z", "2026-11"),
            ("2026-12-01T00:00:00Z", "2026-12"),
            ("2027-01-01T00:30:00+01:00", "2026-12"),
        ] {
            let of = Month::of(moment.parse().expect("the moment exists"));
            assert_eq!((of.to_string().as_str(), month.parse()), (month, Ok(of)));
        }
        let in_order = ["2026-09", "2026-10", "2027-01"].map(|text| text.parse::<Month>().expect("it is a month"));
        assert!(in_order.is_sorted());
    }

    #[test]
    fn only_a_month_is_read_as_one() {
        for text in ["", "2026", "2026-13", "2026-00", "26-11", "2026-1", "+026-11", "2026-11-01", "-2026-11"] {
            assert!(text.parse::<Month>().is_err(), "{text:?}");
        }
    }
}
