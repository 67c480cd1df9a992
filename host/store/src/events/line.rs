//! The lines of ordered events: one for each process type and subject. Only the head of a line may
//! be delivered. Never ends an event.

use rusqlite::params;

use super::counters::QueueChange;
use super::row::RowState;
use crate::sql::{Sql, all, first};

pub(super) const ANY_IN_LINE: &str = "SELECT 1 FROM events INDEXED BY events_in_line \
     WHERE process = ?1 AND subject = ?2 AND ordered = 1 AND state <= 3 LIMIT 1";
pub(super) const FIRST_IN_LINE: &str = "SELECT seq, state FROM events INDEXED BY events_in_line \
     WHERE process = ?1 AND subject = ?2 AND ordered = 1 AND state <= 3 ORDER BY seq LIMIT 1";

/// Returns the state of a due event: blocked if its subject's line is not empty.
pub(super) fn place(change: &QueueChange<'_>, process: i64, line: Option<&str>) -> Sql<RowState> {
    let Some(subject) = line else { return Ok(RowState::Ready) };
    let is_blocked = first(change.connection, ANY_IN_LINE, params![process, subject], |_| Ok(()))?.is_some();
    Ok(if is_blocked { RowState::Blocked } else { RowState::Ready })
}

/// Makes the next event of a subject ready, after its head has ended.
pub(super) fn unblock(change: &mut QueueChange<'_>, process: i64, subject: &str) -> Sql<()> {
    let next = all(change.connection, FIRST_IN_LINE, params![process, subject], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, RowState>(1)?))
    })?;
    if let Some((seq, RowState::Blocked)) = next.first() {
        let sql = "UPDATE events SET state = ?2, since = ?3 WHERE seq = ?1";
        change.connection.prepare_cached(sql)?.execute(params![seq, RowState::Ready, change.now])?;
    }
    Ok(())
}
