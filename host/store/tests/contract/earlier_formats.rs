//! A data folder of each earlier format is migrated with its rows. Owns a copy of the statements of
//! format 2 and later, so that no change of the source can change a released format. Also owns the
//! rows that hosts of each format stored.
//!
//! A new format needs an entry in [`FORMATS`] and its rows in [`check_rows`].

use std::path::Path;

use isopod_policy::{AppKind, Ceiling, ConfigVars, CoresOverride, PushState, ReleaseState};
use isopod_store::{
    Digest, FormerSecret, HookBacklog, Idempotency, Inserted, Loss, LostData, MonthUsage, Page, PushStep, Reason,
    ScheduleFired, Store, StoredAssets,
};
use rusqlite::Connection;
use serde_json::json;

use crate::control::{app_now, month, number, process, release_now};
use crate::name;
use crate::upgrade::{MANIFEST_1, make_format_1};

/// A format: the statements that lead to it, and rows that hosts of this format stored. `MANIFEST`,
/// `BUNDLE`, `SNAPSHOT` and `PACK` are placeholders of a manifest and of digests. The app of format
/// 2 has the name `two`, and so on.
struct Format {
    migration: &'static str,
    rows: &'static str,
}

/// The formats from 2.
const FORMATS: &[Format] = &[
    FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5, FORMAT_6, FORMAT_7, FORMAT_8, FORMAT_9, FORMAT_10, FORMAT_11, FORMAT_12,
    FORMAT_13, FORMAT_14,
];

/// The apps of these formats.
const APPS: [&str; 13] = [
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
];

