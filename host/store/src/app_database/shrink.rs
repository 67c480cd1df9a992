//! Shrinks the database of an app after rows were removed. Never removes a row.

use std::time::Instant;

use rusqlite::Connection;

use crate::limits::{FREE_BYTES_KEPT, PAGES_FREED_AT_ONCE, SHRINK_STEP_MAX};
use crate::sql::Sql;

/// Moves pages from the end of the file into free pages and truncates the file, for a short time.
/// Returns whether the file can shrink further. A file for which [`super::schema`] has not enabled
/// this keeps its size.
pub(crate) fn shrink(connection: &Connection) -> Sql<bool> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let kept = i64::from(FREE_BYTES_KEPT) / number("page_size")?.max(1);
    let (begin, mut free) = (Instant::now(), number("freelist_count")?);
    while free > kept && begin.elapsed() < SHRINK_STEP_MAX {
        let pages = PAGES_FREED_AT_ONCE.min(free - kept);
        let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let before = std::mem::replace(&mut free, number("freelist_count")?);
        if free >= before {
            return Ok(false);
        }
    }
    Ok(free > kept)
}
