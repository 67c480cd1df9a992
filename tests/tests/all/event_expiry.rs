//! Tests the expiry of stored events, in each form in which a sender can set it. An event that is
//! not delivered before its expiry is cancelled, and no handler receives it.

use isopod_tests::{
    Host,
    outbox::{ask_to_store, event_of_steps, outbox},
};
use serde_json::{Value, json};

/// The delay and the expiry of events. The test advances the clock past both.
const DELAY: &str = "20m";
const EXPIRY: &str = "30m";
const DELAY_MS: u64 = 20 * 60 * 1_000;
const EXPIRY_MS: u64 = 30 * 60 * 1_000;

/// The steps of each event's handler.
fn steps() -> Value {
    json!([["increment", "handled"]])
}

/// Stores an event with this expiry as an attribute.
fn store(host: &Host, id: &str, expiry: &str) {
    let mut event = event_of_steps(id, None, &steps());
    event["isopoddelay"] = json!(DELAY);
    event["isopodexpires"] = json!(expiry);
    host.api(ask_to_store("outbox", &event)).expect(202);
}

/// Returns the step that sends an event that expires.
fn emitting(id: &str) -> Value {
    json!(["emit", { "id": id, "delay_ms": DELAY_MS, "expires_ms": EXPIRY_MS, "steps": steps() }])
}

#[test]
fn an_event_that_is_not_delivered_before_its_expiry_is_cancelled() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    // The app `audit` has no release, so events for it wait.
    host.create("audit", "dev");
    let by_header = ask_to_store("outbox", &event_of_steps("header", None, &steps()));
    host.api(by_header.header("isopod-delay", DELAY).header("isopod-expires", EXPIRY)).expect(202);
    store(&host, "attribute", EXPIRY);
    store(&host, "later", "3h");
    host.run_steps("outbox", &json!([emitting("request")]));
    let forwarded = json!(["emit", { "id": "forwarded", "app": "audit", "expires_ms": EXPIRY_MS, "steps": [] }]);
    let sender = host.push_steps("outbox", None, &json!([emitting("handler"), forwarded]));
    host.until_event("outbox", &sender, "done");
    host.faults().shift_clock_by_hours(1);
    // A new event makes the host check the queue.
    host.push_steps("outbox", None, &json!([]));
    for id in ["header", "attribute", "request", "handler", "forwarded"] {
        let expired = host.until_event("outbox", id, "cancelled");
        assert!(expired["error"].as_str().is_some_and(|error| error.contains("expired")), "{expired}");
    }
    host.until_event("outbox", "later", "done");
    assert_eq!(host.value("outbox", "handled"), "1");
}
