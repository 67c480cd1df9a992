//! Tests databases of apps that are links. The host refuses them, so that no app reads or changes
//! the data of another one.

use isopod_tests::{Ask, Host, outbox, program};
use serde_json::json;
use std::{fs, os::unix};

/// Returns the output of `isopod doctor`.
fn doctor(host: &Host) -> String {
    let output = program::command(&["doctor", "--data"]).arg(host.data()).output().expect("it can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_database_that_is_a_link_to_the_database_of_another_app_is_refused() {
    let host = Host::start();
    for app in ["one", "other"] {
        host.deploy(app, outbox::outbox(app, "", ""));
        host.run_steps(app, &json!([["set", "owner", app]]));
    }
    let [linked, target] = ["one", "other"].map(|app| host.data().join("apps").join(app).join("kv.db"));
    let aside = host.data().join("aside");
    let host = host.restart_after(|_| fs::rename(&linked, &aside).expect("it is moved"));
    let host = host.restart_after(|host| {
        unix::fs::symlink(&target, &linked).expect("it is linked");
        let said = doctor(host);
        assert!(said.contains("the database of one") && said.contains("is a symbolic link"), "{said}");
    });
    let refused = host.api(Ask::get("/v1/apps/one/events")).problem(500, "store");
    let detail = refused["detail"].as_str().expect("it has a detail");
    assert!(detail.contains("apps/one/kv.db") && detail.contains("is a symbolic link"), "{detail}");
    let read = host.run_steps("one", &json!([["get", "owner"], ["set", "owner", "one"]]));
    assert!(read.iter().all(|result| result["error"].is_string()), "{read:?}");
    fs::remove_file(&linked).expect("it is removed");
    assert_eq!(host.value("other", "owner"), "other");
    // A backup may hold hard links to the database; the host serves the app as before.
    let host = host.restart_after(|_| {
        fs::rename(&aside, &linked).expect("it is moved back");
        fs::hard_link(&linked, &aside).expect("it is linked");
    });
    assert_eq!([host.value("one", "owner"), host.value("other", "owner")], ["one", "other"]);
}

/// SQLite would write the changes of one app to the journal of another one.
#[test]
fn a_database_whose_journal_or_index_is_a_link_is_refused() {
    let mut host = Host::start();
    for app in ["one", "other"] {
        host.deploy(app, outbox::outbox(app, "", ""));
        host.run_steps(app, &json!([["set", "owner", app]]));
    }
    for end in ["-wal", "-shm"] {
        let [linked, target] =
            ["one", "other"].map(|app| host.data().join("apps").join(app).join(format!("kv.db{end}")));
        host = host.restart_after(|host| {
            unix::fs::symlink(&target, &linked).expect("the stopped host left no such file");
            let said = doctor(host);
            assert!(said.contains("the database of one") && said.contains("is a symbolic link"), "{said}");
        });
        let entry = host.activity_of("one", "data-unreadable");
        assert!(entry["text"].as_str().is_some_and(|text| text.contains("is a symbolic link")), "{entry}");
        let refused = host.api(Ask::get("/v1/apps/one/events")).problem(500, "store");
        let detail = refused["detail"].as_str().expect("it has a detail");
        assert!(detail.contains(&format!("apps/one/kv.db{end}")) && detail.contains("is a symbolic link"), "{detail}");
        let read = host.run_steps("one", &json!([["get", "owner"], ["set", "owner", "one"]]));
        assert!(read.iter().all(|result| result["error"].is_string()), "{read:?}");
        assert_eq!(host.value("other", "owner"), "other");
        host = host.restart_after(|_| fs::remove_file(&linked).expect("the link is unchanged"));
        assert_eq!(["one", "other"].map(|app| host.value(app, "owner")), ["one", "other"]);
    }
}
