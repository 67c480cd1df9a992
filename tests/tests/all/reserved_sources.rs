//! Tests that no sender can use the sources of the host's own events. With them, a sender could
//! store an event with the source and id of a later event of the host, such as a scheduled run. The
//! host would then discard its own event as a duplicate.

use isopod_tests::{
    Ask, Host,
    outbox::{ask_to_store, event_of_steps, outbox},
};
use serde_json::json;

/// The sources of events that a handler sends, of forwarded events and of scheduled runs.
const RESERVED: [&str; 4] =
    ["/apps/outbox", "/apps/audit", "isopod/forward/audit//apps/outbox", "isopod/outbox/worker"];

#[test]
fn an_event_with_a_reserved_source_is_refused() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let refused = |ask: Ask, source: &str| {
        let problem = host.api(ask).problem(400, "bad-event");
        assert_eq!(problem["attribute"], "source", "{problem}");
        let prefix = if source.starts_with('/') { "`/apps/`" } else { "`isopod/`" };
        let detail = problem["detail"].as_str().expect("it has a detail");
        assert!(detail.contains(prefix) && detail.contains("reserved"), "{detail}");
    };
    for source in RESERVED {
        let mut event = event_of_steps("1", None, &json!([]));
        event["source"] = json!(source);
        refused(ask_to_store("outbox", &event), source);
        let post = |path: &str| Ask::post(format!("/v1/apps/outbox/{path}"));
        refused(post("events").body("application/cloudevents+json", event.to_string()), source);
        refused(post("broadcasts").body("application/cloudevents-batch+json", json!([event]).to_string()), source);
        refused(post("broadcasts").body("application/x-ndjson", event.to_string()), source);
        let binary = post("events?queue=push").header("ce-specversion", "1.0").header("ce-id", "1");
        let binary = binary.header("ce-type", "t").header("ce-source", source);
        refused(binary.body("application/json", "1"), source);
    }
    assert!(host.stored_events("outbox", "").is_empty());
}

#[test]
fn a_handler_cannot_send_an_event_with_the_source_of_another_app() {
    let host = Host::start();
    for app in ["outbox", "audit"] {
        host.deploy(app, outbox(app, "retry = { attempts = 1 }\n", ""));
    }
    for source in &RESERVED[1..] {
        for app in [None, Some("audit")] {
            let steps = json!([["strict"], ["emit", { "id": "same", "source": source, "app": app, "steps": [] }]]);
            let event = host.push_steps("outbox", None, &steps);
            let dead = host.until_event("outbox", &event, "dead");
            assert!(dead["error"].as_str().is_some_and(|error| error.contains("reserved")), "{dead}");
        }
    }
    let steps = json!([["strict"], ["emit", { "id": "same", "source": RESERVED[0], "app": "audit", "steps": [] }]]);
    let event = host.push_steps("outbox", None, &steps);
    host.until_event("outbox", &event, "done");
    assert_eq!(host.until_forwarded("outbox", "audit", "same")["source"], RESERVED[0]);
}
