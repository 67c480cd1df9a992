//! The schema of a log line, as stored and as returned by the API. Never does I/O.

use isopod_policy::{AppName, ReleaseNumber, TraceId, TraceParent};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::timing::RequestTiming;
use crate::observe::{limits, telemetry::ExportedLine};

/// The source of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    /// Standard output of a guest.
    Stdout,
    /// Standard error of a guest.
    Stderr,
    /// A message of a guest through `wasi:logging`.
    Log,
    /// A response to a request.
    Access,
    /// A message of the host about the app: pushes, starts, traps.
    Host,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
            Self::Access => "access",
            Self::Host => "host",
        }
    }
}

/// One line of an app's log.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct LogLine {
    pub(crate) time: Timestamp,
    pub(crate) app: AppName,
    pub(crate) stream: Stream,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<ReleaseNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// The event that the guest was handling, or that the line is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<String>,
    pub(crate) message: String,
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Access>,
    /// The position in the trace of the line's request. It is exported, but not stored: the access
    /// line of the request has the trace.
    #[serde(skip)]
    pub(crate) trace: Option<TraceParent>,
}

/// A request and its response. Without the query, which may contain secrets.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = AccessLine)]
pub(crate) struct Access {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) duration_ms: f64,
    /// The response's length, if it was known before sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
    /// The plugin that responded or failed in place of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin: Option<String>,
    /// The trace of the request (W3C Trace Context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    pub(crate) trace_id: Option<TraceId>,
    /// The phases that took time. Absent if none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timing: Option<RequestTiming>,
}

impl LogLine {
    pub(crate) fn new(app: &AppName, stream: Stream, message: String) -> Self {
        Self {
            time: Timestamp::now(),
            app: app.clone(),
            stream,
            release: None,
            instance: None,
            request_id: None,
            event_id: None,
            level: None,
            message: shortened(message, limits::HOST_LINE_BYTES_MAX),
            access: None,
            trace: None,
        }
    }

    /// Creates a line that a guest wrote, which its app's own limit has cut.
    pub(crate) fn of_guest(app: &AppName, stream: Stream, message: String) -> Self {
        let message = shortened(message, limits::GUEST_LINE_BYTES_MAX);
        Self { message, ..Self::new(app, stream, String::new()) }
    }

    /// Adds the event that the line is about.
    pub(crate) fn about_event(mut self, id: &str) -> Self {
        let id = shortened(id.to_owned(), limits::LOG_EVENT_ID_BYTES_MAX);
        self.event_id = (!id.is_empty()).then_some(id);
        self
    }

    /// Returns a copy of the line for the export of telemetry.
    pub(super) fn exported(&self) -> ExportedLine {
        ExportedLine {
            time: self.time,
            app: self.app.clone(),
            release: self.release,
            instance: self.instance.clone(),
            stream: self.stream.name(),
            level: self.level.clone(),
            request_id: self.request_id.clone(),
            trace: self.trace,
            message: self.message.clone(),
        }
    }

    /// Creates a line of the host.
    pub(crate) fn host(app: &AppName, message: String) -> Self {
        Self::new(app, Stream::Host, message)
    }
}

/// Truncates a message to its limit at a character boundary, and marks the cut with `…`.
fn shortened(mut message: String, bytes_max: usize) -> String {
    if message.len() > bytes_max {
        message.truncate(message.floor_char_boundary(bytes_max));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_truncated_at_a_character_boundary() {
        let cut = shortened("ä".repeat(20), 31);
        assert_eq!(cut, format!("{}…", "ä".repeat(15)));
        let app: AppName = "hello".parse().expect("valid name");
        let stored = |line: LogLine| line.message.len();
        let long = || "x".repeat(1 << 20);
        assert_eq!(stored(LogLine::host(&app, long())), limits::HOST_LINE_BYTES_MAX + '…'.len_utf8());
        let guest = stored(LogLine::of_guest(&app, Stream::Log, long()));
        assert_eq!(guest, limits::GUEST_LINE_BYTES_MAX + '…'.len_utf8());
        assert!(limits::GUEST_LINE_BYTES_MAX as u64 > *isopod_policy::limits::LOG_LINE_BYTES.end());
    }

    #[test]
    fn an_access_line_is_flat() {
        let app: AppName = "hello".parse().expect("valid name");
        let mut line = LogLine::new(&app, Stream::Access, "GET / 200".to_owned());
        line.access = Some(Access {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            status: 200,
            duration_ms: 0.5,
            bytes: Some(2),
            fault: None,
            plugin: None,
            trace_id: None,
            timing: None,
        });
        let json = serde_json::to_value(&line).expect("serialises");
        assert_eq!(json["status"], 200);
        let back: LogLine = serde_json::from_value(json).expect("deserialises");
        assert_eq!(back.access.map(|access| access.path), Some("/".to_owned()));
    }
}
