//! Tests stored events that are claimed but whose handlers have not started: when the host stops,
//! when they expire, and when a release lacks their process type.

use isopod_tests::{
    Bundle, Host, guest,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};

const RETRY: &str = "retry = { attempts = 2, first = \"100ms\", max = \"1s\" }\n";
const ONE_ATTEMPT: &str = "retry = { attempts = 1 }\n";
const LIMITS: &str = "[limits]\nrequest_timeout = \"10m\"\n";
const WAITING: usize = 6;

/// Deploys an app with one instance for its events.
fn deploy(host: &Host) {
    host.create("outbox", "dev");
    host.deploy("outbox", outbox("outbox", RETRY, LIMITS));
}

fn increment() -> Value {
    json!([["increment", "handled"]])
}

fn until_some_are_leased(host: &Host) {
    wait_for("leased events that wait for the instance", || {
        (host.stored_events("outbox", "state=leased").len() > 1).then_some(())
    });
}

/// Occupies the instance with these steps, and stores events that wait for it. Returns the ids of
/// the events, starting with the running one.
fn occupy(host: &Host, steps: &Value) -> Vec<String> {
    let running = host.push_steps("outbox", None, steps);
    host.until_event("outbox", &running, "leased");
    let waiting = (0..WAITING).map(|_| host.push_steps("outbox", None, &increment()));
    let ids: Vec<String> = [running].into_iter().chain(waiting).collect();
    until_some_are_leased(host);
    ids
}

/// Waits until these events are done in their first attempt.
fn until_done_at_once(host: &Host, ids: &[String]) {
    for id in ids {
        let done = wait_for("the end of the event", || {
            Some(host.stored_event("outbox", id)).filter(|event| !event["ended_at"].is_null())
        });
        assert_eq!((&done["state"], &done["attempt"], &done["error"]), (&json!("done"), &json!(1), &Value::Null));
    }
}

#[test]
fn events_that_wait_for_an_instance_at_a_stop_keep_their_attempt() {
    let host = Host::start_with("", "drain_time = \"1s\"\n");
    deploy(&host);
    let ids = occupy(&host, &json!([["until", "go"]]));
    let host = host.restart();
    host.run_steps("outbox", &json!([["set", "go", "1"]]));
    until_done_at_once(&host, &ids[1..]);
    assert_eq!(host.value("outbox", "handled"), WAITING.to_string());
    assert_eq!(host.until_event("outbox", &ids[0], "done")["attempt"], 2, "the first attempt was cancelled");
}

/// The handler takes longer than the drain time of push jobs.
#[test]
fn a_handler_that_runs_at_a_stop_completes_within_the_drain_time() {
    let host = Host::start();
    deploy(&host);
    let ids = occupy(&host, &json!([["sleep", 7_000], ["increment", "slept"]]));
    let host = host.restart();
    until_done_at_once(&host, &ids);
    assert_eq!(host.values("outbox", ["slept", "handled"]), [json!("1"), json!(WAITING.to_string())]);
}

#[test]
fn an_event_that_expires_while_it_waits_for_an_instance_is_not_handled() {
    let host = Host::start();
    deploy(&host);
    let running = host.push_steps("outbox", None, &json!([["until", "go"]]));
    host.until_event("outbox", &running, "leased");
    let ids: Vec<String> = (0..WAITING).map(|number| format!("expires-{number}")).collect();
    for id in &ids {
        let mut event = event_of_steps(id, None, &increment());
        event["isopodexpires"] = json!("2s");
        host.api(ask_to_store("outbox", &event)).expect(202);
    }
    for id in &ids {
        let expired = host.until_event("outbox", id, "cancelled");
        assert!(expired["error"].as_str().is_some_and(|error| error.contains("expired")), "{expired}");
    }
    host.run_steps("outbox", &json!([["set", "go", "1"]]));
    host.until_event("outbox", &running, "done");
    assert_eq!(host.value("outbox", "handled"), Value::Null);
}

/// A claim counts the attempt, so an event that was claimed in advance would become a dead letter.
#[test]
fn a_waiting_event_with_one_attempt_is_delivered_after_a_kill_of_the_host() {
    let host = Host::start();
    host.create("outbox", "dev");
    host.deploy("outbox", outbox("outbox", ONE_ATTEMPT, LIMITS));
    let increments: Vec<String> = (0..50).map(|_| host.push_steps("outbox", None, &increment())).collect();
    until_done_at_once(&host, &increments);
    // The previous handlers were short, so the host would claim events in advance.
    let running = host.push_steps("outbox", None, &json!([["sleep", 300_000]]));
    let waiting: Vec<String> = (0..WAITING).map(|_| host.push_steps("outbox", None, &increment())).collect();
    host.until_event("outbox", &running, "leased");
    assert_eq!(host.stored_events("outbox", "state=leased").len(), 1, "there is one instance");
    let host = host.kill_and_restart();
    until_done_at_once(&host, &waiting);
    let killed = host.until_event("outbox", &running, "dead");
    assert_eq!(killed["error"], "the host ended during the last attempt");
}

/// No claim reads an event that waits for an earlier one of its subject.
#[test]
fn an_event_that_expires_behind_an_earlier_one_is_cancelled() {
    let host = Host::start_pausing("event-prune=return(100)");
    host.create("outbox", "dev");
    host.deploy("outbox", outbox("outbox", "order = \"subject\"\nretry = { first = \"1h\" }\n", LIMITS));
    let first = host.push_steps("outbox", Some("ann"), &json!([["fail", "retry", "later"]]));
    host.until_event("outbox", &first, "delayed");
    let mut event = event_of_steps("expires", Some("ann"), &increment());
    event["isopodexpires"] = json!("1s");
    host.api(ask_to_store("outbox", &event)).expect(202);
    let expired = host.until_event("outbox", "expires", "cancelled");
    assert!(expired["error"].as_str().is_some_and(|error| error.contains("expired")), "{expired}");
    wait_for("the counts", || {
        let stored = host.metrics("outbox")["push"]["stored"].clone();
        (stored == json!({ "ready": 0, "delayed": 1, "leased": 0 })).then_some(())
    });
}

#[test]
fn events_of_an_absent_process_type_are_reported_when_the_release_serves() {
    let host = Host::start();
    deploy(&host);
    for number in 0..2 {
        let mut event = event_of_steps(&format!("later-{number}"), None, &increment());
        event["isopoddelay"] = json!("1h");
        host.api(ask_to_store("outbox", &event)).expect(202);
    }
    wait_for("the count", || (host.metrics("outbox")["push"]["stored"]["delayed"] == 2).then_some(()));
    let manifest = "name = \"outbox\"\n[processes.web]\nentry = \"http\"\n[processes.jobs]\nentry = \"events\"\n\
        [grants]\nkeyvalue = true\n";
    host.deploy("outbox", Bundle::archive(manifest, &guest("outbox")));
    let reported = host.activity_of("outbox", "events-stranded");
    let text = "2 events wait for the process type `worker`, which v2 doesn't have; deploy a release with it, or \
        cancel them";
    assert_eq!(reported["text"], text);
    assert_eq!(reported["data"], json!({ "process": "worker", "events": 2, "release": 2 }));
    host.log_line("outbox", "the report", |line| line.to_string().contains("2 events wait for the process type"));
}
