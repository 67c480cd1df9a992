//! Settles deliveries: the outcome of an event, with the effects of its handler, in one
//! transaction. Owns the check of read keys. Never decides whether an event is retried.

use rusqlite::params;

use super::accept;
use super::counters::QueueChange;
use super::ended::{Waiting, end, waiting_row};
use super::model::{Accepted, Effects, Lease, Outcome, Settled, shortened};
use super::row::{RowState, millis};
use crate::StoreError;
use crate::kv::{self, tables};
use crate::sql::{Sql, first};

/// The row of a leased event.
struct Leased {
    waiting: Waiting,
    lease: Option<i64>,
    expires_at: Option<i64>,
    repeats: u32,
    error: Option<String>,
}

/// Refuses effects that exceed a limit of the store, before a transaction begins.
pub(super) fn check(outcome: &Outcome) -> Result<(), StoreError> {
    let Outcome::Done { effects } = outcome else { return Ok(()) };
    let Effects { reads, writes, emitted } = effects;
    reads.iter().try_for_each(|read| kv::check(&read.bucket, &read.key))?;
    for write in writes {
        kv::check(&write.bucket, &write.key)?;
        write.value.as_deref().map_or(Ok(()), kv::check_value)?;
    }
    accept::check(emitted)
}

/// Settles one delivery.
pub(super) fn settle(change: &mut QueueChange<'_>, lease: Lease, outcome: Outcome) -> Sql<Settled> {
    let Some(leased) = leased(change, lease.seq.0)? else { return Ok(Settled::LeaseLost) };
    if leased.waiting.state != RowState::Leased || leased.lease != Some(lease.number) {
        return Ok(Settled::LeaseLost);
    }
    let mut has_emitted = false;
    match outcome {
        Outcome::Done { effects } => {
            if has_conflict(change, &effects)? {
                return Ok(Settled::Conflict);
            }
            has_emitted = apply(change, &leased.waiting, effects)?;
            end(change, &leased.waiting, RowState::Done, None)?;
        }
        Outcome::Retry { at, error, is_counted } => retry(change, &leased, millis(at), error, is_counted)?,
        Outcome::Dead { error } => end(change, &leased.waiting, RowState::Dead, Some(&error))?,
    }
    Ok(Settled::Committed { has_emitted })
}

fn leased(change: &QueueChange<'_>, seq: i64) -> Sql<Option<Leased>> {
    let sql = "SELECT seq, process, state, ordered, subject, bytes, lease, expires_at, repeats, error \
               FROM events WHERE seq = ?1";
    first(change.connection, sql, [seq], |row| {
        Ok(Leased {
            waiting: waiting_row(row)?,
            lease: row.get("lease")?,
            expires_at: row.get("expires_at")?,
            repeats: row.get("repeats")?,
            error: row.get("error")?,
        })
    })
}

/// Returns whether a key that the handler read has changed since.
fn has_conflict(change: &QueueChange<'_>, effects: &Effects) -> Sql<bool> {
    for read in &effects.reads {
        let value = tables::get(change.connection, &read.bucket, &read.key)?;
        if kv::ValueVersion::of(value.as_deref()) != read.version {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies the effects of the handler of an event that then ends. Returns whether they added events
/// to the queue.
fn apply(change: &mut QueueChange<'_>, ending: &Waiting, effects: Effects) -> Sql<bool> {
    let Effects { reads: _, writes, emitted } = effects;
    let written = writes.iter().map(|write| (&*write.bucket, &*write.key, write.value.as_deref()));
    tables::write_all(change.connection, written)?;
    if emitted.is_empty() {
        return Ok(false);
    }
    let emitted = accept::accept_for(change, ending, emitted)?;
    Ok(emitted.iter().any(|accepted| matches!(accepted, Accepted::New { .. })))
}

fn retry(change: &mut QueueChange<'_>, leased: &Leased, at: i64, error: String, is_counted: bool) -> Sql<()> {
    let Leased { waiting, expires_at, .. } = leased;
    let due_at = at.min(expires_at.unwrap_or(i64::MAX));
    let (state, due_at) = if due_at > change.now { (RowState::Retry, Some(due_at)) } else { (RowState::Ready, None) };
    let error = Some(shortened(&error).to_owned()).filter(|error| !error.is_empty());
    let (error, repeats) = match (error, is_counted) {
        (None, _) => (leased.error.clone(), leased.repeats),
        (Some(error), true) if leased.error.as_deref() == Some(&error) => (Some(error), leased.repeats + 1),
        (Some(error), true) => (Some(error), 1),
        (Some(error), false) => (Some(error), 0),
    };
    let sql = "UPDATE events SET state = ?2, due_at = ?3, since = ?4, attempt = attempt - ?5, error = ?6, \
               repeats = ?7, lease = NULL WHERE seq = ?1";
    change.connection.prepare_cached(sql)?.execute(params![
        waiting.seq,
        state,
        due_at,
        change.now,
        u8::from(!is_counted),
        error,
        repeats
    ])?;
    change.count(waiting.process, Some(RowState::Leased), Some(state), waiting.bytes);
    Ok(())
}
