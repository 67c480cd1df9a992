//! A change of one app's queue inside a transaction. Owns the counters of each process type, which
//! change together with the rows. Never commits.

use std::collections::BTreeMap;

use isopod_policy::ProcessName;
use rusqlite::{Connection, Row, params};

use super::row::RowState;
use crate::StoreError;
use crate::limits::CLOCK_STEP_MS;
use crate::sql::{Sql, all, first};

/// A change of the queue. Must be finished for the counters to be written.
pub(super) struct QueueChange<'c> {
    pub(super) connection: &'c Connection,
    /// The caller's time, in milliseconds.
    pub(super) now: i64,
    next_seq: i64,
    session: i64,
    /// The latest time of a change.
    clock: i64,
    is_first: bool,
    is_state_changed: bool,
    counts: BTreeMap<i64, Counts>,
    processes: BTreeMap<ProcessName, i64>,
}

/// A saved copy of the counts, to restore them if a part of the change is rolled back.
pub(super) struct Snapshot {
    next_seq: i64,
    counts: BTreeMap<i64, Counts>,
    processes: BTreeMap<ProcessName, i64>,
}

/// The counts of a process type, or changes of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ready: i64,
    pub(super) delayed: i64,
    pub(super) leased: i64,
    pub(super) dead: i64,
    pub(super) ended: i64,
    pub(super) bytes: i64,
}

impl Counts {
    fn of(&mut self, state: RowState) -> &mut i64 {
        match state {
            RowState::Ready | RowState::Blocked => &mut self.ready,
            RowState::Retry | RowState::Scheduled => &mut self.delayed,
            RowState::Leased => &mut self.leased,
            RowState::Dead => &mut self.dead,
            RowState::Done | RowState::Cancelled => &mut self.ended,
        }
    }

    /// Returns the number of events whose content is kept.
    pub(super) fn kept(&self) -> i64 {
        self.ready + self.delayed + self.leased + self.dead
    }
}

