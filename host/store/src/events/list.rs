//! Reads single events, lists and statistics of a queue. Owns the bounds on the rows that one call
//! reads, and on the bytes that it returns. Never changes a row.

use isopod_policy::ProcessName;
use rusqlite::{Connection, Params, params};

use super::counters::{has_clock_gone_back, stored_counts};
use super::model::{EventFilter, EventPayload, EventSeq, EventState, QueueStats, StoredEvent};
use super::row::{RowState, STORED, millis, payload, stored, timestamp};
use crate::limits::{EVENT_PAGE_BYTES_MAX, EVENTS_SCANNED_MAX, EVENTS_SWEPT_MAX};
use crate::sql::{Sql, all, first, parsed};
use crate::{Page, Paged};

pub(super) const NEXT_DUE: &str = "SELECT due_at FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = ?2 AND state <= 5 ORDER BY due_at LIMIT 1";
pub(super) const OLDEST: &str = "SELECT accepted_at FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = ?2 AND state <= 5 AND due_at IS NULL ORDER BY seq LIMIT 1";

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Newest first, before a position.
    Newest,
    /// Oldest first, after a position.
    Oldest,
}

impl Order {
    /// Returns the comparison with a position and the direction, in SQL.
    fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Newest => ("<", "DESC"),
            Self::Oldest => (">", "ASC"),
        }
    }
}

/// A part of a list, in its order.
#[derive(Default)]
pub(super) struct Scanned {
    pub(super) events: Vec<StoredEvent>,
    /// The position after which the list continues, if it does.
    pub(super) horizon: Option<i64>,
}

/// The parameters of a scan.
pub(super) struct Scan<'s> {
    pub(super) filter: &'s EventFilter,
    pub(super) order: Order,
    /// The position before or after which it begins.
    pub(super) from: i64,
    /// The number of events after which the scan ends.
    pub(super) wanted: usize,
    /// Whether the leases belong to an earlier host session.
    pub(super) void: bool,
}

impl Scan<'_> {
    /// Reads rows until there are enough matching events, or until this list, one of `lists`, has
    /// used its share of the rows or of the bytes of one call.
    fn read(&self, connection: &Connection, sql: &str, params: impl Params, lists: usize) -> Sql<Scanned> {
        let most = (EVENTS_SCANNED_MAX / lists.max(1)).max(1);
        let mut room = EVENT_PAGE_BYTES_MAX / lists.max(1);
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let (mut scanned, mut count) = (Scanned::default(), 0);
        while let Some(row) = rows.next()? {
            let event = stored(row, self.void)?;
            let seq = event.seq.0;
            let mut is_full = false;
            if matches(self.filter, &event) {
                is_full = event.bytes() >= room;
                room = room.saturating_sub(event.bytes());
                scanned.events.push(event);
            }
            count += 1;
            if is_full || count == most || scanned.events.len() == self.wanted {
                scanned.horizon = Some(seq);
                break;
            }
        }
        Ok(scanned)
    }
}

/// Returns whether the leases in the database belong to an earlier host session.
pub(super) fn are_leases_void(connection: &Connection, session: i64) -> Sql<bool> {
    let found: Option<i64> = first(connection, "SELECT session FROM event_state", [], |row| Ok(row.get(0)?))?;
    Ok(found != Some(session))
}

/// Returns whether the filter selects the event.
fn matches(filter: &EventFilter, event: &StoredEvent) -> bool {
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
    let scan = Scan { filter, order: Order::Newest, from: before, wanted: page.items() as usize + 1, void };
    let states: &[RowState] = match filter.state {
        Some(EventState::Ready) if void => &[RowState::Ready, RowState::Blocked, RowState::Leased],
        Some(EventState::Ready) => &[RowState::Ready, RowState::Blocked],
        Some(EventState::Leased) if void => &[],
        Some(EventState::Leased) => &[RowState::Leased],
        Some(EventState::Dead) => &[RowState::Dead],
        Some(EventState::Delayed) => &[RowState::Retry, RowState::Scheduled],
        Some(EventState::Done) => &[RowState::Done],
        Some(EventState::Cancelled) => &[RowState::Cancelled],
        None => return Ok(paged(by_position(connection, &scan)?, page)),
    };
    Ok(paged(by_state(connection, &scan, states)?, page))
}

fn paged(scanned: Scanned, page: &Page) -> Paged<StoredEvent> {
    let mut paged = Paged::from_one_more(scanned.events, page, |event: &StoredEvent| event.seq.0.to_string());
    if paged.next.is_none() {
        paged.next = scanned.horizon.map(|seq| seq.to_string());
    }
    paged
}

