//! Tests a disk with slow syncs: stored events wait for the syncs and share them. Requests and
//! other apps don't wait.

use isopod_tests::{
    Host, Neighbour, Queue, Wire,
    limits::PATIENCE,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than any test, so that a sync only ends when the test ends the delay.
const ENDLESS: Duration = Duration::from_secs(3_600);

const REQUESTS: usize = 50;

/// The number of events that are sent at the same time.
const SENT_TOGETHER: usize = 200;

/// Sends an event to be stored, without waiting for the response.
fn begin_to_store(host: &Host, id: &str, steps: &Value) -> Wire {
    let ask = ask_to_store("outbox", &event_of_steps(id, None, steps));
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it can be sent");
    wire
}

#[test]
fn requests_are_answered_while_an_event_waits_for_a_sync() {
    let host = Host::start_with_faults("");
    for app in ["outbox", "other"] {
        host.deploy(app, outbox(app, "", ""));
        host.run_steps(app, &json!([["set", "key", "value"]]));
    }
    let faults = host.faults();
    faults.delay_syncs(ENDLESS);
    let mut accepted = begin_to_store(&host, "slow", &json!([["increment", "handled"]]));
    wait_for("a delayed sync", || (faults.delayed_syncs() > 0).then_some(()));
    for app in ["outbox", "other"] {
        for _ in 0..REQUESTS {
            assert_eq!(host.values(app, ["key"]), ["value"]);
        }
        host.send_event(app, "steps", Queue::Pull).expect(200);
    }
    assert!(faults.delayed_syncs() > 0, "the sync of the event has ended");
    assert_eq!(host.stored_events("outbox", ""), [""; 0], "an event is listed before it is durable");

    faults.delay_syncs(Duration::ZERO);
    assert_eq!(accepted.head().expect("it is answered").status, 202);
    host.until_event("outbox", "slow", "done");
    assert_eq!(host.value("outbox", "handled"), "1");
}

#[test]
fn an_app_whose_syncs_never_end_leaves_the_disk_to_other_apps() {
    let host = Host::start_with_faults("");
    for app in ["outbox", "other"] {
        host.deploy(app, outbox(app, "", ""));
    }
    let faults = host.faults();
    faults.delay_syncs_of("outbox", ENDLESS);
    let handled = json!([["increment", "handled"]]);
    let waiting: Vec<Wire> = (0..20).map(|number| begin_to_store(&host, &format!("slow-{number}"), &handled)).collect();
    wait_for("a delayed sync", || (faults.delayed_syncs() > 0).then_some(()));
    for _ in 0..20 {
        let event = host.push_steps("other", None, &handled);
        host.until_event("other", &event, "done");
    }
    assert_eq!(host.value("other", "handled"), "20");
    assert!(faults.delayed_syncs() > 0, "the syncs of the first app have ended");

    faults.delay_syncs(Duration::ZERO);
    for mut wire in waiting {
        assert_eq!(wire.head().expect("it is answered").status, 202);
    }
    host.until_no_event_waits("outbox", PATIENCE);
    assert_eq!(host.value("outbox", "handled"), "20");
}

/// A commit waits for one sync, and stores all events that arrived during the previous one.
#[test]
fn events_that_arrive_during_a_sync_share_the_next_one() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    let faults = host.faults();
    faults.delay_syncs_of("outbox", Duration::from_millis(200));
    let later = |number: usize| {
        let ask = ask_to_store("outbox", &event_of_steps(&format!("event-{number}"), None, &json!([])));
        ask.header("isopod-delay", "1h").header("authorization", format!("Bearer {}", host.token))
    };
    let open = |_| Wire::open(host.admin).expect("the API accepts connections");
    let mut wires: Vec<Wire> = (0..SENT_TOGETHER).map(open).collect();
    for (number, wire) in wires.iter_mut().enumerate() {
        wire.ask(&later(number)).expect("it can be sent");
    }
    for wire in &mut wires {
        assert_eq!(wire.head().expect("it is answered").status, 202);
    }
    assert_eq!(host.stored_events("outbox", "state=delayed").len(), SENT_TOGETHER);
    let syncs = faults.delays();
    assert!(syncs > 0 && syncs <= SENT_TOGETHER as u64 / 10, "{syncs} syncs for {SENT_TOGETHER} events");
}

#[test]
fn events_are_handled_once_on_a_disk_with_slow_syncs() {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    let neighbour = Neighbour::beside(&host);
    host.faults().delay_syncs(Duration::from_millis(200));
    let steps = json!([["increment", "handled"], ["emit", { "steps": [["increment", "followed"]] }]]);
    let accepted: Vec<Wire> = (0..40).map(|number| begin_to_store(&host, &format!("event-{number}"), &steps)).collect();
    for mut wire in accepted {
        assert_eq!(wire.head().expect("it is answered").status, 202);
    }
    host.until_no_event_waits("outbox", PATIENCE);
    assert_eq!(host.values("outbox", ["handled", "followed"]), ["40", "40"]);
    assert!(host.stored_events("outbox", "").iter().all(|event| event["attempt"] == 1));
    neighbour.finish();
}
