//! The statements for schedules: when each last fired. Never fires a schedule.

use isopod_policy::{AppName, ProcessName};
use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::apps;
use crate::limits::SCHEDULES_PER_APP_MAX;
use crate::model::ScheduleFired;
use crate::sql::{Sql, all, parsed, time};

pub(crate) fn fired(connection: &Connection, app: &AppName, process: &ProcessName, at: Timestamp) -> Sql<()> {
    apps::existing(connection, app)?;
    connection
        .prepare_cached(
            "INSERT INTO schedules (app, process, last_fired_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (app, process) DO UPDATE SET last_fired_at = excluded.last_fired_at",
        )?
        .execute(params![app.as_str(), process.as_str(), at.to_string()])?;
    connection
        .prepare_cached(
            "DELETE FROM schedules WHERE app = ?1 AND process IN (SELECT process FROM schedules WHERE app = ?1
             ORDER BY julianday(last_fired_at) DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![app.as_str(), SCHEDULES_PER_APP_MAX])?;
    Ok(())
}

pub(crate) fn list(connection: &Connection) -> Sql<Vec<ScheduleFired>> {
    all(connection, "SELECT app, process, last_fired_at FROM schedules ORDER BY app, process", [], |row| {
        Ok(ScheduleFired {
            app: parsed(row, "app")?,
            process: parsed(row, "process")?,
            last_fired_at: time(row, "last_fired_at")?,
        })
    })
}
