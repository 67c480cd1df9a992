//! The statements for alerts: those that fire, and the messages that no webhook has accepted yet.
//! Never interprets an alert.

use rusqlite::{Connection, params};

use crate::limits::{ALERT_MESSAGES_MAX, ALERTS_MAX};
use crate::model::{AlertMessage, AlertRecord};
use crate::sql::{Sql, all, json, time, to_json};

/// Stores a change: an alert that fires or is resolved, and its message. Beyond the limit, the
/// oldest messages are removed.
pub(crate) fn put(connection: &Connection, change: &AlertRecord) -> Sql<()> {
    match &change.data {
        Some(data) => {
            connection
                .prepare_cached(
                    "INSERT INTO alerts (key, data) SELECT ?1, ?2 WHERE (SELECT count(*) FROM alerts) < ?3
                     ON CONFLICT (key) DO UPDATE SET data = excluded.data",
                )?
                .execute(params![change.key, to_json(data)?, ALERTS_MAX])?;
        }
        None => {
            connection.prepare_cached("DELETE FROM alerts WHERE key = ?1")?.execute([&change.key])?;
        }
    }
    if let Some(AlertMessage { id, body, at }) = &change.message {
        connection
            .prepare_cached("INSERT OR IGNORE INTO alert_messages (id, body, at) VALUES (?1, ?2, ?3)")?
            .execute(params![id, body, at.to_string()])?;
        connection
            .prepare_cached(
                "DELETE FROM alert_messages WHERE number <=
                 (SELECT number FROM alert_messages ORDER BY number DESC LIMIT 1 OFFSET ?1)",
            )?
            .execute([ALERT_MESSAGES_MAX])?;
    }
    Ok(())
}

/// Returns the alerts that fire, by key.
pub(crate) fn firing(connection: &Connection) -> Sql<Vec<serde_json::Value>> {
    all(connection, "SELECT data FROM alerts ORDER BY key", [], |row| json(row, "data"))
}

/// Returns the messages that no webhook has accepted yet, oldest first.
pub(crate) fn messages(connection: &Connection) -> Sql<Vec<AlertMessage>> {
    all(connection, "SELECT id, body, at FROM alert_messages ORDER BY number", [], |row| {
        Ok(AlertMessage { id: row.get("id")?, body: row.get("body")?, at: time(row, "at")? })
    })
}

/// Removes a message.
pub(crate) fn remove_message(connection: &Connection, id: &str) -> Sql<()> {
    connection.prepare_cached("DELETE FROM alert_messages WHERE id = ?1")?.execute([id])?;
    Ok(())
}
