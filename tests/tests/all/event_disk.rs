//! Tests stored events on a disk that is full or read-only: acknowledged events survive, others are
//! refused, and requests are answered meanwhile.

use isopod_tests::{Ask, Host, Neighbour, SmallDisk, limits::PATIENCE, outbox, program, wait_for};
use serde_json::{Value, json};
use std::process::Command;

/// The size of an event in the test of a full disk.
const PADDING: usize = 4_000;

fn count(value: &Value) -> usize {
    value.as_str().map_or(0, |count| count.parse().expect("a count"))
}

#[test]
fn acknowledged_events_survive_a_full_disk() {
    let Some(disk) = SmallDisk::mount(32) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("outbox", outbox::outbox("outbox", "", ""));
    let neighbour = Neighbour::beside(&host);
    let steps = json!([["increment", "handled"], ["set", "padding", "x".repeat(PADDING)]]);
    let pushed = |id: String| {
        let event = outbox::event_of_steps(&id, None, &steps);
        host.api(outbox::ask_to_store("outbox", &event))
    };
    let mut acknowledged = 0;
    for number in 0..20 {
        pushed(format!("early-{number}")).expect(202);
        acknowledged += 1;
    }
    let filler = disk.fill();
    let refused = wait_for("a refused event", || {
        let answer = pushed(format!("late-{acknowledged}"));
        if answer.status == 202 {
            acknowledged += 1;
            return None;
        }
        Some(answer)
    });
    refused.problem(507, "disk-full");
    let status = host.api(Ask::get("/v1/status")).expect(503).json();
    assert_eq!((&status["status"], &status["apps_in_error"]), (&json!("down"), &json!(["outbox"])), "{status}");
    assert!(status["data_folder_problems"][0].as_str().is_some_and(|why| why.contains("disk is full")), "{status}");
    let status = host.api(Ask::get("/v1/apps/outbox/status")).expect(503).json();
    assert_eq!((&status["status"], &status["state"]), (&json!("down"), &json!("running")), "{status}");
    assert_eq!(host.api(Ask::get("/readyz")).status, 200);
    let answers = neighbour.answers();
    wait_for("requests on a full disk", || (neighbour.answers() > answers + 20).then_some(()));
    assert_eq!(host.state("outbox"), "running");
    std::fs::remove_file(filler).expect("it exists");

    host.until_no_event_waits("outbox", PATIENCE);
    let done = host.stored_events("outbox", "");
    assert!(done.iter().all(|event| event["state"] == "done"), "{done:?}");
    assert_eq!(done.len(), acknowledged);
    assert_eq!(count(&host.value("outbox", "handled")), acknowledged);
    pushed("after".to_owned()).expect(202);
    host.until_event("outbox", "after", "done");
    wait_for("a status without the full disk", || (host.api(Ask::get("/v1/status")).status == 200).then_some(()));
    assert_eq!(host.api(Ask::get("/v1/status")).json()["data_folder_problems"], json!([]));
    neighbour.finish();
    let host = host.kill_and_restart();
    assert_eq!(count(&host.value("outbox", "handled")), acknowledged + 1);
}

#[test]
fn events_survive_a_start_on_a_read_only_disk() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let mut host = Host::on(&disk.path().join("data"));
    host.deploy("outbox", outbox::outbox("outbox", "", ""));
    let delayed = json!({ "id": "delayed", "delay_ms": 2_000, "steps": [["increment", "handled"]] });
    host.run_steps("outbox", &json!([["emit", delayed]]));
    host.stop();
    let remounted = |mode: &str| {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(disk.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "it can't be mounted {mode}");
    };
    remounted("ro");
    let mut command = program::command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let output = command.arg("--data").arg(host.data()).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.to_lowercase().contains("read-only"), "{said}");
    remounted("rw");
    let host = host.again();
    host.until_event("outbox", "delayed", "done");
    assert_eq!(host.value("outbox", "handled"), "1");
}
