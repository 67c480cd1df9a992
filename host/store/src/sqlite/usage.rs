//! The statements for usage: one row for each app and month. Never interprets a sketch.

use isopod_policy::AppName;
use rusqlite::{Connection, params};

use super::apps;
use crate::StoreError;
use crate::limits::USAGE_MONTHS_KEPT;
use crate::sql::{Sql, first};
use crate::usage::{Month, MonthUsage};

pub(crate) fn get(connection: &Connection, app: &AppName, month: Month) -> Sql<Option<MonthUsage>> {
    let sql = "SELECT users, events FROM usage WHERE app = ?1 AND month = ?2";
    first(connection, sql, params![app.as_str(), month.to_string()], |row| {
        let events = u64::try_from(row.get::<_, i64>("events")?).map_err(StoreError::damaged)?;
        Ok(MonthUsage { users: row.get("users")?, events })
    })
}

pub(crate) fn put(connection: &Connection, app: &AppName, month: Month, usage: &MonthUsage) -> Sql<()> {
    usage.check()?;
    apps::existing(connection, app)?;
    let events = i64::try_from(usage.events).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO usage (app, month, users, events) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (app, month) DO UPDATE SET users = excluded.users, events = excluded.events",
        )?
        .execute(params![app.as_str(), month.to_string(), usage.users, events])?;
    connection
        .prepare_cached(
            "DELETE FROM usage WHERE app = ?1 AND month IN
             (SELECT month FROM usage WHERE app = ?1 ORDER BY month DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![app.as_str(), USAGE_MONTHS_KEPT])?;
    Ok(())
}
