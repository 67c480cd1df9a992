//! Formats log lines for endpoints: RFC 5424, NDJSON and OTLP. Never sends anything.

use isopod_policy::text::printable_line;
use serde_json::{Value, json};

use crate::observe::logs::{Level, LogLine, Stream};

/// Formats a line as a message of RFC 5424, without framing. Control characters of a guest are
/// escaped, so that no message can forge another.
pub(super) fn syslog(line: &LogLine) -> String {
    // Facility 1: user-level messages.
    let priority = 8 + severity(line).syslog;
    let time = line.time;
    let instance = line.instance.as_deref().unwrap_or("-");
    let message = printable_line(&line.message);
    format!("<{priority}>1 {time:.6} isopod {} {instance} {} - {message}", line.app, stream(line.stream))
}

/// Formats a message of RFC 5424 with its length before it.
pub(super) fn syslog_framed(line: &LogLine) -> String {
    let message = syslog(line);
    format!("{} {message}", message.len())
}

/// Formats lines as NDJSON: each is the JSON object of the API.
pub(super) fn ndjson(lines: &[LogLine]) -> String {
    lines.iter().filter_map(|line| serde_json::to_string(line).ok()).map(|line| line + "\n").collect()
}

/// Formats lines of one app as a request of OTLP/HTTP.
pub(super) fn otlp(app: &str, lines: &[LogLine]) -> String {
    let resource = json!({ "attributes": [text("service.name", app), text("faas.name", app)] });
    let records: Vec<Value> = lines.iter().map(record).collect();
    let scope = json!({ "scope": { "name": "isopod" }, "logRecords": records });
    json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": [scope] }] }).to_string()
}

fn record(line: &LogLine) -> Value {
    let mut attributes = vec![text("isopod.stream", stream(line.stream))];
    attributes.extend(line.release.map(|release| text("faas.version", &release.to_string())));
    attributes.extend(line.instance.as_deref().map(|instance| text("faas.instance", instance)));
    // As the export of telemetry names it.
    attributes.extend(line.request_id.as_deref().map(|id| text("faas.invocation_id", id)));
    attributes.extend(line.event_id.as_deref().map(|id| text("isopod.event_id", id)));
    if let Some(access) = &line.access {
        attributes.push(text("http.request.method", &access.method));
        attributes.push(text("url.path", &access.path));
        attributes.push(json!({
            "key": "http.response.status_code", "value": { "intValue": access.status.to_string() },
        }));
    }
    let severity = severity(line);
    let mut record = json!({
        // 64-bit integers are strings in the JSON encoding.
        "timeUnixNano": line.time.as_nanosecond().to_string(),
        "severityNumber": severity.otlp,
        "severityText": severity.name,
        "body": { "stringValue": line.message },
        "attributes": attributes,
    });
    let of_access = line.access.as_ref().and_then(|access| access.trace_id);
    if let Some(trace) = line.trace.map(|parent| parent.trace).or(of_access) {
        record["traceId"] = trace.to_string().into();
    }
    if let Some(parent) = line.trace {
        record["spanId"] = parent.span.to_string().into();
    }
    record
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::Log => "log",
        Stream::Access => "access",
        Stream::Host => "host",
    }
}

/// The severity of a line, in each format.
struct Severity {
    name: &'static str,
    syslog: u8,
    otlp: u8,
}

fn severity(line: &LogLine) -> Severity {
    let (name, syslog, otlp) = match Level::of(line) {
        Level::Critical => ("critical", 2, 21),
        Level::Error => ("error", 3, 17),
        Level::Warn => ("warn", 4, 13),
        Level::Info => ("info", 6, 9),
        Level::Debug => ("debug", 7, 5),
        Level::Trace => ("trace", 7, 1),
    };
    Severity { name, syslog, otlp }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn line(message: &str) -> LogLine {
        let mut line = LogLine::new(&"shop".parse().expect("a valid name"), Stream::Log, message.to_owned());
        line.time = Timestamp::from_second(1_700_000_000).expect("a valid time");
        line.level = Some("warn".to_owned());
        line.instance = Some("web-7f3k2".to_owned());
        line
    }

    #[test]
    fn a_syslog_message_follows_rfc_5424() {
        let message = syslog(&line("low stock"));
        assert_eq!(message, "<12>1 2023-11-14T22:13:20.000000Z isopod shop web-7f3k2 log - low stock");
        assert_eq!(syslog_framed(&line("low stock")), format!("{} {message}", message.len()));
    }

    #[test]
    fn a_line_without_a_level_has_that_of_a_search() {
        let mut line = line("disk failed");
        (line.level, line.stream) = (None, Stream::Stderr);
        assert!(syslog(&line).starts_with("<12>1 "), "standard error is a warning");
        line.stream = Stream::Stdout;
        assert!(syslog(&line).starts_with("<14>1 "));
    }

    #[test]
    fn no_line_of_a_guest_forges_a_message() {
        let message = syslog(&line("a\n<0>1 - - - - - - forged\u{1b}[2J"));
        assert!(!message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    }

    #[test]
    fn ndjson_has_one_object_per_line() {
        let text = ndjson(&[line("one\ntwo"), line("three")]);
        let messages: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&messages[0]["message"], &messages[1]["message"]), (&json!("one\ntwo"), &json!("three")));
        assert_eq!(messages.len(), 2);
    }

    #[test]
    fn an_otlp_request_names_the_app_and_the_severity() {
        let request: Value = serde_json::from_str(&otlp("shop", &[line("low stock")])).expect("JSON");
        let of = &request["resourceLogs"][0];
        assert_eq!(of["resource"]["attributes"][0], text("service.name", "shop"));
        let record = &of["scopeLogs"][0]["logRecords"][0];
        assert_eq!((&record["severityNumber"], &record["severityText"]), (&json!(13), &json!("warn")));
        assert_eq!(record["timeUnixNano"], "1700000000000000000");
        assert_eq!(record["body"]["stringValue"], "low stock");
    }
}
