//! Tests damaged databases of apps, which contain their key-value data and events. The host sets a
//! damaged file aside, continues with the rows that it can read, and reports each loss.

use isopod_tests::{Host, SmallDisk, outbox, program};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

const PAGE: usize = 4_096;
/// The number of the app's entries, and of its delayed events.
const ROWS: usize = 20;

/// Starts a host whose app has entries and delayed events, a page of text each.
fn filled() -> Host {
    filled_on(Host::start())
}

fn filled_on(host: Host) -> Host {
    host.deploy("outbox", outbox::outbox("outbox", "", ""));
    let padding = "x".repeat(PAGE / 2);
    let set = |number: usize| json!(["set", format!("key-{number}"), format!("entry-{number}-{padding}")]);
    host.run_steps("outbox", &(0..ROWS).map(set).collect());
    let emit = |number: usize| {
        let steps = json!([["increment", "handled"], ["set", "padding", padding]]);
        json!(["emit", { "id": format!("event-{number}"), "delay_ms": 3_600_000, "steps": steps }])
    };
    host.run_steps("outbox", &(0..ROWS).map(emit).collect());
    host
}

fn database(host: &Host) -> PathBuf {
    host.data().join("apps/outbox/kv.db")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("it is read");
    change(&mut bytes);
    fs::write(path, &bytes).expect("it is written");
    bytes
}

/// Fills the page that contains the text with garbage.
fn damage_page_with(bytes: &mut [u8], text: &str) {
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("it contains the text");
    let page = at / PAGE * PAGE;
    bytes[page..page + PAGE].fill(0xa5);
}

fn delayed(host: &Host) -> usize {
    host.stored_events("outbox", "state=delayed").len()
}

/// Returns the numbers of the entries that have a value.
fn entries(host: &Host) -> Vec<usize> {
    let keys: Vec<String> = (0..ROWS).map(|number| format!("key-{number}")).collect();
    let values = host.values("outbox", keys.iter().map(String::as_str));
    values.iter().enumerate().filter(|(_, value)| !value.is_null()).map(|(number, _)| number).collect()
}

/// Checks the report, and returns the path of the damaged file and the number of rescued rows.
#[track_caller]
fn reported(host: &Host, is_complete: bool) -> (PathBuf, Value) {
    let entry = host.activity_of("outbox", "data-damaged");
    let (text, data) = (entry["text"].as_str().expect("it has a text"), &entry["data"]);
    let saved = data["saved"].as_str().expect("it was moved");
    assert!(text.contains("database of outbox was damaged") && text.contains(saved), "{entry}");
    assert_eq!(text.contains("data is lost") && text.contains(".recover"), !is_complete, "{entry}");
    assert_eq!(data["rescued"]["complete"], is_complete, "{entry}");
    let warning = host.said().lines().any(|line| line.contains("WARN") && line.contains("outbox was damaged"));
    assert!(warning, "{}", host.said());
    let output = program::command(&["doctor", "--json", "--data"]).arg(host.data()).output().expect("it can be run");
    let found = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(found.contains("damaged database") && found.contains(".recover"), "{found}");
    (saved.into(), data["rescued"].clone())
}

/// Checks that the app stores data and handles events.
#[track_caller]
fn works(host: &Host) {
    let id = host.push_steps("outbox", Some("anna"), &json!([["set", "after", "yes"]]));
    host.until_event("outbox", &id, "done");
    assert_eq!(host.value("outbox", "after"), "yes");
    assert_eq!(host.state("outbox"), "running");
}

