//! Selects lines of a log by their fields and their text. Never reads a log.

use std::time::{Duration, SystemTime};

use isopod_policy::{InstanceId, RequestId};
use jiff::Timestamp;
use serde::Deserialize;

use super::{LogLine, Stream};
use crate::observe::limits;

/// Selects lines that match all given criteria; by default all lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineFilter {
    /// The request id of the lines. All attempts of an event have the same request id.
    pub(crate) request_id: Option<RequestId>,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) stream: Option<Stream>,
    /// The lowest level.
    pub(crate) level: Option<Level>,
    /// The earliest time.
    pub(crate) since: Option<Timestamp>,
    /// The latest time.
    pub(crate) until: Option<Timestamp>,
    pub(crate) text: Option<SearchText>,
}

/// The severity of a line, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl Level {
    /// Returns the level of a line. Without a level of its own, it follows from the line's source:
    /// a failed request is an error, and standard error is a warning.
    pub(crate) fn of(line: &LogLine) -> Self {
        match line.level.as_deref() {
            Some("trace") => return Self::Trace,
            Some("debug") => return Self::Debug,
            Some("info") => return Self::Info,
            Some("warn") => return Self::Warn,
            Some("error") => return Self::Error,
            Some("critical") => return Self::Critical,
            Some(_) | None => {}
        }
        match &line.access {
            Some(access) if access.status >= 500 || access.fault.is_some() => Self::Error,
            Some(_) => Self::Info,
            None if line.stream == Stream::Stderr => Self::Warn,
            None => Self::Info,
        }
    }
}

/// A text to find in messages, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchText(Box<str>);

impl SearchText {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_lowercase().into())
    }

    /// Returns whether a message contains the text. The search takes time in proportion to the
    /// length of the message, whatever the text is.
    fn is_in(&self, message: &str) -> bool {
        message.to_lowercase().contains(&*self.0)
    }
}

impl LineFilter {
    pub(super) fn selects(&self, line: &LogLine) -> bool {
        self.request_id.is_none_or(|id| line.request_id.as_deref() == Some(id.as_str()))
            && self.instance.as_ref().is_none_or(|id| line.instance.as_deref() == Some(id.as_str()))
            && self.stream.is_none_or(|stream| line.stream == stream)
            && self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
            && self.level.is_none_or(|level| Level::of(line) >= level)
            && self.text.as_ref().is_none_or(|text| text.is_in(&line.message))
    }

    /// Returns whether all lines of a segment are too old, by the time of its last change.
    pub(super) fn is_after(&self, changed: SystemTime) -> bool {
        let since = self.since.map(SystemTime::from);
        since.is_some_and(|since| since.duration_since(changed).is_ok_and(|over| over > limits::LOG_TIME_SKEW_MAX))
    }

    /// Returns whether all lines of a segment are too new, by the time of its first line.
    pub(super) fn is_before(&self, first: Timestamp) -> bool {
        let over = self.until.and_then(|until| Duration::try_from(first.duration_since(until)).ok());
        over.is_some_and(|over| over > limits::LOG_TIME_SKEW_MAX)
    }

    /// Returns how long further lines may match; `None` without an end.
    pub(super) fn time_left(&self, now: Timestamp) -> Option<Duration> {
        self.until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Access;
    use super::*;

    fn line() -> LogLine {
        let app = "shop".parse().expect("a name");
        LogLine { time: time("2026-11-30T12:00:00Z"), ..LogLine::new(&app, Stream::Stdout, "Straße no. 7".to_owned()) }
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn access(status: u16, fault: Option<&str>) -> LogLine {
        let access = Access {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            status,
            duration_ms: 1.0,
            bytes: None,
            fault: fault.map(str::to_owned),
            plugin: None,
            trace_id: None,
            timing: None,
        };
        LogLine { stream: Stream::Access, access: Some(access), ..line() }
    }

    fn by(set: impl FnOnce(&mut LineFilter)) -> LineFilter {
        let mut filter = LineFilter::default();
        set(&mut filter);
        filter
    }

    #[test]
    fn text_is_found_literally_and_in_any_case() {
        let finds = |text: &str| by(|filter| filter.text = Some(SearchText::new(text))).selects(&line());
        assert!(["straße", "STRAße", "NO. 7", " "].into_iter().all(finds));
        assert!(!["no.*7", "nox 7", "strasse", "Straße no. 70"].into_iter().any(finds));
    }

    #[test]
    fn a_level_is_a_minimum_and_follows_from_the_source_without_one() {
        let minimum = |level, line: &LogLine| by(|filter| filter.level = Some(level)).selects(line);
        let of_level = |level: &str| LogLine { level: Some(level.to_owned()), ..line() };
        assert!(minimum(Level::Warn, &of_level("warn")) && minimum(Level::Warn, &of_level("critical")));
        assert!(!minimum(Level::Warn, &of_level("info")) && !minimum(Level::Warn, &of_level("unknown")));
        let stderr = LogLine { stream: Stream::Stderr, ..line() };
        assert!(minimum(Level::Warn, &stderr) && !minimum(Level::Error, &stderr));
        for failed in [access(502, None), access(200, Some("client-gone"))] {
            assert!(minimum(Level::Error, &failed) && !minimum(Level::Critical, &failed));
        }
        assert!(minimum(Level::Info, &access(404, None)) && !minimum(Level::Warn, &access(404, None)));
    }

    #[test]
    fn the_times_are_inclusive() {
        let between = |since: &str, until: &str| {
            let filter = LineFilter { since: Some(time(since)), until: Some(time(until)), ..LineFilter::default() };
            filter.selects(&line())
        };
        assert!(between("2026-11-30T12:00:00Z", "2026-11-30T12:00:00Z"));
        assert!(!between("2026-11-30T12:00:00.001Z", "2026-11-30T13:00:00Z"));
        assert!(!between("2026-11-30T11:00:00Z", "2026-11-30T11:59:59.999Z"));
    }

    #[test]
    fn criteria_combine() {
        let other = "web-zzzzz".parse().expect("an id");
        let filter = by(|filter| filter.text = Some(SearchText::new("no. 7")));
        assert!(filter.selects(&line()));
        assert!(!LineFilter { instance: Some(other), ..filter.clone() }.selects(&line()));
        assert!(!LineFilter { stream: Some(Stream::Host), ..filter.clone() }.selects(&line()));
        assert!(!LineFilter { request_id: Some(RequestId::from_random(1)), ..filter }.selects(&line()));
    }

    #[test]
    fn segments_are_skipped_only_beyond_the_skew() {
        let filter = LineFilter {
            since: Some(time("2026-11-30T12:00:00Z")),
            until: Some(time("2026-11-30T13:00:00Z")),
            ..LineFilter::default()
        };
        let changed = |text| SystemTime::from(time(text));
        assert!(filter.is_after(changed("2026-11-30T11:58:59Z")) && !filter.is_after(changed("2026-11-30T11:59:01Z")));
        assert!(filter.is_before(time("2026-11-30T13:01:01Z")) && !filter.is_before(time("2026-11-30T13:00:59Z")));
    }
}
