//! Tests `order = "subject"`: the events of one subject are delivered one at a time and in the
//! order of their acceptance, also across failures, delays and kills of the host, and those of
//! different subjects in parallel.

use isopod_tests::{
    Host,
    limits::PATIENCE,
    outbox::{QUICK_RETRY, ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};

fn host_with_order() -> Host {
    let host = Host::start();
    host.create("outbox", "production");
    let worker = format!("order = \"subject\"\nmin = 4\n{QUICK_RETRY}");
    host.deploy("outbox", outbox("outbox", &worker, "[limits]\nrequest_timeout = \"10m\""));
    host
}

/// Returns a time as a value that can be compared: the second, and its milliseconds.
fn time(value: &Value) -> (String, u64) {
    let text = value.as_str().expect("a time").trim_end_matches('Z');
    let (second, part) = text.split_once('.').unwrap_or((text, ""));
    (second.to_owned(), format!("{part:0<3}").parse().expect("milliseconds"))
}

#[test]
fn the_events_of_a_subject_are_handled_in_order() {
    const SUBJECTS: [&str; 4] = ["a", "b", "c", "d"];
    let host = host_with_order();
    for number in 0..60 {
        let subject = SUBJECTS[number % SUBJECTS.len()];
        let number = number / SUBJECTS.len();
        let steps = json!([["sleep", (number * 7) % 11], ["append", format!("order-{subject}"), format!("{number} ")]]);
        // Some are not the event's fault, and some never succeed: the next ones wait for their end.
        let steps = if number % 5 == 4 { json!([["fail", "retry", "not this one"]]) } else { steps };
        host.push_steps("outbox", Some(subject), &steps);
    }
    let host = host.kill_and_restart();
    host.until_no_event_waits("outbox", PATIENCE);
    let expected: String = (0..15).filter(|number| number % 5 != 4).map(|number| format!("{number} ")).collect();
    for subject in SUBJECTS {
        assert_eq!(host.value("outbox", &format!("order-{subject}")), expected.as_str(), "{subject}");
        // Each ended before the next began, also those that failed.
        let mut events = host.stored_events("outbox", &format!("subject={subject}"));
        events.reverse();
        let ends: Vec<(String, u64)> = events.iter().map(|event| time(&event["ended_at"])).collect();
        assert!(ends.is_sorted(), "{subject}: {ends:?}");
    }
    assert_eq!(host.stored_events("outbox", "state=dead").len(), 3 * SUBJECTS.len());
}

#[test]
fn a_subject_waits_for_its_running_event_and_others_do_not() {
    let host = host_with_order();
    let long = json!([["sleep", 300_000]]);
    let first = host.push_steps("outbox", Some("slow"), &long);
    let second = host.push_steps("outbox", Some("slow"), &json!([["increment", "slow"]]));
    for subject in ["quick", "other"] {
        let event = host.push_steps("outbox", Some(subject), &json!([["increment", subject]]));
        host.until_event("outbox", &event, "done");
    }
    let unordered = host.push_steps("outbox", None, &json!([["increment", "unordered"]]));
    host.until_event("outbox", &unordered, "done");
    wait_for("the first event to run", || (host.stored_event("outbox", &first)["state"] == "leased").then_some(()));
    let waiting = host.stored_event("outbox", &second);
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("ready"), &json!(0)), "{waiting}");
    // Two subjects run at the same time.
    let other = host.push_steps("outbox", Some("slow-too"), &long);
    wait_for("a second running event", || (host.stored_event("outbox", &other)["state"] == "leased").then_some(()));
    let running: Vec<Value> = host.stored_events("outbox", "state=leased");
    assert_eq!(running.len(), 2, "{running:?}");
}

#[test]
fn a_retry_is_delivered_after_a_later_event_of_its_subject_became_due() {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "order = \"subject\"\nretry = { attempts = 2 }", ""));
    let fails = json!([["fail", "retry-after", "not yet", 2_500]]);
    let first = host.push_steps("outbox", Some("ann"), &fails);
    host.until_event("outbox", &first, "delayed");
    // It is due before the retry, and must wait for it. No further event wakes the queue.
    let mut second = event_of_steps("second", Some("ann"), &json!([["set", "second", "done"]]));
    second["isopoddelay"] = json!("1s");
    host.api(ask_to_store("outbox", &second)).expect(202);
    host.until_event("outbox", "second", "done");
    assert_eq!(host.stored_event("outbox", &first)["state"], "dead");
    assert_eq!(host.value("outbox", "second"), "done");
}

/// D3: an event that waits for a retry of its subject doesn't keep an idle app loaded.
#[test]
fn an_app_whose_events_wait_for_their_subject_is_frozen() {
    let host = Host::start_with("queue-check=return(100)", "freeze_after = \"200ms\"\n");
    host.create("outbox", "staging");
    host.deploy("other", outbox("other", "", ""));
    host.deploy("outbox", outbox("outbox", "order = \"subject\"\nretry = { attempts = 2 }", ""));
    let failing = host.push_steps("outbox", Some("ann"), &json!([["fail", "retry-after", "not yet", 3_600_000]]));
    host.until_event("outbox", &failing, "delayed");
    let waiting = host.push_steps("outbox", Some("ann"), &json!([["set", "second", "done"]]));
    host.stays_frozen("outbox", 1, "other");
    assert_eq!(host.stored_event("outbox", &waiting)["state"], "ready");
}
