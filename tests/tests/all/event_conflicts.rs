//! Tests conflicts: another handler or a request changes a key that a handler of a stored event has
//! read. The host discards the handler's changes and calls it again, without counting an attempt.

use isopod_tests::{Host, outbox::outbox, wait_for};
use serde_json::{Value, json};

/// The timeout of calls to other handlers, in milliseconds. Longer than a test waits for a state.
const LONG_MS: u64 = 300_000;

/// The runs of a handler that end in a conflict before the host postpones its event.
const CONFLICTS_MAX: u64 = 10;

fn start() -> Host {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "", "[limits]\nrequest_timeout = \"10m\"\n"));
    host
}

/// Returns the step in which another event handler, which has no transaction, runs steps.
fn asking(steps: &Value) -> Value {
    json!(["ask", { "steps": steps }, LONG_MS])
}

#[test]
fn a_handler_runs_again_after_a_request_changed_a_key_that_it_had_read() {
    let host = start();
    // The handler has read and changed the list when it waits.
    let waits = asking(&json!([["increment", "runs"], ["until", "go"]]));
    let steps = json!([["append", "list", "event;"], waits, ["increment", "handled"]]);
    let event = host.push_steps("outbox", None, &steps);
    wait_for("the first run of the handler", || (host.value("outbox", "runs") == "1").then_some(()));
    host.run_steps("outbox", &json!([["append", "list", "request;"], ["set", "go", "yes"]]));
    assert_eq!(host.until_event("outbox", &event, "done")["attempt"], 1);
    assert_eq!(host.values("outbox", ["runs", "list", "handled"]), ["2", "request;event;", "1"]);
}

#[test]
fn an_event_whose_handler_has_only_conflicts_is_postponed_without_counting_an_attempt() {
    let host = start();
    // In each run, another handler changes the key that this one has read.
    let steps = json!([["get", "key"], asking(&json!([["increment", "key"]])), ["increment", "handled"]]);
    let event = host.push_steps("outbox", None, &steps);
    let (postponed, runs) = wait_for("the event to be postponed", || {
        let before = host.until_event("outbox", &event, "delayed");
        let runs = host.value("outbox", "key");
        // The time at which the event is due differs for each time that it is postponed.
        (host.stored_event("outbox", &event) == before).then_some((before, runs))
    });
    assert_eq!(postponed["attempt"], 0, "{postponed}");
    let error = postponed["error"].as_str().expect("the reason");
    assert!(error.contains("other handlers changed the keys that this handler read"), "{error}");
    let runs: u64 = runs.as_str().and_then(|runs| runs.parse().ok()).expect("a number");
    assert!(runs > 0 && runs.is_multiple_of(CONFLICTS_MAX), "{runs} runs");

    // From now on, the other handler can't change the key, because its value is not a number.
    host.run_steps("outbox", &json!([["set", "key", "text"]]));
    assert_eq!(host.until_event("outbox", &event, "done")["attempt"], 1);
    assert_eq!(host.values("outbox", ["key", "handled"]), ["text", "1"]);
}
