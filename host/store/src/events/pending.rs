//! Finds the apps with events, and those with events that have not ended. Never keeps a database
//! open, and never changes one.

use isopod_policy::AppName;
use rusqlite::Connection;

use super::counters::stored_counts;
use super::list;
use super::model::PendingApp;
use super::row::timestamp;
use crate::StoreError;
use crate::app_database::{AppDatabases, FORMAT, format_of};
use crate::sql::{Sql, first, look_into};

/// Returns all apps with events that have not ended. Blocks.
///
/// An app whose database can't be read is included: the first use of its queue reports why.
pub(super) fn pending_apps(databases: &AppDatabases) -> Result<Vec<PendingApp>, StoreError> {
    let found = look_into_all(databases, due)?.into_iter();
    let found = found.map(|(app, due)| (app, due.unwrap_or(Some(None))));
    Ok(found.filter_map(|(app, due)| due.map(|next_due| PendingApp { app, next_due })).collect())
}

/// Returns all apps with events. Blocks.
pub(super) fn apps_with_events(databases: &AppDatabases) -> Result<Vec<AppName>, StoreError> {
    let found = look_into_all(databases, has_events)?.into_iter();
    Ok(found.filter_map(|(app, has_events)| has_events.unwrap_or(false).then_some(app)).collect())
}

/// An app, and what its database contains.
type Found<T> = (AppName, Result<T, StoreError>);

/// Reads the database of each app that has one.
fn look_into_all<T>(
    databases: &AppDatabases,
    look: impl Fn(&Connection) -> Sql<T>,
) -> Result<Vec<Found<T>>, StoreError> {
    let existing = databases.apps()?.into_iter().filter(|app| databases.path(app).exists());
    let found = existing.map(|app| {
        let path = databases.path(&app);
        let is_settled = !databases.is_open(&app) && !crate::app_database::journal_of(&path).exists();
        let found = look_into(&path, is_settled);
        let found = found.and_then(|connection| look(&connection).map_err(|error| error.explain(&path)));
        (app, found)
    });
    Ok(found.collect())
}

fn has_events(connection: &Connection) -> Sql<bool> {
    if format_of(connection)? != FORMAT {
        return Ok(false);
    }
    first(connection, "SELECT 1 FROM events LIMIT 1", [], |_| Ok(())).map(|found| found.is_some())
}

/// Returns when the next event is due: `None` without events, `Some(None)` for now.
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
