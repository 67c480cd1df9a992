//! Tests a host whose clock is set forward and back by hours: no stored event is lost, delivered
//! twice because of the change, or delayed by its hours.

use isopod_tests::{
    Host,
    limits::{MINUTE_PATIENCE, PATIENCE},
    outbox::outbox,
    wait_for, wait_up_to,
};
use serde_json::{Value, json};

/// Sends a request that stores an event, and returns the event's id.
fn emit(host: &Host, id: &str, delay_ms: u64, steps: &Value) {
    let results = host.run_steps("outbox", &json!([["emit", { "id": id, "delay_ms": delay_ms, "steps": steps }]]));
    assert!(results[0].get("error").is_none(), "{results:?}");
}

fn attempts(host: &Host, id: &str) -> u64 {
    host.stored_event("outbox", id)["attempt"].as_u64().expect("a number")
}

#[test]
fn delayed_and_retried_events_are_not_late_by_hours_after_the_clock_went_back() {
    let host = Host::start_with_faults("");
    let worker = "retry = { attempts = 4, first = \"3s\", max = \"3s\" }";
    host.deploy("outbox", outbox("outbox", worker, ""));
    host.faults().shift_clock_by_hours(5);
    emit(&host, "delayed", 5_000, &json!([["increment", "handled"]]));
    emit(&host, "failing", 0, &json!([["fail", "retry", "not yet"]]));
    emit(&host, "snoozing", 0, &json!([["fail", "retry-after", "later", 4_000]]));
    for id in ["failing", "snoozing"] {
        wait_for("the first attempt", || (attempts(&host, id) >= 1).then_some(()));
    }
    host.faults().shift_clock_by_hours(0);
    host.until_event("outbox", "delayed", "done");
    for id in ["failing", "snoozing"] {
        assert_eq!(host.until_event("outbox", id, "dead")["attempt"], 4);
    }
    assert_eq!(host.value("outbox", "handled"), "1");
}

#[test]
fn delayed_events_are_not_late_by_hours_after_a_restart_with_an_earlier_clock() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    host.faults().shift_clock_by_hours(5);
    emit(&host, "delayed", 20_000, &json!([["increment", "handled"]]));
    let host = host.restart_after(|host| host.faults().shift_clock_by_hours(-1));
    host.until_event("outbox", "delayed", "done");
    assert_eq!(host.value("outbox", "handled"), "1");
}

#[test]
fn events_that_run_during_a_change_of_the_clock_are_handled_once() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    for (number, hours) in [5, 0, -7, 0].into_iter().enumerate() {
        let slow = json!([["increment", "begun"], ["sleep", 2_000], ["increment", "handled"]]);
        emit(&host, &format!("slow-{number}"), 0, &slow);
        emit(&host, &format!("emitting-{number}"), 0, &json!([["emit", { "steps": [["increment", "emitted"]] }]]));
        wait_for("a running delivery", || host.has_stored_event("outbox", "state=leased").then_some(()));
        host.faults().shift_clock_by_hours(hours);
    }
    host.until_no_event_waits("outbox", PATIENCE);
    let events = host.stored_events("outbox", "");
    assert!(events.iter().all(|event| event["state"] == "done" && event["attempt"] == 1), "{events:?}");
    assert_eq!(host.values("outbox", ["begun", "handled", "emitted"]), ["4", "4", "4"]);
}

#[test]
fn a_repeated_event_is_a_duplicate_after_a_change_of_the_clock() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    for hours in [0, 8, -8, 0] {
        host.faults().shift_clock_by_hours(hours);
        emit(&host, "same", 0, &json!([["increment", "handled"]]));
        host.until_event("outbox", "same", "done");
    }
    assert_eq!(host.stored_events("outbox", "").len(), 1);
    assert_eq!(host.value("outbox", "handled"), "1");
}

#[test]
fn an_ordered_event_that_waits_for_a_retry_blocks_its_subject_no_longer_after_the_clock_went_back() {
    let host = Host::start_with_faults("");
    let worker = "order = \"subject\"\nretry = { attempts = 2, first = \"3s\", max = \"3s\" }";
    host.deploy("outbox", outbox("outbox", worker, ""));
    host.faults().shift_clock_by_hours(3);
    let failing = host.push_steps("outbox", Some("ada"), &json!([["fail", "retry", "not yet"]]));
    let next = host.push_steps("outbox", Some("ada"), &json!([["increment", "handled"]]));
    wait_for("the first attempt", || (attempts(&host, &failing) >= 1).then_some(()));
    host.faults().shift_clock_by_hours(0);
    host.until_event("outbox", &next, "done");
    assert_eq!(host.stored_event("outbox", &failing)["state"], "dead");
}

/// The run of every minute.
const EACH_MINUTE: &str = "schedule = \"* * * * *\"\n";

fn runs(host: &Host) -> Vec<Value> {
    host.stored_events("outbox", "type=isopod.schedule")
}

#[test]
fn a_schedule_runs_again_after_the_clock_went_forward_and_back() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", EACH_MINUTE, ""));
    host.faults().shift_clock_by_hours(5);
    let ahead = wait_up_to(MINUTE_PATIENCE, "a run ahead", || Some(runs(&host).len()).filter(|runs| *runs > 0));
    host.faults().shift_clock_by_hours(0);
    wait_up_to(MINUTE_PATIENCE, "a run afterwards", || (runs(&host).len() > ahead).then_some(()));
    let runs = runs(&host);
    let ids: std::collections::HashSet<&Value> = runs.iter().map(|run| &run["id"]).collect();
    assert_eq!(ids.len(), runs.len(), "a time has run twice: {runs:?}");
}
