//! Tests that operations which free space or stop harm work on a full disk, in the disk space that
//! the host holds in reserve.

use std::path::PathBuf;

use isopod_tests::{Ask, Bundle, Host, SmallDisk, guest, wait_for};
use serde_json::json;

/// Fills the disk, and the free pages of the database.
fn fill(disk: &SmallDisk, host: &Host, round: &str) -> PathBuf {
    let filler = disk.fill();
    let tokens = (0..1_000).map(|number| {
        let token = json!({ "name": format!("{round}{number}-{}", "x".repeat(50)), "role": "read" });
        host.api(Ask::post("/v1/tokens").json(&token))
    });
    let refused = tokens.into_iter().find(|answer| answer.status != 201).expect("the disk is full");
    refused.problem(507, "disk-full");
    let id = refused.header("x-request-id").expect("an id");
    let line = wait_for("the line of the host's log", || {
        host.said().lines().find(|line| line.contains(id)).map(str::to_owned)
    });
    assert!(line.contains("WARN") && line.contains("disk-full") && line.contains("/v1/tokens"), "{line}");
    filler
}

#[test]
fn an_app_can_be_stopped_and_destroyed_and_a_token_revoked_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "deploy" }))).expect(201);

    fill(&disk, &host, "a");
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    fill(&disk, &host, "b");
    host.api(Ask::post("/v1/apps/greedy/stop")).expect(202);
    host.until_state("greedy", "stopped");
    let filler = fill(&disk, &host, "c");
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    assert!(!host.data().join("apps/greedy").exists(), "its data is removed");

    std::fs::remove_file(filler).expect("it exists");
    host.create("next", "dev");
    let host = host.restart();
    host.api(Ask::get("/v1/apps/greedy")).problem(404, "unknown-app");
    assert_eq!(host.state("next"), "stopped");
}

/// A guest's errors are in the app's log, which deployers of the app read.
#[test]
fn an_error_of_the_key_value_store_on_a_full_disk_contains_no_path_of_the_host() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let host = Host::on(&disk.path().join("data"));
    let manifest = "name = \"book\"\n[grants]\nkeyvalue = true\n";
    host.deploy("book", Bundle::archive(manifest, &guest("guestbook")));
    let filler = disk.fill();
    let sign = |number: u32| {
        let form = format!("name=ada-{number}&text=hello");
        host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", form))
    };
    let refused = (0..200).map(sign).find(|answer| answer.status != 303).expect("the disk is full");
    // The log has space again.
    std::fs::remove_file(filler).expect("it exists");
    let id = refused.header("x-request-id").expect("an id");
    let is_error = |line: &serde_json::Value| line["request_id"] == id && line["level"] == "error";
    let line = host.log_line("book", "of the error", is_error).to_string();
    assert!(line.contains("the disk of the host is full"), "{line}");
    assert!(!line.contains(disk.path().to_str().expect("paths are text")), "{line}");
}
