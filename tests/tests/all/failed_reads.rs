//! Tests a disk that can't be read for a while. A failed read is not damage: the host keeps each
//! file, loses no event, and reports a disk error.

use crate::types::crashing;
use isopod_tests::{
    Answer, Ask, Bundle, DiskError, Host, guest,
    outbox::{ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// The number of stored events that are not due, with 2 KiB of data each. Their database is larger
/// than SQLite's cache.
const EVENTS: usize = 1_500;

fn start() -> Host {
    let host = Host::start_with_faults("");
    host.deploy("outbox", outbox("outbox", "", ""));
    host.deploy("other", outbox("other", "", ""));
    let lines: String = (0..EVENTS)
        .map(|number| {
            let steps = json!([["set", format!("key-{number}"), "x".repeat(2_048)]]);
            let mut event = event_of_steps(&format!("event-{number}"), None, &steps);
            event["isopoddelay"] = json!("10h");
            format!("{event}\n")
        })
        .collect();
    host.api(Ask::post("/v1/apps/outbox/broadcasts").body("application/x-ndjson", lines)).expect(202);
    host.run_steps("outbox", &json!([["set", "kept", "yes"]]));
    // The restarted host has no page of the database in its cache.
    host.restart()
}

/// Asserts that the response is a disk error.
#[track_caller]
fn assert_of_disk(answer: &Answer) {
    if answer.status >= 400 {
        let problem: Value = answer.clone().json();
        assert_eq!(problem["type"], "urn:isopod:problem:disk", "{problem}");
    }
}

/// Asserts that the database was never regarded as damaged, and has all rows.
#[track_caller]
fn assert_intact(host: &Host, acknowledged: &[String]) {
    for id in acknowledged {
        host.until_event("outbox", id, "done");
    }
    assert_eq!(host.stored_events("outbox", "state=delayed").len(), EVENTS);
    assert_eq!(host.value("outbox", "kept"), "yes");
    assert!(!host.data().join("lost+found").exists(), "a file was moved");
    assert!(!host.said().contains("damaged"), "{}", host.said());
}

#[test]
fn failed_reads_neither_replace_a_database_nor_lose_an_event() {
    let host = start();
    let faults = host.faults();
    let mut acknowledged = Vec::new();
    for (round, per_million) in [3_000, 8_000, 30_000, 200_000].into_iter().enumerate() {
        let before = faults.failed();
        faults.fail_some(DiskError::ReadOfApps, per_million, round as u64);
        let mut number = 0;
        wait_for("failed reads", || {
            let id = format!("round-{round}-{number}");
            number += 1;
            let stored = host.api(ask_to_store("outbox", &event_of_steps(&id, None, &json!([]))));
            assert_of_disk(&stored);
            if stored.status == 202 {
                acknowledged.push(id);
            }
            assert_of_disk(&host.api(Ask::get("/v1/apps/outbox/events?limit=1000")));
            let one = (number * 37) % EVENTS;
            assert_of_disk(&host.api(Ask::get(format!("/v1/apps/outbox/events/event-{one}"))));
            (faults.failed() >= before + 40).then_some(())
        });
    }
    faults.end_errors();
    assert_intact(&host, &acknowledged);
    assert_intact(&host.kill_and_restart(), &acknowledged);
}

#[test]
fn calls_of_an_app_fail_while_its_database_cannot_be_read() {
    let host = start();
    host.faults().fail(DiskError::ReadOfApps);
    for _ in 0..3 {
        let refused = host.api(Ask::get("/v1/apps/outbox/events")).problem(500, "disk");
        let detail = refused["detail"].as_str().expect("it has a detail");
        assert!(detail.contains("apps/outbox/kv.db") && detail.contains("check the disk"), "{detail}");
    }
    let status = host.api(Ask::get("/v1/status")).expect(503).json();
    assert_eq!(status["apps_in_error"], json!(["outbox"]), "{status}");
    assert!(status["data_folder_problems"][0].as_str().is_some_and(|why| why.contains("outbox/kv.db")), "{status}");
    let error = host.api(Ask::get("/v1/apps/outbox/status")).expect(503).json()["error"].to_string();
    assert!(error.contains("the disk failed"), "{error}");
    host.faults().end_errors();
    host.api(Ask::get("/v1/apps/outbox/events")).expect(200);
    host.api(Ask::get("/v1/status")).expect(200);
    assert_intact(&host, &[]);
}

#[test]
fn an_unreadable_control_database_is_reported_as_a_disk_error() {
    let host = Host::start_with_faults("");
    let problems =
        |host: &Host| host.api(Ask::get("/v1/status")).expect(200).json()["data_folder_problems"].to_string();
    host.faults().fail(DiskError::Read);
    let problem = wait_for("a report", || Some(problems(&host)).filter(|found| found != "[]"));
    assert!(problem.contains("the disk failed") && problem.contains("control.db"), "{problem}");
    wait_for("an error in the log", || host.said().contains("ERROR").then_some(()));
    host.faults().end_errors();
    assert_eq!(problems(&host), "[]");
    let said = host.said();
    assert!(said.contains("the disk failed") && !said.contains("overwritten"), "{said}");
    host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "read" }))).expect(201);
}

