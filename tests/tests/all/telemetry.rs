//! Tests the export of traces, metrics and logs to a collector (OTLP over HTTP), and that a
//! collector that fails costs no request.

use isopod_tests::{
    Ask, Bundle, Collector, Host, Shown,
    collector::{ExportedSpan, is_of, rejecting, status},
    guest,
    outbox::outbox,
    program,
    tls::Authority,
    upstream::Then,
    wait_for,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Settings of a collector that requires a token, which the host must never show.
const WITH_TOKEN: &str = "sample = 1.0\nheaders = { authorization = \"Bearer key\" }";

/// Sends a request to `hello`, and returns its id.
fn request(host: &Host) -> String {
    host.get("hello", "/").expect(200).header("x-request-id").expect("each response has an id").to_owned()
}

fn dropped(host: &Host, signal: &str) -> f64 {
    host.metric(&format!("isopod_telemetry_dropped_total{{signal=\"{signal}\"}}"))
}

/// Waits for the span of a request.
fn span_of(collector: &Collector, request_id: &str) -> ExportedSpan {
    wait_for("the span of the request", || {
        collector.spans().into_iter().find(|span| span.attributes["faas.invocation_id"] == request_id)
    })
}

/// Asserts that a span of `probe-flat` has the phases of the request's access line.
#[track_caller]
fn assert_has_phases(host: &Host, span: &ExportedSpan, id: &str) {
    let line =
        host.log_line("probe-flat", "the access line", |line| line["stream"] == "access" && line["request_id"] == id);
    let timing = line["timing"].as_object().expect("it has phases");
    let logged: BTreeMap<&str, f64> =
        timing.iter().map(|(phase, ms)| (phase.as_str(), ms.as_f64().expect("a number"))).collect();
    let attributes = span.attributes.iter().filter_map(|(name, value)| {
        let phase = name.strip_prefix("isopod.timing.")?;
        Some((phase, value.parse().expect("a number")))
    });
    let exported: BTreeMap<&str, f64> = attributes.collect();
    assert_eq!(exported, logged);
    assert!(exported.get("cpu_ms").is_some_and(|&ms| ms > 0.0), "{span:?}");
}

#[test]
fn a_recorded_request_has_a_span_by_the_semantic_conventions() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(WITH_TOKEN));
    host.deploy("probe-flat", Bundle::component(guest("probe-flat")));
    let answer = host.get("probe-flat", "/show?secret=1").expect(200);
    let id = answer.header("x-request-id").expect("each response has an id");
    let span = span_of(&collector, id);
    assert_has_phases(&host, &span, id);
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
    assert!(!span.is_error && span.nanoseconds > 0, "{span:?}");
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
fn only_a_request_that_starts_an_instance_is_a_cold_start() {
    let collector = Collector::start();
    let settings = format!("freeze_after = \"1s\"\n{}", collector.settings("sample = 1.0"));
    let host = Host::start_with("", &settings);
    host.deploy("hello", Bundle::component(guest("hello")));
    let is_cold = |request_id: &str| span_of(&collector, request_id).attributes["faas.coldstart"].clone();
    wait_for("a request to a running instance", || {
        wait_for("the app to be frozen", || (host.release_state("hello", 1) == "frozen").then_some(()));
        let [thawing, warm] = [(); 2].map(|()| request(&host));
        assert_eq!(is_cold(&thawing), "true");
        // On a busy machine, the app may be frozen again between the two requests.
        (is_cold(&warm) == "false").then_some(())
    });
}

#[test]
fn a_collector_with_a_private_authority_is_trusted_by_its_file() {
    let authority = Authority::new();
    let identity = authority.identity(90);
    let collector = Collector::start_tls(&identity);
    let host = Host::start_with("", &collector.settings(&format!("{WITH_TOKEN}\nca_file = {:?}", authority.file())));
    host.deploy("hello", Bundle::component(guest("hello")));
    span_of(&collector, &request(&host));
    let second = Collector::start_tls(&identity);
    let host = Host::start_with("", &format!("{}{}", second.settings(WITH_TOKEN), authority.settings()));
    host.deploy("hello", Bundle::component(guest("hello")));
    span_of(&second, &request(&host));
    let unreached = Collector::start_tls(&identity);
    let untrusting = Host::start_with("", &unreached.settings(WITH_TOKEN));
    wait_for("the report", || untrusting.said().contains("telemetry export failed").then_some(()));
    let said = untrusting.said();
    assert!(said.contains("certificate") && !said.contains("Bearer") && unreached.requests().is_empty(), "{said}");
}

