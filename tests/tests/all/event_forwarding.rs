//! Tests the events that a handler sends to other apps. Several apps may receive the same event.
//! While an app can't accept events, they wait and no attempt is counted. If the app doesn't exist,
//! they become dead letters.

use isopod_tests::{
    Ask, Host, Loss,
    limits::PATIENCE,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};

/// A retry policy by which the first counted failure makes an event a dead letter.
const ONE_ATTEMPT: &str = "retry = { attempts = 1 }\norder = \"subject\"\n";

fn start() -> Host {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", ONE_ATTEMPT, ""));
    host.create("audit", "dev");
    host
}

fn deploy_audit(host: &Host) {
    host.deploy("audit", outbox("audit", "", ""));
}

/// Makes a handler of `outbox` send an event to `audit`, whose handler sets a key.
fn send(host: &Host, id: &str, delay_ms: u64) {
    let steps = json!([["set", "audited", id]]);
    let event = json!({ "id": id, "app": "audit", "subject": "ann", "delay_ms": delay_ms, "steps": steps });
    let sender = host.push_steps("outbox", Some("ann"), &json!([["emit", event]]));
    host.until_event("outbox", &sender, "done");
}

/// Waits until the forwarded event has failed for this reason without a counted attempt.
fn until_postponed(host: &Host, id: &str, why: &str) -> Value {
    let event = wait_for(&format!("the postponed event {id}"), || {
        let event = host.stored_event("outbox", id);
        event["error"].is_string().then_some(event)
    });
    assert_ne!(event["state"], "dead", "{event}");
    assert!(event["error"].as_str().is_some_and(|error| error.contains(why)), "{event}");
    event
}

/// Returns the step that sends an event to an app, or to the sender's own handler.
fn emitting(app: Option<&str>) -> Value {
    json!(["emit", { "id": "same", "source": "/test", "app": app, "steps": [["increment", "received"]] }])
}

/// Starts a host with an app that may send events to two others.
fn start_with_two_targets() -> Host {
    let host = Host::start();
    for app in ["outbox", "audit", "ledger"] {
        host.deploy(app, outbox(app, ONE_ATTEMPT, ""));
    }
    host.set_grants("outbox", &json!({ "events": ["audit", "ledger"] })).expect(200);
    host
}

#[test]
fn several_apps_receive_an_event_with_the_same_id() {
    let host = start_with_two_targets();
    let targets = [Some("audit"), None, Some("ledger")];
    host.push_steps("outbox", None, &targets.iter().copied().map(emitting).collect());
    host.until_no_event_waits("outbox", PATIENCE);
    for app in ["audit", "ledger"] {
        assert_eq!(host.until_event(app, "same", "done")["source"], "/test");
        assert_eq!(host.value(app, "received"), "1");
    }
    assert_eq!(host.value("outbox", "received"), "1");
    let rows = host.stored_events("outbox", "id=same");
    let sources: Vec<&Value> = rows.iter().map(|event| &event["source"]).collect();
    assert_eq!(sources, ["isopod/forward/ledger//test", "/test", "isopod/forward/audit//test"], "the newest is first");
}

#[test]
fn a_handler_can_forward_the_event_that_it_handles() {
    let host = start_with_two_targets();
    let steps = json!([emitting(Some("audit")), emitting(Some("ledger"))]);
    host.api(ask_to_store("outbox", &event_of_steps("same", None, &steps))).expect(202);
    host.until_no_event_waits("outbox", PATIENCE);
    for app in ["audit", "ledger"] {
        host.until_event(app, "same", "done");
        assert_eq!(host.value(app, "received"), "1");
    }
}

#[test]
fn a_power_failure_never_undoes_a_transaction_whose_event_was_forwarded() {
    let mut host = Host::start_with_faults("");
    for app in ["outbox", "audit"] {
        host.deploy(app, outbox(app, "", ""));
    }
    host.push_steps("outbox", None, &json!([emitting(Some("audit"))]));
    wait_for("the forwarded event", || host.has_stored_event("audit", "id=same").then_some(()));
    host.kill();
    host.lose_unsynced(Some(Loss::All), &[]);
    let sql = "SELECT count(*) FROM events WHERE source = 'isopod/forward/audit//test'";
    let sent: i64 = host.database_of("outbox").query_row(sql, [], |row| row.get(0)).expect("the events can be read");
    assert_eq!(sent, 1, "the commit that sent the event is lost");
    let host = host.again();
    host.until_no_event_waits("outbox", PATIENCE);
    host.until_no_event_waits("audit", PATIENCE);
    assert_eq!(host.value("audit", "received"), "1");
}

