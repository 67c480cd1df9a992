//! Changes of a queue apart from acceptance and delivery: recovery from a lost host session,
//! cancellation, dead letters, and a clock that was set back. Each works in bounded steps, except
//! the recovery, which changes all leased events in one step: the host bounds their number per app.
//! Never decides when to run.

use rusqlite::params;

use super::counters::{QueueChange, stored_counts};
use super::ended::{self, Waiting, end, remove, waiting};
use super::line::place;
use super::list::{self, Order, Scan};
use super::model::{CancelReason, Cancelled, DeadChange, EventFilter, EventSeq, EventState, Swept};
use super::row::RowState;

use crate::limits::{EVENTS_SHIFTED_MAX, EVENTS_SWEPT_MAX};
use crate::sql::{Sql, all};

/// The error of an event whose last attempt was interrupted.
const HOST_ENDED_LAST: &str = "the host ended during the last attempt";
const HOST_ENDED: &str = "the host ended during the attempt";

pub(super) const LEASED: &str = "SELECT seq, attempt, attempts_max FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = 2 AND state <= 5";
pub(super) const DELAYED: &str = "SELECT seq, since, due_at FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = ?2 AND state <= 5 AND (due_at, seq) > (?3, ?4) ORDER BY due_at, seq LIMIT ?5";

/// Frees the events that an earlier host session had leased. The interrupted attempts count.
pub(super) fn free_void_leases(change: &mut QueueChange<'_>) -> Sql<()> {
    for (process, counts) in stored_counts(change.connection)? {
        if counts.leased == 0 {
            continue;
        }
        let leased = all(change.connection, LEASED, [process], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)? >= row.get::<_, u32>(2)?))
        })?;
        for (seq, is_last) in leased {
            let Some(waiting) = waiting(change, seq)? else { continue };
            if is_last {
                end(change, &waiting, RowState::Dead, Some(HOST_ENDED_LAST))?;
                continue;
            }
            let sql = "UPDATE events SET state = ?2, lease = NULL, since = ?3, error = ?4, \
                       repeats = CASE error WHEN ?4 THEN repeats + 1 ELSE 1 END WHERE seq = ?1";
            let mut statement = change.connection.prepare_cached(sql)?;
            statement.execute(params![seq, RowState::Ready, change.now, HOST_ENDED])?;
            change.count(process, Some(RowState::Leased), Some(RowState::Ready), waiting.bytes);
        }
    }
    Ok(())
}

/// Cancels an event that waits for its delivery.
pub(super) fn cancel(change: &mut QueueChange<'_>, seq: EventSeq, reason: CancelReason) -> Sql<Cancelled> {
    let Some(waiting) = waiting(change, seq.0)? else { return Ok(Cancelled::Unknown) };
    match waiting.state {
        RowState::Leased => Ok(Cancelled::Running),
        RowState::Done | RowState::Dead | RowState::Cancelled => Ok(Cancelled::Ended(waiting.state.shown())),
        RowState::Ready | RowState::Retry | RowState::Blocked | RowState::Scheduled => {
            ended::cancel(change, &waiting, reason)?;
            Ok(Cancelled::Cancelled)
        }
    }
}

/// Redrives or deletes up to `most` dead letters, and reads a bounded number of them.
pub(super) fn change_dead(
    change: &mut QueueChange<'_>,
    what: DeadChange,
    filter: &EventFilter,
    after: Option<EventSeq>,
    most: usize,
) -> Sql<Swept> {
    let filter = &EventFilter { state: Some(EventState::Dead), ..filter.clone() };
    let (from, most) = (after.map_or(0, |seq| seq.0), most.clamp(1, EVENTS_SWEPT_MAX));
    let scan = Scan { filter, order: Order::Oldest, from, wanted: most, void: false };
    let scanned = list::by_state(change.connection, &scan, &[RowState::Dead])?;
    let mut swept = Swept { changed: 0, next: scanned.horizon.map(EventSeq) };
    for found in scanned.events {
        if swept.changed == most as u64 {
            swept.next = Some(EventSeq(found.seq.0 - 1));
            break;
        }
        let Some(dead) = waiting(change, found.seq.0)? else { continue };
        match what {
            DeadChange::Redrive => redrive(change, &dead)?,
            DeadChange::Drop => remove(change, dead.seq, dead.process, RowState::Dead, dead.bytes)?,
        }
        swept.changed += 1;
    }
    Ok(swept)
}

fn redrive(change: &mut QueueChange<'_>, dead: &Waiting) -> Sql<()> {
    let to = place(change, dead.process, dead.line.as_deref())?;
    let sql = "UPDATE events SET state = ?2, attempt = 0, repeats = 0, since = ?3, expires_at = NULL WHERE seq = ?1";
    change.connection.prepare_cached(sql)?.execute(params![dead.seq, to, change.now])?;
    change.count(dead.process, Some(RowState::Dead), Some(to), dead.bytes);
    Ok(())
}

/// Where a step of [`shift_delays`] continues.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ShiftCursor {
    process: i64,
    state: i64,
    due_at: i64,
    seq: i64,
}

/// Shifts the times of delayed events after the clock was set back: an event that was delayed by
/// the earlier clock waits for the rest of its delay. Returns where the next step continues.
pub(super) fn shift_delays(change: &mut QueueChange<'_>, cursor: ShiftCursor) -> Sql<Option<ShiftCursor>> {
    if !change.has_clock_gone_back() {
        return Ok(None);
    }
    let delayed = [RowState::Retry, RowState::Scheduled];
    let queues = stored_counts(change.connection)?.into_iter().map(|(process, _)| process);
    let lists = queues.flat_map(|process| delayed.map(|state| (process, state as i64)));
    for (process, state) in lists.filter(|list| *list >= (cursor.process, cursor.state)) {
        let is_same = (process, state) == (cursor.process, cursor.state);
        let (due_at, seq) = if is_same { (cursor.due_at, cursor.seq) } else { (0, 0) };
        let found = all(change.connection, DELAYED, params![process, state, due_at, seq, EVENTS_SHIFTED_MAX], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        for (seq, since, due_at) in found.iter().filter(|(_, since, _)| *since > change.now) {
            let sql = "UPDATE events SET due_at = ?2, since = ?3 WHERE seq = ?1";
            let shifted = (due_at - (since - change.now)).max(change.now);
            change.connection.prepare_cached(sql)?.execute([*seq, shifted, change.now])?;
        }
        if found.len() == EVENTS_SHIFTED_MAX as usize
            && let Some((seq, _, due_at)) = found.last()
        {
            return Ok(Some(ShiftCursor { process, state, due_at: *due_at, seq: *seq }));
        }
    }
    change.set_clock();
    Ok(None)
}
