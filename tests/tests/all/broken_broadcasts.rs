//! F4, J5: tests interrupted broadcasts: a queue that becomes full, and connections that break. The
//! command continues, and no event is lost or stored twice.

use crate::broadcasts::{event, start};
use isopod_tests::{
    Ask, CuttingProxy, Host,
    program::{self, Running},
    wait_for,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, process::Command};

const EVENTS: u32 = 25_000;

/// Returns events that wait in the queue during the test, one per line.
fn lines(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter().map(|id| event(id) + "\n").collect()
}

/// Returns the command that sends a file to the API at this address.
fn broadcast(host: &Host, address: SocketAddr, file: &std::path::Path) -> Command {
    let file = file.to_str().expect("paths are text");
    let mut command = program::command(&["broadcast", file, "--json", "--app", "greedy"]);
    command.args(["--host", &format!("http://{address}")]).env("ISOPOD_TOKEN", &host.token);
    command
}

/// Returns the number of stored events, which wait for their delay.
fn stored(host: &Host) -> u64 {
    host.metrics("greedy")["push"]["stored"]["delayed"].as_u64().expect("a number")
}

#[test]
fn a_broadcast_that_fills_the_queue_says_what_is_stored_and_continues() {
    let host = start();
    let first = host.api(Ask::post("/v1/apps/greedy/broadcasts").body("application/x-ndjson", lines([0])));
    first.expect(202);
    // The queue has room for three batches and a part of a fourth.
    let host = host.restart_after(|host| host.fill_event_queue("greedy", 3_500));
    let ask = Ask::post("/v1/apps/greedy/broadcasts").body("application/x-ndjson", lines(1..=2_500));
    assert_eq!(host.api(ask).expect(202).json(), json!({ "accepted": 2_500, "duplicates": 0 }));
    let ask = Ask::post("/v1/apps/greedy/broadcasts").body("application/x-ndjson", lines(2_001..=5_000));
    let full = host.api(ask);
    let refused = full.problem(429, "queue-full");
    let accepted = refused["accepted"].as_u64().unwrap_or_else(|| panic!("{refused}"));
    assert_eq!((accepted, &refused["duplicates"]), (1_000, &json!(500)), "a batch is stored whole or not at all");
    assert!(full.header("retry-after").is_some(), "{full}");
    assert_eq!(stored(&host), 3_001);

    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("users.ndjson");
    std::fs::write(&file, lines(1..=EVENTS)).expect("it can be written");
    let mut sending = Running::start(broadcast(&host, host.admin, &file));
    let waits = wait_for("the command to wait", || Some(sending.said()).filter(|said| said.contains("trying again")));
    assert!(waits.contains("queue is full") && waits.contains("trying again at line 3001"), "{waits}");
    host.empty_event_queue("greedy");
    assert!(sending.end().success(), "{}", sending.said());
    let said: String = sending.said().split_whitespace().collect();
    assert!(said.contains("{\"accepted\":25000,\"duplicates\":3000}"), "{said}");
    assert_eq!(stored(&host), u64::from(EVENTS) + 1);
}

#[test]
fn a_broadcast_continues_after_broken_connections_without_a_lost_or_doubled_event() {
    let host = start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("users.ndjson");
    std::fs::write(&file, lines(1..=EVENTS)).expect("it can be written");
    // The connections break during the first request, which has 20,000 events.
    let proxy = CuttingProxy::start(host.admin, [500_000, 1_200_000]);
    let output = broadcast(&host, proxy.address, &file).output().expect("it can be run");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    assert_eq!((proxy.cuts_left(), notes.matches("trying again at line 1\n").count()), (0, 2), "{notes}");
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(done["accepted"], EVENTS, "{done}");
    assert!(done["duplicates"].as_u64().is_some_and(|known| (1_000..20_000).contains(&known)), "{done}");
    let events = host.stored_events("greedy", "");
    let ids: BTreeSet<u32> =
        events.iter().map(|event| event["id"].as_str().expect("an id").parse().expect("a number")).collect();
    assert_eq!((events.len(), ids), (EVENTS as usize, (1..=EVENTS).collect()));
}