#[test]
fn an_event_for_an_app_that_does_not_serve_waits_for_it() {
    let host = start();
    send(&host, "first", 0);
    until_postponed(&host, "first", "the event can't be forwarded to `audit`: ");
    deploy_audit(&host);
    host.until_forwarded("outbox", "audit", "first");
    host.stop_app("audit");
    send(&host, "second", 0);
    let waiting = until_postponed(&host, "second", "stopped");
    assert_eq!(waiting["subject"], "audit/ann");
    // The waiting event doesn't block the app's own events with the same subject.
    let own = host.push_steps("outbox", Some("ann"), &json!([["set", "own", "yes"]]));
    host.until_event("outbox", &own, "done");
    host.start_app("audit");
    assert_eq!(host.until_forwarded("outbox", "audit", "second")["subject"], "ann");
    assert_eq!(host.value("audit", "audited"), "second");
}

#[test]
fn an_event_for_a_full_queue_waits_until_there_is_room() {
    let host = start();
    deploy_audit(&host);
    let earlier = host.push_steps("audit", None, &json!([["set", "audited", "nothing"]]));
    host.until_event("audit", &earlier, "done");
    let host = host.restart_after(|host| host.fill_event_queue("audit", 0));
    send(&host, "late", 0);
    until_postponed(&host, "late", "queue is full");
    let host = host.restart_after(|host| host.empty_event_queue("audit"));
    host.until_forwarded("outbox", "audit", "late");
}

#[test]
fn a_redriven_event_for_another_app_does_not_expire() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", ONE_ATTEMPT, ""));
    host.create("audit", "dev");
    let event = json!({ "id": "late", "app": "audit", "expires_ms": 600_000, "steps": [["increment", "received"]] });
    host.push_steps("outbox", None, &json!([["emit", event]]));
    wait_for("the event", || host.has_stored_event("outbox", "id=late").then_some(()));
    until_postponed(&host, "late", "the event can't be forwarded to `audit`: ");
    host.set_grants("outbox", &json!({ "events": [] })).expect(200);
    host.until_event("outbox", "late", "dead");
    host.set_grants("outbox", &json!({ "events": ["audit"] })).expect(200);
    host.faults().shift_clock_by_hours(1);
    deploy_audit(&host);
    let redrive = Ask::post("/v1/apps/outbox/dead-letters/redrive").json(&json!({ "id": "late" }));
    assert_eq!(host.api(redrive).expect(200).json()["events"], 1);
    assert_eq!(host.until_forwarded("outbox", "audit", "late")["expires_at"], Value::Null);
    assert_eq!(host.value("audit", "received"), "1");
}

#[test]
fn an_event_for_a_destroyed_app_is_a_dead_letter() {
    let host = start();
    deploy_audit(&host);
    send(&host, "lost", 3_000);
    host.api(Ask::new("DELETE", "/v1/apps/audit")).expect(204);
    let dead = host.until_event("outbox", "lost", "dead");
    assert!(dead["error"].as_str().is_some_and(|error| error.contains("the app does not exist")), "{dead}");
}

#[test]
fn an_event_for_a_destroyed_app_never_reaches_a_new_app_of_the_same_name() {
    let host = start();
    send(&host, "secret", 0);
    until_postponed(&host, "secret", "audit");
    host.api(Ask::new("DELETE", "/v1/apps/audit")).expect(204);
    deploy_audit(&host);
    let letter = host.until_event("outbox", "secret", "dead");
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("was destroyed")), "{letter}");
    assert_eq!((host.value("audit", "audited"), host.stored_events("audit", "")), (Value::Null, vec![]));
    send(&host, "new", 0);
    host.until_forwarded("outbox", "audit", "new");
    assert_eq!(host.value("audit", "audited"), "new");
}
