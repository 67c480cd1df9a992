//! Tests the export of traces, metrics and logs to a collector (OTLP over HTTP), and that a
//! collector that fails costs no request.

use isopod_tests::{
    Ask, Bundle, Collector, Host, Shown, collector::ExportedSpan, guest, outbox::outbox, program, upstream::Then,
    wait_for,
};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn accepted() -> Then {
    Then::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())
}

/// Waits for the span of a request.
fn span_of(collector: &Collector, request_id: &str) -> ExportedSpan {
    wait_for("the span of the request", || {
        collector.spans().into_iter().find(|span| span.attributes["faas.invocation_id"] == request_id)
    })
}

#[test]
fn a_recorded_request_has_a_span_by_the_semantic_conventions() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 1.0\nheaders = { authorization = \"Bearer key\" }"));
    host.deploy("probe-flat", Bundle::component(guest("probe-flat")));
    let answer = host.get("probe-flat", "/show?secret=1").expect(200);
    let span = span_of(&collector, answer.header("x-request-id").expect("each response has an id"));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/show"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("faas.trigger", "http"),
    ] {
        assert_eq!(span.attributes.get(name).map(String::as_str), Some(value), "{name}: {span:?}");
    }
    assert!(span.attributes.contains_key("faas.coldstart") && !span.is_error && span.nanoseconds > 0, "{span:?}");
    assert!(!span.attributes.values().any(|value| value.contains("secret")), "{span:?}");
    for (name, value) in [("service.name", "probe-flat"), ("faas.name", "probe-flat"), ("faas.version", "v1")] {
        assert_eq!(span.resource.get(name).map(String::as_str), Some(value), "{name}: {span:?}");
    }
    let instance = span.resource.get("faas.instance").expect("the instance is known");
    assert!(instance.starts_with("web-"), "{span:?}");
    // The guest's spans are children of the exported one.
    let shown = Shown::read(&answer.text());
    let parent = shown.header("traceparent").expect("it is always set");
    assert_eq!((span.name.as_str(), parent.split('-').nth(1)), ("GET", Some(span.trace_id.as_str())));
    assert_eq!((parent.split('-').nth(2), span.parent_span_id.as_str()), (Some(span.span_id.as_str()), ""));
    assert!(collector.requests().iter().all(|request| request.header("authorization") == ["Bearer key"]));
    assert!(!host.said().contains("Bearer"), "the host shows a secret");
}

#[test]
fn the_sender_of_a_request_decides_whether_its_trace_is_recorded() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 1.0"));
    host.deploy("hello", Bundle::component(guest("hello")));
    let send = |flags: &str| {
        let answer = host.app("hello", Ask::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}")));
        answer.expect(200).header("x-request-id").expect("each response has an id").to_owned()
    };
    let (unrecorded, recorded) = (send("00"), send("01"));
    let span = span_of(&collector, &recorded);
    assert_eq!((span.trace_id.as_str(), span.parent_span_id.as_str()), (TRACE, SPAN));
    assert!(!collector.spans().iter().any(|span| span.attributes["faas.invocation_id"] == unrecorded));
}

#[test]
fn a_failed_request_is_always_recorded() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 0.0"));
    host.deploy("probe-flat", Bundle::component(guest("probe-flat")));
    host.get("probe-flat", "/show").expect(200);
    let failed = host.get("probe-flat", "/panic").expect(502);
    let span = span_of(&collector, failed.header("x-request-id").expect("each response has an id"));
    assert!(span.is_error && span.attributes["error.type"] == "trap", "{span:?}");
    assert_eq!(collector.spans().len(), 1, "a request that succeeds isn't recorded");
}

