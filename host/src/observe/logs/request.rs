//! The record of a response to a request, and its line in the log. I/O threads only copy the facts;
//! the writer's thread formats them. Never does I/O.

use std::time::Duration;

use http::{Method, StatusCode};
use isopod_policy::{AppName, InstanceId, ReleaseNumber, RequestId, Timing, TraceId};
use jiff::Timestamp;

use super::{
    line::{Access, LogLine, Stream},
    timing::RequestTiming,
};
use crate::observe::{access_log::AccessLine, limits};

/// A response to a request.
#[derive(Debug)]
pub(super) struct Request {
    time: Timestamp,
    release: Option<ReleaseNumber>,
    instance: Option<InstanceId>,
    request_id: RequestId,
    method: Method,
    path: Box<str>,
    status: StatusCode,
    duration: Duration,
    bytes: Option<u64>,
    fault: Option<&'static str>,
    plugin: Option<AppName>,
    trace: TraceId,
    timing: Timing,
}

impl Request {
    pub(super) fn new(line: &AccessLine<'_>, time: Timestamp) -> Self {
        let path = &line.path[..line.path.floor_char_boundary(limits::LOG_PATH_BYTES)];
        Self {
            time,
            release: line.release,
            instance: line.instance.cloned(),
            request_id: line.request_id,
            method: line.method.clone(),
            path: path.into(),
            status: line.status,
            duration: line.duration,
            bytes: line.bytes,
            fault: line.fault,
            plugin: line.plugin.cloned(),
            trace: line.trace.trace,
            timing: line.timing,
        }
    }

    /// Returns the line, for followers.
    pub(super) fn to_line(&self, app: &AppName) -> LogLine {
        let duration_ms = self.duration_us() as f64 / 1e3;
        let fault = self.fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
        let plugin = self.plugin.as_ref().map(|plugin| format!(" by {plugin}")).unwrap_or_default();
        let message = format!("{} {} {} {duration_ms} ms{plugin}{fault}", self.method, self.path, self.status.as_u16());
        LogLine {
            time: self.time,
            release: self.release,
            instance: self.instance.as_ref().map(InstanceId::to_string),
            request_id: Some(self.request_id.to_string()),
            access: Some(Access {
                method: self.method.to_string(),
                path: self.path.to_string(),
                status: self.status.as_u16(),
                duration_ms,
                bytes: self.bytes,
                fault: self.fault.map(str::to_owned),
                plugin: self.plugin.as_ref().map(AppName::to_string),
                trace_id: Some(self.trace),
                timing: RequestTiming::of(&self.timing),
            }),
            ..LogLine::new(app, Stream::Access, message)
        }
    }

    /// Returns the duration in microseconds, rounded.
    fn duration_us(&self) -> u64 {
        u64::try_from((self.duration.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX)
    }
}

/// Formats records as JSON: the same text that serde makes of [`Request::to_line`], without a
/// `LogLine` for each record.
#[derive(Default)]
pub(super) struct Formatter {
    /// The last second and its text. Most records of a batch share it.
    second: Option<i64>,
    second_text: String,
}

impl Formatter {
    /// Appends the JSON object of one record.
    pub(super) fn append(&mut self, request: &Request, app: &AppName, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let (method, path) = (request.method.as_str(), &*request.path);
        if !is_plain(method) || !is_plain(path) {
            return serde_json::to_writer(out, &request.to_line(app));
        }
        let duration_us = request.duration_us();
        out.extend_from_slice(b"{\"time\":\"");
        self.append_time(request.time, out);
        out.extend_from_slice(b"\",\"app\":\"");
        out.extend_from_slice(app.as_ref().as_bytes());
        out.extend_from_slice(b"\",\"stream\":\"access\"");
        if let Some(release) = request.release {
            out.extend_from_slice(b",\"release\":");
            append_number(release.get().into(), out);
        }
        if let Some(instance) = &request.instance {
            append_text("instance", instance.as_str(), out);
        }
        append_text("request_id", request.request_id.as_str(), out);
        out.extend_from_slice(b",\"message\":\"");
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(path.as_bytes());
        out.push(b' ');
        out.extend_from_slice(request.status.as_str().as_bytes());
        out.push(b' ');
        append_thousandths(duration_us, "", out);
        out.extend_from_slice(b" ms");
        if let Some(plugin) = &request.plugin {
            out.extend_from_slice(b" by ");
            out.extend_from_slice(plugin.as_str().as_bytes());
        }
        if let Some(fault) = request.fault {
            out.extend_from_slice(b" (");
            out.extend_from_slice(fault.as_bytes());
            out.push(b')');
        }
        out.push(b'"');
        append_text("method", method, out);
        append_text("path", path, out);
        out.extend_from_slice(b",\"status\":");
        out.extend_from_slice(request.status.as_str().as_bytes());
        out.extend_from_slice(b",\"duration_ms\":");
        append_thousandths(duration_us, ".0", out);
        if let Some(bytes) = request.bytes {
            out.extend_from_slice(b",\"bytes\":");
            append_number(bytes, out);
        }
        if let Some(fault) = request.fault {
            append_text("fault", fault, out);
        }
        if let Some(plugin) = &request.plugin {
            append_text("plugin", plugin.as_str(), out);
        }
        out.extend_from_slice(b",\"trace_id\":\"");
        out.extend_from_slice(&request.trace.digits());
        out.push(b'"');
        append_timing(&request.timing, out);
        out.push(b'}');
        Ok(())
    }