impl<'c> QueueChange<'c> {
    /// Begins a change.
    pub(super) fn begin(connection: &'c Connection, session: i64, now: i64) -> Sql<Self> {
        let sql = "SELECT next_seq, session, clock FROM event_state";
        let row: Option<(i64, i64, i64)> =
            first(connection, sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (next_seq, found, clock) = row.ok_or_else(|| StoreError::damaged("event_state has no row"))?;
        let (is_first, counts, processes) = (found != session, BTreeMap::new(), BTreeMap::new());
        let mut change =
            Self { connection, now, next_seq, session, clock, is_first, is_state_changed: is_first, counts, processes };
        if now > clock + CLOCK_STEP_MS {
            change.set_clock();
        }
        Ok(change)
    }

    /// Returns whether this is the queue's first change in its host session: all leases are void.
    pub(super) fn is_first_of_session(&self) -> bool {
        self.is_first
    }

    /// Returns whether the caller's clock was set back since the last change.
    pub(super) fn has_clock_gone_back(&self) -> bool {
        is_earlier(self.now, self.clock)
    }

    pub(super) fn set_clock(&mut self) {
        self.clock = self.now;
        self.is_state_changed = true;
    }

    pub(super) fn next_seq(&mut self) -> i64 {
        self.is_state_changed = true;
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Returns the number of a process type's queue, if it has one.
    pub(super) fn process(&self, name: &ProcessName) -> Sql<Option<i64>> {
        let sql = "SELECT process FROM queues WHERE name = ?1";
        first(self.connection, sql, [name.as_str()], |row| Ok(row.get(0)?))
    }

    /// Returns the number of a process type's queue. Creates the queue for its first event.
    pub(super) fn process_or_new(&mut self, name: &ProcessName) -> Sql<i64> {
        if let Some(process) = self.processes.get(name) {
            return Ok(*process);
        }
        let process = match self.process(name)? {
            Some(process) => process,
            None => {
                let sql = "INSERT INTO queues (name) VALUES (?1)";
                self.connection.prepare_cached(sql)?.insert([name.as_str()])?
            }
        };
        self.processes.insert(name.clone(), process);
        Ok(process)
    }

    /// Counts the transition of an event's row; `None` stands for no row.
    pub(super) fn count(&mut self, process: i64, from: Option<RowState>, to: Option<RowState>, bytes: i64) {
        let counts = self.counts.entry(process).or_default();
        let is_kept = |state: Option<RowState>| {
            i64::from(state.is_some_and(|state| !matches!(state, RowState::Done | RowState::Cancelled)))
        };
        counts.bytes += bytes * (is_kept(to) - is_kept(from));
        if let Some(from) = from {
            *counts.of(from) -= 1;
        }
        if let Some(to) = to {
            *counts.of(to) += 1;
        }
    }

    /// Returns the sums of the counts of all process types. Also caches the numbers of their
    /// queues, which saves [`QueueChange::process_or_new`] a query.
    pub(super) fn totals(&mut self) -> Sql<Counts> {
        let sql = "SELECT process, ready, delayed, leased, dead, ended, bytes, name FROM queues";
        let queues = all(self.connection, sql, [], |row| {
            let name = row.get_ref(7)?.as_str().ok().and_then(|name| name.parse::<ProcessName>().ok());
            Ok((row.get(0)?, counts_of(row)?, name))
        })?;
        let mut totals = Counts::default();
        for (process, counts, name) in queues {
            totals.add(counts);
            self.processes.extend(name.map(|name| (name, process)));
        }
        for counts in self.counts.values() {
            totals.add(*counts);
        }
        Ok(totals)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { next_seq: self.next_seq, counts: self.counts.clone(), processes: self.processes.clone() }
    }

    /// Restores the saved counts after a part of the change was rolled back.
    pub(super) fn restore(&mut self, snapshot: Snapshot) {
        Snapshot { next_seq: self.next_seq, counts: self.counts, processes: self.processes } = snapshot;
    }

    /// Writes the counters.
    pub(super) fn finish(self) -> Sql<()> {
        for (process, counts) in self.counts {
            if counts == Counts::default() {
                continue;
            }
            let Counts { ready, delayed, leased, dead, ended, bytes } = counts;
            let sql = "UPDATE queues SET ready = ready + ?2, delayed = delayed + ?3, leased = leased + ?4, \
                       dead = dead + ?5, ended = ended + ?6, bytes = bytes + ?7 WHERE process = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute(params![process, ready, delayed, leased, dead, ended, bytes])?;
        }
        if self.is_state_changed {
            let sql = "UPDATE event_state SET next_seq = ?1, session = ?2, clock = ?3";
            self.connection.prepare_cached(sql)?.execute([self.next_seq, self.session, self.clock])?;
        }
        Ok(())
    }
}

/// Returns whether the clock was set back since the queue's last change.
pub(super) fn has_clock_gone_back(connection: &Connection, now: i64) -> Sql<bool> {
    let clock = first(connection, "SELECT clock FROM event_state", [], |row| Ok(row.get::<_, i64>(0)?))?;
    Ok(clock.is_some_and(|clock| is_earlier(now, clock)))
}

fn is_earlier(now: i64, clock: i64) -> bool {
    now + CLOCK_STEP_MS < clock
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.ready += other.ready;
        self.delayed += other.delayed;
        self.leased += other.leased;
        self.dead += other.dead;
        self.ended += other.ended;
        self.bytes += other.bytes;
    }
}

/// Returns the stored counts of each process type's queue.
pub(super) fn stored_counts(connection: &Connection) -> Sql<Vec<(i64, Counts)>> {
    let sql = "SELECT process, ready, delayed, leased, dead, ended, bytes FROM queues";
    all(connection, sql, [], |row| Ok((row.get(0)?, counts_of(row)?)))
}

/// Reads counts from the columns after the first one.
fn counts_of(row: &Row<'_>) -> Sql<Counts> {
    Ok(Counts {
        ready: row.get(1)?,
        delayed: row.get(2)?,
        leased: row.get(3)?,
        dead: row.get(4)?,
        ended: row.get(5)?,
        bytes: row.get(6)?,
    })
}
