//! Claims due events. Owns their order, the end of delays, and expiry. Never settles a delivery.

use rusqlite::params;

use super::counters::QueueChange;
use super::ended::{Waiting, cancel, waiting_row};
use super::line::place;
use super::model::{CancelReason, Claim, Claimed, Event, EventPayload, EventSeq, LastError, Lease};
use super::row::{RowState, millis, payload, timestamp};
use crate::limits::{CLAIM_BYTES_MAX, CLAIMS_MAX, EVENTS_MADE_READY_MAX};
use crate::sql::{Sql, all, first};

pub(super) const READY: &str = "SELECT seq, ordered, attempt, attempts_max, bytes, accepted_at, expires_at, id, \
     source, type, subject, repeats, error FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = 0 AND state <= 5 AND due_at IS NULL ORDER BY seq LIMIT ?2";
pub(super) const DUE: &str = "SELECT seq, ordered, subject, bytes FROM events INDEXED BY events_kept \
     WHERE process = ?1 AND state = ?2 AND state <= 5 AND due_at <= ?3 ORDER BY due_at LIMIT ?4";

/// Leases due events of a process type's queue.
pub(super) fn claim(
    change: &mut QueueChange<'_>,
    process: i64,
    most: usize,
    mut lease: impl FnMut() -> i64,
) -> Sql<Claimed> {
    let most = most.min(CLAIMS_MAX);
    let due = make_due_ready(change, process)?;
    let found = all(change.connection, READY, params![process, i64::try_from(most).unwrap_or(i64::MAX)], ready)?;
    let mut claimed = Claimed { has_more: due == EVENTS_MADE_READY_MAX || found.len() == most, ..Claimed::default() };
    let mut bytes = 0;
    for row in found {
        if row.claim.expires_at.is_some_and(|at| millis(at) <= change.now) {
            let waiting = Waiting {
                seq: row.claim.lease.seq.0,
                process,
                state: RowState::Ready,
                line: row.claim.event.subject.filter(|_| row.is_ordered),
                bytes: row.bytes,
            };
            cancel(change, &waiting, CancelReason::Expiry)?;
            // An event of the same subject may have become ready.
            claimed.has_more = true;
            continue;
        }
        bytes += row.bytes;
        if bytes > CLAIM_BYTES_MAX && !claimed.claims.is_empty() {
            claimed.has_more = true;
            break;
        }
        claimed.claims.push(take(change, process, row, lease())?);
    }
    claimed.next_due = next_due(change, process)?;
    Ok(claimed)
}

/// Cancels the given events that are still waiting and have expired. Returns their number.
pub(super) fn cancel_expired(change: &mut QueueChange<'_>, events: &[EventSeq]) -> Sql<u64> {
    let mut cancelled = 0;
    for EventSeq(seq) in events {
        let sql = "SELECT seq, process, state, ordered, subject, bytes FROM events WHERE seq = ?1 AND expires_at <= ?2";
        let found = first(change.connection, sql, params![seq, change.now], waiting_row)?;
        if let Some(waiting) = found.filter(|found| found.state.is_active() && found.state != RowState::Leased) {
            cancel(change, &waiting, CancelReason::Expiry)?;
            cancelled += 1;
        }
    }
    Ok(cancelled)
}

/// A row that may be claimed.
struct Ready {
    claim: Claim,
    is_ordered: bool,
    bytes: i64,
}

fn ready(row: &rusqlite::Row<'_>) -> Sql<Ready> {
    let error: Option<String> = row.get("error")?;
    let repeats: u32 = row.get("repeats")?;
    let attempt: u32 = row.get("attempt")?;
    Ok(Ready {
        is_ordered: row.get("ordered")?,
        bytes: row.get("bytes")?,
        claim: Claim {
            lease: Lease { seq: EventSeq(row.get("seq")?), number: 0 },
            attempt: attempt.saturating_add(1),
            attempts_max: row.get("attempts_max")?,
            accepted_at: timestamp(row.get("accepted_at")?),
            expires_at: row.get::<_, Option<i64>>("expires_at")?.map(timestamp),
            event: Event {
                id: row.get("id")?,
                source: row.get("source")?,
                event_type: row.get("type")?,
                subject: row.get("subject")?,
                payload: EventPayload::default(),
            },
            last_error: error.map(|text| LastError { text, repeats }),
        },
    })
}

fn take(change: &mut QueueChange<'_>, process: i64, row: Ready, number: i64) -> Sql<Claim> {
    let mut claim = row.claim;
    claim.lease.number = number;
    let seq = claim.lease.seq.0;
    let sql = "UPDATE events SET state = ?2, attempt = ?3, lease = ?4, since = ?5 WHERE seq = ?1";
    let mut statement = change.connection.prepare_cached(sql)?;
    statement.execute(params![seq, RowState::Leased, claim.attempt, number, change.now])?;
    let sql = "SELECT attributes, data FROM payloads WHERE seq = ?1";
    claim.event.payload = first(change.connection, sql, [seq], payload)?.unwrap_or_default();
    change.count(process, Some(RowState::Ready), Some(RowState::Leased), row.bytes);
    Ok(claim)
}

/// Makes due delayed events ready, and returns their number.
fn make_due_ready(change: &mut QueueChange<'_>, process: i64) -> Sql<usize> {
    let mut count = 0;
    for state in [RowState::Retry, RowState::Scheduled] {
        let limit = i64::try_from(EVENTS_MADE_READY_MAX - count).unwrap_or(0);
        let due = all(change.connection, DUE, params![process, state, change.now, limit], |row| {
            let subject: Option<String> = row.get(2)?;
            Ok((row.get::<_, i64>(0)?, subject.filter(|_| row.get(1) == Ok(true)), row.get::<_, i64>(3)?))
        })?;
        count += due.len();
        for (seq, line, bytes) in due {
            // A retried event is already the head of its line.
            let line = line.filter(|_| state == RowState::Scheduled);
            let to = place(change, process, line.as_deref())?;
            let sql = "UPDATE events SET state = ?2, due_at = NULL, since = ?3 WHERE seq = ?1";
            change.connection.prepare_cached(sql)?.execute(params![seq, to, change.now])?;
            change.count(process, Some(state), Some(to), bytes);
        }
    }
    Ok(count)
}

/// Returns when the next delayed event of a queue is due.
fn next_due(change: &QueueChange<'_>, process: i64) -> Sql<Option<jiff::Timestamp>> {
    Ok(super::list::next_due(change.connection, process)?.map(timestamp))
}
