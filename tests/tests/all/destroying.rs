//! Tests destroying an app: all its data is removed, also during work; a new app of its name gets
//! no old data; an app that can't be destroyed stays unchanged.

use isopod_tests::{Ask, Bundle, Host, SmallDisk, Wire, guest, outbox::outbox, wait_for};
use serde_json::json;
use std::{sync::mpsc, time::Duration};

/// One chunk per second, for longer than a destroy waits for the app's work.
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

/// Starts to write an entry. The rest of the body is still missing.
fn begin_entry(host: &Host) -> Wire {
    let mut wire = host.wire();
    let head = "POST /entries HTTP/1.1\r\nhost: book.localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                transfer-encoding: chunked\r\n\r\n";
    wire.send(head.as_bytes()).expect("it is sent");
    wire.send_chunk(b"name=Old&text=from-").expect("it is sent");
    wait_for("a busy instance", || host.instances("book").iter().any(|seen| seen["state"] == "busy").then_some(()));
    wire
}

/// This includes the work of a stopped app and of a former release.
#[test]
fn accepted_work_is_completed_before_an_app_is_destroyed() {
    let host = Host::start();
    host.deploy("book", guestbook());
    let mut replaced = begin_entry(&host);
    host.deploy("book", guestbook());
    host.stop_app("book");
    std::thread::scope(|scope| {
        let destroyed = scope.spawn(|| destroy(&host));
        wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).problem_of("book", 409, "being-destroyed");
        assert!(!destroyed.is_finished(), "the destroy didn't wait for the guest");
        replaced.send_chunk(b"the-old-one").expect("it is sent");
        replaced.send_chunk(b"").expect("it is sent");
        assert_eq!(replaced.head().expect("it is answered").status, 303);
        assert_eq!(destroyed.join().expect("it is asked").status, 204);
    });
    assert!(!host.data().join("apps/book").exists(), "the app's folder still exists");
    host.deploy("book", guestbook());
    assert_eq!(entries(&host), "[]");
    let old = host.log("book").into_iter().find(|line| line.to_string().contains("POST"));
    assert!(old.is_none(), "the new app's log has a request of the destroyed app: {old:?}");
}

#[test]
fn a_running_handler_of_a_stored_event_completes_before_its_app_is_destroyed() {
    let host = Host::start();
    for app in ["outbox", "audit"] {
        host.deploy(app, outbox(app, "", ""));
    }
    // The handler of `audit` runs immediately, outside the transaction.
    let ask = json!(["ask", { "id": "witness", "app": "audit", "steps": [["set", "witness", "yes"]] }]);
    let running = host.push_steps("outbox", None, &json!([["sleep", 1_500], ask]));
    host.until_event("outbox", &running, "leased");
    host.api(Ask::new("DELETE", "/v1/apps/outbox")).expect(204);
    assert_eq!(host.value("audit", "witness"), "yes");
    assert!(!host.data().join("apps/outbox").exists(), "the app's folder still exists");
}

#[test]
fn overdue_work_is_aborted_and_never_reaches_the_new_app() {
    let host = Host::start();
    host.deploy("book", guestbook());
    let mut slow = begin_entry(&host);
    host.stop_app("book");
    let (sender, destroyed) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(destroy(&host).status).expect("the test receives it"));
        // A client that continues to send keeps the guest busy.
        let mut chunks = (0..CHUNKS_MAX).map(|_| drop(slow.send_chunk(b"a")));
        let status = chunks.find_map(|()| destroyed.recv_timeout(Duration::from_secs(1)).ok());
        assert_eq!(status, Some(204), "the destroy waits for the client without a limit");
    });
    assert!(!host.data().join("apps/book").exists(), "the app's folder still exists");
    host.deploy("book", guestbook());
    let _closed = slow.send_chunk(b"").map(|()| slow.head());
    assert_eq!(entries(&host), "[]");
    assert!(!host.data().join("apps/.book").exists());
}

/// A host that crashes during a destroy leaves neither the app nor its data behind.
#[test]
fn an_app_that_is_being_destroyed_is_gone_after_a_crash() {
    let host = Host::start_pausing("app-deleted=pause");
    host.deploy("book", guestbook());
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", "name=Old&text=x")).expect(303);
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    let ask = Ask::new("DELETE", "/v1/apps/book").header("authorization", format!("Bearer {}", host.token));
    wire.ask(&ask).expect("it is sent");
    wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
    let host = host.kill_and_restart();
    host.get("book", "/").problem_of("book", 404, "unknown-app");
    assert!(!host.data().join("apps/book").exists(), "the app's folder still exists");
    host.deploy("book", guestbook());
    assert_eq!(entries(&host), "[]");
}

#[test]
fn an_app_is_destroyed_although_its_client_disconnects() {
    let host = Host::start_pausing("app-deleted=sleep(600)");
    host.deploy("book", guestbook());
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    let ask = Ask::new("DELETE", "/v1/apps/book").header("authorization", format!("Bearer {}", host.token));
    wire.ask(&ask).expect("it is sent");
    wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
    drop(wire);
    wait_for("its name to become free", || {
        (host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).status == 201).then_some(())
    });
    let host = host.restart();
    assert_eq!(host.show("book")["release"], json!(null), "the new app has no release");
}

/// A second destroy request is answered as soon as the first is complete. Then the name is free.
#[test]
fn a_second_destroy_waits_for_the_first() {
    let host = Host::start_pausing("app-deleted=sleep(600)");
    host.deploy("book", guestbook());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| destroy(&host));
        wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/book")).status == 404).then_some(()));
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).problem(409, "being-destroyed");
        assert!(!first.is_finished());
        destroy(&host).problem(404, "unknown-app");
        host.api(Ask::post("/v1/apps").json(&json!({ "name": "book" }))).expect(201);
        first.join().expect("it is answered").expect(204);
    });
}

/// If the store has no space to record the removal, and no reserve either, the app stays complete.
#[test]
fn an_app_whose_destroy_fails_on_a_full_disk_stays_complete() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("book", guestbook());
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", "name=Ada&text=x")).expect(303);
    std::fs::remove_file(disk.path().join("data/disk.reserve")).expect("the host keeps a reserve");
    let filler = disk.fill();
    // A few changes may still fit into allocated pages of the database.
    let change = json!({ "PADDING": "x".repeat(4000) });
    let full = (0..50).map(|_| host.set_config("book", &change)).find(|answer| answer.status != 200);
    full.expect("the disk is full").problem(507, "disk-full");
    let refused = destroy(&host);
    assert_eq!(refused.status, 507, "{refused}");
    assert_eq!(host.state("book"), "running");
    assert!(entries(&host).contains("Ada"));
    assert!(!host.log("book").is_empty());

    std::fs::remove_file(filler).expect("it exists");
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
