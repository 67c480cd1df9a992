//! Tests other programs that read a host's databases while it runs, and damaged rows.

use crate::rolling::built_with_an_old_sdk;
use isopod_tests::{Ask, Bundle, Host, database::lock_holder, guest};
use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest, Sha256};

fn sign(host: &Host, name: &str) {
    let form = format!("name={name}&text=hello");
    host.app("book", Ask::post("/entries").body("application/x-www-form-urlencoded", form)).expect(303);
}

/// Counts the tables like a program that opens the database, reads it and closes it.
fn look_into(database: Connection) -> i64 {
    let tables = database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    database.close().expect("it can be closed");
    tables.expect("it can be read")
}

/// The last connection that closes a database removes its journal. A host that had lost its lock
/// would continue to write into the removed file. Some versions of SQLite check only that lock.
#[test]
fn rows_written_after_another_program_read_the_database_survive_kill_9() {
    let mut host = Host::start();
    host.deploy("book", Bundle::archive("name = \"book\"\n[grants]\nkeyvalue = true\n", &guest("guestbook")));
    // A read doesn't create the database.
    sign(&host, "guest-0");
    for turn in 1..4 {
        // Reads open further connections of the host.
        host.releases("book");
        host.get("book", "/entries").expect(200);
        for database in ["control.db", "apps/book/kv.db"] {
            assert_eq!(lock_holder(&host.data().join(database)), Some(host.id()), "{database}");
        }
        assert!(look_into(host.control_database()) > 0 && look_into(host.database_of("book")) > 0);
        host.set_config("book", &json!({ "TURN": turn.to_string() })).expect(200);
        sign(&host, &format!("guest-{turn}"));
        host = host.kill_and_restart();
        assert_eq!(host.config("book"), json!({ "TURN": turn.to_string() }));
        let names: Vec<String> = host
            .get("book", "/entries")
            .expect(200)
            .json()
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| entry["name"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(names.len(), turn + 1, "{names:?}");
    }
}

/// The host lists and serves the other releases normally, and the list names the damaged release.
#[test]
fn a_damaged_row_of_one_release_leaves_the_others_readable() {
    let host = Host::start();
    host.create("shop", "staging");
    for words in ["one", "two", "three"] {
        host.deploy("shop", Bundle::shape(&[("GREETING", words)]));
    }
    let host = host.restart_after(|host| {
        host.change_rows("UPDATE releases SET manifest = '{nonsense' WHERE number = 2", []);
    });
    let releases = host.releases("shop");
    assert_eq!((&releases[0]["state"], &releases[2]["state"]), (&json!("retired"), &json!("ready")));
    let damaged = &releases[1];
    assert_eq!((&damaged["release"], &damaged["name"], &damaged["app"]), (&json!(2), &json!("v2"), &json!("shop")));
    assert!(damaged["damaged"].as_str().is_some_and(|why| why.contains("manifest")), "{damaged}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v3 three");
    host.api(Ask::get("/v1/apps/shop/releases/2")).problem(500, "store");
    host.rollback("shop", 1).expect(200);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v4 one");
}

/// An upgraded host may require releases of newer SDKs. The app reports the cause, and a new
/// release repairs the app.
#[test]
fn an_app_whose_release_the_upgraded_host_rejects_is_in_error() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::component(guest("shapes")));
    let old = built_with_an_old_sdk(guest("shapes"));
    let digest: String = Sha256::digest(&old).iter().map(|byte| format!("{byte:02x}")).collect();
    let host = host.restart_after(|host| {
        std::fs::write(host.data().join("blobs").join(&digest), old).expect("it can be written");
        host.change_rows("UPDATE releases SET bundle = ?1", [&digest]);
    });
    host.until_state("shop", "error");
    assert_eq!(host.show("shop")["error"]["cause"], "sdk-too-old");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.deploy("shop", Bundle::component(guest("shapes")));
    assert_eq!(host.state("shop"), "running");
    host.get("shop", "/").expect(200);
}
