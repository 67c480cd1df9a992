//! The statements for log drains. Never unseals a URL.

use isopod_policy::{AppName, Sealed};
use rusqlite::{Connection, params};

use super::apps;
use crate::model::Drain;
use crate::sql::{Sql, all, parsed, time};

pub(crate) fn insert(connection: &Connection, drain: &Drain) -> Sql<()> {
    apps::existing(connection, &drain.app)?;
    let Drain { app, id, url, created_by, created_at } = drain;
    connection
        .prepare_cached("INSERT INTO drains (app, id, url, created_by, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![app.as_str(), id, url.as_base64(), created_by, created_at.to_string()])?;
    Ok(())
}

pub(crate) fn delete(connection: &Connection, app: &AppName, id: &str) -> Sql<()> {
    connection.prepare_cached("DELETE FROM drains WHERE app = ?1 AND id = ?2")?.execute([app.as_str(), id])?;
    Ok(())
}

pub(crate) fn list(connection: &Connection) -> Sql<Vec<Drain>> {
    all(connection, "SELECT app, id, url, created_by, created_at FROM drains ORDER BY app, id", [], |row| {
        Ok(Drain {
            app: parsed(row, "app")?,
            id: row.get("id")?,
            url: Sealed::new(row.get("url")?),
            created_by: row.get("created_by")?,
            created_at: time(row, "created_at")?,
        })
    })
}
