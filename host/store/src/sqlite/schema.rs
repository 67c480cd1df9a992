//! The tables of `control.db` and the migration of older databases. Owns the format's number, which
//! is SQLite's `user_version`. Never changes a released migration: a new migration follows it.

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;
use crate::sql::Sql;

/// The final states of a push, as in `PushState::is_final`. SQLite uses the index of unfinished
/// pushes only if a statement contains the exact text of the index.
pub(super) const FINAL: &str = "('completed', 'failed', 'cancelled')";

/// The current format.
pub(crate) const FORMAT: i64 = MIGRATIONS.len() as i64;
/// The steps from an empty database to the current format; the first leads to format 1.
const MIGRATIONS: &[&str] = &[
    FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4, FORMAT_5, FORMAT_6, FORMAT_7, FORMAT_8, FORMAT_9, FORMAT_10, FORMAT_11,
    FORMAT_12, FORMAT_13, FORMAT_14, FORMAT_15,
];

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

/// Adds states, config vars and causes to releases. Each existing release had served until the next
/// was created.
const FORMAT_2: &str = "
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
    -- Holds all that is asked of every release, so that long manifests are not read for it.
    CREATE INDEX release_stamps ON releases (app, number, state, last_current_at);
    CREATE INDEX releases_under_way ON releases (app, number) WHERE state IN ('building', 'deploying', 'booted');

    CREATE TABLE schedules (
        app           TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        process       TEXT NOT NULL,
        last_fired_at TEXT NOT NULL,
        PRIMARY KEY (app, process)
    ) STRICT, WITHOUT ROWID;

    -- The users of a month are a sketch that only the host can read.
    CREATE TABLE usage (
        app    TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        month  TEXT NOT NULL,
        users  BLOB NOT NULL,
        events INTEGER NOT NULL,
        PRIMARY KEY (app, month)
    ) STRICT;
";

/// Adds the apps' own numbers of cores, and the releases' snapshots.
const FORMAT_3: &str = "
    ALTER TABLE apps ADD COLUMN cores TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE releases ADD COLUMN snapshot TEXT;
";

