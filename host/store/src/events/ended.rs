//! Ends events, and deletes ended events. Owns the row of an event that has not ended. Never
//! decides that an event ends.

use rusqlite::params;

use super::counters::QueueChange;
use super::line::unblock;
use super::model::{CancelReason, shortened};
use super::row::RowState;
use crate::limits::EVENTS_SWEPT_MAX;
use crate::sql::{Sql, all, first};

pub(super) const ENDED: &str = "SELECT seq, process, state FROM events INDEXED BY events_ended \
     WHERE state >= 6 AND since < ?1 ORDER BY since LIMIT ?2";

/// The row of an event that has not ended.
pub(super) struct Waiting {
    pub(super) seq: i64,
    pub(super) process: i64,
    pub(super) state: RowState,
    /// The subject of an ordered event.
    pub(super) line: Option<String>,
    pub(super) bytes: i64,
}

/// Reads the row of an event.
pub(super) fn waiting_row(row: &rusqlite::Row<'_>) -> Sql<Waiting> {
    let subject: Option<String> = row.get("subject")?;
    let is_ordered: bool = row.get("ordered")?;
    Ok(Waiting {
        seq: row.get("seq")?,
        process: row.get("process")?,
        state: row.get("state")?,
        line: subject.filter(|_| is_ordered),
        bytes: row.get("bytes")?,
    })
}

/// Returns the row of an event, if it exists.
pub(super) fn waiting(change: &QueueChange<'_>, seq: i64) -> Sql<Option<Waiting>> {
    let sql = "SELECT seq, process, state, ordered, subject, bytes FROM events WHERE seq = ?1";
    first(change.connection, sql, [seq], waiting_row)
}

/// Ends an event. The next event of its subject becomes ready.
pub(super) fn end(change: &mut QueueChange<'_>, waiting: &Waiting, to: RowState, error: Option<&str>) -> Sql<()> {
    let Waiting { seq, process, state, line, bytes } = waiting;
    let sql = "UPDATE events SET state = ?2, since = ?3, due_at = NULL, lease = NULL, error = ?4 WHERE seq = ?1";
    let mut statement = change.connection.prepare_cached(sql)?;
    statement.execute(params![seq, to, change.now, error.map(shortened)])?;
    if to != RowState::Dead {
        change.connection.prepare_cached("DELETE FROM payloads WHERE seq = ?1")?.execute([seq])?;
    }
    change.count(*process, Some(*state), Some(to), *bytes);
    match line {
        Some(subject) if state.is_head() => unblock(change, *process, subject),
        Some(_) | None => Ok(()),
    }
}

/// Cancels an event that waits for its delivery.
pub(super) fn cancel(change: &mut QueueChange<'_>, waiting: &Waiting, reason: CancelReason) -> Sql<()> {
    let sql = "SELECT error FROM events WHERE seq = ?1";
    let earlier: Option<String> = first(change.connection, sql, [waiting.seq], |row| Ok(row.get(0)?))?.flatten();
    end(change, waiting, RowState::Cancelled, Some(&reason.error(earlier.as_deref())))
}

/// Deletes the row of an event.
pub(super) fn remove(change: &mut QueueChange<'_>, seq: i64, process: i64, state: RowState, bytes: i64) -> Sql<()> {
    change.connection.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([seq])?;
    if state == RowState::Dead {
        change.connection.prepare_cached("DELETE FROM payloads WHERE seq = ?1")?.execute([seq])?;
    }
    change.count(process, Some(state), None, bytes);
    Ok(())
}

/// Deletes up to `most` ended events, those that ended first. With a time, deletes only events that
/// ended before it. Returns their number.
pub(super) fn remove_ended(change: &mut QueueChange<'_>, before: Option<i64>, most: usize) -> Sql<usize> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let ended = all(change.connection, ENDED, [before.unwrap_or(i64::MAX), limit], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, RowState>(2)?))
    })?;
    for (seq, process, state) in &ended {
        remove(change, *seq, *process, *state, 0)?;
    }
    Ok(ended.len())
}

/// Deletes up to `most` of the events that ended before a time. If none is left, deletes the queues
/// of process types without events. Returns the number of deleted events.
pub(super) fn prune(change: &mut QueueChange<'_>, before: i64, most: usize) -> Sql<usize> {
    let most = most.min(EVENTS_SWEPT_MAX);
    let removed = remove_ended(change, Some(before), most)?;
    if removed < most {
        remove_empty_queues(change)?;
    }
    Ok(removed)
}

fn remove_empty_queues(change: &QueueChange<'_>) -> Sql<()> {
    let sql = "DELETE FROM queues WHERE ready = 0 AND delayed = 0 AND leased = 0 AND dead = 0 AND ended = 0";
    change.connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
