//! Accepts events. Owns deduplication, the position in a subject's line, and the limits of a queue.
//! Never delivers an event.

use jiff::Timestamp;
use rusqlite::params;

use super::counters::{Counts, QueueChange};
use super::ended::{Waiting, remove_ended};
use super::line::place;
use super::list;
use super::model::{Accepted, EventSeq, NewEvent, StoredEvent};
use super::row::{RowState, millis, payload_columns, timestamp};
use crate::StoreError;
use crate::limits::{
    DEDUPLICATION_WINDOW, ENDED_EVENTS_MAX, EVENT_BATCH_BYTES_MAX, EVENT_BYTES_MAX, EVENT_BYTES_PER_APP_MAX,
    EVENTS_PER_APP_MAX, EVENTS_PER_BATCH_MAX,
};
use crate::sql::{Sql, first};

pub(super) const DUPLICATE_OF: &str = "SELECT seq, state FROM events INDEXED BY events_by_id \
     WHERE id = ?1 AND source = ?2 AND (state < 5 OR accepted_at > ?3) ORDER BY seq DESC LIMIT 1";

/// Refuses a batch that is too large for one transaction.
pub(super) fn check(events: &[NewEvent]) -> Result<(), StoreError> {
    let mut bytes = 0;
    for new in events {
        let size = new.event.bytes();
        if size > EVENT_BYTES_MAX {
            return Err(StoreError::EventTooLarge { bytes: size });
        }
        bytes += size;
    }
    if events.len() > EVENTS_PER_BATCH_MAX || bytes > EVENT_BATCH_BYTES_MAX {
        return Err(StoreError::EventBatchTooLarge { events: events.len(), bytes });
    }
    Ok(())
}

/// Adds events to the queue, except duplicates.
pub(super) fn accept(change: &mut QueueChange<'_>, events: Vec<NewEvent>) -> Sql<Vec<Accepted>> {
    let totals = change.totals()?;
    Ok(accept_beside(change, totals, events)?.into_iter().map(Added::accepted).collect())
}

/// Adds one event like [`accept`], and returns it as a list shows it. Only a duplicate is read from
/// the database: the earlier event is returned.
pub(super) fn accept_one(change: &mut QueueChange<'_>, event: NewEvent) -> Sql<(Accepted, StoredEvent)> {
    let shown = shown(&event, change.now);
    let totals = change.totals()?;
    let added = accept_beside(change, totals, vec![event])?.pop();
    let added = added.ok_or_else(|| StoreError::damaged("an accepted event has no result"))?;
    let stored = match &added {
        Added::New(seq, state) => {
            Some(StoredEvent { seq: *seq, state: state.shown(), is_blocked: *state == RowState::Blocked, ..shown })
        }
        Added::Duplicate(seq, _) => list::at(change.connection, *seq)?,
    };
    let stored = stored.ok_or_else(|| StoreError::damaged("an accepted event has no row"))?;
    Ok((added.accepted(), stored))
}

/// Returns the parts of an event's row that don't depend on the queue.
fn shown(new: &NewEvent, now: i64) -> StoredEvent {
    let NewEvent { process, event, not_before, expires_at, attempts_max, .. } = new;
    StoredEvent {
        seq: EventSeq(0),
        process: process.clone(),
        id: event.id.clone(),
        source: event.source.clone(),
        event_type: event.event_type.clone(),
        subject: event.subject.clone(),
        state: RowState::Ready.shown(),
        is_blocked: false,
        attempt: 0,
        attempts_max: *attempts_max,
        error: None,
        accepted_at: timestamp(now),
        due_at: due_at(*not_before, now).map(timestamp),
        expires_at: expires_at.map(|at| timestamp(millis(at))),
        since: timestamp(now),
    }
}

/// Returns the end of an event's delay, if it is later than `now`.
fn due_at(not_before: Option<Timestamp>, now: i64) -> Option<i64> {
    not_before.map(millis).filter(|at| *at > now)
}

