//! Tests events with invalid attributes that a handler sends: the call fails with the error of the
//! API, and the apps' databases are not replaced.

use isopod_tests::{
    Host,
    outbox::{ask_to_store, event_of_steps, outbox},
};
use serde_json::{Value, json};

/// Returns events that differ from a valid one in these attributes, each with a part of the error.
fn invalid_events() -> Vec<(Value, &'static str)> {
    let (long, day_ms) = ("a".repeat(1_025), 24 * 3_600 * 1_000_u64);
    vec![
        (json!({ "delay_ms": 1_u64 << 63 }), "the delay of the event is more than 366 days ahead"),
        (json!({ "delay_ms": 1_u64 << 62 }), "the delay of the event is more than 366 days ahead"),
        (json!({ "delay_ms": 40 * 366 * day_ms }), "the delay of the event is more than 366 days ahead"),
        (json!({ "expires_ms": 1_u64 << 63 }), "the expiry of the event is more than 366 days ahead"),
        (json!({ "delay_ms": 2_000_000, "expires_ms": 1_000_000 }), "may not be delivered before"),
        (json!({ "type": "a\0b" }), "`type` has control characters"),
        (json!({ "type": "\u{1b}[2J" }), "`type` has control characters"),
        (json!({ "source": "not a uri %" }), "`source` is not a URI reference"),
        (json!({ "subject": "" }), "`subject` is empty"),
        (json!({ "id": ".." }), "`id` is `..`, which can't be a segment of a URL"),
        (json!({ "subject": "\r\nfake" }), "`subject` has control characters"),
        (json!({ "extensions": { "data": "x" } }), "`data` is not an extension attribute"),
        (json!({ "extensions": { "id": "x" } }), "`id` is not an extension attribute"),
        (json!({ "extensions": { "isopoddelay": "1s" } }), "`isopoddelay` is reserved"),
        (json!({ "extensions": { "tenant": "\u{7}" } }), "`tenant` has control characters"),
        (json!({ "id": long }), "`id` has 1025 bytes; the limit is 1024"),
        (json!({ "source": long }), "`source` has 1025 bytes; the limit is 1024"),
        (json!({ "type": long }), "`type` has 1025 bytes; the limit is 1024"),
        (json!({ "subject": long }), "`subject` has 1025 bytes; the limit is 1024"),
    ]
}

/// Returns the steps that send each event to this app.
fn sending(app: &str) -> Vec<Value> {
    let step = |mut event: Value| {
        event["app"] = json!(app);
        json!(["emit", event])
    };
    invalid_events().into_iter().map(|(event, _)| step(event)).collect()
}

#[track_caller]
fn assert_refused(results: &[Value]) {
    for (result, (event, words)) in results.iter().zip(invalid_events()) {
        let error = result["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{event}: {result}");
    }
}

#[test]
fn an_invalid_attribute_of_an_emitted_event_is_refused_at_the_call() {
    let host = Host::start();
    for app in ["outbox", "audit"] {
        host.deploy(app, outbox(app, "retry = { attempts = 1 }", ""));
        host.run_steps(app, &json!([["set", "kept", "yes"]]));
    }
    let mut senders = Vec::new();
    for app in ["outbox", "audit"] {
        let emits = sending(app);
        assert_refused(&host.run_steps("outbox", &json!(emits)));
        // For `ask`, only the attributes are checked: its event has no delay.
        let is_asked = |step: &&Value| step[1].get("delay_ms").or(step[1].get("expires_ms")).is_none();
        let asks: Vec<Value> = emits.iter().filter(is_asked).map(|step| json!(["ask", step[1]])).collect();
        for (ask, result) in asks.iter().zip(host.run_steps("outbox", &json!(asks))) {
            assert!(result["error"].as_str().is_some_and(|error| error.contains("attribute")), "{ask}: {result}");
        }
        senders.push(host.push_steps("outbox", None, &json!(emits)));
    }
    // If the events were refused after the handler, its attempt would fail.
    for sender in &senders {
        host.until_event("outbox", sender, "done");
    }
    for (app, stored) in [("outbox", senders.len()), ("audit", 0)] {
        assert_eq!(host.stored_events(app, "").len(), stored, "{app} has no invalid event");
        assert_eq!(host.value(app, "kept"), "yes");
    }
    let lost = std::fs::read_dir(host.data().join("lost+found")).map_or(0, Iterator::count);
    assert_eq!(lost, 0, "no database was replaced");
    // The longest times are valid.
    let year_ms = 366 * 24 * 3_600 * 1_000_u64;
    let event = json!({ "id": "next-year", "delay_ms": year_ms - 1, "expires_ms": year_ms, "steps": [] });
    host.run_steps("outbox", &json!([["emit", event]]));
    let waiting = host.until_event("outbox", "next-year", "delayed");
    assert!(waiting["due_at"].is_string(), "{waiting}");
}

#[test]
fn an_event_with_a_long_id_is_refused() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let longest = "a".repeat(1_024);
    host.api(ask_to_store("outbox", &event_of_steps(&longest, None, &json!([])))).expect(202);
    host.until_event("outbox", &longest, "done");
    let long = event_of_steps(&format!("{longest}a"), None, &json!([]));
    let refused = host.api(ask_to_store("outbox", &long));
    assert_eq!(refused.problem(400, "bad-event")["attribute"], "id");
}