#[test]
fn the_lines_of_an_app_are_exported_with_their_level() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(""));
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = host.app("greedy", Ask::get("/log-line?text=hello").header("traceparent", parent)).expect(200);
    let id = answer.header("x-request-id").expect("each response has an id");
    let line = wait_for("the line", || collector.records().into_iter().find(|record| record.body == "hello"));
    assert_eq!((&*line.resource["service.name"], &*line.attributes["log.iostream"]), ("greedy", "stdout"));
    assert_eq!((line.attributes["faas.invocation_id"].as_str(), line.severity.as_str()), (id, ""));
    let span = span_of(&collector, id);
    assert_eq!((&*line.trace_id, &line.span_id), ("4bf92f3577b34da6a3ce929d0e0e4736", &span.span_id));
    host.get("greedy", "/panic").expect(502);
    wait_for("the fault", || {
        let is_fault = |body: &str| body.starts_with("isopod:");
        collector.records().into_iter().find(|record| record.severity == "error" && is_fault(&record.body))
    });
}

#[test]
fn exported_metrics_have_the_values_that_a_scraper_reads() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(""));
    host.deploy("hello", Bundle::component(guest("hello")));
    for _ in 0..7 {
        host.get("hello", "/").expect(200);
    }
    let labels = [("app", "hello"), ("class", "2xx")];
    wait_for("the counter", || (collector.metric("isopod_requests", &labels) == Some(7.0)).then_some(()));
    assert_eq!(host.metric("isopod_requests_total{app=\"hello\",class=\"2xx\"}"), 7.0);
    let (count, buckets) = wait_for("the histogram", || {
        collector.histogram("isopod_request_duration_seconds", "hello").filter(|(count, _)| *count == 7)
    });
    assert_eq!(buckets.iter().sum::<u64>(), count, "{buckets:?}");
    assert_eq!(collector.metric("isopod_apps", &[("state", "running")]), Some(1.0));
}

#[test]
fn a_collector_that_fails_or_hangs_delays_no_request() {
    let refusing = || Then::Send(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_vec());
    let hanging = || Then::SendAndStall(Vec::new());
    for (answer, what) in [(refusing as fn() -> Then, "refuses"), (hanging as fn() -> Then, "hangs")] {
        let collector = Collector::answering(move |_| answer());
        let mut host = Host::start_with("", &collector.settings("sample = 1.0"));
        host.create("outbox", "production");
        host.deploy("outbox", outbox("outbox", "", ""));
        wait_for("a request to the collector", || (!collector.requests().is_empty()).then_some(()));
        // More spans than the queue holds.
        let mut wire = host.wire();
        for _ in 0..3_000 {
            let ask = host.to_app("outbox", Ask::post("/").json(&json!([])));
            wire.ask(&ask).expect("it can be sent");
            wire.answer().expect("it is answered").expect(200);
        }
        wait_for(&format!("dropped spans, while the collector {what}"), || {
            (host.metric("isopod_telemetry_dropped_total{signal=\"traces\"}") > 0.0).then_some(())
        });
        let is_reported = || host.said().contains("the telemetry collector accepts no data").then_some(());
        wait_for(&format!("the report that the collector {what}"), is_reported);
        host.stop();
    }
}

#[test]
fn the_last_spans_are_sent_before_the_host_stops() {
    let collector = Collector::answering(|_| accepted());
    let mut host = Host::start_with("", &collector.settings("sample = 1.0"));
    host.deploy("hello", Bundle::component(guest("hello")));
    let answer = host.get("hello", "/").expect(200);
    let id = answer.header("x-request-id").expect("each response has an id").to_owned();
    host.stop();
    assert!(collector.spans().iter().any(|span| span.attributes["faas.invocation_id"] == id));
}

#[test]
fn invalid_settings_of_telemetry_are_refused_by_name() {
    for (text, words) in [
        ("[telemetry]\nendpoint = \"collector:4318\"\n", "telemetry.endpoint"),
        ("[telemetry]\nsample = 2.0\n", "telemetry.sample"),
        ("[telemetry]\nendpont = \"http://collector\"\n", "endpont"),
    ] {
        program::refuses_settings(text, words);
    }
}
