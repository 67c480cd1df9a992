//! The statements for apps. Never touches the data of an app's guests.

use isopod_policy::{AppName, AppType, Ceiling, ConfigVars, CoresOverride, ReleaseNumber};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::{activity, hooks};
use crate::model::{App, Intended, NewApp};
use crate::page::{Page, Paged};
use crate::sql::{Sql, all, first, json, parsed, time, to_json};
use crate::{StoreError, identity};

const COLUMNS: &str = "name, id, kind, type, intended, release, config, cores, ceiling, created_at, updated_at";

fn make(row: &Row<'_>) -> Sql<App> {
    Ok(App {
        name: parsed(row, "name")?,
        id: row.get("id")?,
        kind: parsed(row, "kind")?,
        app_type: parsed(row, "type")?,
        intended: parsed(row, "intended")?,
        release: row.get::<_, Option<u32>>("release")?.and_then(ReleaseNumber::new),
        config: json(row, "config")?,
        cores: json(row, "cores")?,
        ceiling: json(row, "ceiling")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(crate) fn existing(connection: &Connection, name: &AppName) -> Sql<App> {
    get(connection, name)?.ok_or_else(|| StoreError::UnknownApp { name: name.clone() }.into())
}

pub(crate) fn create(connection: &Connection, app: &NewApp) -> Sql<App> {
    let created = connection
        .prepare_cached(
            "INSERT INTO apps (name, id, kind, type, intended, created_at, updated_at)
             VALUES (?1, ?5, ?6, ?2, ?3, ?4, ?4)
             ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![
            app.name.as_str(),
            app.app_type.as_str(),
            app.intended.as_str(),
            app.created_at.to_string(),
            identity::new_id(),
            app.kind.as_str()
        ])?;
    if created == 0 {
        return Err(StoreError::AppExists { name: app.name.clone() }.into());
    }
    // Removes entries that were recorded after an app with this name was deleted.
    activity::forget(connection, &app.name)?;
    existing(connection, &app.name)
}

pub(crate) fn get(connection: &Connection, name: &AppName) -> Sql<Option<App>> {
    first(connection, &format!("SELECT {COLUMNS} FROM apps WHERE name = ?1"), [name.as_str()], make)
}

pub(crate) fn list(connection: &Connection, page: &Page) -> Sql<Paged<App>> {
    let after = page.cursor.as_deref().unwrap_or("");
    let sql = format!("SELECT {COLUMNS} FROM apps WHERE name > ?1 ORDER BY name LIMIT ?2");
    let items = all(connection, &sql, params![after, page.items() + 1], make)?;
    Ok(Paged::from_one_more(items, page, |app| app.name.to_string()))
}

pub(crate) fn names(connection: &Connection) -> Sql<Vec<AppName>> {
    all(connection, "SELECT name FROM apps", [], |row| parsed(row, "name"))
}

/// Deletes the row of an app and its activity. Tokens with the app in their scope stay:
/// `tokens::forget_app` changes them.
pub(crate) fn delete(connection: &Connection, name: &AppName) -> Sql<()> {
    connection.prepare_cached("DELETE FROM apps WHERE name = ?1")?.execute([name.as_str()])?;
    // The app may have been the hook that had received the fewest events.
    hooks::trim(connection)?;
    activity::forget(connection, name)
}

fn set(connection: &Connection, name: &AppName, column: &str, value: impl rusqlite::ToSql, at: Timestamp) -> Sql<App> {
    connection
        .prepare_cached(&format!("UPDATE apps SET {column} = ?2, updated_at = ?3 WHERE name = ?1"))?
        .execute(params![name.as_str(), value, at.to_string()])?;
    existing(connection, name)
}

pub(crate) fn set_type(connection: &Connection, name: &AppName, app_type: AppType, at: Timestamp) -> Sql<App> {
    set(connection, name, "type", app_type.as_str(), at)
}

pub(crate) fn set_intended(connection: &Connection, name: &AppName, intended: Intended, at: Timestamp) -> Sql<App> {
    set(connection, name, "intended", intended.as_str(), at)
}

/// Sets the current release. The caller must ensure that the release exists.
pub(crate) fn set_release(connection: &Connection, name: &AppName, number: ReleaseNumber, at: Timestamp) -> Sql<App> {
    set(connection, name, "release", number.get(), at)
}

pub(crate) fn set_config(connection: &Connection, name: &AppName, config: &ConfigVars, at: Timestamp) -> Sql<App> {
    set(connection, name, "config", to_json(config)?, at)
}

pub(crate) fn set_cores(connection: &Connection, name: &AppName, cores: CoresOverride, at: Timestamp) -> Sql<App> {
    set(connection, name, "cores", to_json(&cores)?, at)
}

pub(crate) fn set_ceiling(connection: &Connection, name: &AppName, ceiling: &Ceiling, at: Timestamp) -> Sql<App> {
    set(connection, name, "ceiling", to_json(ceiling)?, at)
}
