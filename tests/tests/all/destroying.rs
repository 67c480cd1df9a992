//! An app that is destroyed: all of it goes, whatever it is at; nothing of it comes to a new app of its name; and where it
//! can't be destroyed it stays as it is.

use isopod_tests::{Ask, Bundle, Host, SmallDisk, Wire, guest, wait_for};
use serde_json::json;
use std::{sync::mpsc, time::Duration};

/// One a second, for longer than a destroy waits for the app's work.
const CHUNKS_MAX: u32 = 60;

fn destroy(host: &Host) -> isopod_tests::Answer {
    host.api(Ask::new("DELETE", "/v1/apps/book"))
}

fn guestbook() -> Bundle {
    Bundle::archive("name = \"book\"\n[grants]\nkeyvalue = true\n", &guest("guestbook"))
}

fn entries(host: &Host) -> String {
    host.get("book", "/entries").expect(200).text()
}

/// Begins to write an entry, of which the rest is yet to come.
fn begin_entry(host: &Host) -> Wire {
    let mut wire = host.wire();
    let head = "POST /entries HTTP/1.1\r\nhost: book.localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                transfer-encoding: chunked\r\n\r\n";
    wire.send(head.as_bytes()).expect("it is sent");
    wire.send_chunk(b"name=Old&text=from-").expect("it is sent");
    wait_for("a guest at work", || host.instances("book").iter().any(|seen| seen["state"] == "busy").then_some(()));
    wire
}

/// Also what a stopped app, or a release that was replaced, still has to do.
#[test]
fn what_was_accepted_is_finished_before_an_app_is_gone() {
    let host = Host::start();
    host.deploy("book", guestbook());
    let mut replaced = begin_entry(&host);
    host.deploy("book", guestbook());
    host.stop_app("book");
    std::thread::scope(|scope| {
        let destroyed = scope.spawn(|| destroy(&host));
        wait_for("the end of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).problem_of("book", 409, "being-destroyed");
        assert!(!destroyed.is_finished(), "a guest is at work");
        replaced.send_chunk(b"the-old-one").expect("it is sent");
        replaced.send_chunk(b"").expect("it is sent");
        assert_eq!(replaced.head().expect("it is answered").status, 303);
        assert_eq!(destroyed.join().expect("it is asked").status, 204);
    });
    assert!(!host.data().join("apps/book").exists(), "nothing is left of it");
    host.deploy("book", guestbook());
    assert_eq!(entries(&host), "[]");
    let old = host.log("book").into_iter().find(|line| line.to_string().contains("POST"));
    assert!(old.is_none(), "a request of the one before is in the log of the new one: {old:?}");
}

#[test]
fn what_does_not_end_in_time_is_cut_off_and_never_meets_the_new_app() {
    let host = Host::start();
    host.deploy("book", guestbook());
    let mut slow = begin_entry(&host);
    host.stop_app("book");
    let (told, destroyed) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(destroy(&host).status).expect("somebody waits for it"));
        // Whoever keeps sending keeps the guest waiting.
        let mut chunks = (0..CHUNKS_MAX).map(|_| drop(slow.send_chunk(b"a")));
        let status = chunks.find_map(|()| destroyed.recv_timeout(Duration::from_secs(1)).ok());
        assert_eq!(status, Some(204), "it does not wait for as long as somebody sends");
    });
    assert!(!host.data().join("apps/book").exists(), "nothing is left of it");
    host.deploy("book", guestbook());
    let _closed = slow.send_chunk(b"").map(|()| slow.head());
    assert_eq!(entries(&host), "[]");
    assert!(!host.data().join("apps/.book").exists());
}

/// A host that ends in the middle leaves the app neither there nor its data behind.
#[test]
fn an_app_that_is_being_destroyed_is_gone_after_a_crash() {
    let host = Host::start_pausing("app-deleted=pause");
    host.deploy("book", guestbook());
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", "name=Old&text=x")).expect(303);
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    let ask = Ask::new("DELETE", "/v1/apps/book").header("authorization", format!("Bearer {}", host.token));
    wire.ask(&ask).expect("it is sent");
    wait_for("the end of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
    let host = host.kill_and_restart();
    host.get("book", "/").problem_of("book", 404, "unknown-app");
    assert!(!host.data().join("apps/book").exists(), "nothing is left of it");
    host.deploy("book", guestbook());
    assert_eq!(entries(&host), "[]");
}

#[test]
fn an_app_whose_destroyer_hangs_up_is_gone() {
    let host = Host::start_pausing("app-deleted=sleep(600)");
    host.deploy("book", guestbook());
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    let ask = Ask::new("DELETE", "/v1/apps/book").header("authorization", format!("Bearer {}", host.token));
    wire.ask(&ask).expect("it is sent");
    wait_for("the end of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
    drop(wire);
    wait_for("its name to be free", || {
        (host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).status == 201).then_some(())
    });
    let host = host.restart();
    assert_eq!(host.show("book")["release"], json!(null), "it is the new one");
}

/// Whoever asks a second time is answered when it is done, and may then use the name.
#[test]
fn an_app_that_is_being_destroyed_is_gone_for_whoever_asks_again() {
    let host = Host::start_pausing("app-deleted=sleep(600)");
    host.deploy("book", guestbook());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| destroy(&host));
        wait_for("the end of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).problem(409, "being-destroyed");
        assert!(!first.is_finished());
        destroy(&host).problem(404, "unknown-app");
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).expect(201);
        first.join().expect("it is answered").expect(204);
    });
}

/// Where the store has no room to say that it is gone, it is there, and all of it.
#[test]
fn an_app_that_a_full_disk_keeps_from_being_destroyed_stays_whole() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("book", guestbook());
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", "name=Ada&text=x")).expect(303);
    let filler = disk.fill();
    // A few changes may still fit into pages that the database has already.
    let change = json!({ "PADDING": "x".repeat(4000) });
    let full = (0..50).map(|_| host.set_config("book", &change)).find(|answer| answer.status != 200);
    full.expect("the disk is full").problem(507, "disk-full");
    let refused = destroy(&host);
    assert_eq!(refused.status, 507, "{refused}");
    assert_eq!(host.state("book"), "running");
    assert!(entries(&host).contains("Ada"));
    assert!(!host.log("book").is_empty());

    std::fs::remove_file(filler).expect("it is there");
    host.set_config("book", &json!({ "A": "1" })).expect(200);
    host.deploy("book", guestbook());
    host.stop_app("book");
    host.start_app("book");
    assert!(entries(&host).contains("Ada"));
    destroy(&host).expect(204);
    host.get("book", "/").problem_of("book", 404, "unknown-app");
    host.deploy("book", guestbook());
    assert_eq!(entries(&host), "[]");
}
