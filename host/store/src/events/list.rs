//! Reads of a queue: single events, lists and statistics. Owns the bound on the rows that one call
//! reads. Never changes anything.

use isopod_policy::ProcessName;
use rusqlite::{Connection, params};

use super::counters::stored_counts;
use super::model::{EventFilter, EventPayload, EventSeq, EventState, QueueStats, StoredEvent};
use super::row::{RowState, STORED, payload, stored, timestamp};
use crate::limits::EVENTS_SCANNED_MAX;
use crate::sql::{Sql, all, first, parsed};
use crate::{Page, Paged};

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last accepted first, before a position.
    Newest,
    /// The first accepted first, after a position.
    Oldest,
}

/// A part of a list.
pub(super) struct Scanned {
    pub(super) events: Vec<StoredEvent>,
    /// The position after which the list continues, if it does.
    pub(super) horizon: Option<i64>,
}

/// Returns whether the leases in the database belong to an earlier host session.
pub(super) fn are_leases_void(connection: &Connection, session: i64) -> Sql<bool> {
    let found: Option<i64> = first(connection, "SELECT session FROM event_state", [], |row| Ok(row.get(0)?))?;
    Ok(found != Some(session))
}

/// Returns whether the filter selects the event.
pub(super) fn matches(filter: &EventFilter, event: &StoredEvent) -> bool {
    let EventFilter { state, process, event_type, subject, id, source } = filter;
    state.is_none_or(|state| state == event.state)
        && process.as_ref().is_none_or(|process| *process == event.process)
        && event_type.as_ref().is_none_or(|event_type| *event_type == event.event_type)
        && subject.as_ref().is_none_or(|subject| Some(subject) == event.subject.as_ref())
        && id.as_ref().is_none_or(|id| *id == event.id)
        && source.as_ref().is_none_or(|source| *source == event.source)
}

/// Returns one page of the selected events.
pub(super) fn list(
    connection: &Connection,
    filter: &EventFilter,
    page: &Page,
    before: i64,
    void: bool,
) -> Sql<Paged<StoredEvent>> {
    let states: &[RowState] = match filter.state {
        Some(EventState::Ready) if void => &[RowState::Ready, RowState::Blocked, RowState::Leased],
        Some(EventState::Ready) => &[RowState::Ready, RowState::Blocked],
        Some(EventState::Leased) if void => &[],
        Some(EventState::Leased) => &[RowState::Leased],
        Some(EventState::Dead) => &[RowState::Dead],
        Some(EventState::Delayed | EventState::Done | EventState::Cancelled) | None => {
            return Ok(paged(newest(connection, filter, before, void)?, filter, page));
        }
    };
    let scanned = match filter.id {
        Some(_) => newest(connection, filter, before, void)?,
        None => kept(connection, filter, states, Order::Newest, before, EVENTS_SCANNED_MAX, void)?,
    };
    Ok(paged(scanned, filter, page))
}

fn paged(scanned: Scanned, filter: &EventFilter, page: &Page) -> Paged<StoredEvent> {
    let selected = scanned.events.into_iter().filter(|event| matches(filter, event)).collect();
    let mut paged = Paged::from_one_more(selected, page, |event: &StoredEvent| event.seq.0.to_string());
    if paged.next.is_none() {
        paged.next = scanned.horizon.map(|seq| seq.to_string());
    }
    paged
}

