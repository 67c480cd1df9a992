//! F4: tests that a running host removes events that ended before the deduplication window, and no
//! others.

use isopod_tests::{
    Ask, Host,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};

const TWO_DAYS_MS: i64 = 2 * 24 * 3_600 * 1_000;

/// Returns an event that counts its handling and then does one more step.
fn event(id: &str, then: &[Value]) -> Value {
    let mut steps = vec![json!(["increment", format!("handled-{id}")])];
    steps.extend_from_slice(then);
    event_of_steps(id, None, &json!(steps))
}

/// Returns the ids of all stored events, sorted.
fn listed(host: &Host) -> Vec<String> {
    let events = host.stored_events("outbox", "");
    let mut ids: Vec<String> = events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn events_that_ended_before_the_window_are_removed_and_others_stay() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let store = |host: &Host, event: &Value| drop(host.api(ask_to_store("outbox", event)).expect(202));
    let mut delayed = event("delayed", &[]);
    delayed["isopoddelay"] = json!("1h");
    let refused = event("dead", &[json!(["fail", "permanent", "refused"])]);
    for event in [&event("old", &[]), &refused, &delayed, &event("recent", &[])] {
        store(&host, event);
    }
    for (id, state) in [("old", "done"), ("dead", "dead"), ("delayed", "delayed"), ("recent", "done")] {
        host.until_event("outbox", id, state);
    }
    let host = host.restart_with("event-prune=return(100)", |host| {
        let sql = "UPDATE events SET accepted_at = accepted_at - ?1, since = since - ?1 WHERE id <> 'recent'";
        let changed = host.database_of("outbox").execute(sql, [TWO_DAYS_MS]).expect("the times are changed");
        assert_eq!(changed, 3);
    });
    let old = "/v1/apps/outbox/events/old";
    wait_for("the removal of the old event", || (host.api(Ask::get(old)).status != 200).then_some(()));
    host.api(Ask::get(old)).problem_of("outbox", 404, "unknown-event");
    assert_eq!(listed(&host), ["dead", "delayed", "recent"]);
    store(&host, &event("old", &[]));
    let again = host.until_event("outbox", "old", "done");
    assert_eq!((&again["attempt"], host.value("outbox", "handled-old")), (&json!(1), json!("2")), "{again}");
    assert_eq!(listed(&host), ["dead", "delayed", "old", "recent"]);
}
