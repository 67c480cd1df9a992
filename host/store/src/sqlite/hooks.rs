//! The statements for hooks: the events that they have not received yet, and the last event that
//! each has received. An event is stored in the transaction of its activity. Never waits for a
//! hook: beyond the limit, the oldest events are dropped.

use isopod_policy::{AppKind, AppName, Entry, event_type};
use rusqlite::{Connection, Row, params};

use crate::StoreError;
use crate::limits::HOOK_EVENTS_MAX;
use crate::model::{Activity, HookBacklog, HookEvent, Release};
use crate::sql::{Sql, all, json, parsed, time, to_json};

fn number(row: &Row<'_>, column: &str) -> Sql<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).map_err(StoreError::damaged)?)
}

/// Returns the app of an event. The host's own events have an empty name.
fn app_of(row: &Row<'_>) -> Sql<Option<AppName>> {
    match row.get_ref("app")?.as_str().map(str::is_empty) {
        Ok(true) => Ok(None),
        Ok(false) | Err(_) => parsed(row, "app").map(Some),
    }
}

fn make(row: &Row<'_>) -> Sql<HookEvent> {
    Ok(HookEvent {
        number: number(row, "number")?,
        id: row.get("id")?,
        app: app_of(row)?,
        kind: row.get("kind")?,
        text: row.get("text")?,
        data: json(row, "data")?,
        at: time(row, "at")?,
    })
}

/// Stores an activity of an app or of the host for all hooks. Hooks don't receive the activity of
/// hooks: a hook that fails would otherwise cause further events without end.
pub(crate) fn record(connection: &Connection, entry: &Activity) -> Sql<()> {
    if event_type(&entry.kind, entry.app.as_ref()).is_none() {
        return Ok(());
    }
    let app = entry.app.as_ref().map_or("", AppName::as_str);
    let inserted = connection
        .prepare_cached(
            "INSERT INTO hook_events (id, app, kind, text, data, at)
             SELECT lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, ?5
             WHERE EXISTS (SELECT 1 FROM hooks) AND NOT EXISTS (SELECT 1 FROM hooks WHERE plugin = ?1)",
        )?
        .execute(params![app, entry.kind, entry.text, to_json(&entry.data)?, entry.at.to_string()])?;
    if inserted > 0 {
        let last_dropped = connection.last_insert_rowid().saturating_sub(HOOK_EVENTS_MAX);
        connection.prepare_cached("DELETE FROM hook_events WHERE number <= ?1")?.execute([last_dropped])?;
    }
    Ok(())
}

/// Follows a change of a plugin's current release. A new hook receives the events from now on.
pub(crate) fn follow(connection: &Connection, current: &Release) -> Sql<()> {
    if current.manifest.kind != AppKind::Plugin {
        return Ok(());
    }
    let plugin = current.app.as_str();
    if current.manifest.processes.values().any(|process| process.entry == Entry::Hook) {
        let sql = "INSERT INTO hooks (plugin, received)
                   VALUES (?1, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'hook_events'), 0))
                   ON CONFLICT (plugin) DO NOTHING";
        connection.prepare_cached(sql)?.execute([plugin])?;
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM hooks WHERE plugin = ?1")?.execute([plugin])?;
    trim(connection)
}

/// Removes the events that all hooks have received.
pub(crate) fn trim(connection: &Connection) -> Sql<()> {
    let sql = "DELETE FROM hook_events
               WHERE number <= coalesce((SELECT min(received) FROM hooks), 9223372036854775807)";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Returns the hooks that have not received all events.
pub(crate) fn backlogs(connection: &Connection) -> Sql<Vec<HookBacklog>> {
    let sql = "SELECT plugin, received FROM hooks WHERE received < (SELECT max(number) FROM hook_events)";
    all(connection, sql, [], |row| {
        Ok(HookBacklog { plugin: parsed(row, "plugin")?, received: number(row, "received")? })
    })
}

/// Returns the events after the one with this number, oldest first.
pub(crate) fn after(connection: &Connection, received: u64, most: usize) -> Sql<Vec<HookEvent>> {
    let sql =
        "SELECT number, id, app, kind, text, data, at FROM hook_events WHERE number > ?1 ORDER BY number LIMIT ?2";
    let received = i64::try_from(received).unwrap_or(i64::MAX);
    all(connection, sql, params![received, i64::try_from(most).unwrap_or(i64::MAX)], make)
}

/// Stores that a hook has received the events up to this number.
pub(crate) fn advance(connection: &Connection, plugin: &AppName, received: u64) -> Sql<()> {
    let received = i64::try_from(received).unwrap_or(i64::MAX);
    connection
        .prepare_cached("UPDATE hooks SET received = ?2 WHERE plugin = ?1 AND received < ?2")?
        .execute(params![plugin.as_str(), received])?;
    trim(connection)
}