    /// Appends a time as jiff writes it: with as many digits after the point as needed.
    fn append_time(&mut self, time: Timestamp, out: &mut Vec<u8>) {
        let second = time.as_second();
        if self.second != Some(second) {
            self.second = Some(second);
            let whole = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.second_text = whole.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        out.extend_from_slice(self.second_text.as_bytes());
        // Since 1970, the rest of a second isn't negative.
        append_decimals(u64::try_from(time.subsec_nanosecond()).unwrap_or(0), 1_000_000_000, "", out);
        out.push(b'Z');
    }
}

/// Appends the field with the phases, if any took time.
fn append_timing(timing: &Timing, out: &mut Vec<u8>) {
    if timing.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"timing\":");
    for (position, (phase, time_us)) in timing.phases().enumerate() {
        out.push(if position == 0 { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(phase.name().as_bytes());
        out.extend_from_slice(b"_ms\":");
        append_thousandths(time_us.into(), ".0", out);
    }
    out.push(b'}');
}

/// Returns whether a JSON string has the same bytes, and a line has room for them.
fn is_plain(text: &str) -> bool {
    text.len() <= limits::LOG_PATH_BYTES && text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

/// Appends a member whose text needs no escapes.
fn append_text(name: &str, text: &str, out: &mut Vec<u8>) {
    for part in [",\"", name, "\":\"", text, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn append_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a number of thousandths. `whole` follows a number without decimals.
fn append_thousandths(thousandths: u64, whole: &str, out: &mut Vec<u8>) {
    append_number(thousandths / 1_000, out);
    append_decimals(thousandths % 1_000, 1_000, whole, out);
}

/// Appends the decimals of `numerator / denominator`, a power of ten, without zeros at the end. If
/// there are none, appends `whole`.
fn append_decimals(numerator: u64, denominator: u64, whole: &str, out: &mut Vec<u8>) {
    if numerator == 0 {
        return out.extend_from_slice(whole.as_bytes());
    }
    // The leading one keeps the zeros after the point.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(denominator + numerator);
    out.push(b'.');
    out.extend_from_slice(digits[1..].trim_end_matches('0').as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formatted(formatter: &mut Formatter, request: &Request, app: &AppName) -> String {
        let mut out = Vec::new();
        formatter.append(request, app, &mut out).expect("it is text");
        String::from_utf8(out).expect("it is text")
    }

    fn by_serde(request: &Request, app: &AppName) -> String {
        serde_json::to_string(&request.to_line(app)).expect("it serialises")
    }

    prop_compose! {
        fn requests()(
            (second, nanosecond) in (0_i64..4_000_000_000, prop_oneof![Just(0), Just(120_000_000), 0..1_000_000_000]),
            release in any::<u32>(),
            id in any::<u128>(),
            method in "GET|POST|M-SEARCH|X{9000}",
            path in "(/.{0,12}|/[a-z\"\\\\\u{1}é]{0,8})",
            status in 100..=999_u16,
            nanos in prop_oneof![Just(0), Just(5_000_000), 0..10_000_000_000_u64],
            bytes in any::<Option<u64>>(),
            has_fault in any::<bool>(),
            has_plugin in any::<bool>(),
            instance in any::<Option<[u8; 5]>>(),
            trace in any::<u128>(),
            phases in prop::array::uniform12(prop_oneof![3 => Just(0_u32), 1 => Just(5_000), 1 => any::<u32>()]),
        ) -> Request {
            Request {
                time: Timestamp::new(second, nanosecond).expect("it is in range"),
                release: ReleaseNumber::new(release),
                instance: instance.map(|random| InstanceId::from_random(&"web".parse().expect("it is a name"), random)),
                request_id: RequestId::from_random(id),
                method: method.parse().expect("it is a method"),
                path: path.into(),
                status: StatusCode::from_u16(status).expect("it is a status"),
                duration: Duration::from_nanos(nanos),
                bytes,
                fault: has_fault.then_some("app-failed"),
                plugin: has_plugin.then(|| "require-jwt".parse().expect("it is a name")),
                trace: TraceId::from_random(trace),
                timing: Timing::new(phases),
            }
        }
    }

    proptest! {
        #[test]
        fn a_formatted_record_equals_its_serialised_line(records in prop::collection::vec(requests(), 1..4)) {
            let app: AppName = "hello".parse().expect("it is a name");
            let mut formatter = Formatter::default();
            for record in records {
                prop_assert_eq!(formatted(&mut formatter, &record, &app), by_serde(&record, &app));
            }
        }
    }
}
