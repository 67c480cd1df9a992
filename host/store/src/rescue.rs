//! Copies the content of an app's damaged database: key-value entries and events. Owns the order in
//! which they are copied. Never opens a database.

use rusqlite::Connection;

use crate::events::rescue_events;
use crate::kv::rescue_entries;
use crate::loss::Rescued;
use crate::sql::Sql;

/// Copies all rows that can be read.
pub(crate) fn copy_rows(from: &Connection, to: &Connection, has_events: bool) -> Sql<Rescued> {
    let mut rescued = Rescued { is_complete: true, ..Rescued::default() };
    rescue_entries(from, to, &mut rescued)?;
    if has_events {
        rescue_events(from, to, &mut rescued)?;
    }
    Ok(rescued)
}
