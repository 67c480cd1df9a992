//! The backend of the event queues in SQLite, in each app's database. Owns the host session, whose
//! end voids all leases. Creates a database only for a queue's first event.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use isopod_policy::{AppName, ProcessName};
use jiff::Timestamp;
use rusqlite::Connection;

use super::accept;
use super::claim;
use super::counters::QueueChange;
use super::ended;
use super::list;
use super::maintenance::{self, ShiftCursor};
use super::model::{
    Accepted, AppQueue, CancelReason, Cancelled, Claimed, DeadChange, EventFilter, EventPayload, EventSeq, Lease,
    NewEvent, Outcome, QueueStats, Settled, StoredEvent, Swept,
};
use super::queue::EventQueue;
use super::row::millis;
use super::settle;
use crate::app_database::{AppDatabase, AppDatabases, shrink};
use crate::files::blocking;
use crate::sql::{Durability, Sql, SqlError};
use crate::{Page, Paged, StoreError};

/// The event queues at `apps/<app>/kv.db`, beside the app's key-value entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    databases: AppDatabases,
    session: Arc<Session>,
}

/// A run of the host.
#[derive(Debug)]
struct Session {
    id: i64,
    /// The number of the next lease. It starts at a random number, so that leases of other sessions
    /// don't match.
    leases: AtomicI64,
}

impl Events {
    pub(crate) fn of(databases: AppDatabases) -> Self {
        let id = crate::identity::new_session();
        let session = Session { id, leases: AtomicI64::new(id) };
        Self { databases, session: Arc::new(session) }
    }

    /// Changes a queue in one transaction, and returns once it is synced.
    async fn change<T: Send + 'static>(
        &self,
        database: Arc<AppDatabase>,
        now: Timestamp,
        work: impl FnOnce(&mut QueueChange<'_>) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_with(Durability::Synced, database, now, work).await
    }

    /// Changes a queue in one transaction.
    async fn change_with<T: Send + 'static>(
        &self,
        durability: Durability,
        database: Arc<AppDatabase>,
        now: Timestamp,
        work: impl FnOnce(&mut QueueChange<'_>) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let session = self.session.id;
        let write = move |connection: &Connection| {
            let mut change = QueueChange::begin(connection, session, millis(now))?;
            if change.is_first_of_session() {
                maintenance::free_void_leases(&mut change)?;
            }
            let outcome = work(&mut change)?;
            change.finish()?;
            Ok(outcome)
        };
        database.write_with(durability, write).await
    }

    /// Reads a queue, if the app has a database. `work` receives whether all leases are void.
    async fn read<T: Default + Send + 'static>(
        &self,
        app: &AppName,
        work: impl FnOnce(&Connection, bool) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(T::default()) };
        let session = self.session.id;
        database.read(move |connection| work(connection, list::are_leases_void(connection, session)?)).await
    }
}

#[async_trait]
impl EventQueue for Events {
    async fn accept(&self, app: &AppName, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Accepted>, StoreError> {
        accept::check(&events)?;
        let database = self.databases.database(app).await?;
        self.change(database, now, move |change| accept::accept(change, events)).await
    }

    async fn accept_one(
        &self,
        app: &AppName,
        event: NewEvent,
        now: Timestamp,
    ) -> Result<(Accepted, StoredEvent), StoreError> {
        accept::check(std::slice::from_ref(&event))?;
        let database = self.databases.database(app).await?;
        self.change(database, now, move |change| accept::accept_one(change, event)).await
    }

    async fn claim(
        &self,
        app: &AppName,
        process: &ProcessName,
        most: usize,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(Claimed::default()) };
        let mut are_delays_shifted = false;
        loop {
            let (process, session) = (process.clone(), Arc::clone(&self.session));
            // A claim counts the attempt, so that an event whose handler crashes the host is
            // counted too. A claim isn't synced: after a power failure, the event is claimed again.
            let claimed = self.change_with(Durability::Unsynced, Arc::clone(&database), now, move |change| {
                if change.has_clock_gone_back() {
                    return Ok(None);
                }
                let Some(process) = change.process(&process)? else { return Ok(Some(Claimed::default())) };
                let lease = || session.leases.fetch_add(1, Ordering::Relaxed);
                claim::claim(change, process, most, lease).map(Some)
            });
            if let Some(claimed) = claimed.await? {
                // The shift has also changed the times of other process types, which the caller
                // doesn't know.
                return Ok(Claimed { has_more: claimed.has_more || are_delays_shifted, ..claimed });
            }
            are_delays_shifted = true;
            let mut next = Some(ShiftCursor::default());
            while let Some(cursor) = next {
                let database = Arc::clone(&database);
                next = self.change(database, now, move |change| maintenance::shift_delays(change, cursor)).await?;
            }
        }
    }

