//! The limits that an app can set for itself, with their defaults. Owns their textual form;
//! `limits.rs` defines the ranges. Never enforces a limit.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::units::{UnitError, parse_bytes, parse_duration, show_bytes, show_duration};

/// Limits of an app's instances, requests and queues, such as `memory = "64MiB"` or
/// `queue_max = 1000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Limits {
    /// Linear memory of one instance; growing past it fails inside the guest.
    pub memory_bytes: u64,
    /// The total time of a request, before the client gets 504.
    pub request_timeout: Duration,
    /// The largest request body; a larger one gets 413.
    pub request_body_bytes: u64,
    /// The largest response body. A larger one is cut off and the failure logged.
    pub reply_body_bytes: u64,
    /// Maximum number of concurrent instances of one process type; more work waits in the queue.
    pub instances_max: u32,
    /// Maximum number of jobs waiting in one queue; the next one gets 429.
    pub queue_max: u32,
    /// Elements of all tables of one instance; growing past it fails inside the guest.
    pub table_elements: u32,
    /// The longest log line of an app; the rest of a longer one is dropped.
    pub log_line_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            request_timeout: Duration::from_secs(30),
            request_body_bytes: 64 << 20,
            reply_body_bytes: 256 << 20,
            instances_max: 10,
            queue_max: 1_000,
            table_elements: 20_000,
            log_line_bytes: 8 << 10,
        }
    }
}

/// The largest request body of an app, and the limit that determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit {
    /// The largest body.
    pub bytes: u64,
    /// Whether an instance's memory determines it, rather than `request_body`.
    pub by_memory: bool,
}

impl Limits {
    /// Returns the largest request body. A guest that holds bodies whole needs memory for them.
    pub fn body_limit(&self, holds_bodies_whole: bool) -> BodyLimit {
        let fits = self.memory_bytes / limits::WHOLE_BODY_MEMORY_PART;
        let by_memory = holds_bodies_whole && fits < self.request_body_bytes;
        BodyLimit { bytes: if by_memory { fits } else { self.request_body_bytes }, by_memory }
    }
}

/// Why a limit can't be set to the given value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The value isn't a valid size or duration.
    #[error("{limit}: {source}")]
    Unit { limit: &'static str, source: UnitError },
    /// The value is outside the allowed range.
    #[error("{limit} = {given} is out of range: choose from {min} to {max}")]
    OutOfRange { limit: &'static str, given: String, min: String, max: String },
}

/// Returns the value if it is in range.
pub(crate) fn within<T: PartialOrd + Copy>(
    limit: &'static str,
    value: T,
    range: &RangeInclusive<T>,
    show: impl Fn(T) -> String,
) -> Result<T, LimitError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(LimitError::OutOfRange { limit, given: show(value), min: show(*range.start()), max: show(*range.end()) })
}

/// The names of all limits in a manifest.
pub(crate) const NAMES: &[&str] = &[
    "memory",
    "request_timeout",
    "request_body",
    "reply_body",
    "instances_max",
    "queue_max",
    "table_elements",
    "log_line",
];

/// The value of a limit in a manifest.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WrittenLimit<'a> {
    /// A size or a duration with its unit.
    Text(&'a str),
    /// A count.
    Count(u64),
}

/// Why a limit can't be set; the manifest's reader adds the position to it.
#[derive(Debug)]
pub(crate) enum SetError {
    /// No limit has this name.
    UnknownLimit,
    /// A count instead of a size or duration, or the reverse.
    WrongKind { expected: &'static str },
    /// The value itself is invalid.
    Value(LimitError),
}

impl From<LimitError> for SetError {
    fn from(error: LimitError) -> Self {
        Self::Value(error)
    }
}

impl Limits {
    /// Sets the limit `name`, as the manifest calls it.
    #[expect(clippy::expect_used, reason = "a count within a range of u32 is a u32")]
    pub(crate) fn set(&mut self, name: &str, value: WrittenLimit<'_>) -> Result<(), SetError> {
        let Some(limit) = NAMES.iter().find(|known| **known == name).copied() else {
            return Err(SetError::UnknownLimit);
        };
        let bytes = |range: &RangeInclusive<u64>| match value {
            WrittenLimit::Text(text) => {
                let bytes = parse_bytes(text).map_err(|source| LimitError::Unit { limit, source })?;
                Ok(within(limit, bytes, range, show_bytes)?)
            }
            WrittenLimit::Count(_) => {
                Err(SetError::WrongKind { expected: "a size with its unit, in quotes, such as \"64MiB\"" })
            }
        };
        let count = |range: &RangeInclusive<u32>| match value {
            WrittenLimit::Count(count) => {
                let wide = u64::from(*range.start())..=u64::from(*range.end());
                let count = within(limit, count, &wide, |count| count.to_string())?;
                Ok(u32::try_from(count).expect("a count within a range of u32 is a u32"))
            }
            WrittenLimit::Text(_) => Err(SetError::WrongKind { expected: "a whole number without quotes" }),
        };
        match limit {
            "memory" => self.memory_bytes = bytes(&limits::MEMORY_BYTES)?,
            "request_timeout" => self.request_timeout = Self::timeout(limit, value)?,
            "request_body" => self.request_body_bytes = bytes(&limits::REQUEST_BODY_BYTES)?,
            "reply_body" => self.reply_body_bytes = bytes(&limits::REPLY_BODY_BYTES)?,
            "instances_max" => self.instances_max = count(&limits::INSTANCES)?,
            "queue_max" => self.queue_max = count(&limits::QUEUE)?,
            "table_elements" => self.table_elements = count(&limits::TABLE_ELEMENTS)?,
            "log_line" => self.log_line_bytes = bytes(&limits::LOG_LINE_BYTES)?,
            other => unreachable!("{other} is in NAMES but is not set above"),
        }
        Ok(())
    }