/// Adds events like [`accept`] which the handler of an event has sent. Its event ends in the same
/// change, so its room counts as free. Otherwise the handlers of a full queue could send nothing,
/// and their events would become dead letters.
pub(super) fn accept_for(change: &mut QueueChange<'_>, ending: &Waiting, events: Vec<NewEvent>) -> Sql<Vec<Accepted>> {
    let totals = change.totals()?;
    let totals = Counts { leased: totals.leased - 1, bytes: totals.bytes - ending.bytes, ..totals };
    Ok(accept_beside(change, totals, events)?.into_iter().map(Added::accepted).collect())
}

/// The result of adding one event.
enum Added {
    New(EventSeq, RowState),
    /// The event is a duplicate of an earlier one, which has this number and state.
    Duplicate(EventSeq, RowState),
}

impl Added {
    fn accepted(self) -> Accepted {
        match self {
            Self::New(seq, _) => Accepted::New { seq },
            Self::Duplicate(seq, state) => Accepted::Duplicate { seq, state: state.shown() },
        }
    }
}

/// Adds events to a queue with these counts.
fn accept_beside(change: &mut QueueChange<'_>, totals: Counts, events: Vec<NewEvent>) -> Sql<Vec<Added>> {
    let (mut kept, mut bytes) = (totals.kept(), totals.bytes);
    let mut results = Vec::with_capacity(events.len());
    for new in events {
        if let Some(duplicate) = duplicate_of(change, &new)? {
            results.push(duplicate);
            continue;
        }
        let size = i64::try_from(new.event.bytes()).map_err(StoreError::damaged)?;
        (kept, bytes) = (kept + 1, bytes + size);
        if kept > EVENTS_PER_APP_MAX || bytes > EVENT_BYTES_PER_APP_MAX {
            return Err(StoreError::EventQueueFull.into());
        }
        results.push(insert(change, size, new)?);
    }
    // Removes more ended events than this call can add, so their number stays bounded.
    if totals.ended > ENDED_EVENTS_MAX {
        remove_ended(change, None, 2 * results.len())?;
    }
    Ok(results)
}

/// Returns the newest event of which this one is a duplicate. An earlier event may be active again
/// after a later one with its id has ended: a dead letter that was redriven.
fn duplicate_of(change: &QueueChange<'_>, new: &NewEvent) -> Sql<Option<Added>> {
    let window = i64::try_from(DEDUPLICATION_WINDOW.as_millis()).map_err(StoreError::damaged)?;
    let (id, source) = (&new.event.id, &new.event.source);
    first(change.connection, DUPLICATE_OF, params![id, source, change.now - window], |row| {
        Ok(Added::Duplicate(EventSeq(row.get(0)?), row.get(1)?))
    })
}

fn insert(change: &mut QueueChange<'_>, bytes: i64, new: NewEvent) -> Sql<Added> {
    let NewEvent { process, event, is_ordered, not_before, expires_at, attempts_max } = new;
    let process = change.process_or_new(&process)?;
    let is_ordered = is_ordered && event.subject.is_some();
    let due_at = due_at(not_before, change.now);
    let state = match due_at {
        Some(_) => RowState::Scheduled,
        None => place(change, process, event.subject.as_deref().filter(|_| is_ordered))?,
    };
    let seq = change.next_seq();
    let sql = "INSERT INTO events (seq, process, state, ordered, attempt, attempts_max, bytes, accepted_at, \
               since, due_at, expires_at, id, source, type, subject) \
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    change.connection.prepare_cached(sql)?.execute(params![
        seq,
        process,
        state,
        is_ordered,
        attempts_max,
        bytes,
        change.now,
        due_at,
        expires_at.map(millis),
        event.id,
        event.source,
        event.event_type,
        event.subject,
    ])?;
    let (attributes, data) = payload_columns(event.payload)?;
    let sql = "INSERT INTO payloads (seq, attributes, data) VALUES (?1, ?2, ?3)";
    change.connection.prepare_cached(sql)?.execute(params![seq, attributes, data])?;
    change.count(process, None, Some(state), bytes);
    Ok(Added::New(EventSeq(seq), state))
}
