//! Copies the events that can be read from a damaged database. An event that has not ended is
//! copied only together with its content. Never delivers an event.

use isopod_policy::ProcessName;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::counters::{QueueChange, stored_counts};
use super::line::unblock;
use super::row::{RowState, payload};
use crate::StoreError;
use crate::limits::{EVENT_BYTES_MAX, EVENTS_SWEPT_MAX};
use crate::loss::Rescued;
use crate::row_copy::copy;
use crate::sql::{Sql, all, parsed};

const COLUMNS: &str = "seq, process, state, ordered, attempt, attempts_max, bytes, accepted_at, since, due_at, \
     expires_at, lease, id, source, type, subject, repeats, error";

/// The last position that a queue can have. A later position is the result of damage: no host
/// accepts that many events, and the queue would run out of positions.
const SEQ_MAX: i64 = i64::MAX / 2;

/// Copies the events, and counts those that are neither done nor cancelled.
pub(crate) fn rescue_events(from: &Connection, to: &Connection, rescued: &mut Rescued) -> Sql<()> {
    rescued.is_complete &= rescue_queues(from, to)?;
    let insert = "INSERT OR IGNORE INTO payloads (seq, attributes, data) VALUES (?1, ?2, ?3)";
    let content = |row: &Row<'_>| payload(row).map(drop);
    let select = "SELECT seq, attributes, data FROM payloads";
    rescued.is_complete &= copy(from, to, select, insert, content, Ok)?.is_complete;

    let state = from.query_row("SELECT next_seq, session, clock FROM event_state", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    // If the row can't be read, the new file has no session, so all leases are void.
    let (next_seq, session, clock) = state.unwrap_or_default();
    let clock = if Timestamp::from_millisecond(clock).is_ok() { clock } else { 0 };
    let mut next_seq = if (1..=SEQ_MAX).contains(&next_seq) { next_seq } else { 1 };
    to.execute("UPDATE event_state SET session = ?1, clock = ?2", [session, clock])?;
    let mut change = QueueChange::begin(to, session, clock)?;
    // Without its process type or its content, an event can't be delivered.
    let insert = format!(
        "INSERT OR IGNORE INTO events ({COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
         ?15, ?16, ?17, ?18 WHERE EXISTS (SELECT 1 FROM queues WHERE process = ?2) \
         AND (?3 > 5 OR EXISTS (SELECT 1 FROM payloads WHERE seq = ?1))"
    );
    let select = format!("SELECT {COLUMNS} FROM events");
    let copied = copy(from, to, &select, &insert, read, |(seq, process, state, bytes)| {
        change.count(process, None, Some(state), bytes);
        next_seq = next_seq.max(seq + 1);
        rescued.events += u64::from(state.is_active() || state == RowState::Dead);
        Ok(())
    })?;
    let orphans = to.execute(
        "DELETE FROM payloads WHERE NOT EXISTS (SELECT 1 FROM events WHERE events.seq = payloads.seq AND state <= 5)",
        [],
    )?;
    unblock_lines_without_head(&mut change)?;
    change.finish()?;
    to.execute("UPDATE event_state SET next_seq = ?1", [next_seq])?;
    let counted = stored_counts(from).ok().map(|counts| counts.iter().map(|(_, counts)| counts.kept()).sum());
    rescued.is_complete &= copied.is_complete
        && orphans == 0
        && counted.and_then(|kept: i64| u64::try_from(kept).ok()) == Some(rescued.events);
    Ok(())
}

/// Copies the names of process types. Returns whether all could be read.
fn rescue_queues(from: &Connection, to: &Connection) -> Sql<bool> {
    let name = |row: &Row<'_>| parsed::<ProcessName>(row, "name").map(drop);
    let insert = "INSERT OR IGNORE INTO queues (process, name) VALUES (?1, ?2)";
    if copy(from, to, "SELECT process, name FROM queues", insert, name, Ok)?.is_complete {
        return Ok(true);
    }
    // All events need these few rows. The index of the names is a second copy of them.
    let index = "SELECT process, name FROM queues INDEXED BY sqlite_autoindex_queues_1 ORDER BY name";
    let found = all(from, index, [], |row| Ok((row.get::<_, i64>(0)?, parsed::<ProcessName>(row, "name")?)));
    for (process, name) in found.unwrap_or_default() {
        to.execute(insert, params![process, name.as_str()])?;
    }
    Ok(false)
}

/// Reads a row as later calls do, since a row that can't be read would make them fail. Refuses
/// values that the host never writes, and that would stop the queue.
fn read(row: &Row<'_>) -> Sql<(i64, i64, RowState, i64)> {
    for column in ["id", "source", "type"] {
        row.get::<_, String>(column)?;
    }
    row.get::<_, Option<String>>("error")?;
    for column in ["attempt", "attempts_max", "repeats"] {
        row.get::<_, u32>(column)?;
    }
    for column in ["accepted_at", "since", "due_at", "expires_at"] {
        row.get::<_, Option<i64>>(column)?;
    }
    let (seq, state, bytes) = (row.get::<_, i64>("seq")?, row.get("state")?, row.get::<_, i64>("bytes")?);
    let subject: Option<String> = row.get("subject")?;
    let is_line_valid = match row.get::<_, i64>("ordered")? {
        0 => state != RowState::Blocked,
        1 => subject.is_some(),
        _ => false,
    };
    if seq > SEQ_MAX || !u64::try_from(bytes).is_ok_and(|bytes| bytes <= EVENT_BYTES_MAX) || !is_line_valid {
        return Err(StoreError::damaged(format_args!("the row of event {seq}")).into());
    }
    Ok((seq, row.get("process")?, state, bytes))
}

/// Makes the first event of each subject ready if the earlier events of the subject were lost.
fn unblock_lines_without_head(change: &mut QueueChange<'_>) -> Sql<()> {
    let sql = "SELECT DISTINCT process, subject FROM events AS blocked \
               WHERE ordered = 1 AND state <= 3 AND state = 3 AND NOT EXISTS (\
               SELECT 1 FROM events AS head INDEXED BY events_in_line WHERE head.process = blocked.process \
               AND head.subject = blocked.subject AND head.ordered = 1 AND head.state <= 3 AND head.state < 3) \
               LIMIT ?1";
    loop {
        let lines = all(change.connection, sql, params![EVENTS_SWEPT_MAX as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })?;
        if lines.is_empty() {
            return Ok(());
        }
        for (process, subject) in lines {
            unblock(change, process, &subject)?;
        }
    }
}
