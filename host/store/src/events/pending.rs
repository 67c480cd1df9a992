//! Finds the apps with events that have not ended, when a host starts. Never keeps a database open,
//! and never changes one.

use std::path::Path;

use rusqlite::Connection;

use super::counters::stored_counts;
use super::list;
use super::model::PendingApp;
use super::row::timestamp;
use crate::StoreError;
use crate::app_database::{AppDatabases, FORMAT, format_of};
use crate::sql::{Sql, look_into};

/// Returns all apps with events that have not ended. Blocks.
///
/// An app whose database can't be read is included: the first use of its queue reports why.
pub(super) fn pending_apps(databases: &AppDatabases) -> Result<Vec<PendingApp>, StoreError> {
    let mut pending = Vec::new();
    for app in databases.apps()? {
        let path = databases.path(&app);
        if path.exists() {
            let found = look(&path, databases.is_open(&app)).unwrap_or(Some(None));
            pending.extend(found.map(|next_due| PendingApp { app, next_due }));
        }
    }
    Ok(pending)
}

/// Returns when the next event is due: `None` without events, `Some(None)` for now.
fn look(path: &Path, is_open: bool) -> Result<Option<Option<jiff::Timestamp>>, StoreError> {
    let is_settled = !is_open && !crate::app_database::journal_of(path).exists();
    let connection = look_into(path, is_settled)?;
    due(&connection).map_err(|error| error.explain(path))
}

fn due(connection: &Connection) -> Sql<Option<Option<jiff::Timestamp>>> {
    if format_of(connection)? != FORMAT {
        // Earlier formats have no events. A newer one is refused when it is used.
        return Ok(None);
    }
    let (mut is_active, mut is_due, mut next_due) = (false, false, None);
    for (process, counts) in stored_counts(connection)? {
        is_due |= counts.ready + counts.leased > 0;
        is_active |= counts.delayed > 0;
        next_due = [next_due, list::next_due(connection, process)?].into_iter().flatten().min();
    }
    match (is_due, is_active) {
        (true, _) => Ok(Some(None)),
        (false, true) => Ok(Some(next_due.map(timestamp).transpose()?)),
        (false, false) => Ok(None),
    }
}
