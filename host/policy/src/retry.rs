//! How the events of a process type are delivered: the retries after a failure, and the order. Owns
//! the settings and the delay before each retry. Never uses a clock or a random source, and never
//! delivers an event.

use std::time::Duration;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::app_limits::{SetError, WrittenLimit, within};
use crate::back_off::back_off;
use crate::setting_word::setting_word;
use crate::units::{parse_duration, show_duration};
use crate::{LimitError, limits};

/// The attempts to deliver an event, and the delays between them:
/// `{ attempts = 10, first = "1s", max = "1h" }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The number of attempts, including the first; afterwards the event is a dead letter.
    pub attempts: u32,
    /// The full delay after the first failed attempt. It doubles with each further one.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

setting_word! {
    /// The order in which a process type receives its events.
    Order, "order", "\"none\" or \"subject\"" {
        /// Events are delivered in parallel.
        None = "none",
        /// Events of one subject are delivered one at a time, in the order of their acceptance.
        /// Events of different subjects, and those without one, are delivered in parallel.
        Subject = "subject",
    }
}

/// Why a retry policy is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// A value is invalid or out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The first delay is longer than the longest.
    #[error("first = {} exceeds max = {}; set both", show_duration(*first), show_duration(*max))]
    FirstAboveMax { first: Duration, max: Duration },
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: limits::RETRY_ATTEMPTS_DEFAULT,
            first: limits::RETRY_FIRST_DEFAULT,
            max: limits::RETRY_MAX_DEFAULT,
        }
    }
}

impl RetryPolicy {
    /// The keys of the table.
    pub(crate) const KEYS: &'static [&'static str] = &["attempts", "first", "max"];

    /// Returns the delay before the next attempt, after attempt `attempt` failed; the first attempt
    /// is 1. The full delay doubles from `first` to `max`; the result is between half of the full
    /// delay and all of it. `random` is a uniformly distributed number, which spreads the retries
    /// of events that failed together.
    pub fn delay(&self, attempt: u32, random: u32) -> Duration {
        back_off(self.first, self.max, attempt, random)
    }

    /// Returns whether a failure of attempt `attempt` is final; the first attempt is 1.
    pub fn is_last(&self, attempt: u32) -> bool {
        attempt >= self.attempts
    }

    /// Sets the value of `key` in the table. [`Self::check`] checks the values together.
    pub(crate) fn set(&mut self, key: &'static str, value: WrittenLimit<'_>) -> Result<(), SetError> {
        let duration = || match value {
            WrittenLimit::Text(text) => {
                let duration = parse_duration(text).map_err(|source| LimitError::Unit { limit: key, source })?;
                Ok(within(key, duration, &limits::RETRY_DELAY, show_duration)?)
            }
            WrittenLimit::Count(_) => {
                Err(SetError::WrongKind { expected: "a duration with its unit, in quotes, such as \"1s\"" })
            }
        };
        match key {
            "attempts" => match value {
                WrittenLimit::Count(count) => {
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    self.attempts = within(key, count, &limits::RETRY_ATTEMPTS, |count| count.to_string())?;
                }
                WrittenLimit::Text(_) => {
                    return Err(SetError::WrongKind { expected: "a whole number without quotes" });
                }
            },
            "first" => self.first = duration()?,
            "max" => self.max = duration()?,
            _ => return Err(SetError::UnknownLimit),
        }
        Ok(())
    }

    /// Checks that the values fit together.
    pub(crate) fn check(&self) -> Result<(), RetryError> {
        if self.first > self.max {
            return Err(RetryError::FirstAboveMax { first: self.first, max: self.max });
        }
        Ok(())
    }
}

impl Serialize for RetryPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_struct("RetryPolicy", Self::KEYS.len())?;
        table.serialize_field("attempts", &self.attempts)?;
        table.serialize_field("first", &show_duration(self.first))?;
        table.serialize_field("max", &show_duration(self.max))?;
        table.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_serialise_with_every_key() {
        let policy = RetryPolicy::default();
        assert_eq!(
            serde_json::to_string(&policy).expect("it serialises"),
            r#"{"attempts":10,"first":"1s","max":"1h"}"#
        );
        let mut set = RetryPolicy { attempts: 1, first: Duration::ZERO, max: Duration::ZERO };
        set.set("attempts", WrittenLimit::Count(10)).expect("it is in range");
        set.set("first", WrittenLimit::Text("1s")).expect("it is in range");
        set.set("max", WrittenLimit::Text("1h")).expect("it is in range");
        assert_eq!((set, set.check()), (policy, Ok(())));
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum() {
        let policy = RetryPolicy { attempts: 10, first: Duration::from_secs(1), max: Duration::from_secs(100) };
        let delays: Vec<u64> = (1..=9).map(|attempt| policy.delay(attempt, u32::MAX).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        assert_eq!(policy.delay(3, 0), Duration::from_secs(2), "jitter removes up to half");
        assert_eq!(policy.delay(u32::MAX, u32::MAX), Duration::from_secs(100));
    }

    #[test]
    fn retries_that_start_together_spread_over_half_of_the_delay() {
        let policy = RetryPolicy::default();
        let delays: Vec<Duration> = (0..100).map(|nth| policy.delay(5, nth * (u32::MAX / 99))).collect();
        assert!(delays.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((delays[0].as_millis(), delays[50].as_millis()), (8_000, 12_040));
    }

    #[test]
    fn the_last_attempt_is_that_of_the_policy() {
        let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        assert!(once.is_last(1));
        assert_eq!([9, 10, 11].map(|attempt| RetryPolicy::default().is_last(attempt)), [false, true, true]);
    }

    #[test]
    fn an_error_names_the_key_and_its_range() {
        let table = [
            ("first", "10ms", "first = 10ms is out of range: choose from 100ms to 7d"),
            ("max", "169h", "max = 169h is out of range: choose from 100ms to 7d"),
            ("max", "5", "max: \"5\" has no unit; write \"5s\""),
        ];
        let mut policy = RetryPolicy::default();
        for (key, text, words) in table {
            let error = policy.set(key, WrittenLimit::Text(text)).expect_err(text);
            assert_eq!(error.to_string(), words);
        }
        for count in [0, 101, u64::MAX] {
            assert!(policy.set("attempts", WrittenLimit::Count(count)).is_err(), "{count}");
        }
        policy.set("first", WrittenLimit::Text("2h")).expect("it is in range");
        assert_eq!(policy.check().expect_err("it exceeds").to_string(), "first = 2h exceeds max = 1h; set both");
    }

    proptest! {
        #[test]
        fn a_delay_is_between_half_of_the_first_and_the_maximum(
            first in 100..604_800_000u64, more in 0..604_800_000u64, attempt in any::<u32>(), random in any::<u32>(),
        ) {
            let (first, max) = (Duration::from_millis(first), Duration::from_millis(first + more));
            let delay = RetryPolicy { attempts: 10, first, max }.delay(attempt, random);
            prop_assert!(delay >= first / 2 && delay <= max);
        }
    }
}
