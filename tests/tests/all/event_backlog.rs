//! Tests a deep backlog of events: the host delivers the whole backlog while the same app responds
//! to requests.

use isopod_tests::{Host, Neighbour, outbox::outbox, wait_up_to};
use serde_json::{Value, json};
use std::time::Duration;

/// The maximum number of events that a handler sends.
const EMITTED: usize = 1_000;

const BACKLOG: usize = 20_000;

/// The timeout for the delivery of the backlog by an unoptimised build on a busy machine.
const DRAINED: Duration = Duration::from_secs(300);

#[test]
fn a_deep_backlog_is_delivered_while_requests_are_answered() {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "", ""));
    let emits = Value::from(vec![json!(["emit", { "type": "small" }]); EMITTED]);
    let sources: Vec<String> =
        (0..BACKLOG / EMITTED).map(|_| host.push_steps("outbox", Some("source"), &emits)).collect();
    let [beside, same] = [Neighbour::beside(&host), Neighbour::asking(host.listen, "outbox", |text| text == "[]")];
    for source in &sources {
        wait_up_to(DRAINED, "the backlog", || (host.stored_event("outbox", source)["state"] == "done").then_some(()));
    }
    let before = [beside.answers(), same.answers()];
    host.until_no_event_waits("outbox", DRAINED);
    let [of_other, of_same] = [beside.answers(), same.answers()];
    assert!(of_other > before[0], "another app answered no request while the backlog was delivered");
    assert!(of_same > before[1], "the app answered no request while its backlog was delivered");
    beside.finish();
    same.finish();
    let done = host.stored_events("outbox", "type=small");
    assert_eq!(done.len(), BACKLOG);
    assert!(done.iter().all(|event| event["state"] == "done" && event["attempt"] == 1));
}