/// Returns the newest events before a position; only those with the filter's id, if it has one.
fn newest(connection: &Connection, filter: &EventFilter, before: i64, void: bool) -> Sql<Scanned> {
    let row = |row: &rusqlite::Row<'_>| stored(row, void);
    let events = match &filter.id {
        Some(id) => {
            let and_source = if filter.source.is_some() { "AND source = ?2" } else { "AND ?2 IS NULL" };
            let sql = format!(
                "SELECT {STORED} FROM events INDEXED BY events_by_id \
                 WHERE id = ?1 {and_source} AND seq < ?3 ORDER BY seq DESC LIMIT ?4"
            );
            all(connection, &sql, params![id, filter.source, before, limit(EVENTS_SCANNED_MAX)], row)?
        }
        None => {
            let sql = format!("SELECT {STORED} FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
            all(connection, &sql, [before, limit(EVENTS_SCANNED_MAX)], row)?
        }
    };
    let is_cut = events.len() == EVENTS_SCANNED_MAX;
    Ok(Scanned { horizon: events.last().filter(|_| is_cut).map(|event| event.seq.0), events })
}

/// Returns events of these states from the index of events that have not ended, up to `most` from
/// all queues together.
pub(super) fn kept(
    connection: &Connection,
    filter: &EventFilter,
    states: &[RowState],
    order: Order,
    from: i64,
    most: usize,
    void: bool,
) -> Sql<Scanned> {
    let queues = queues(connection)?;
    let queues = queues.iter().filter(|(_, name)| filter.process.as_ref().is_none_or(|wanted| wanted == name));
    let lists: Vec<(i64, RowState)> =
        queues.flat_map(|(process, _)| states.iter().map(|state| (*process, *state))).collect();
    let share = most / lists.len().max(1);
    let (comparison, direction) = match order {
        Order::Newest => ("<", "DESC"),
        Order::Oldest => (">", "ASC"),
    };
    let sql = format!(
        "SELECT {STORED} FROM events INDEXED BY events_kept WHERE process = ?1 AND state = ?2 AND state <= 5 \
         AND due_at IS NULL AND seq {comparison} ?3 ORDER BY seq {direction} LIMIT ?4"
    );
    let mut scanned = Scanned { events: Vec::new(), horizon: None };
    for (process, state) in lists {
        let events = all(connection, &sql, params![process, state, from, limit(share)], |row| stored(row, void))?;
        if events.len() == share
            && let Some(last) = events.last().map(|event| event.seq.0)
        {
            // Beyond it, this list may have events that were not read.
            scanned.horizon = Some(match (scanned.horizon, order) {
                (None, _) => last,
                (Some(horizon), Order::Newest) => horizon.max(last),
                (Some(horizon), Order::Oldest) => horizon.min(last),
            });
        }
        scanned.events.extend(events);
    }
    let horizon = scanned.horizon;
    match order {
        Order::Newest => {
            scanned.events.retain(|event| horizon.is_none_or(|horizon| event.seq.0 >= horizon));
            scanned.events.sort_by_key(|event| std::cmp::Reverse(event.seq));
        }
        Order::Oldest => {
            scanned.events.retain(|event| horizon.is_none_or(|horizon| event.seq.0 <= horizon));
            scanned.events.sort_by_key(|event| event.seq);
        }
    }
    Ok(scanned)
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn queues(connection: &Connection) -> Sql<Vec<(i64, ProcessName)>> {
    all(connection, "SELECT process, name FROM queues", [], |row| Ok((row.get("process")?, parsed(row, "name")?)))
}

/// Returns the last accepted event with an id.
pub(super) fn get(connection: &Connection, filter: &EventFilter, void: bool) -> Sql<Option<StoredEvent>> {
    let found = newest(connection, filter, i64::MAX, void)?;
    Ok(found.events.into_iter().find(|event| matches(filter, event)))
}

/// Returns the content of an event, if it is kept.
pub(super) fn payload_of(connection: &Connection, seq: EventSeq) -> Sql<Option<EventPayload>> {
    first(connection, "SELECT attributes, data FROM payloads WHERE seq = ?1", [seq.0], payload)
}

/// Returns when the next delayed event of a queue is due, in milliseconds.
pub(super) fn next_due(connection: &Connection, process: i64) -> Sql<Option<i64>> {
    let mut due = None;
    for state in [RowState::Retry, RowState::Scheduled] {
        let sql = "SELECT due_at FROM events INDEXED BY events_kept \
                   WHERE process = ?1 AND state = ?2 AND state <= 5 ORDER BY due_at LIMIT 1";
        let next: Option<i64> = first(connection, sql, params![process, state], |row| Ok(row.get(0)?))?;
        due = [due, next].into_iter().flatten().min();
    }
    Ok(due)
}

/// Returns the statistics of each queue with events that are kept.
pub(super) fn stats(connection: &Connection, void: bool) -> Sql<Vec<QueueStats>> {
    let names = queues(connection)?;
    let mut stats = Vec::new();
    for (process, counts) in stored_counts(connection)?.into_iter().filter(|(_, counts)| counts.kept() > 0) {
        let Some((_, name)) = names.iter().find(|(found, _)| *found == process) else { continue };
        let mut oldest = None;
        for state in [RowState::Ready, RowState::Leased, RowState::Blocked] {
            let sql = "SELECT accepted_at FROM events INDEXED BY events_kept \
                       WHERE process = ?1 AND state = ?2 AND state <= 5 AND due_at IS NULL ORDER BY seq LIMIT 1";
            let first: Option<i64> = first(connection, sql, params![process, state], |row| Ok(row.get(0)?))?;
            oldest = [oldest, first].into_iter().flatten().min();
        }
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let (ready, leased) = if void { (counts.ready + counts.leased, 0) } else { (counts.ready, counts.leased) };
        stats.push(QueueStats {
            process: name.clone(),
            ready: number(ready),
            delayed: number(counts.delayed),
            leased: number(leased),
            dead: number(counts.dead),
            bytes: number(counts.bytes),
            oldest_accepted_at: oldest.map(timestamp).transpose()?,
            next_due: next_due(connection, process)?.map(timestamp).transpose()?,
        });
    }
    Ok(stats)
}
