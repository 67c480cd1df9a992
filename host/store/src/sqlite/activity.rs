//! The statements for activity: entries in order, bounded per app. Never changes an entry.

use isopod_policy::AppName;
use rusqlite::{Connection, Row, params};

use super::hooks;
use crate::StoreError;
use crate::limits::{ACTIVITY_ENTRIES_MAX, ACTIVITY_TRIM_EVERY, ROWS_PER_PAGE_MAX};
use crate::model::{Activity, CALLS_REFUSED, NewActivity};
use crate::page::{Page, Paged};
use crate::sql::{Sql, all, first, json, parsed_if_any, time, to_json};

const COLUMNS: &str = "id, app, kind, text, data, at";

fn make(row: &Row<'_>) -> Sql<Activity> {
    Ok(Activity {
        id: u64::try_from(row.get::<_, i64>("id")?).map_err(StoreError::damaged)?,
        app: parsed_if_any(row, "app")?,
        kind: row.get("kind")?,
        text: row.get("text")?,
        data: json(row, "data")?,
        at: time(row, "at")?,
    })
}

/// Stores an entry, and its event for hooks.
pub(crate) fn append(connection: &Connection, new: NewActivity) -> Sql<Activity> {
    // The id is known only after the insertion.
    let mut entry = new.into_entry(0);
    let app = entry.app.as_ref().map(AppName::as_str);
    connection
        .prepare_cached("INSERT INTO activity (app, kind, text, data, at, actor) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            app,
            entry.kind,
            entry.text,
            to_json(&entry.data)?,
            entry.at.to_string(),
            entry.data["by"].as_str()
        ])?;
    let id = u64::try_from(connection.last_insert_rowid()).map_err(StoreError::damaged)?;
    make_room(connection, &Kept::of(&entry))?;
    entry.id = id;
    hooks::record(connection, &entry)?;
    Ok(entry)
}

/// The entries that are counted, and limited, together: those of an app, those of the host, or
/// those about refused calls, which must not evict others.
struct Kept<'a> {
    count: &'a str,
    app: Option<&'a str>,
    is_refused: bool,
}

impl<'a> Kept<'a> {
    fn of(entry: &'a Activity) -> Self {
        let app = entry.app.as_ref().map(AppName::as_str);
        let is_refused = entry.kind == CALLS_REFUSED;
        // No app has this name.
        let count = if is_refused { ":calls-refused" } else { app.unwrap_or("") };
        Self { count, app, is_refused }
    }
}

/// Counts the new entry, and removes the oldest entries that are limited together with it once
/// enough of them exceed the limit.
fn make_room(connection: &Connection, kept: &Kept<'_>) -> Sql<()> {
    let count = "INSERT INTO activity_counts VALUES (?1, 1)
                 ON CONFLICT (app) DO UPDATE SET entries = entries + 1 RETURNING entries";
    let entries: Option<u32> = first(connection, count, [kept.count], |row| Ok(row.get(0)?))?;
    if entries.unwrap_or(0) < ACTIVITY_ENTRIES_MAX + ACTIVITY_TRIM_EVERY {
        return Ok(());
    }
    connection
        .prepare_cached(
            "DELETE FROM activity WHERE app IS ?1 AND (kind = ?3) = ?4 AND id <=
             (SELECT id FROM activity WHERE app IS ?1 AND (kind = ?3) = ?4 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![kept.app, ACTIVITY_ENTRIES_MAX, CALLS_REFUSED, kept.is_refused])?;
    connection
        .prepare_cached("UPDATE activity_counts SET entries = ?2 WHERE app = ?1")?
        .execute(params![kept.count, ACTIVITY_ENTRIES_MAX])?;
    Ok(())
}

/// Removes all activity of an app that is being deleted.
pub(crate) fn forget(connection: &Connection, app: &AppName) -> Sql<()> {
    for sql in ["DELETE FROM activity WHERE app = ?1", "DELETE FROM activity_counts WHERE app = ?1"] {
        connection.prepare_cached(sql)?.execute([app.as_str()])?;
    }
    Ok(())
}

pub(crate) fn list(connection: &Connection, app: Option<&AppName>, page: &Page) -> Sql<Paged<Activity>> {
    let before = page.number(i64::MAX)?;
    let limit = page.items() + 1;
    let items = match app {
        Some(app) => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE app = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3");
            all(connection, &sql, params![app.as_str(), before, limit], make)?
        }
        None => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
            all(connection, &sql, params![before, limit], make)?
        }
    };
    Ok(Paged::from_one_more(items, page, |entry| entry.id.to_string()))
}

pub(crate) fn audit_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM activity WHERE actor IS NOT NULL AND id < ?1 AND (?2 IS NULL OR app = ?2)
         ORDER BY id DESC LIMIT ?3"
    )
}

/// Lists the entries with an actor, newest first: all of them, or those of an app.
pub(crate) fn audit(connection: &Connection, app: Option<&AppName>, page: &Page) -> Sql<Paged<Activity>> {
    let (before, limit) = (page.number(i64::MAX)?, page.items() + 1);
    let items = all(connection, &audit_sql(), params![before, app.map(AppName::as_str), limit], make)?;
    Ok(Paged::from_one_more(items, page, |entry| entry.id.to_string()))
}

pub(crate) fn after(connection: &Connection, app: Option<&AppName>, id: u64) -> Sql<Vec<Activity>> {
    let id = i64::try_from(id).unwrap_or(i64::MAX);
    match app {
        Some(app) => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE app = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
            all(connection, &sql, params![app.as_str(), id, ROWS_PER_PAGE_MAX], make)
        }
        None => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE id > ?1 ORDER BY id LIMIT ?2");
            all(connection, &sql, params![id, ROWS_PER_PAGE_MAX], make)
        }
    }
}
