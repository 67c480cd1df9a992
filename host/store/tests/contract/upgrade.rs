//! A data folder of format 1 is migrated with all its content, and can be used. Owns a copy of its
//! statements, so that no change of the source can change a released format. `earlier_formats.rs`
//! migrates folders of the later formats.

use std::path::Path;

use isopod_policy::{AppKind, AppType, ConfigVars, ReleaseEvent, ReleaseState, Scope};
use isopod_store::{FolderReport, Inserted, Intended, Page, Store, StoreError};
use rusqlite::{Connection, params};

use crate::control::{booted, number, release_now};
use crate::{at, name, new_activity, new_push, push_id};

/// The tables of format 1.
const FORMAT_1: &str = "
    CREATE TABLE apps (
        name         TEXT PRIMARY KEY,
        type         TEXT NOT NULL,
        intended     TEXT NOT NULL,
        release      INTEGER,
        last_release INTEGER NOT NULL DEFAULT 0,
        created_at   TEXT NOT NULL,
        updated_at   TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE pushes (
        number      INTEGER PRIMARY KEY AUTOINCREMENT,
        id          TEXT NOT NULL UNIQUE,
        app         TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        state       TEXT NOT NULL,
        bundle      TEXT,
        release     INTEGER,
        reason_code TEXT,
        reason      TEXT,
        log_lines   INTEGER NOT NULL DEFAULT 0,
        created_by  TEXT NOT NULL,
        created_at  TEXT NOT NULL,
        updated_at  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX pushes_of_app ON pushes (app, number);
    CREATE INDEX pushes_unfinished ON pushes (number) WHERE state NOT IN ('completed', 'failed', 'cancelled');

    CREATE TABLE push_log (
        push   INTEGER NOT NULL REFERENCES pushes (number) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        at     TEXT NOT NULL,
        text   TEXT NOT NULL,
        PRIMARY KEY (push, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE releases (
        app        TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        number     INTEGER NOT NULL,
        bundle     TEXT NOT NULL,
        manifest   TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (app, number)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE activity (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        app  TEXT,
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        data TEXT NOT NULL,
        at   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX activity_of_app ON activity (app, id);

    -- How many entries each app has; the platform's own are counted under the empty name.
    CREATE TABLE activity_counts (
        app     TEXT PRIMARY KEY,
        entries INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE tokens (
        name       TEXT PRIMARY KEY,
        hash       TEXT NOT NULL UNIQUE,
        role       TEXT NOT NULL,
        scope      TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Data that hosts of format 1 stored: an app on its third release, an app on its first release, an
/// app without a push, an unfinished push, and a release that is older than the first stored push.
const ROWS_1: &str = "
    INSERT INTO apps VALUES
        ('busy', 'staging', 'running', 3, 3, '2027-01-01T00:00:00Z', '2027-01-03T10:00:00Z'),
        ('new', 'dev', 'running', NULL, 0, '2027-01-01T00:00:00Z', '2027-01-01T00:00:00Z'),
        ('once', 'dev', 'stopped', 1, 1, '2027-01-01T00:00:00Z', '2027-01-01T10:00:00Z');
    INSERT INTO pushes VALUES
        (7, 'p-0000000002', 'busy', 'completed', NULL, 2, NULL, NULL, 0, 'ci', '2027-01-02T09:00:00Z',
         '2027-01-02T10:00:00Z'),
        (8, 'p-0000000003', 'busy', 'completed', NULL, 3, NULL, NULL, 1, 'ci', '2027-01-03T09:00:00Z',
         '2027-01-03T10:00:00Z'),
        (9, 'p-0000000004', 'busy', 'building', NULL, NULL, NULL, NULL, 0, 'ci', '2027-01-04T09:00:00Z',
         '2027-01-04T09:00:00Z');
    INSERT INTO push_log VALUES (8, 1, '2027-01-03T09:00:00Z', 'received 100 bytes');
    INSERT INTO activity VALUES
        (3, 'busy', 'app-deployed', 'push p-0000000003 put v3 in service', '{\"size_bytes\":100}',
         '2027-01-03T10:00:00Z'),
        (4, 'busy', 'app-stopped', 'stopped: requested', '{\"by\":\"ci\"}', '2027-01-03T11:00:00Z'),
        (5, 'once', 'odd', 'an entry without JSON', '{', '2027-01-03T12:00:00Z');
    INSERT INTO activity_counts VALUES ('busy', 2), ('once', 1);
    INSERT INTO tokens VALUES ('admin', 'aa', 'admin', '\"all\"', '2027-01-01T00:00:00Z'),
        ('ci', 'bb', 'deploy', '{\"apps\":[\"once\",\"gone\"]}', '2027-01-01T00:00:00Z'),
        ('old', 'cc', 'deploy', '{\"apps\":[\"gone\"]}', '2027-01-01T00:00:00Z');
";

/// The manifest of a release, as format 1 stored it.
pub(crate) const MANIFEST_1: &str = r#"{"name":"NAME","type":"dev","isolation":"reuse","processes":{"web":{
    "entry":"http","health":"/healthz","min":0,"max":10}},"grants":{"http":[],"files":{},"keyvalue":false},
    "limits":{"memory":"64MiB","request_timeout":"30s","request_body":"64MiB","reply_body":"256MiB",
    "instances_max":10,"queue_max":1000,
    "table_elements":20000,"log_line":"8KiB"},"config":{"GREETING":"hi"}}"#;

/// Creates `control.db` as a host of format 1 left it.
pub(crate) fn make_format_1(folder: &Path) {
    let database = Connection::open(folder.join("control.db")).expect("it is created");
    database.execute_batch(FORMAT_1).expect("the old tables are created");
    database.execute_batch(ROWS_1).expect("the old rows fit the old tables");
    for (app, release, created_at) in [
        ("busy", 1, "2027-01-01T10:00:00.5Z"),
        ("busy", 2, "2027-01-02T10:00:00Z"),
        ("busy", 3, "2027-01-03T10:00:00Z"),
        ("once", 1, "2027-01-01T10:00:00Z"),
    ] {
        let (bundle, manifest) = ("ab".repeat(32), MANIFEST_1.replace("NAME", app));
        let row = params![app, release, bundle, manifest, release * 100, "ci", created_at];
        database.execute("INSERT INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row).expect("it fits");
    }
    database.pragma_update(None, "user_version", 1).expect("the version can be set");
}

fn open_upgraded() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("the folder is created");
    make_format_1(folder.path());
    let store = Store::open(folder.path()).expect("an earlier format is migrated");
    (folder, store)
}

#[tokio::test]
async fn releases_of_format_1_get_their_states() {
    let (_folder, store) = open_upgraded();
    let busy = name("busy");
    let mut found = Vec::new();
    for release in 1..=3 {
        let release = release_now(&store, &busy, release).await;
        let last = release.last_current_at.map(|at| at.to_string());
        found.push((release.state, release.cause, last, release.created_at.to_string()));
    }
    let row = |state, cause: &str, last: Option<&str>, created: &str| {
        (state, cause.to_owned(), last.map(str::to_owned), created.to_owned())
    };
    let (first, second, third) = ("2027-01-01T10:00:00.5Z", "2027-01-02T10:00:00Z", "2027-01-03T10:00:00Z");
    let expected = [
        row(ReleaseState::Retired, "a push", Some(second), first),
        row(ReleaseState::Retired, "push p-0000000002", Some(third), second),
        row(ReleaseState::Ready, "push p-0000000003", None, third),
    ];
    assert_eq!(found, expected);
    let current = release_now(&store, &busy, 3).await;
    assert_eq!((current.size_bytes, current.created_by.as_str(), current.updated_at), (300, "ci", current.created_at));
    assert_eq!((current.reason, current.config), (None, ConfigVars::default()));
    assert_eq!(current.manifest.config["GREETING"], "hi");
    assert_eq!(release_now(&store, &name("once"), 1).await.state, ReleaseState::Ready);
    assert_eq!(store.interrupted_releases().await, Ok(vec![]));
}

#[tokio::test]
async fn other_rows_of_format_1_are_unchanged() {
    let (_folder, store) = open_upgraded();
    let apps = store.apps(Page::default()).await.expect("they are read").items;
    assert!(apps.iter().all(|app| app.kind == AppKind::App), "earlier formats had no plugins");
    let apps: Vec<_> = apps.iter().map(|app| (app.name.as_str(), app.app_type, app.intended, app.release)).collect();
    let expected = [
        ("busy", AppType::Staging, Intended::Running, Some(number(3))),
        ("new", AppType::Dev, Intended::Running, None),
        ("once", AppType::Dev, Intended::Stopped, Some(number(1))),
    ];
    assert_eq!(apps, expected);
    let unfinished = store.unfinished_pushes(Page::default()).await.expect("they are read").items;
    assert_eq!(unfinished.iter().map(|push| push.id.as_str()).collect::<Vec<_>>(), ["p-0000000004"]);
    let log = store.push_log(&"p-0000000003".parse().expect("it is an id"), 0).await.expect("it is read");
    assert_eq!(log[0].text, "received 100 bytes");
    let earlier = store.push(&"p-0000000003".parse().expect("it is an id")).await.expect("it is read");
    assert_eq!(earlier.expect("it exists").steps, [], "format 1 stored no steps");
    let activity = store.activity(Some(&name("busy")), Page::default()).await.expect("it is read").items;
    assert_eq!((activity[1].id, activity[1].kind.as_str()), (3, "app-deployed"));
    let audit = store.audit(Some(&name("busy")), Page::default()).await.expect("it is read").items;
    assert_eq!(audit.iter().map(|entry| entry.id).collect::<Vec<_>>(), [4], "the entry with an actor");
    assert!(store.token("aa").await.expect("it is read").is_some());
    let once = store.app(&name("once")).await.expect("it is read").expect("it exists");
    let ci = store.token("bb").await.expect("it is read").expect("it is for an existing app");
    assert_eq!((ci.scope, ci.app_ids), (Scope::Apps(vec![name("once")]), vec![once.id]));
    assert_eq!((ci.expires_at, ci.last_used_at, ci.former), (None, None, None), "format 1 stored none of these");
    assert_eq!(store.token("cc").await, Ok(None), "its app was destroyed");
    assert_eq!((store.schedules().await, store.app(&name("gone")).await), (Ok(vec![]), Ok(None)));
}

#[tokio::test]
async fn a_folder_without_an_id_gets_an_id_at_the_upgrade() {
    let (folder, store) = open_upgraded();
    // The folder contains no bundle files.
    assert_eq!(store.folder_report(), &FolderReport { missing_bundles: 1, ..FolderReport::default() });
    drop(store);
    let id = std::fs::read_to_string(folder.path().join("data.id")).expect("it has one");
    drop(Store::open(folder.path()).expect("the store opens again"));
    assert_eq!(std::fs::read_to_string(folder.path().join("data.id")).expect("it has one"), id);
    make_format_1_again(folder.path());
    let refused = Store::open(folder.path()).expect_err("a backup from before the upgrade has no id");
    assert!(matches!(refused, StoreError::OtherDatabase { .. }), "{refused}");
}

/// Restores the database from before the upgrade.
fn make_format_1_again(folder: &Path) {
    std::fs::remove_file(folder.join("control.db")).expect("it exists");
    make_format_1(folder);
}

#[tokio::test]
async fn an_upgraded_store_can_be_written() {
    let (folder, store) = open_upgraded();
    let busy = name("busy");
    let queued = store.insert_push(new_push(1, "busy")).await;
    assert!(matches!(&queued, Ok(Inserted::New(push)) if push.id == push_id(1)), "{queued:?}");
    let v4 = booted(&store, &busy).await;
    assert_eq!(v4, number(4));
    let app = store.make_current(&busy, v4, new_activity(Some("busy"), "v4 serves"), at(5)).await;
    assert_eq!(app.expect("it serves").release, Some(v4));
    assert_eq!(release_now(&store, &busy, 3).await.state, ReleaseState::Retired);
    let refused = store.step_release(&busy, number(3), ReleaseEvent::Freeze, None, at(6)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    drop(store);
    let again = Store::open(folder.path()).expect("an upgraded store opens");
    assert_eq!(release_now(&again, &busy, 4).await.state, ReleaseState::Ready);
}
