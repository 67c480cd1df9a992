//! Finds the apps with events, and reads the statistics of their queues. Closes each database after
//! reading it, and never changes one.

use isopod_policy::AppName;
use rusqlite::Connection;

use super::list;
use super::model::{AppQueue, QueueStats};
use crate::StoreError;
use crate::app_database::{AppDatabases, FORMAT, format_of};
use crate::sql::{Sql, first, look_into};

/// Returns all queues with events that have not ended or with dead letters, and those that can't be
/// read. Blocks.
pub(super) fn app_queues(databases: &AppDatabases) -> Result<Vec<AppQueue>, StoreError> {
    let found = look_into_all(databases, stats)?.into_iter();
    let queues = found.map(|(app, stats)| AppQueue { app, stats });
    Ok(queues.filter(|queue| !queue.stats.as_ref().is_ok_and(Vec::is_empty)).collect())
}

/// Returns all apps with events, including those whose database can't be read now. Blocks.
pub(super) fn apps_with_events(databases: &AppDatabases) -> Result<Vec<AppName>, StoreError> {
    let found = look_into_all(databases, has_events)?.into_iter();
    Ok(found.filter_map(|(app, has_events)| has_events.unwrap_or(true).then_some(app)).collect())
}

/// An app, and the result of reading its database.
type Found<T> = (AppName, Result<T, StoreError>);

/// Reads the database of each app that has a database.
fn look_into_all<T>(
    databases: &AppDatabases,
    look: impl Fn(&Connection) -> Sql<T>,
) -> Result<Vec<Found<T>>, StoreError> {
    // A database that can't be inspected is reported when it is opened.
    let may_exist = |app: &AppName| databases.path(app).try_exists().unwrap_or(true);
    let existing = databases.apps()?.into_iter().filter(may_exist);
    let found = existing.map(|app| {
        let path = databases.path(&app);
        let is_settled =
            if databases.is_open(&app) { Ok(false) } else { databases.check_journal(&app).map(|has| !has) };
        let found = is_settled.and_then(|is_settled| {
            look_into(&path, is_settled).and_then(|connection| look(&connection).map_err(|error| error.explain(&path)))
        });
        if let Err(error) = &found {
            databases.note_unreadable(&app, error);
        }
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

/// Returns the statistics of a queue whose leases are void.
fn stats(connection: &Connection) -> Sql<Vec<QueueStats>> {
    match format_of(connection)? {
        FORMAT => list::stats(connection, true),
        found if found > FORMAT => Err(StoreError::TooNew { found, known: FORMAT }.into()),
        // Earlier formats have no events.
        _ => Ok(Vec::new()),
    }
}