    async fn settle_all(
        &self,
        app: &AppName,
        outcomes: Vec<(Lease, Outcome)>,
        now: Timestamp,
    ) -> Result<Vec<Result<Settled, StoreError>>, StoreError> {
        let Some(database) = self.databases.existing(app).await? else {
            return Ok(outcomes.iter().map(|_| Ok(Settled::LeaseLost)).collect());
        };
        let path = database.path().to_owned();
        let settle = move |change: &mut QueueChange<'_>| {
            let mut results = Vec::with_capacity(outcomes.len());
            for (lease, outcome) in outcomes {
                results.push(match settle::check(&outcome) {
                    Err(error) => Err(error),
                    // An outcome without effects can fail only together with the transaction.
                    Ok(()) if !outcome.has_effects() => Ok(settle::settle(change, lease, outcome)?),
                    Ok(()) => in_savepoint(change, |change| settle::settle(change, lease, outcome))?
                        .map_err(|error| error.explain(&path)),
                });
            }
            Ok(results)
        };
        // A power failure undoes an outcome together with its effects, and the event is delivered
        // again.
        self.change_with(Durability::Unsynced, database, now, settle).await
    }

    async fn sync(&self, app: &AppName, now: Timestamp) -> Result<(), StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(()) };
        // Skips one position, so that the commit contains a change: SQLite doesn't sync a commit
        // without one.
        self.change(database, now, |change| Ok(change.next_seq())).await.map(drop)
    }

    async fn cancel(
        &self,
        app: &AppName,
        seq: EventSeq,
        reason: CancelReason,
        now: Timestamp,
    ) -> Result<Cancelled, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(Cancelled::Unknown) };
        self.change(database, now, move |change| maintenance::cancel(change, seq, reason)).await
    }

    async fn get(&self, app: &AppName, id: &str, source: Option<&str>) -> Result<Option<StoredEvent>, StoreError> {
        let filter =
            EventFilter { id: Some(id.to_owned()), source: source.map(str::to_owned), ..EventFilter::default() };
        self.read(app, move |connection, void| list::get(connection, &filter, void)).await
    }

    async fn payload(&self, app: &AppName, seq: EventSeq) -> Result<Option<EventPayload>, StoreError> {
        self.read(app, move |connection, _| list::payload_of(connection, seq)).await
    }

    async fn list(&self, app: &AppName, filter: EventFilter, page: Page) -> Result<Paged<StoredEvent>, StoreError> {
        let before = page.number(i64::MAX)?;
        let list = move |connection: &Connection, void| list::list(connection, &filter, &page, before, void).map(Some);
        let paged = self.read(app, list).await?;
        Ok(paged.unwrap_or(Paged { items: Vec::new(), next: None }))
    }

    async fn with_id_prefix(
        &self,
        app: &AppName,
        source: &str,
        prefix: &str,
        most: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let (source, prefix) = (source.to_owned(), prefix.to_owned());
        self.read(app, move |connection, void| list::with_id_prefix(connection, &source, &prefix, most, void)).await
    }

    async fn change_dead(
        &self,
        app: &AppName,
        what: DeadChange,
        filter: EventFilter,
        after: Option<EventSeq>,
        most: usize,
        now: Timestamp,
    ) -> Result<Swept, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(Swept::default()) };
        self.change(database, now, move |change| maintenance::change_dead(change, what, &filter, after, most)).await
    }

    async fn stats(&self, app: &AppName, now: Timestamp) -> Result<Vec<QueueStats>, StoreError> {
        self.read(app, move |connection, void| list::stats_at(connection, millis(now), void)).await
    }

    async fn prune(
        &self,
        app: &AppName,
        older_than: Timestamp,
        most: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(0) };
        let before = millis(older_than);
        let prune = move |change: &mut QueueChange<'_>| ended::prune(change, before, most);
        self.change(database, now, prune).await
    }

    async fn expire(&self, app: &AppName, after: Option<EventSeq>, now: Timestamp) -> Result<Swept, StoreError> {
        let at = millis(now);
        let find = move |connection: &Connection, _| list::expired(connection, after, at);
        let list::Expired { events, next } = self.read(app, find).await?;
        if events.is_empty() {
            return Ok(Swept { changed: 0, next });
        }
        let Some(database) = self.databases.existing(app).await? else { return Ok(Swept::default()) };
        let cancel = move |change: &mut QueueChange<'_>| claim::cancel_expired(change, &events);
        Ok(Swept { changed: self.change(database, now, cancel).await?, next })
    }

    async fn shrink(&self, app: &AppName) -> Result<bool, StoreError> {
        let Some(database) = self.databases.existing(app).await? else { return Ok(false) };
        database.write_with(Durability::Unsynced, shrink).await
    }

    async fn app_queues(&self) -> Result<Vec<AppQueue>, StoreError> {
        let databases = self.databases.clone();
        blocking(move || super::pending::app_queues(&databases)).await
    }

    async fn apps_with_events(&self) -> Result<Vec<AppName>, StoreError> {
        let databases = self.databases.clone();
        blocking(move || super::pending::apps_with_events(&databases)).await
    }
}

/// Runs a part of a change in a savepoint, so that its failure rolls back only its own changes.
/// Returns the outer error if the whole transaction is lost.
fn in_savepoint<T>(
    change: &mut QueueChange<'_>,
    work: impl FnOnce(&mut QueueChange<'_>) -> Sql<T>,
) -> Sql<Result<T, SqlError>> {
    let snapshot = change.snapshot();
    change.connection.prepare_cached("SAVEPOINT outcome")?.execute([])?;
    match work(change) {
        Ok(value) => {
            change.connection.prepare_cached("RELEASE outcome")?.execute([])?;
            Ok(Ok(value))
        }
        Err(error) if change.connection.is_autocommit() => Err(error),
        Err(error) => {
            change.connection.execute_batch("ROLLBACK TO outcome; RELEASE outcome")?;
            change.restore(snapshot);
            Ok(Err(error))
        }
    }
}