/// Config vars, idempotency keys, the states of releases, schedules and usage.
const FORMAT_2: Format = Format {
    migration: "
    ALTER TABLE apps ADD COLUMN config TEXT NOT NULL DEFAULT '{}';

    ALTER TABLE pushes ADD COLUMN idempotency_key TEXT;
    ALTER TABLE pushes ADD COLUMN upload_digest TEXT;
    CREATE INDEX pushes_by_idempotency_key ON pushes (app, idempotency_key) WHERE idempotency_key IS NOT NULL;

    ALTER TABLE releases ADD COLUMN state TEXT NOT NULL DEFAULT 'retired';
    ALTER TABLE releases ADD COLUMN reason_code TEXT;
    ALTER TABLE releases ADD COLUMN reason TEXT;
    ALTER TABLE releases ADD COLUMN cause TEXT NOT NULL DEFAULT '';
    ALTER TABLE releases ADD COLUMN last_current_at TEXT;
    ALTER TABLE releases ADD COLUMN updated_at TEXT NOT NULL DEFAULT '';
    ALTER TABLE releases ADD COLUMN config TEXT NOT NULL DEFAULT '{}';
    UPDATE releases SET
        cause = coalesce(
            (SELECT 'push ' || id FROM pushes WHERE pushes.app = releases.app AND pushes.release = releases.number),
            'a push'
        ),
        last_current_at = coalesce(
            (SELECT later.created_at FROM releases later
             WHERE later.app = releases.app AND later.number > releases.number ORDER BY later.number LIMIT 1),
            created_at
        );
    UPDATE releases SET state = 'ready', last_current_at = NULL
        WHERE number = (SELECT release FROM apps WHERE name = releases.app);
    UPDATE releases SET updated_at = coalesce(last_current_at, created_at);
    CREATE INDEX release_stamps ON releases (app, number, state, last_current_at);
    CREATE INDEX releases_under_way ON releases (app, number) WHERE state IN ('building', 'deploying', 'booted');

    CREATE TABLE schedules (
        app           TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        process       TEXT NOT NULL,
        last_fired_at TEXT NOT NULL,
        PRIMARY KEY (app, process)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE usage (
        app    TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        month  TEXT NOT NULL,
        users  BLOB NOT NULL,
        events INTEGER NOT NULL,
        PRIMARY KEY (app, month)
    ) STRICT;",
    rows: r#"
    INSERT INTO apps (name, type, intended, release, last_release, config, created_at, updated_at)
        VALUES ('two', 'production', 'running', 2, 2, '{"GREETING":"hello"}', '2027-02-01T00:00:00Z',
                '2027-02-01T10:00:00Z');
    INSERT INTO pushes (number, id, app, state, release, idempotency_key, upload_digest, created_by, created_at,
                        updated_at)
        VALUES (20, 'p-0000000020', 'two', 'completed', 2, 'the key', 'BUNDLE', 'ci', '2027-02-01T09:00:00Z',
                '2027-02-01T10:00:00Z');
    INSERT INTO releases (app, number, bundle, manifest, size_bytes, state, reason_code, reason, cause, config,
                          created_by, created_at, updated_at)
        VALUES ('two', 1, 'BUNDLE', 'MANIFEST', 100, 'build_error', 'bad-component', 'it has no entry', 'a push', '{}',
                'ci', '2027-02-01T08:00:00Z', '2027-02-01T08:00:01Z'),
               ('two', 2, 'BUNDLE', 'MANIFEST', 100, 'ready', NULL, NULL, 'config changed: GREETING',
                '{"GREETING":"hello"}', 'ci', '2027-02-01T09:00:00Z', '2027-02-01T10:00:00Z');
    INSERT INTO schedules VALUES ('two', 'nightly', '2027-02-01T03:00:00Z');
    INSERT INTO usage VALUES ('two', '2027-01', x'0102', 7);"#,
};

/// Cores of apps, and snapshots.
const FORMAT_3: Format = Format {
    migration: "
    ALTER TABLE apps ADD COLUMN cores TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE releases ADD COLUMN snapshot TEXT;",
    rows: r#"
    INSERT INTO apps (name, type, intended, release, last_release, cores, created_at, updated_at)
        VALUES ('three', 'dev', 'running', 1, 1, '{"pull":3}', '2027-03-01T00:00:00Z', '2027-03-01T00:00:00Z');
    INSERT INTO releases (app, number, bundle, snapshot, manifest, size_bytes, state, created_by, created_at,
                          updated_at)
        VALUES ('three', 1, 'BUNDLE', 'SNAPSHOT', 'MANIFEST', 100, 'frozen', 'ci', '2027-03-01T00:00:00Z',
                '2027-03-01T00:00:00Z');"#,
};

/// The ids of the data folder and of apps, and the stored blobs.
const FORMAT_4: Format = Format {
    migration: "
    CREATE TABLE data_folder (
        id TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE apps ADD COLUMN id TEXT NOT NULL DEFAULT '';
    UPDATE apps SET id = lower(hex(randomblob(16)));
    ALTER TABLE tokens ADD COLUMN app_ids TEXT NOT NULL DEFAULT '[]';
    UPDATE tokens SET
        app_ids = (SELECT json_group_array(id) FROM apps WHERE name IN (SELECT value FROM json_each(scope, '$.apps'))),
        scope = json_object('apps', json((SELECT json_group_array(name) FROM apps
                                          WHERE name IN (SELECT value FROM json_each(scope, '$.apps')))))
        WHERE json_type(scope) = 'object';
    DELETE FROM tokens WHERE json_type(scope) = 'object' AND app_ids = '[]';",
    rows: r#"
    INSERT INTO data_folder VALUES ('00112233445566778899aabbccddeeff');
    INSERT INTO blobs VALUES ('BUNDLE');
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('four', '44444444444444444444444444444444', 'dev', 'running', '2027-04-01T00:00:00Z',
                '2027-04-01T00:00:00Z');
    INSERT INTO tokens (name, hash, role, scope, app_ids, created_at)
        VALUES ('four', '44', 'deploy', '{"apps":["four"]}', '["44444444444444444444444444444444"]',
                '2027-04-01T00:00:00Z');"#,
};

/// The data in the folders of apps.
const FORMAT_5: Format = Format {
    migration: "
    CREATE TABLE kept (
        app  TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        path TEXT NOT NULL,
        PRIMARY KEY (app, path)
    ) STRICT, WITHOUT ROWID;",
    rows: "
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('five', '55555555555555555555555555555555', 'dev', 'running', '2027-05-01T00:00:00Z',
                '2027-05-01T00:00:00Z');
    INSERT INTO kept VALUES ('five', 'files/photos');",
};

/// The states of pushes.
const FORMAT_6: Format = Format {
    migration: "
    ALTER TABLE pushes ADD COLUMN steps TEXT;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('six', '66666666666666666666666666666666', 'dev', 'running', '2027-06-01T00:00:00Z',
                '2027-06-01T00:00:00Z');
    INSERT INTO pushes (number, id, app, state, reason_code, reason, steps, log_lines, created_by, created_at,
                        updated_at)
        VALUES (60, 'p-0000000060', 'six', 'failed', 'bad-component', 'it has no entry',
                '[{"state":"building","log_lines":1}]', 2, 'ci', '2027-06-01T00:00:00Z', '2027-06-01T00:00:01Z');"#,
};

/// The expiry, the last use and the former secret of tokens.
const FORMAT_7: Format = Format {
    migration: "
    ALTER TABLE tokens ADD COLUMN expires_at TEXT;
    ALTER TABLE tokens ADD COLUMN last_used_at TEXT;
    ALTER TABLE tokens ADD COLUMN former_hash TEXT;
    ALTER TABLE tokens ADD COLUMN former_until TEXT;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('seven', '77777777777777777777777777777777', 'dev', 'running', '2027-07-01T00:00:00Z',
                '2027-07-01T00:00:00Z');
    INSERT INTO tokens (name, hash, role, scope, created_at, expires_at, last_used_at, former_hash, former_until)
        VALUES ('seven', '77', 'read', '"all"', '2027-07-01T00:00:00Z', '2028-07-01T00:00:00Z', '2027-07-02T00:00:00Z',
                '7777', '2027-07-03T00:00:00Z');"#,
};

/// The tokens that caused entries of the activity.
const FORMAT_8: Format = Format {
    migration: "
    ALTER TABLE activity ADD COLUMN actor TEXT;
    UPDATE activity SET actor = json_extract(data, '$.by')
        WHERE json_valid(data) AND json_type(data, '$.by') = 'text';
    CREATE INDEX activity_of_actors ON activity (id) WHERE actor IS NOT NULL;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('eight', '88888888888888888888888888888888', 'dev', 'running', '2027-08-01T00:00:00Z',
                '2027-08-01T00:00:00Z');
    INSERT INTO activity (id, app, kind, text, data, at, actor)
        VALUES (80, 'eight', 'app-created', 'created', '{}', '2027-08-01T00:00:00Z', 'ci'),
               (81, 'eight', 'app-frozen', 'frozen', '{}', '2027-08-01T00:00:01Z', NULL);
    INSERT INTO activity_counts VALUES ('eight', 2);"#,
};

/// Ceilings.
const FORMAT_9: Format = Format {
    migration: "
    ALTER TABLE apps ADD COLUMN ceiling TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE tokens ADD COLUMN ceiling TEXT NOT NULL DEFAULT '{}';",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, ceiling, created_at, updated_at)
        VALUES ('nine', '99999999999999999999999999999999', 'dev', 'running', '{"keyvalue":false}',
                '2027-09-01T00:00:00Z', '2027-09-01T00:00:00Z');
    INSERT INTO tokens (name, hash, role, scope, ceiling, created_at)
        VALUES ('nine', '99', 'deploy', '"all"', '{"memory":"64MiB"}', '2027-09-01T00:00:00Z');"#,
};

/// Plugins.
const FORMAT_10: Format = Format {
    migration: "
    ALTER TABLE apps ADD COLUMN kind TEXT NOT NULL DEFAULT 'app';",
    rows: "
    INSERT INTO apps (name, id, kind, type, intended, created_at, updated_at)
        VALUES ('ten', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'plugin', 'production', 'running', '2027-10-01T00:00:00Z',
                '2027-10-01T00:00:00Z');",
};

/// Assets.
const FORMAT_11: Format = Format {
    migration: "
    ALTER TABLE releases ADD COLUMN assets TEXT;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, release, last_release, created_at, updated_at)
        VALUES ('eleven', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'dev', 'running', 1, 1, '2027-11-01T00:00:00Z',
                '2027-11-01T00:00:00Z');
    INSERT INTO releases (app, number, bundle, assets, manifest, size_bytes, state, created_by, created_at, updated_at)
        VALUES ('eleven', 1, 'BUNDLE', '{"digest":"PACK","files":2,"bytes":30}', 'MANIFEST', 100, 'ready', 'ci',
                '2027-11-01T00:00:00Z', '2027-11-01T00:00:00Z');"#,
};

/// A hook, and an event that it has not received.
const FORMAT_12: Format = Format {
    migration: "
    CREATE TABLE hooks (
        plugin   TEXT PRIMARY KEY REFERENCES apps (name) ON DELETE CASCADE,
        received INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE hook_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id     TEXT NOT NULL,
        app    TEXT NOT NULL,
        kind   TEXT NOT NULL,
        text   TEXT NOT NULL,
        data   TEXT NOT NULL,
        at     TEXT NOT NULL
    ) STRICT;",
    rows: r#"
    INSERT INTO apps (name, id, kind, type, intended, created_at, updated_at)
        VALUES ('twelve', 'cccccccccccccccccccccccccccccccc', 'plugin', 'production', 'running',
                '2027-12-01T00:00:00Z', '2027-12-01T00:00:00Z');
    INSERT INTO hooks (plugin, received) VALUES ('twelve', 0);
    INSERT INTO hook_events (id, app, kind, text, data, at)
        VALUES ('dd', 'eleven', 'app-deployed', 'v1 is in service', '{}', '2027-12-01T00:00:00Z');"#,
};

/// An alert that fires, and its message.
const FORMAT_13: Format = Format {
    migration: "
    CREATE TABLE alerts (
        key  TEXT PRIMARY KEY,
        data TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE alert_messages (
        number INTEGER PRIMARY KEY,
        id     TEXT NOT NULL UNIQUE,
        body   TEXT NOT NULL,
        at     TEXT NOT NULL
    ) STRICT;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('thirteen', 'dddddddddddddddddddddddddddddddd', 'dev', 'running', '2028-01-01T00:00:00Z',
                '2028-01-01T00:00:00Z');
    INSERT INTO alerts (key, data) VALUES ('cpu', '{"rule":"cpu"}');
    INSERT INTO alert_messages (id, body, at) VALUES ('m', '{}', '2028-01-01T00:00:00Z');"#,
};

/// A drain, and the end of an alert under its former name: in the activity, for hooks and for the
/// webhook.
const FORMAT_14: Format = Format {
    migration: "
    CREATE TABLE drains (
        app        TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        id         TEXT NOT NULL,
        url        TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (app, id)
    ) STRICT, WITHOUT ROWID;",
    rows: r#"
    INSERT INTO apps (name, id, type, intended, created_at, updated_at)
        VALUES ('fourteen', 'eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', 'dev', 'running', '2028-02-01T00:00:00Z',
                '2028-02-01T00:00:00Z');
    INSERT INTO drains (app, id, url, created_by, created_at)
        VALUES ('fourteen', 'd-1', 'c2VhbGVk', 'ci', '2028-02-01T00:00:00Z');
    INSERT INTO activity (id, app, kind, text, data, at)
        VALUES (140, 'fourteen', 'alert-over', 'alert cpu is over', '{}', '2028-02-01T00:00:00Z');
    INSERT INTO activity_counts VALUES ('fourteen', 1);
    INSERT INTO hook_events (id, app, kind, text, data, at)
        VALUES ('ee', 'fourteen', 'alert-over', 'alert cpu is over', '{}', '2028-02-01T00:00:00Z');
    INSERT INTO alert_messages (id, body, at)
        VALUES ('n', '{"state":"over","value":1.0,"text":"[over] shop: cpu"}', '2028-02-01T00:00:00Z');"#,
};

/// Returns a digest of this character.
fn digest(of: &str) -> Digest {
    of.repeat(64).parse().expect("it is a digest")
}

/// Creates a data folder as a host of this format left it, with the rows of all formats up to it.
fn make(folder: &Path, format: usize) {
    make_format_1(folder);
    let database = Connection::open(folder.join("control.db")).expect("it opens");
    for Format { migration, rows } in &FORMATS[..format - 1] {
        let mut rows = rows.replace("MANIFEST", &MANIFEST_1.replace("NAME", "any"));
        for (placeholder, of) in [("BUNDLE", "b"), ("SNAPSHOT", "c"), ("PACK", "d")] {
            rows = rows.replace(placeholder, digest(of).as_str());
        }
        database.execute_batch(migration).expect("the statements are valid");
        database.execute_batch(&rows).unwrap_or_else(|error| panic!("{error}: {rows}"));
    }
    database.pragma_update(None, "user_version", format as u32).expect("the version can be set");
    // Hosts from format 4 on created these.
    if format >= 4 {
        std::fs::write(folder.join("data.id"), "00112233445566778899aabbccddeeff\n").expect("it is written");
        for app in ["busy", "new", "once"].iter().chain(&APPS[..format - 1]) {
            std::fs::create_dir_all(folder.join("apps").join(app)).expect("it is created");
        }
    }
}

/// Returns the statements that created the tables and indexes of a closed folder, and its format.
fn schema(folder: &Path) -> (Vec<String>, usize) {
    let database = Connection::open(folder.join("control.db")).expect("it opens");
    let mut statement =
        database.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("it is valid");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("they are read");
    let without_layout = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let statements = rows.map(|sql| without_layout(sql.expect("it is text"))).collect();
    let format: u32 = database.pragma_query_value(None, "user_version", |row| row.get(0)).expect("it has a format");
    (statements, format as usize)
}

#[tokio::test]
async fn a_folder_of_each_earlier_format_is_migrated_with_its_rows() {
    let new = tempfile::tempdir().expect("the folder is created");
    drop(Store::open(new.path()).expect("the store opens"));
    let (_, newest) = schema(new.path());
    assert!(newest <= FORMATS.len() + 2, "format {} has no rows in this test", newest - 1);
    for format in 1..=FORMATS.len() + 1 {
        let folder = tempfile::tempdir().expect("the folder is created");
        make(folder.path(), format);
        let store = Store::open(folder.path()).unwrap_or_else(|error| panic!("format {format}: {error}"));
        check_rows(&store, format).await;
        drop(store);
        assert_eq!(schema(folder.path()), schema(new.path()), "format {format}");
    }
}

/// Checks the rows of all formats from 2 up to this one.
async fn check_rows(store: &Store, format: usize) {
    if format >= 2 {
        check_format_2(store).await;
    }
    if format >= 3 {
        assert_eq!(app_now(store, &name("three")).await.cores, CoresOverride { pull: Some(3), push: None });
        let release = release_now(store, &name("three"), 1).await;
        assert_eq!((release.snapshot, release.state), (Some(digest("c")), ReleaseState::Frozen));
    }
    if format >= 4 {
        let id = "44444444444444444444444444444444";
        assert_eq!(app_now(store, &name("four")).await.id, id);
        assert_eq!(store.token("44").await.expect("it is read").expect("it exists").app_ids, [id]);
        let file = std::fs::read_to_string(store.folder().join("data.id")).expect("it exists");
        assert_eq!(file.trim(), "00112233445566778899aabbccddeeff");
    }
    let path = store.app_folder(&name("five")).join("files/photos");
    let lost = LostData { app: name("five"), path, loss: Loss::Missing, saved: None };
    assert_eq!(store.folder_report().lost, if format >= 5 { vec![lost] } else { Vec::new() });
    if format >= 6 {
        let push = store.push(&"p-0000000060".parse().expect("it is an id")).await.expect("it is read");
        let step = |state, log_lines| PushStep { state, log_lines };
        let steps = push.expect("it exists").steps;
        assert_eq!(steps, [step(PushState::Building, 1), step(PushState::Failed, 2)]);
    }
    if format >= 7 {
        let token = store.token("77").await.expect("it is read").expect("it exists");
        let at = |text: &str| text.parse().expect("it is a time");
        let former = FormerSecret { hash: "7777".to_owned(), until: at("2027-07-03T00:00:00Z") };
        assert_eq!((token.expires_at, token.former), (Some(at("2028-07-01T00:00:00Z")), Some(former)));
        assert_eq!(token.last_used_at, Some(at("2027-07-02T00:00:00Z")));
    }
    if format >= 8 {
        let audit = store.audit(Some(&name("eight")), Page::default()).await.expect("it is read").items;
        assert_eq!(audit.iter().map(|entry| entry.id).collect::<Vec<_>>(), [80], "the entry with an actor");
    }
    if format >= 9 {
        let ceiling = |json| serde_json::from_value::<Ceiling>(json).expect("it is a ceiling");
        assert_eq!(app_now(store, &name("nine")).await.ceiling, ceiling(json!({ "keyvalue": false })));
        let token = store.token("99").await.expect("it is read").expect("it exists");
        assert_eq!(token.ceiling, ceiling(json!({ "memory": "64MiB" })));
    }
    if format >= 10 {
        assert_eq!(app_now(store, &name("ten")).await.kind, AppKind::Plugin);
    }
    if format >= 11 {
        let assets = StoredAssets { digest: digest("d"), files: 2, bytes: 30 };
        assert_eq!(release_now(store, &name("eleven"), 1).await.assets, Some(assets));
    }
    if format >= 12 {
        let [event] = store.hook_events(0, 1).await.expect("they are read").try_into().expect("one event");
        assert_eq!((event.app, &*event.kind), (Some(name("eleven")), "app-deployed"));
        let backlogs = store.hook_backlogs().await.expect("they are read");
        assert_eq!(backlogs, [HookBacklog { plugin: name("twelve"), received: 0 }]);
    }
    if format >= 13 {
        assert_eq!(store.alerts().await, Ok(vec![json!({ "rule": "cpu" })]));
        let messages = store.alert_messages().await.expect("they are read");
        assert_eq!(messages.first().map(|message| message.id.as_str()), Some("m"));
    }
    if format >= 14 {
        check_format_14(store).await;
    }
}

async fn check_format_14(store: &Store) {
    let drains = store.drains().await.expect("they are read");
    assert_eq!(drains.iter().map(|drain| drain.id.as_str()).collect::<Vec<_>>(), ["d-1"]);
    let activity = store.activity(Some(&name("fourteen")), Page::default()).await.expect("it is read").items;
    let events = store.hook_events(1, 1).await.expect("they are read");
    assert_eq!((&*activity[0].kind, &*events[0].kind), ("alert-resolved", "alert-resolved"));
    let message = store.alert_messages().await.expect("they are read").pop().expect("a message");
    let body: serde_json::Value = serde_json::from_str(&message.body).expect("it is JSON");
    assert_eq!(body, json!({ "state": "resolved", "value": 1.0, "text": "[resolved] shop: cpu" }));
}

async fn check_format_2(store: &Store) {
    let (app, at) = (name("two"), |text: &str| text.parse().expect("it is a time"));
    let config: ConfigVars = serde_json::from_value(json!({ "GREETING": "hello" })).expect("they are config vars");
    assert_eq!(app_now(store, &app).await.config, config);
    let failed = release_now(store, &app, 1).await;
    let reason = Reason { code: "bad-component".to_owned(), detail: "it has no entry".to_owned() };
    assert_eq!((failed.state, failed.reason), (ReleaseState::BuildError, Some(reason)));
    let current = release_now(store, &app, 2).await;
    assert_eq!((current.state, current.config), (ReleaseState::Ready, config));
    assert_eq!(current.cause, "config changed: GREETING");
    let sent = Idempotency { key: "the key".to_owned(), upload: digest("b") };
    let again = store.sent_before(&app, sent, at("2027-02-01T10:00:00Z")).await.expect("it is read");
    assert!(matches!(&again, Some(Inserted::Same(push)) if push.release == Some(number(2))), "{again:?}");
    let last_fired_at = at("2027-02-01T03:00:00Z");
    let fired = ScheduleFired { app: app.clone(), process: process("nightly"), last_fired_at };
    assert_eq!(store.schedules().await, Ok(vec![fired]));
    let usage = MonthUsage { users: vec![1, 2], events: 7 };
    assert_eq!(store.usage(&app, month("2027-01")).await, Ok(Some(usage)));
}