#[test]
fn the_sender_of_a_request_decides_whether_its_trace_is_recorded() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 1.0"));
    host.deploy("hello", Bundle::component(guest("hello")));
    let send = |flags: &str| {
        let ask = Ask::get("/").header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}"));
        let answer = host.app("hello", ask.header("tracestate", "rojo=1"));
        answer.expect(200).header("x-request-id").expect("each response has an id").to_owned()
    };
    let (unrecorded, recorded) = (send("00"), send("01"));
    let span = span_of(&collector, &recorded);
    assert_eq!((span.trace_id.as_str(), span.parent_span_id.as_str()), (TRACE, SPAN));
    assert_eq!(span.trace_state, "rojo=1");
    assert!(!collector.spans().iter().any(|span| span.attributes["faas.invocation_id"] == unrecorded));
}

#[test]
fn an_untrusted_client_does_not_decide_whether_its_trace_is_recorded() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 0.0\ntrust_parent = false"));
    host.deploy("probe-flat", Bundle::component(guest("probe-flat")));
    let ask = Ask::get("/show").header("traceparent", format!("00-{TRACE}-{SPAN}-01"));
    let answer = host.app("probe-flat", ask).expect(200);
    let (shown, unrecorded) = (Shown::read(&answer.text()), format!("00-{TRACE}-{SPAN}-00"));
    assert_eq!(shown.header("traceparent"), Some(unrecorded.as_str()));
    let failed = host.get("probe-flat", "/panic").expect(502);
    span_of(&collector, failed.header("x-request-id").expect("each response has an id"));
    assert_eq!(collector.spans().len(), 1, "the client's request isn't recorded");
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
fn the_series_of_a_destroyed_app_end() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(""));
    host.deploy("hello", Bundle::component(guest("hello")));
    request(&host);
    let labels = [("app", "hello"), ("class", "2xx")];
    wait_for("the counter", || (collector.metric("isopod_requests", &labels) == Some(1.0)).then_some(()));
    host.api(Ask::new("DELETE", "/v1/apps/hello")).expect(204);
    wait_for("the end of the series", || collector.has_ended("isopod_requests", &labels).then_some(()));
}

#[test]
fn only_the_selected_signals_are_exported() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings("sample = 1.0\nsignals = [\"traces\"]"));
    host.deploy("hello", Bundle::component(guest("hello")));
    // The exporter gathers spans for a second, which is the interval of metrics.
    while collector.requests_of("traces") < 3 {
        span_of(&collector, &request(&host));
    }
    assert!(collector.requests().iter().all(|request| is_of(request, "traces")), "{:?}", collector.requests());
}

#[test]
fn a_collector_that_fails_or_hangs_delays_no_request() {
    let hanging = || Then::SendAndStall(Vec::new());
    for (answer, what) in [((|| status(500)) as fn() -> Then, "refuses"), (hanging as fn() -> Then, "hangs")] {
        let collector = Collector::answering(move |_| answer());
        let mut host = Host::start_with("", &collector.settings(WITH_TOKEN));
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
            (dropped(&host, "traces") > 0.0).then_some(())
        });
        if what == "refuses" {
            let is_reported = || host.said().contains("telemetry export failed").then_some(());
            wait_for("the report that the collector refuses", is_reported);
        }
        host.stop();
        let said = host.said();
        // A hanging collector delays the stop by less than the host waits for its services.
        assert!(!said.contains("timed out sending the last telemetry") && !said.contains("Bearer"), "{said}");
    }
}

#[test]
fn a_collector_without_a_signal_is_reported_once() {
    let answer = |request: &_| status(if is_of(request, "logs") { 404 } else { 200 });
    let collector = Collector::answering(answer);
    let host = Host::start_with("", &collector.settings(WITH_TOKEN));
    host.deploy("greedy", Bundle::component(guest("greedy")));
    for round in 1..=3 {
        let answer = host.get("greedy", "/log-line?text=hello").expect(200);
        span_of(&collector, answer.header("x-request-id").expect("each response has an id"));
        wait_for("the refused lines", || (collector.requests_of("logs") >= round).then_some(()));
    }
    wait_for("the dropped lines", || (dropped(&host, "logs") >= 3.0).then_some(()));
    let said = host.said();
    assert_eq!((said.matches("telemetry export failed").count(), dropped(&host, "traces")), (1, 0.0), "{said}");
    assert!(!said.contains("telemetry export recovered") && !said.contains("Bearer"), "{said}");
}

