//! The statements for activity: entries in order, bounded per app. Never changes an entry.

use isopod_policy::AppName;
use rusqlite::{Connection, Row, params};

use crate::StoreError;
use crate::limits::{ACTIVITY_ENTRIES_MAX, ACTIVITY_TRIM_EVERY, PAGE_ITEMS_MAX};
use crate::model::{Activity, NewActivity};
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

pub(crate) fn append(connection: &Connection, new: NewActivity) -> Sql<Activity> {
    // The id is known only after the insertion.
    let mut entry = new.into_entry(0);
    let app = entry.app.as_ref().map(AppName::as_str);
    connection
        .prepare_cached("INSERT INTO activity (app, kind, text, data, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![app, entry.kind, entry.text, to_json(&entry.data)?, entry.at.to_string()])?;
    let id = u64::try_from(connection.last_insert_rowid()).map_err(StoreError::damaged)?;
    make_room(connection, app)?;
    entry.id = id;
    Ok(entry)
}

/// Counts the new entry, and removes the app's oldest entries once enough entries exceed the limit.
fn make_room(connection: &Connection, app: Option<&str>) -> Sql<()> {
    let count = "INSERT INTO activity_counts VALUES (?1, 1)
                 ON CONFLICT (app) DO UPDATE SET entries = entries + 1 RETURNING entries";
    let entries: Option<u32> = first(connection, count, [app.unwrap_or("")], |row| Ok(row.get(0)?))?;
    if entries.unwrap_or(0) < ACTIVITY_ENTRIES_MAX + ACTIVITY_TRIM_EVERY {
        return Ok(());
    }
    connection
        .prepare_cached(
            "DELETE FROM activity WHERE app IS ?1 AND id <=
             (SELECT id FROM activity WHERE app IS ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![app, ACTIVITY_ENTRIES_MAX])?;
    connection
        .prepare_cached("UPDATE activity_counts SET entries = ?2 WHERE app = ?1")?
        .execute(params![app.unwrap_or(""), ACTIVITY_ENTRIES_MAX])?;
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

pub(crate) fn after(connection: &Connection, app: Option<&AppName>, id: u64) -> Sql<Vec<Activity>> {
    let id = i64::try_from(id).unwrap_or(i64::MAX);
    match app {
        Some(app) => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE app = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
            all(connection, &sql, params![app.as_str(), id, PAGE_ITEMS_MAX], make)
        }
        None => {
            let sql = format!("SELECT {COLUMNS} FROM activity WHERE id > ?1 ORDER BY id LIMIT ?2");
            all(connection, &sql, params![id, PAGE_ITEMS_MAX], make)
        }
    }
}