/// Without `[processes]` in the manifest, only the bundle of an app shows whether it handles
/// events.
#[test]
fn an_unreadable_bundle_strands_no_event() {
    let host = Host::start_with_faults("");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let event = host.push_event("greedy", "fail");
    host.until_event("greedy", &event, "dead");
    // The restarted host hasn't loaded the app.
    let host = host.restart();
    host.faults().fail(DiskError::ReadOfBlobs);
    let one = format!("/v1/apps/greedy/events/{event}");
    for path in [&one, "/v1/apps/greedy/events", "/v1/apps/greedy/formation"] {
        host.api(Ask::get(path)).problem(500, "disk");
    }
    let redrive = || Ask::post("/v1/apps/greedy/dead-letters/redrive").body("application/json", "{}");
    host.api(redrive()).problem(500, "disk");
    host.faults().end_errors();
    let shown = host.stored_event("greedy", &event);
    assert_eq!((&shown["state"], &shown["is_stranded"]), (&json!("dead"), &json!(false)));
    // The bundle is read once.
    host.faults().fail(DiskError::ReadOfBlobs);
    let shown = host.stored_event("greedy", &event);
    assert_eq!((&shown["state"], &shown["is_stranded"]), (&json!("dead"), &json!(false)));
    assert_eq!(host.stored_events("greedy", "").len(), 1);
    host.faults().end_errors();
    assert_eq!(host.api(redrive()).expect(200).json()["events"], 1);
}

/// A stored bundle that can't be read.
struct Hidden {
    blob: PathBuf,
    aside: PathBuf,
}

impl Hidden {
    fn of(host: &Host, component: &str) -> Self {
        let digest: String = Sha256::digest(guest(component)).iter().map(|byte| format!("{byte:02x}")).collect();
        let (blob, aside) = (host.data().join("blobs").join(digest), host.data().join("aside"));
        std::fs::rename(&blob, &aside).expect("it is moved");
        // The read of a folder fails, and it is not an absent file.
        std::fs::create_dir(&blob).expect("it is created");
        Self { blob, aside }
    }

    fn restore(self) {
        std::fs::remove_dir(&self.blob).expect("it is removed");
        std::fs::rename(&self.aside, &self.blob).expect("it is moved");
    }
}

/// Creates an app whose first release serves, whose second release can't be read, and whose third
/// release crashes.
fn app_with_an_unreadable_release(host: &Host) -> Hidden {
    host.create("shop", "staging");
    host.deploy("shop", Bundle::shape(&[("GREETING", "older")]));
    let manifest = "name = \"shop\"\n[processes.web]\nentry = \"http\"\n";
    host.deploy("shop", Bundle::archive(manifest, &guest("hello")));
    // While stopped, the app runs nothing, so that no release is on standby afterwards.
    host.stop_app("shop");
    host.deploy("shop", crashing("1"));
    let hidden = Hidden::of(host, "hello");
    host.start_app("shop");
    hidden
}