#[test]
fn a_permanent_refusal_is_not_retried() {
    let collector = Collector::answering(|request| status(if is_of(request, "traces") { 413 } else { 200 }));
    let host = Host::start_with("", &collector.settings(WITH_TOKEN));
    host.deploy("hello", Bundle::component(guest("hello")));
    request(&host);
    wait_for("the dropped span", || (dropped(&host, "traces") == 1.0).then_some(()));
    wait_for("the report", || host.said().contains("HTTP status 413").then_some(()));
    assert!(collector.requests_of("traces") == 1 && !host.said().contains("Bearer"), "{}", host.said());
}

#[test]
fn a_temporary_failure_that_a_retry_passes_is_not_reported() {
    let requests = AtomicUsize::new(0);
    let collector = Collector::answering(move |request| {
        let is_first = is_of(request, "traces") && requests.fetch_add(1, Ordering::Relaxed) == 0;
        status(if is_first { 503 } else { 200 })
    });
    let host = Host::start_with("", &collector.settings(WITH_TOKEN));
    host.deploy("hello", Bundle::component(guest("hello")));
    let id = request(&host);
    let is_sent_again = || {
        let spans = collector.spans();
        spans.iter().filter(|span| span.attributes["faas.invocation_id"] == id).nth(1).map(drop)
    };
    wait_for("the second attempt", is_sent_again);
    // The next span shows that the second attempt was accepted.
    span_of(&collector, &request(&host));
    assert_eq!((dropped(&host, "traces"), collector.requests_of("traces")), (0.0, 3));
    assert!(!host.said().contains("telemetry export"), "{}", host.said());
}

#[test]
fn the_spans_that_a_collector_rejects_are_counted() {
    let rejected = || rejecting(1, "the span is\ntoo old");
    let collector =
        Collector::answering(move |request| if is_of(request, "traces") { rejected() } else { status(200) });
    let host = Host::start_with("", &collector.settings(WITH_TOKEN));
    host.deploy("hello", Bundle::component(guest("hello")));
    for round in 1..=2 {
        request(&host);
        wait_for("the rejected span", || (dropped(&host, "traces") >= f64::from(round)).then_some(()));
    }
    let said = host.said();
    assert_eq!(said.matches("rejected a part of the data").count(), 1, "{said}");
    assert!(said.contains("the span is\\ntoo old") && !said.contains("Bearer"), "{said}");
}

#[test]
fn the_exporter_yields_to_serving() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(""));
    wait_for("an export", || (collector.requests_of("metrics") > 0).then_some(()));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.id())).expect("the host runs");
    // A thread of the host may end meanwhile.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let exporter = stats.into_iter().find(|stat| stat.contains("(telemetry)")).expect("it has a thread");
    // The nice value is the 17th field after the name.
    let after_name = exporter.split_once(") ").expect("the name ends").1;
    assert_eq!(after_name.split(' ').nth(16), Some("10"), "{exporter}");
}

#[test]
fn a_panic_of_the_exporter_is_reported_when_it_occurs() {
    let collector = Collector::start();
    let host = Host::start_with("telemetry-export=panic", &collector.settings("sample = 1.0"));
    wait_for("the report", || host.said().contains("the telemetry exporter panicked").then_some(()));
    host.deploy("hello", Bundle::component(guest("hello")));
    request(&host);
    wait_for("the dropped span", || (dropped(&host, "traces") == 1.0).then_some(()));
}

#[test]
fn headers_without_encryption_are_reported_at_the_start() {
    let settings = "[telemetry]\nendpoint = \"http://192.0.2.1:4318\"\nheaders = { authorization = \"Bearer key\" }\n";
    let host = Host::start_with("", settings);
    wait_for("the warning", || host.said().contains("telemetry.headers are sent unencrypted").then_some(()));
    assert!(!host.said().contains("Bearer"), "{}", host.said());
}

#[test]
fn the_last_spans_are_sent_before_the_host_stops() {
    let collector = Collector::start();
    let mut host = Host::start_with("", &collector.settings("sample = 1.0"));
    host.deploy("hello", Bundle::component(guest("hello")));
    let id = request(&host);
    host.stop();
    assert!(collector.spans().iter().any(|span| span.attributes["faas.invocation_id"] == id));
}

#[test]
fn invalid_settings_of_telemetry_are_refused_by_name() {
    for (text, words) in [
        ("[telemetry]\nendpoint = \"collector:4318\"\n", "telemetry.endpoint"),
        ("[telemetry]\nsample = 2.0\n", "telemetry.sample"),
        ("[telemetry]\nsignals = []\n", "telemetry.signals"),
        ("[telemetry]\nsignals = [\"spans\"]\n", "spans"),
        ("[telemetry]\nendpont = \"http://collector\"\n", "endpont"),
    ] {
        program::refuses_settings(text, words);
    }
}
