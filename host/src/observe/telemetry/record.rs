//! A line of an app's log as a log record of OTLP. Never decides which lines are exported.

use super::{
    attributes::{Origin, scope, text},
    span::nanoseconds,
};
use isopod_policy::{AppName, ReleaseNumber, TraceParent};
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs, SeverityNumber},
};
use std::collections::BTreeMap;

/// A line of an app's log.
pub(crate) struct ExportedLine {
    pub(crate) time: Timestamp,
    pub(crate) app: AppName,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) instance: Option<String>,
    /// The name of its source: `stdout`, `stderr`, `log` or `host`.
    pub(crate) stream: &'static str,
    pub(crate) level: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) message: String,
}

impl ExportedLine {
    fn into_otlp(self) -> LogRecord {
        let mut attributes = vec![text("isopod.stream", self.stream)];
        if matches!(self.stream, "stdout" | "stderr") {
            attributes.push(text("log.iostream", self.stream));
        }
        attributes.extend(self.request_id.as_deref().map(|id| text("faas.invocation_id", id)));
        LogRecord {
            time_unix_nano: nanoseconds(self.time),
            observed_time_unix_nano: nanoseconds(self.time),
            severity_number: severity(self.level.as_deref()).into(),
            severity_text: self.level.unwrap_or_default(),
            body: Some(AnyValue { value: Some(Value::StringValue(self.message)) }),
            attributes,
            trace_id: self.trace.map(|parent| parent.trace.get().to_be_bytes().to_vec()).unwrap_or_default(),
            span_id: self.trace.map(|parent| parent.span.get().to_be_bytes().to_vec()).unwrap_or_default(),
            flags: self.trace.map_or(0, |parent| parent.flags().into()),
            ..LogRecord::default()
        }
    }
}

#[cfg(test)]
impl ExportedLine {
    /// Returns a line of a guest's output.
    pub(super) fn of(app: AppName, message: String) -> Self {
        let (release, instance, level, request_id, trace) = (None, None, None, None, None);
        let time = Timestamp::UNIX_EPOCH;
        Self { time, app, release, instance, stream: "stdout", level, request_id, trace, message }
    }
}

/// Returns the lines as the body of a request to a collector, grouped by their origin.
pub(super) fn logs(lines: impl IntoIterator<Item = Box<ExportedLine>>) -> LogsData {
    let mut origins: BTreeMap<Origin, Vec<LogRecord>> = BTreeMap::new();
    for line in lines {
        let origin = Origin { app: line.app.clone(), release: line.release, instance: line.instance.clone() };
        origins.entry(origin).or_default().push(line.into_otlp());
    }
    let resource_logs = origins.into_iter().map(|(origin, log_records)| ResourceLogs {
        resource: Some(origin.resource()),
        scope_logs: vec![ScopeLogs { scope: scope(), log_records, ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    });
    LogsData { resource_logs: resource_logs.collect() }
}

/// Returns the severity of a level of `wasi:logging`. Output without a level has none.
fn severity(level: Option<&str>) -> SeverityNumber {
    match level {
        Some("trace") => SeverityNumber::Trace,
        Some("debug") => SeverityNumber::Debug,
        Some("info") => SeverityNumber::Info,
        Some("warn") => SeverityNumber::Warn,
        Some("error") => SeverityNumber::Error,
        Some("critical") => SeverityNumber::Fatal,
        _ => SeverityNumber::Unspecified,
    }
}