#[test]
fn a_database_with_garbage_in_the_middle_keeps_its_other_rows() {
    let mut damaged = Vec::new();
    let host = filled().restart_after(|host| {
        damaged = change(&database(host), |bytes| damage_page_with(bytes, "entry-7-"));
    });
    let left = entries(&host);
    assert!(left.len() >= ROWS - 2 && !left.contains(&7), "{left:?}");
    assert_eq!(delayed(&host), ROWS, "the damaged page is one of the entries");
    let (saved, rescued) = reported(&host, false);
    assert_eq!(rescued["entries"], left.len());
    assert_eq!(rescued["events"], ROWS);
    assert_eq!(fs::read(&saved).expect("it is read"), damaged, "the damaged file is unchanged");
    works(&host);
    // The new database is used like any other.
    let host = host.kill_and_restart();
    assert_eq!((entries(&host), delayed(&host)), (left, ROWS));
    assert_eq!(host.value("outbox", "after"), "yes");
    let damages = host.activity("outbox").into_iter().filter(|entry| entry["kind"] == "data-damaged").count();
    assert_eq!(damages, 1);
}

#[test]
fn a_database_with_a_damaged_index_loses_nothing() {
    let host = filled().restart_after(|host| {
        let connection = rusqlite::Connection::open(database(host)).expect("it opens");
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_id'";
        let page = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("it exists");
        drop(connection);
        let page = usize::try_from(page).expect("a page number") - 1;
        change(&database(host), |bytes| bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5));
    });
    assert_eq!((entries(&host).len(), delayed(&host)), (ROWS, ROWS));
    reported(&host, true);
    works(&host);
}

#[test]
fn a_truncated_database_and_one_without_its_header_are_replaced() {
    let host = filled().restart_after(|host| {
        change(&database(host), |bytes| bytes.truncate(bytes.len() / 2));
    });
    let left = entries(&host).len();
    assert!(left > 0 && left + delayed(&host) < 2 * ROWS, "a part is left");
    reported(&host, false);
    works(&host);
    let host = host.restart_after(|host| {
        change(&database(host), |bytes| bytes[..100].fill(0));
    });
    assert_eq!(entries(&host).len() + delayed(&host), 0);
    let lost = fs::read_dir(host.data().join("lost+found")).expect("it is read").count();
    assert_eq!(lost, 2, "both damaged databases are kept");
    works(&host);
}

#[test]
fn changes_that_a_damaged_journal_lost_are_reported() {
    let mut host = filled();
    for number in 0..10 {
        host.run_steps("outbox", &json!([["set", format!("late-{number}"), "yes"]]));
    }
    host.kill();
    let journal = database(&host).with_extension("db-wal");
    // The damage is in the last changes, so SQLite ignores them without an error.
    let damaged = change(&journal, |bytes| {
        let length = bytes.len();
        bytes[length - 3 * PAGE..length - 2 * PAGE].fill(0xa5);
    });
    let host = host.again();
    assert!(host.value("outbox", "late-9").is_null());
    assert_eq!((entries(&host).len(), delayed(&host)), (ROWS, ROWS));
    let (saved, _) = reported(&host, false);
    assert_eq!(fs::read(saved.with_extension("db-wal")).expect("it was moved"), damaged);
    works(&host);
}

#[test]
fn a_damaged_database_is_not_copied_to_a_disk_with_little_free_space() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut damaged = Vec::new();
    let host = filled_on(Host::on(&disk.path().join("data"))).restart_after(|host| {
        damaged = change(&database(host), |bytes| damage_page_with(bytes, "entry-7-"));
        let filler = fs::File::options().write(true).open(disk.fill()).expect("it opens");
        let length = filler.metadata().expect("it exists").len();
        // Enough for the copy, but not for the margin.
        filler.set_len(length - (12 << 20)).expect("it is shortened");
    });
    let refused = host.api(outbox::ask_to_store("outbox", &outbox::event_of_steps("new", None, &json!([]))));
    refused.problem(500, "store");
    let entry = host.activity_of("outbox", "data-damaged");
    assert!(entry.to_string().contains("MiB of free space") && entry["data"]["saved"].is_null(), "{entry}");
    assert_eq!(fs::read(database(&host)).expect("it is read"), damaged);
    assert!(!host.data().join("lost+found").exists());
    let host = host.restart_after(|_| fs::remove_file(disk.path().join("filler")).expect("it exists"));
    assert!(entries(&host).len() >= ROWS - 2);
    let lost = host.data().join("lost+found");
    assert_eq!(fs::read_dir(lost).expect("it is read").count(), 1);
    works(&host);
}
