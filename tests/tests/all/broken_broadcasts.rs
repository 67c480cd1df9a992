//! F4, J5: tests interrupted broadcasts: a queue that becomes full, connections that break, and a
//! host that is killed. The command continues, and no event is lost or stored twice.

use crate::broadcasts::{event, start};
use isopod_tests::{
    Ask, CuttingProxy, Host,
    limits::{PATIENCE, TORTURE_READ_STEPS},
    outbox::{event_of_steps, outbox},
    program::{self, Running},
    wait_for,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, net::SocketAddr, path::Path, process::Command};

const EVENTS: u32 = 25_000;

/// Returns events that wait in the queue during the test, one per line.
fn lines(ids: impl IntoIterator<Item = u32>) -> String {
    ids.into_iter().map(|id| event(id) + "\n").collect()
}

/// Returns the command that sends a file to the API at this address.
fn broadcast(host: &Host, address: SocketAddr, app: &str, file: &Path) -> Command {
    let file = file.to_str().expect("paths are text");
    let mut command = program::command(&["broadcast", file, "--json", "--app", app]);
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
    let mut sending = Running::start(broadcast(&host, host.admin, "greedy", &file));
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
    let output = broadcast(&host, proxy.address, "greedy", &file).output().expect("it can be run");
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{notes}");
    assert_eq!((proxy.cuts_left(), notes.matches("trying again at line 1\n").count()), (0, 2), "{notes}");
    let done: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(done["accepted"], EVENTS, "{done}");
    assert!(done["duplicates"].as_u64().is_some_and(|known| (1_000..20_000).contains(&known)), "{done}");
    each_is_stored_once(&host, "greedy", EVENTS);
}

/// The bytes of each event of a broadcast during which the host is killed. A request has 8 MiB.
const PADDED_BYTES: usize = 8 << 10;

/// The number of these events: three requests.
const PADDED_EVENTS: u32 = 2_500;

/// The bytes that the command sends before each kill: in the middle of a request, after the host
/// has stored a part, and in the middle of a later request.
const SENT_BEFORE_KILLS: [usize; 5] = [3 << 20, 15 << 19, 12 << 20, 15 << 19, 4 << 20];

#[test]
fn a_broadcast_continues_through_kills_of_the_host_and_each_event_is_handled_once() {
    let mut host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "", ""));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("users.ndjson");
    let padding = "x".repeat(PADDED_BYTES);
    let line = |id: u32| {
        let counted = json!([["increment", "total"], ["increment", format!("handled-{id}")], ["set", "last", padding]]);
        event_of_steps(&id.to_string(), None, &counted).to_string() + "\n"
    };
    std::fs::write(&file, (1..=PADDED_EVENTS).map(line).collect::<String>()).expect("it can be written");
    let proxy = CuttingProxy::start(host.admin, []);
    let mut sending = Running::start(broadcast(&host, proxy.address, "outbox", &file));
    let mut interrupted = 0;
    for bytes in SENT_BEFORE_KILLS {
        let until = proxy.bytes_sent() + bytes;
        wait_for(&format!("{bytes} bytes of the broadcast"), || (proxy.bytes_sent() >= until).then_some(()));
        host.kill();
        interrupted += host.leased_events("outbox");
        host = host.again();
        proxy.forward_to(host.admin);
    }
    assert!(sending.end().success(), "{}", sending.said());
    let said = sending.said();
    assert!(said.matches("trying again").count() >= SENT_BEFORE_KILLS.len(), "a kill was too late: {said}");
    host.until_no_event_waits("outbox", PATIENCE);
    let events = each_is_stored_once(&host, "outbox", PADDED_EVENTS);
    let redeliveries: u64 = events.iter().map(|event| event["attempt"].as_u64().expect("a number") - 1).sum();
    assert!(redeliveries <= interrupted, "{redeliveries} repeated deliveries, {interrupted} were interrupted");
    assert_eq!(host.value("outbox", "total"), PADDED_EVENTS.to_string());
    let keys: Vec<String> = (1..=PADDED_EVENTS).map(|id| format!("handled-{id}")).collect();
    for part in keys.chunks(TORTURE_READ_STEPS) {
        let counts = host.values("outbox", part.iter().map(String::as_str));
        assert!(counts.iter().all(|count| count == "1"), "{part:?}: {counts:?}");
    }
}

/// Checks that the stored events are those with the ids from 1 to `count`, each once. Returns them.
#[track_caller]
fn each_is_stored_once(host: &Host, app: &str, count: u32) -> Vec<Value> {
    let events = host.stored_events(app, "");
    let ids: BTreeSet<u32> =
        events.iter().map(|event| event["id"].as_str().expect("an id").parse().expect("a number")).collect();
    assert_eq!((events.len(), ids), (count as usize, (1..=count).collect()));
    events
}