/// Stores the id of the data folder, in at most one row, and the blobs that the database has put.
/// Adds ids to apps.
const FORMAT_4: &str = "
    CREATE TABLE data_folder (
        id TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE blobs (
        digest TEXT PRIMARY KEY
    ) STRICT, WITHOUT ROWID;

    ALTER TABLE apps ADD COLUMN id TEXT NOT NULL DEFAULT '';
    UPDATE apps SET id = lower(hex(randomblob(16)));
    -- Tokens for some apps are bound to their ids. Names of apps that were destroyed go.
    ALTER TABLE tokens ADD COLUMN app_ids TEXT NOT NULL DEFAULT '[]';
    UPDATE tokens SET
        app_ids = (SELECT json_group_array(id) FROM apps WHERE name IN (SELECT value FROM json_each(scope, '$.apps'))),
        scope = json_object('apps', json((SELECT json_group_array(name) FROM apps
                                          WHERE name IN (SELECT value FROM json_each(scope, '$.apps')))))
        WHERE json_type(scope) = 'object';
    DELETE FROM tokens WHERE json_type(scope) = 'object' AND app_ids = '[]';
";

/// Records the data in each app's folder, so that a loss is detected.
const FORMAT_5: &str = "
    CREATE TABLE kept (
        app  TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        path TEXT NOT NULL,
        PRIMARY KEY (app, path)
    ) STRICT, WITHOUT ROWID;
";

/// Records the states of pushes. Earlier pushes have none.
const FORMAT_6: &str = "
    ALTER TABLE pushes ADD COLUMN steps TEXT;
";

/// Adds the expiry and the last use of tokens, and the secret before a rotation, which is valid
/// during a grace period. Earlier tokens never expire.
const FORMAT_7: &str = "
    ALTER TABLE tokens ADD COLUMN expires_at TEXT;
    ALTER TABLE tokens ADD COLUMN last_used_at TEXT;
    ALTER TABLE tokens ADD COLUMN former_hash TEXT;
    ALTER TABLE tokens ADD COLUMN former_until TEXT;
";

/// Adds the token that caused an entry of the activity, for the audit trail.
const FORMAT_8: &str = "
    ALTER TABLE activity ADD COLUMN actor TEXT;
    UPDATE activity SET actor = json_extract(data, '$.by')
        WHERE json_valid(data) AND json_type(data, '$.by') = 'text';
    CREATE INDEX activity_of_actors ON activity (id) WHERE actor IS NOT NULL;
";

/// Adds the ceilings of apps and tokens.
const FORMAT_9: &str = "
    ALTER TABLE apps ADD COLUMN ceiling TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE tokens ADD COLUMN ceiling TEXT NOT NULL DEFAULT '{}';
";

/// Distinguishes plugins from apps. Earlier versions had no plugins.
const FORMAT_10: &str = "
    ALTER TABLE apps ADD COLUMN kind TEXT NOT NULL DEFAULT 'app';
";

/// Adds the assets of releases. Earlier releases have none.
const FORMAT_11: &str = "
    ALTER TABLE releases ADD COLUMN assets TEXT;
";

/// Adds hooks, and the events that they have not received yet. Earlier versions had no hooks.
const FORMAT_12: &str = "
    CREATE TABLE hooks (
        plugin   TEXT PRIMARY KEY REFERENCES apps (name) ON DELETE CASCADE,
        received INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- A number is never used again, so that a gap after the last received event shows dropped ones.
    CREATE TABLE hook_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id     TEXT NOT NULL,
        app    TEXT NOT NULL,
        kind   TEXT NOT NULL,
        text   TEXT NOT NULL,
        data   TEXT NOT NULL,
        at     TEXT NOT NULL
    ) STRICT;
";

/// Adds the alerts that fire, and the messages about alerts that no webhook has accepted yet.
/// Earlier versions had no alerts.
const FORMAT_13: &str = "
    CREATE TABLE alerts (
        key  TEXT PRIMARY KEY,
        data TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE alert_messages (
        number INTEGER PRIMARY KEY,
        id     TEXT NOT NULL UNIQUE,
        body   TEXT NOT NULL,
        at     TEXT NOT NULL
    ) STRICT;
";

/// Adds the log drains of apps; their URLs are sealed. Earlier versions had no drains.
const FORMAT_14: &str = "
    CREATE TABLE drains (
        app        TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
        id         TEXT NOT NULL,
        url        TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        PRIMARY KEY (app, id)
    ) STRICT, WITHOUT ROWID;
";

/// Renames the state `over` of alerts to `resolved`: in the activity, in the events for hooks, and
/// in the messages that no webhook has accepted yet.
const FORMAT_15: &str = "
    UPDATE activity SET kind = 'alert-resolved' WHERE kind = 'alert-over';
    UPDATE hook_events SET kind = 'alert-resolved' WHERE kind = 'alert-over';
    UPDATE alert_messages SET body = json_set(
            body, '$.state', 'resolved', '$.text', replace(json_extract(body, '$.text'), '[over]', '[resolved]')
        ) WHERE json_valid(body) AND json_extract(body, '$.state') = 'over';
";

/// Migrates the database to the current format, one step per transaction, so that a crash between
/// steps is harmless.
pub(super) fn migrate(connection: &mut Connection) -> Sql<()> {
    let known = FORMAT;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found > known {
            return Err(StoreError::TooNew { found, known }.into());
        }
        let Some(step) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) else {
            return Ok(());
        };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", found + 1)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{SqlError, activity, pushes, releases};

    #[test]
    fn an_empty_database_is_migrated_once() {
        let mut connection = Connection::open_in_memory().expect("a database in memory opens");
        migrate(&mut connection).expect("an empty database is migrated");
        migrate(&mut connection).expect("a current database is unchanged");
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
        assert_eq!(version, i64::try_from(MIGRATIONS.len()).expect("few"));
    }

    #[test]
    fn a_database_of_a_newer_format_is_refused() {
        let mut connection = Connection::open_in_memory().expect("a database in memory opens");
        connection.pragma_update(None, "user_version", 99).expect("the version can be set");
        let refused = migrate(&mut connection).expect_err("99 is a newer format");
        assert!(matches!(refused, SqlError::Store(StoreError::TooNew { found: 99, .. })), "{refused:?}");
    }

    #[test]
    fn frequent_queries_use_their_indexes() {
        let mut connection = Connection::open_in_memory().expect("a database in memory opens");
        migrate(&mut connection).expect("an empty database is migrated");
        for (sql, index) in [
            (releases::STAMPS.to_owned(), "COVERING INDEX release_stamps"),
            (releases::interrupted_sql(), "INDEX releases_under_way"),
            (pushes::unfinished_sql(), "INDEX pushes_unfinished"),
            (pushes::by_key_sql(), "INDEX pushes_by_idempotency_key"),
            (activity::audit_sql(), "INDEX activity_of_actors"),
        ] {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("the statement is valid");
            let (mut rows, mut steps) = (plan.raw_query(), Vec::new());
            while let Some(row) = rows.next().expect("a plan") {
                steps.push(row.get::<_, String>("detail").expect("text"));
            }
            assert!(steps.iter().any(|step| step.contains(index)), "{sql}: {steps:?}");
        }
    }
}
