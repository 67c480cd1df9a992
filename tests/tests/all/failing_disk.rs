//! Tests a disk that fails while the host runs: it becomes read-only, full, or has I/O errors.
//! Acknowledged events survive, other events are refused, and the host recovers without a restart.

use isopod_tests::{
    Answer, Ask, DiskError, Host, Neighbour,
    limits::PATIENCE,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::json;

fn push(host: &Host, app: &str, id: &str) -> Answer {
    host.api(ask_to_store(app, &event_of_steps(id, None, &json!([["increment", "handled"]]))))
}

/// Stores events until one is refused, and returns the number of acknowledged events and the
/// refusal.
fn until_refused(host: &Host, app: &str, prefix: &str) -> (usize, Answer) {
    let mut acknowledged = 0;
    let refused = wait_for("a refused event", || {
        let answer = push(host, app, &format!("{prefix}-{acknowledged}"));
        let is_refused = answer.status != 202;
        acknowledged += usize::from(!is_refused);
        is_refused.then_some(answer)
    });
    (acknowledged, refused)
}

/// Sends an event repeatedly until it is accepted.
fn until_accepted(host: &Host, app: &str, id: &str) {
    wait_for("an accepted event", || (push(host, app, id).status == 202).then_some(()));
}

/// Asserts that exactly this number of events was handled, each event once.
fn assert_handled(host: &Host, app: &str, count: usize) {
    host.until_no_event_waits(app, PATIENCE);
    let events = host.stored_events(app, "");
    assert!(events.iter().all(|event| event["state"] == "done"), "{events:?}");
    assert_eq!((events.len(), host.value(app, "handled")), (count, json!(count.to_string())));
}

#[test]
fn a_data_folder_that_becomes_read_only_refuses_events_and_recovers_by_itself() {
    let host = Host::start_with_faults("");
    for app in ["outbox", "idle"] {
        host.deploy(app, outbox(app, "", ""));
    }
    let neighbour = Neighbour::beside(&host);
    for number in 0..20 {
        push(&host, "outbox", &format!("early-{number}")).expect(202);
    }
    let faults = host.faults();
    faults.fail(DiskError::ReadOnly);
    let (acknowledged, refused) = until_refused(&host, "outbox", "late");
    refused.problem(503, "disk-read-only");
    // The first use of the app's database.
    push(&host, "idle", "first").problem(503, "disk-read-only");
    host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" }))).problem(503, "disk-read-only");
    let answers = neighbour.answers();
    wait_for("requests on a read-only disk", || (neighbour.answers() > answers + 20).then_some(()));
    assert_eq!(host.state("outbox"), "running");

    faults.end_errors();
    until_accepted(&host, "outbox", "after");
    until_accepted(&host, "idle", "after");
    host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" }))).expect(201);
    assert_handled(&host, "outbox", 20 + acknowledged + 1);
    assert_handled(&host, "idle", 1);
    neighbour.finish();
    let host = host.kill_and_restart();
    assert_handled(&host, "outbox", 20 + acknowledged + 1);
}

#[test]
fn a_database_that_was_opened_on_a_read_only_disk_is_writable_afterwards() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    push(&host, "outbox", "early").expect(202);
    host.until_event("outbox", "early", "done");
    let host = host.restart();
    // Neither connection to the app's database is open.
    host.faults().fail(DiskError::ReadOnly);
    push(&host, "outbox", "late").problem(503, "disk-read-only");
    host.faults().end_errors();
    until_accepted(&host, "outbox", "after");
    assert_handled(&host, "outbox", 2);
}

#[test]
fn events_are_refused_during_io_errors_and_accepted_afterwards() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    let neighbour = Neighbour::beside(&host);
    let faults = host.faults();
    let mut acknowledged = 0;
    for round in 0..5 {
        faults.fail(DiskError::Io);
        let (before, refused) = until_refused(&host, "outbox", &format!("round-{round}"));
        refused.problem(500, "disk");
        faults.end_errors();
        until_accepted(&host, "outbox", &format!("after-{round}"));
        acknowledged += before + 1;
    }
    assert_handled(&host, "outbox", acknowledged);
    neighbour.finish();
    let host = host.kill_and_restart();
    assert_handled(&host, "outbox", acknowledged);
}

#[test]
fn a_full_disk_refuses_events_and_accepts_them_once_it_has_space() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    host.faults().fail(DiskError::Full);
    let (acknowledged, refused) = until_refused(&host, "outbox", "late");
    refused.problem(507, "disk-full");
    host.faults().end_errors();
    until_accepted(&host, "outbox", "after");
    assert_handled(&host, "outbox", acknowledged + 1);
}

#[test]
fn an_app_without_data_can_be_read_on_a_full_disk() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    host.faults().fail(DiskError::Full);
    let read = host.run_steps("outbox", &json!([["get", "x"], ["exists", "x"], ["list"]]));
    assert_eq!(read, [json!(null), json!(false), json!([])]);
    assert!(!host.data().join("apps/outbox/kv.db").exists(), "a read created a file");
}
