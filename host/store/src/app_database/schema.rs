//! The tables of an app's database: key-value entries and queued events, in one file so that both
//! commit together. Owns their format and its migrations. Never reads or writes rows.

use rusqlite::Connection;

use super::checkpoint::is_disk_failure;
use crate::StoreError;
use crate::limits::CHECKED_BYTES_MAX;
use crate::sql::Sql;

/// The format of these tables.
pub(crate) const FORMAT: i64 = 2;
/// The format of tables without events.
pub(super) const FORMAT_WITHOUT_EVENTS: i64 = 1;

/// The tables of format 1.
const ENTRIES: &str = "
    CREATE TABLE entries (
        bucket TEXT NOT NULL,
        key    TEXT NOT NULL,
        value  BLOB NOT NULL,
        UNIQUE (bucket, key)
    ) STRICT;
    CREATE TABLE usage (bytes INTEGER NOT NULL) STRICT;
    INSERT INTO usage VALUES (0);";

/// The tables that format 2 adds. Times are in milliseconds since 1970: rows are written for each
/// event, so that their size counts.
///
/// The numbers of `events.state` are those of `RowState`. A claim and a settlement rewrite only the
/// narrow row in `events`; the event's content stays where it is.
const EVENTS: &str = "
    CREATE TABLE queues (
        process INTEGER PRIMARY KEY,
        name    TEXT NOT NULL UNIQUE,
        ready   INTEGER NOT NULL DEFAULT 0,
        delayed INTEGER NOT NULL DEFAULT 0,
        leased  INTEGER NOT NULL DEFAULT 0,
        dead    INTEGER NOT NULL DEFAULT 0,
        ended   INTEGER NOT NULL DEFAULT 0,
        bytes   INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- One row: the next position, the host session that holds all leases, and the latest time.
    CREATE TABLE event_state (
        next_seq INTEGER NOT NULL,
        session  INTEGER NOT NULL,
        clock    INTEGER NOT NULL
    ) STRICT;
    INSERT INTO event_state VALUES (1, 0, 0);

    CREATE TABLE events (
        seq          INTEGER PRIMARY KEY,
        process      INTEGER NOT NULL,
        state        INTEGER NOT NULL,
        ordered      INTEGER NOT NULL,
        attempt      INTEGER NOT NULL,
        attempts_max INTEGER NOT NULL,
        bytes        INTEGER NOT NULL,
        accepted_at  INTEGER NOT NULL,
        since        INTEGER NOT NULL,
        due_at       INTEGER,
        expires_at   INTEGER,
        lease        INTEGER,
        id           TEXT NOT NULL,
        source       TEXT NOT NULL,
        type         TEXT NOT NULL,
        subject      TEXT,
        repeats      INTEGER NOT NULL DEFAULT 0,
        error        TEXT
    ) STRICT;
    CREATE INDEX events_by_id ON events (id, source);
    CREATE INDEX events_kept ON events (process, state, due_at) WHERE state <= 5;
    CREATE INDEX events_in_line ON events (process, subject) WHERE ordered = 1 AND state <= 3;
    CREATE INDEX events_ended ON events (since) WHERE state >= 6;
    -- For lists: in the order of positions. The other states are in `events_kept` in this order.
    CREATE INDEX events_listed ON events (state) WHERE state = 1 OR state = 4 OR state >= 6;

    -- The content of events that have not ended.
    CREATE TABLE payloads (
        seq        INTEGER PRIMARY KEY,
        attributes TEXT,
        data       BLOB
    ) STRICT;";

/// Enables a new file to shrink in steps. Must be called before a table is created.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    match connection.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? {
        0 => connection.pragma_update(None, "auto_vacuum", "INCREMENTAL"),
        _ => Ok(()),
    }
}

/// Enables an existing file to shrink in steps, if it is small: this rewrites the whole file.
/// Returns only disk errors. After any other error, such as a full disk, the file keeps the space
/// of removed rows for new rows.
fn set_up_again(connection: &Connection) -> rusqlite::Result<()> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let bytes = number("page_count").and_then(|pages| Ok(pages * number("page_size")?));
    if !bytes.is_ok_and(|bytes| u64::try_from(bytes).is_ok_and(|bytes| bytes <= CHECKED_BYTES_MAX)) {
        return Ok(());
    }
    match connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM") {
        Err(error) if is_disk_failure(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "a migrated database can't be rewritten: it never shrinks");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Creates the tables, or migrates those of an earlier version. Refuses those of a newer one.
pub(super) fn make(connection: &Connection) -> Sql<()> {
    let before = format_of(connection)?;
    if before == FORMAT {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    match migrate(connection) {
        Ok(()) => {
            connection.execute_batch("COMMIT")?;
            if before == 0 { Ok(()) } else { Ok(set_up_again(connection)?) }
        }
        Err(error) => {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            Err(error)
        }
    }
}

/// Creates missing tables inside a transaction: the other connection may have created them.
fn migrate(connection: &Connection) -> Sql<()> {
    let steps: &[&str] = match format_of(connection)? {
        // If there are tables, the format number is damaged.
        0 if !has_tables(connection)? => &[ENTRIES, EVENTS],
        FORMAT_WITHOUT_EVENTS => &[EVENTS],
        FORMAT => &[],
        found => return Err(StoreError::TooNew { found, known: FORMAT }.into()),
    };
    for step in steps {
        connection.execute_batch(step)?;
    }
    Ok(connection.pragma_update(None, "user_version", FORMAT)?)
}

fn has_tables(connection: &Connection) -> Sql<bool> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?)
}

/// Returns the format of an app's database; 0 for a new file.
pub(crate) fn format_of(connection: &Connection) -> Sql<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