/// Returns events in the order of their positions; only those with the filter's id, if it has one.
fn by_position(connection: &Connection, scan: &Scan<'_>) -> Sql<Scanned> {
    let filter = scan.filter;
    let Some(id) = &filter.id else {
        return scan.read(connection, &by_position_sql(scan.order), [scan.from], 1);
    };
    let sql = by_id_sql(scan.order, filter.source.is_some());
    scan.read(connection, &sql, params![id, filter.source, scan.from, EVENTS_SCANNED_MAX as i64], 1)
}

pub(super) fn by_position_sql(order: Order) -> String {
    let (comparison, direction) = order.sql();
    format!("SELECT {STORED} FROM events WHERE seq {comparison} ?1 ORDER BY seq {direction}")
}

/// Selects events with an id. The index is ordered by source, so events of several sources must be
/// sorted. Only their positions are sorted, and only as many as one call reads.
pub(super) fn by_id_sql(order: Order, has_source: bool) -> String {
    let (comparison, direction) = order.sql();
    let and_source = if has_source { "AND source = ?2" } else { "AND ?2 IS NULL" };
    format!(
        "SELECT {STORED} FROM events WHERE seq IN (\
         SELECT seq FROM events INDEXED BY events_by_id \
         WHERE id = ?1 {and_source} AND seq {comparison} ?3 ORDER BY seq {direction} LIMIT ?4) \
         ORDER BY seq {direction}"
    )
}

/// Returns events in these states, in the order of their positions.
pub(super) fn by_state(connection: &Connection, scan: &Scan<'_>, states: &[RowState]) -> Sql<Scanned> {
    if scan.filter.id.is_some() {
        return by_position(connection, scan);
    }
    let lists = by_state_sql(connection, scan, states)?;
    let mut merged = Scanned::default();
    for sql in &lists {
        let part = scan.read(connection, sql, [scan.from], lists.len())?;
        // This list may have unread events beyond its horizon.
        merged.horizon = match (merged.horizon, part.horizon, scan.order) {
            (Some(one), Some(other), Order::Newest) => Some(one.max(other)),
            (Some(one), Some(other), Order::Oldest) => Some(one.min(other)),
            (one, other, _) => one.or(other),
        };
        merged.events.extend(part.events);
    }
    let horizon = merged.horizon;
    merged.events.retain(|event| {
        horizon.is_none_or(|horizon| match scan.order {
            Order::Newest => event.seq.0 >= horizon,
            Order::Oldest => event.seq.0 <= horizon,
        })
    });
    merged.events.sort_by_key(|event| event.seq);
    if scan.order == Order::Newest {
        merged.events.reverse();
    }
    Ok(merged)
}

/// Returns a statement for each part of the table with rows in these states.
pub(super) fn by_state_sql(connection: &Connection, scan: &Scan<'_>, states: &[RowState]) -> Sql<Vec<String>> {
    let (comparison, direction) = scan.order.sql();
    let clauses = list_clauses(connection, scan, states)?.into_iter();
    let select =
        |clause| format!("SELECT {STORED} FROM events {clause} AND seq {comparison} ?1 ORDER BY seq {direction}");
    Ok(clauses.map(select).collect())
}

/// Returns SQL clauses that select the rows in these states, each in the order of an index: of one
/// process type, or of all process types for a state that `events_listed` contains.
fn list_clauses(connection: &Connection, scan: &Scan<'_>, states: &[RowState]) -> Sql<Vec<String>> {
    let queues = queues(connection)?;
    let is_wanted = |name: &ProcessName| scan.filter.process.as_ref().is_none_or(|wanted| wanted == name);
    let mut lists = Vec::new();
    for state in states {
        let number = *state as i64;
        match state {
            RowState::Ready | RowState::Leased | RowState::Blocked | RowState::Dead => {
                let queues = queues.iter().filter(|(_, name)| is_wanted(name));
                lists.extend(queues.map(|(process, _)| {
                    format!(
                        "INDEXED BY events_kept WHERE process = {process} AND state = {number} AND state <= 5 \
                         AND due_at IS NULL"
                    )
                }));
            }
            RowState::Retry | RowState::Scheduled => {
                lists.push(format!("INDEXED BY events_listed WHERE state = {number}"));
            }
            RowState::Done | RowState::Cancelled => {
                lists.push(format!("INDEXED BY events_listed WHERE state = {number} AND state >= 6"));
            }
        }
    }
    Ok(lists)
}

fn queues(connection: &Connection) -> Sql<Vec<(i64, ProcessName)>> {
    all(connection, "SELECT process, name FROM queues", [], |row| Ok((row.get("process")?, parsed(row, "name")?)))
}

/// Returns the last accepted event with the filter's id.
pub(super) fn get(connection: &Connection, filter: &EventFilter, void: bool) -> Sql<Option<StoredEvent>> {
    let scan = Scan { filter, order: Order::Newest, from: i64::MAX, wanted: 1, void };
    Ok(by_position(connection, &scan)?.events.pop())
}