    fn timeout(limit: &'static str, value: WrittenLimit<'_>) -> Result<Duration, SetError> {
        match value {
            WrittenLimit::Text(text) => {
                let duration = parse_duration(text).map_err(|source| LimitError::Unit { limit, source })?;
                Ok(within(limit, duration, &limits::REQUEST_TIMEOUT, show_duration)?)
            }
            WrittenLimit::Count(_) => {
                Err(SetError::WrongKind { expected: "a duration with its unit, in quotes, such as \"30s\"" })
            }
        }
    }
}

/// The limits as a manifest contains them; an absent limit keeps its default.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Limits)]
pub(crate) struct Written {
    #[schema(value_type = String, example = "64MiB")]
    memory: Option<String>,
    #[schema(value_type = String, example = "30s")]
    request_timeout: Option<String>,
    #[schema(value_type = String, example = "64MiB")]
    request_body: Option<String>,
    #[schema(value_type = String, example = "256MiB")]
    reply_body: Option<String>,
    #[schema(value_type = u64)]
    instances_max: Option<u64>,
    #[schema(value_type = u64)]
    queue_max: Option<u64>,
    #[schema(value_type = u64)]
    table_elements: Option<u64>,
    #[schema(value_type = String, example = "8KiB")]
    log_line: Option<String>,
}

impl From<Limits> for Written {
    fn from(limits: Limits) -> Self {
        Self {
            memory: Some(show_bytes(limits.memory_bytes)),
            request_timeout: Some(show_duration(limits.request_timeout)),
            request_body: Some(show_bytes(limits.request_body_bytes)),
            reply_body: Some(show_bytes(limits.reply_body_bytes)),
            instances_max: Some(limits.instances_max.into()),
            queue_max: Some(limits.queue_max.into()),
            table_elements: Some(limits.table_elements.into()),
            log_line: Some(show_bytes(limits.log_line_bytes)),
        }
    }
}

impl TryFrom<Written> for Limits {
    type Error = SetError;

    fn try_from(written: Written) -> Result<Self, SetError> {
        let mut limits = Self::default();
        let texts = [
            ("memory", &written.memory),
            ("request_timeout", &written.request_timeout),
            ("request_body", &written.request_body),
            ("reply_body", &written.reply_body),
            ("log_line", &written.log_line),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                limits.set(name, WrittenLimit::Text(text))?;
            }
        }
        let counts = [
            ("instances_max", written.instances_max),
            ("queue_max", written.queue_max),
            ("table_elements", written.table_elements),
        ];
        for (name, count) in counts {
            if let Some(count) = count {
                limits.set(name, WrittenLimit::Count(count))?;
            }
        }
        Ok(limits)
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLimit => write!(f, "unknown limit; the limits are {}", NAMES.join(", ")),
            Self::WrongKind { expected } => write!(f, "expected {expected}"),
            Self::Value(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_ranges_and_read_back() {
        let written = serde_json::to_string(&Limits::default()).expect("limits serialise");
        assert_eq!(
            written,
            concat!(
                r#"{"memory":"64MiB","request_timeout":"30s","request_body":"64MiB","reply_body":"256MiB","#,
                r#""instances_max":10,"queue_max":1000,"table_elements":20000,"log_line":"8KiB"}"#,
            )
        );
        assert_eq!(serde_json::from_str::<Limits>(&written).expect("limits read back"), Limits::default());
        assert_eq!(serde_json::from_str::<Limits>("{}").expect("all are optional"), Limits::default());
    }

    #[test]
    fn bodies_held_in_memory_are_bounded_by_the_memory_limit() {
        let limit = |memory: u64, request_body: u64, whole| {
            let limits =
                Limits { memory_bytes: memory << 20, request_body_bytes: request_body << 20, ..Limits::default() };
            let limit = limits.body_limit(whole);
            (limit.bytes >> 20, limit.by_memory)
        };
        assert_eq!(limit(64, 64, true), (16, true));
        assert_eq!(
            (limit(64, 64, false), limit(64, 16, true), limit(64, 1, true)),
            ((64, false), (16, false), (1, false))
        );
        let usual = Limits::default();
        assert!(usual.body_limit(true).bytes < usual.memory_bytes, "the defaults fit together");
    }

    #[test]
    fn an_error_for_a_value_out_of_range_names_the_range() {
        let error = serde_json::from_str::<Limits>(r#"{"memory":"8GiB"}"#).expect_err("memory is 32-bit");
        assert_eq!(error.to_string(), "memory = 8GiB is out of range: choose from 1MiB to 4GiB");
        let error = serde_json::from_str::<Limits>(r#"{"queue_max":0}"#).expect_err("a queue has room for one");
        assert_eq!(error.to_string(), "queue_max = 0 is out of range: choose from 1 to 100000");
        let error = serde_json::from_str::<Limits>(r#"{"request_timeout":"2h"}"#).expect_err("an hour is enough");
        assert_eq!(error.to_string(), "request_timeout = 2h is out of range: choose from 10ms to 1h");
    }

    #[test]
    fn only_known_limits_can_be_set() {
        for name in NAMES {
            let mut limits = Limits::default();
            let text = if *name == "request_timeout" { "1s" } else { "1MiB" };
            let set = limits.set(name, WrittenLimit::Text(text));
            let as_count = limits.set(name, WrittenLimit::Count(500));
            assert!(set.is_ok() || as_count.is_ok() || *name == "log_line", "{name}");
        }
        assert!(matches!(Limits::default().set("cpu", WrittenLimit::Count(1)), Err(SetError::UnknownLimit)));
    }
}
