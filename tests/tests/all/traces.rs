//! Tests the trace of a request (W3C Trace Context): from the client to the guest, to its outbound
//! requests, and to its log line.

use isopod_tests::{
    Answer, Ask, Bundle, Collector, Host, PROBES, Shown, Upstream, guest,
    outbox::outbox,
    upstream::{Then, response},
    wait_for,
};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Returns the trace in the access line of a response.
fn logged(host: &Host, app: &str, answer: &Answer) -> String {
    let id = answer.header("x-request-id").expect("each response has an id");
    let line = host.log_line(app, "the access line", |line| line["stream"] == "access" && line["request_id"] == id);
    line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace in {line}")).to_owned()
}

fn trace_of(parent: &str) -> &str {
    parent.split('-').nth(1).unwrap_or_else(|| panic!("not a trace parent: {parent}"))
}

#[test]
fn a_valid_trace_reaches_the_guest_and_the_log() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let ask = Ask::get("/show").header("traceparent", PARENT);
        let ask = ask.header("tracestate", "rojo=00f067aa0ba902b7").header("tracestate", "congo=t61rcWkgMzE");
        let answer = host.app(probe, ask).expect(200);
        let shown = Shown::read(&answer.text());
        assert_eq!(shown.header("traceparent"), Some(PARENT), "{probe}");
        assert_eq!(shown.header("tracestate"), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "{probe}");
        assert_eq!(logged(&host, probe, &answer), TRACE);
    }
}

#[test]
fn a_request_without_a_valid_trace_begins_one() {
    let host = Host::start_with_probes();
    let two = [("traceparent", PARENT), ("traceparent", PARENT)];
    let upper = PARENT.to_uppercase();
    for fields in [&[][..], &[("traceparent", "")], &[("traceparent", upper.as_str())], &two] {
        let mut ask = Ask::get("/show").header("tracestate", "rojo=1");
        for (name, value) in fields {
            ask = ask.header(name, *value);
        }
        let answer = host.app("probe-flat", ask).expect(200);
        let shown = Shown::read(&answer.text());
        let parent = shown.header("traceparent").expect("it is always set");
        assert!(trace_of(parent) != TRACE && parent.len() == 55, "{parent}");
        assert_eq!(shown.header("tracestate"), None, "{fields:?}");
        assert_eq!(logged(&host, "probe-flat", &answer), trace_of(parent));
    }
}

#[test]
fn outbound_requests_continue_the_trace_of_their_request() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("reached"))));
    for app in ["greedy", "greedy-flat", "relay-wasi03"] {
        let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
        let path = if app == "relay-wasi03" { "/?url" } else { "/fetch?url" };
        let path = format!("{path}=http://{}/", upstream.address);
        let ask = Ask::get(&*path).header("traceparent", PARENT).header("tracestate", "rojo=1");
        host.app(app, ask).expect(200);
        let sent = upstream.requests().pop().expect("a request has arrived");
        assert_eq!((sent.header("traceparent"), sent.header("tracestate")), (vec![PARENT], vec!["rojo=1"]), "{app}");
        // The next request of the same instance has its own trace.
        let answer = host.get(app, &path).expect(200);
        let sent = upstream.requests().pop().expect("a request has arrived");
        assert_eq!(trace_of(sent.header("traceparent")[0]), logged(&host, app, &answer), "{app}");
        assert!(sent.header("tracestate").is_empty(), "{app}: {}", sent.head);
    }
}

#[test]
fn the_trace_of_a_request_continues_in_the_handlers_of_its_events() {
    let collector = Collector::start();
    let host = Host::start_with("", &collector.settings(""));
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 1 }", ""));
    // The handler of the first event sends the second one. The handler of that one writes a line.
    let second = json!(["emit", { "steps": [["trap"]] }]);
    let steps = json!([["emit", { "steps": [second] }]]);
    let ask = Ask::post("/").json(&steps).header("traceparent", PARENT).header("tracestate", "rojo=1");
    host.app("outbox", ask).expect(200);
    let line = wait_for("the line of the handler", || {
        collector
            .records()
            .into_iter()
            .find(|record| record.body.contains("asked to trap") && !record.trace_id.is_empty())
    });
    assert_eq!((line.trace_id.as_str(), line.severity.as_str()), (TRACE, ""));
    // An event keeps a trace of its own choice.
    let other = PARENT.replace(TRACE, "0af7651916cd43dd8448eb211c80319c");
    let chosen = json!([["emit", { "extensions": { "traceparent": other }, "steps": [["trap"]] }]]);
    host.app("outbox", Ask::post("/").json(&chosen).header("traceparent", PARENT)).expect(200);
    wait_for("the line with the other trace", || {
        let is_other = |id: &str| id == "0af7651916cd43dd8448eb211c80319c";
        collector.records().into_iter().find(|record| is_other(&record.trace_id))
    });
}