/// Selects the events of a source with the greatest ids in a range, newest first. Only a bounded
/// number of ids is read, whatever their sources.
pub(super) fn id_range_sql() -> String {
    format!(
        "SELECT {STORED} FROM events WHERE seq IN (\
         SELECT seq FROM (SELECT seq, id, source FROM events INDEXED BY events_by_id \
         WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?5) WHERE source = ?3 ORDER BY id DESC LIMIT ?4) \
         ORDER BY seq DESC"
    )
}

/// Returns the events of a source with the greatest ids that begin with `prefix`, newest first.
pub(super) fn with_id_prefix(
    connection: &Connection,
    source: &str,
    prefix: &str,
    most: usize,
    void: bool,
) -> Sql<Vec<StoredEvent>> {
    let end = format!("{prefix}{}", char::MAX);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let range = params![prefix, end, source, most, EVENTS_SCANNED_MAX as i64];
    all(connection, &id_range_sql(), range, |row| stored(row, void))
}

/// Expired events that are still waiting.
#[derive(Debug, Default)]
pub(super) struct Expired {
    pub(super) events: Vec<EventSeq>,
    /// The position after which the search continues. `None` if it has reached the end.
    pub(super) next: Option<EventSeq>,
}

/// Finds expired events among a bounded number of waiting events after a position.
pub(super) fn expired(connection: &Connection, after: Option<EventSeq>, now: i64) -> Sql<Expired> {
    let (filter, from) = (EventFilter::default(), after.map_or(0, |seq| seq.0));
    let scan = Scan { filter: &filter, order: Order::Oldest, from, wanted: usize::MAX, void: false };
    let waiting = [RowState::Ready, RowState::Retry, RowState::Blocked, RowState::Scheduled];
    let scanned = by_state(connection, &scan, &waiting)?;
    let is_expired = |event: &StoredEvent| event.expires_at.is_some_and(|at| millis(at) <= now);
    let mut events: Vec<EventSeq> =
        scanned.events.iter().filter(|event| is_expired(event)).map(|event| event.seq).collect();
    let mut next = scanned.horizon.map(EventSeq);
    if events.len() > EVENTS_SWEPT_MAX {
        events.truncate(EVENTS_SWEPT_MAX);
        next = events.last().copied();
    }
    Ok(Expired { events, next })
}

/// Returns the event at a position, in a transaction of this host session.
pub(super) fn at(connection: &Connection, seq: EventSeq) -> Sql<Option<StoredEvent>> {
    let sql = format!("SELECT {STORED} FROM events WHERE seq = ?1");
    first(connection, &sql, [seq.0], |row| stored(row, false))
}

/// Returns the content of an event, if it is kept.
pub(super) fn payload_of(connection: &Connection, seq: EventSeq) -> Sql<Option<EventPayload>> {
    first(connection, "SELECT attributes, data FROM payloads WHERE seq = ?1", [seq.0], payload)
}

/// Returns when the next delayed event of a queue is due, in milliseconds.
pub(super) fn next_due(connection: &Connection, process: i64) -> Sql<Option<i64>> {
    let mut due = None;
    for state in [RowState::Retry, RowState::Scheduled] {
        let next: Option<i64> = first(connection, NEXT_DUE, params![process, state], |row| Ok(row.get(0)?))?;
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
        let oldest_in = |state: RowState| -> Sql<Option<i64>> {
            first(connection, OLDEST, params![process, state], |row| Ok(row.get(0)?))
        };
        let [ready_since, leased_since] = [oldest_in(RowState::Ready)?, oldest_in(RowState::Leased)?];
        let oldest = [ready_since, leased_since, oldest_in(RowState::Blocked)?].into_iter().flatten().min();
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let (ready, leased) = if void { (counts.ready + counts.leased, 0) } else { (counts.ready, counts.leased) };
        stats.push(QueueStats {
            process: name.clone(),
            ready: number(ready),
            delayed: number(counts.delayed),
            leased: number(leased),
            dead: number(counts.dead),
            bytes: number(counts.bytes),
            oldest_accepted_at: oldest.map(timestamp),
            next_due: next_due(connection, process)?.map(timestamp),
            has_claimable: ready_since.is_some() || (void && leased_since.is_some()),
        });
    }
    Ok(stats)
}

/// Returns the counts of each queue like [`stats`]. If the clock was set back, delayed events are
/// due, since a claim shifts their times.
pub(super) fn stats_at(connection: &Connection, now: i64, void: bool) -> Sql<Vec<QueueStats>> {
    let mut stats = stats(connection, void)?;
    if has_clock_gone_back(connection, now)? {
        let now = timestamp(now);
        stats.iter_mut().for_each(|of| of.next_due = of.next_due.map(|due| due.min(now)));
    }
    Ok(stats)
}