/// While the disk can't be read, an app neither enters the state `error` nor returns to an older
/// release.
#[test]
fn an_automatic_rollback_waits_until_the_good_release_can_be_read() {
    let host = Host::start();
    let hidden = app_with_an_unreadable_release(&host);
    wait_for("a failed read", || host.said().contains("the last good release can't be loaded now").then_some(()));
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![3], "running"));
    hidden.restore();
    let reported = host.activity_of("shop", "release-returned");
    assert_eq!((&reported["data"]["release"], &reported["data"]["bad"]), (&json!(2), &json!(3)), "{reported}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn an_automatic_rollback_skips_a_release_that_stays_unreadable() {
    let host = Host::start_pausing("rollback-reads=return(2500)");
    app_with_an_unreadable_release(&host);
    let reported = host.activity_of("shop", "release-returned");
    assert_eq!((&reported["data"]["release"], &reported["data"]["bad"]), (&json!(1), &json!(3)), "{reported}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 older");
    let said = host.said();
    let deferred = said.matches("the last good release can't be loaded now").count();
    assert_eq!(deferred, 1, "the same reason is logged once: {said}");
}

/// The second attempt to load the release at the host's start is still a part of that start.
#[test]
fn stranded_events_are_not_reported_again_when_a_start_is_deferred() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let mut event = event_of_steps("later", None, &json!([]));
    event["isopoddelay"] = json!("10h");
    host.api(ask_to_store("outbox", &event)).expect(202);
    let without = |process: &str| {
        let web = "[processes.web]\nentry = \"http\"\nmin = 1\n";
        let manifest = format!("name = \"outbox\"\n{web}[processes.{process}]\nentry = \"events\"\n");
        Bundle::archive(&format!("{manifest}[grants]\nkeyvalue = true\n"), &guest("outbox"))
    };
    let reports = |host: &Host| {
        let reported = host.activity("outbox").into_iter().filter(|entry| entry["kind"] == "events-stranded");
        reported.map(|entry| entry["data"]["release"].as_u64().expect("a release")).collect::<Vec<_>>()
    };
    host.deploy("outbox", without("jobs"));
    host.activity_of("outbox", "events-stranded");
    let mut hidden = None;
    let host = host.restart_after(|host| hidden = Some(Hidden::of(host, "outbox")));
    wait_for("a deferred start", || host.said().contains("a release can't be loaded now").then_some(()));
    hidden.expect("it is hidden").restore();
    wait_for("the app to serve", || (host.state("outbox") == "running").then_some(()));
    host.deploy("outbox", without("other"));
    wait_for("the report about the new release", || reports(&host).contains(&3).then_some(()));
    let mut reported = reports(&host);
    reported.sort_unstable();
    assert_eq!(reported, [2, 3]);
}

#[test]
fn a_rollback_to_an_unreadable_bundle_is_a_disk_error() {
    let host = Host::start_with_faults("");
    host.deploy("shop", Bundle::shape(&[("GREETING", "one")]));
    host.deploy("shop", Bundle::shape(&[("GREETING", "two")]));
    host.faults().fail(DiskError::ReadOfBlobs);
    host.rollback("shop", 1).problem(500, "disk");
    host.set_config("shop", &json!({ "GREETING": "three" })).problem(500, "disk");
    host.faults().end_errors();
    host.rollback("shop", 1).expect(200);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v3 one");
}

#[test]
fn an_unreadable_bundle_is_reported_and_stored_again() {
    let host = Host::start_with_faults("");
    host.deploy("shop", Bundle::shape(&[("GREETING", "one")]));
    host.faults().fail(DiskError::ReadOfBlobs);
    host.deploy("shop", Bundle::shape(&[("GREETING", "two")]));
    assert!(host.said().contains("a stored blob can't be read; it is written again"), "{}", host.said());
    host.faults().end_errors();
    host.rollback("shop", 1).expect(200);
}
