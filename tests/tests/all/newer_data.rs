//! Tests a data folder that a newer version has used. The host refuses to start with a newer
//! `control.db`. A newer or unreadable database of an app affects only that app, and is reported by
//! the host and by `isopod doctor`.

use isopod_tests::{
    Ask, Host,
    outbox::{ask_to_store, event_of_steps, outbox},
    program::{self, refused_start},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::{fs, path::Path};

fn format_of(database: &Connection) -> i64 {
    database.pragma_query_value(None, "user_version", |row| row.get(0)).expect("it is read")
}

fn set_format(database: &Connection, format: i64) {
    database.pragma_update(None, "user_version", format).expect("it is written");
}

/// Returns the report of an app's database that can't be read, which is also in the host's log.
#[track_caller]
fn reported(host: &Host, app: &str) -> String {
    let entry = host.activity_of(app, "data-unreadable");
    let text = entry["text"].as_str().expect("it has a text").to_owned();
    let path = host.data().join("apps").join(app).join("kv.db");
    assert_eq!(entry["data"]["path"], path.to_str().expect("paths are text"), "{entry}");
    assert!(text.starts_with(&format!("the database of {app} can't be read")), "{entry}");
    assert!(host.said().lines().any(|line| line.contains("ERROR") && line.contains(&text)), "{}", host.said());
    text
}

/// Returns the detail and the remedy of doctor's failed checks of the data.
fn doctor(data: &Path) -> Vec<(String, String)> {
    let output = program::command(&["doctor", "--json", "--data"]).arg(data).output().expect("it can be run");
    let found: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let items = found["items"].as_array().expect("it has items");
    let failed = items.iter().filter(|item| item["name"] == "data" && item["state"] == "failed");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    failed.map(|item| (text(&item["detail"]), text(&item["fix"]))).collect()
}

#[test]
fn the_host_refuses_to_start_with_a_newer_control_database() {
    let mut host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    host.stop();
    let known = format_of(&host.control_database());
    set_format(&host.control_database(), known + 1);
    let said = refused_start(host.data());
    let newer = format!("has format {}, but this isopod supports formats up to {known}; run the newer", known + 1);
    assert!(said.contains(&newer), "{said}");
    set_format(&host.control_database(), known);
    assert_eq!(host.again().state("outbox"), "running", "the refused start changed nothing");
}

#[test]
fn a_newer_or_unreadable_database_of_an_app_is_reported_and_affects_no_other_app() {
    let host = Host::start();
    for app in ["newer", "unreadable", "other"] {
        host.deploy(app, outbox(app, "", ""));
        let event = event_of_steps("later", None, &json!([["increment", "handled"]]));
        host.api(ask_to_store(app, &event).header("isopod-delay", "3s")).expect(202);
    }
    let (mut known, aside) = (0, host.data().join("aside"));
    let host = host.restart_after(|host| {
        known = format_of(&host.database_of("newer"));
        set_format(&host.database_of("newer"), known + 1);
        let database = host.data().join("apps/unreadable/kv.db");
        fs::rename(&database, &aside).expect("it is renamed");
        fs::create_dir(&database).expect("a folder is created");
        assert_eq!(doctor(host.data()).len(), 2, "doctor reports both before the start");
    });
    let newer = format!("has format {}, but this isopod supports formats up to {known}; run the newer", known + 1);
    let said = reported(&host, "newer");
    assert!(said.contains(&newer) && said.contains("its events wait"), "{said}");
    let said = reported(&host, "unreadable");
    assert!(said.contains("check the disk"), "{said}");
    let [newer, unreadable] = doctor(host.data()).try_into().expect("doctor reports two databases");
    assert!(newer.0.contains("database of newer can't be read") && newer.0.contains("has format"), "{newer:?}");
    assert!(newer.1.starts_with("run the newer isopod again") && newer.1.contains("operations.md"), "{newer:?}");
    assert!(
        unreadable.0.contains("database of unreadable") && unreadable.1.contains("check the disk"),
        "{unreadable:?}"
    );
    host.until_event("other", "later", "done");
    for app in ["newer", "unreadable"] {
        host.api(Ask::get(format!("/v1/apps/{app}/events"))).problem(500, "store");
        assert_eq!(host.state(app), "running");
        let status = host.api(Ask::get(format!("/v1/apps/{app}/status"))).expect(503).json();
        assert_eq!((&status["status"], &status["state"]), (&json!("down"), &json!("running")), "{status}");
        assert!(status["error"].is_string(), "{status}");
    }
    host.api(Ask::get("/v1/apps/other/status")).expect(200);
    let status = host.api(Ask::get("/v1/status")).expect(503).json();
    assert_eq!((&status["status"], &status["apps_in_error"]), (&json!("down"), &json!(["newer", "unreadable"])));

    let host = host.restart_after(|host| {
        set_format(&host.database_of("newer"), known);
        let database = host.data().join("apps/unreadable/kv.db");
        fs::remove_dir(&database).expect("it is empty");
        fs::rename(&aside, &database).expect("it is renamed");
        assert_eq!(doctor(host.data()), []);
    });
    for app in ["newer", "unreadable"] {
        let done = host.until_event(app, "later", "done");
        assert_eq!((&done["attempt"], host.value(app, "handled")), (&json!(1), Value::from("1")), "{done}");
    }
    host.api(Ask::get("/v1/status")).expect(200);
}

#[test]
fn a_damaged_format_number_of_an_app_database_is_reported() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    host.run_steps("outbox", &json!([["set", "kept", "yes"]]));
    let known = format_of(&host.database_of("outbox"));
    let mut host = host;
    for format in [0, -1] {
        host = host.restart_after(|host| {
            set_format(&host.database_of("outbox"), format);
            let [(found, remedy)] = doctor(host.data()).try_into().expect("doctor reports the database");
            assert!(found.contains(&format!("has format {format}, which no isopod has written")), "{found}");
            assert!(remedy.contains("restore the file from a backup"), "{remedy}");
        });
        let refused = host.api(Ask::get("/v1/apps/outbox/events")).problem(500, "store");
        let detail = refused["detail"].as_str().expect("it has a detail");
        assert!(detail.contains(&format!("has format {format}, which no isopod has written")), "{detail}");
    }
    let host = host.restart_after(|host| set_format(&host.database_of("outbox"), known));
    assert_eq!(host.value("outbox", "kept"), "yes");
}
