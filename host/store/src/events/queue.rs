//! The interface of an event queue, which every backend implements and one suite specifies. Never
//! names a backend.

use async_trait::async_trait;
use isopod_policy::{AppName, ProcessName};
use jiff::Timestamp;

use super::model::{
    Accepted, AppQueue, CancelReason, Cancelled, Claimed, DeadChange, EventFilter, EventPayload, EventSeq, Lease,
    NewEvent, Outcome, QueueStats, Settled, StoredEvent, Swept,
};
use crate::{Page, Paged, StoreError};

/// The event queues of apps.
///
/// A change is durable when its future is ready, except for claims and outcomes. These survive an
/// end of the process, but a power failure may undo the latest claims and outcomes, each together
/// with its effects; the events are then delivered again. Times are arguments; `now` is the
/// caller's clock. [`EventQueue::sync`] makes earlier claims and outcomes durable too.
#[async_trait]
pub trait EventQueue: Send + Sync + std::fmt::Debug {
    /// Stores events: all in one commit, or none. Returns one result per event, in the same order.
    async fn accept(&self, app: &AppName, events: Vec<NewEvent>, now: Timestamp) -> Result<Vec<Accepted>, StoreError>;

    /// Stores one event like [`EventQueue::accept`], and returns the stored event. Returns the
    /// earlier event for a duplicate.
    async fn accept_one(
        &self,
        app: &AppName,
        event: NewEvent,
        now: Timestamp,
    ) -> Result<(Accepted, StoredEvent), StoreError>;

    /// Leases up to `most` due events of a process type, oldest first, and counts their attempts.
    async fn claim(
        &self,
        app: &AppName,
        process: &ProcessName,
        most: usize,
        now: Timestamp,
    ) -> Result<Claimed, StoreError>;

    /// Commits the outcomes of deliveries in one transaction. Each outcome succeeds or fails
    /// independently: after an error, the effects of that outcome are not written, and its lease is
    /// kept. The whole call fails only if nothing was written.
    async fn settle_all(
        &self,
        app: &AppName,
        outcomes: Vec<(Lease, Outcome)>,
        now: Timestamp,
    ) -> Result<Vec<Result<Settled, StoreError>>, StoreError>;

    /// Commits the outcome of one delivery like [`EventQueue::settle_all`].
    async fn settle(
        &self,
        app: &AppName,
        lease: Lease,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<Settled, StoreError> {
        let settled = self.settle_all(app, vec![(lease, outcome)], now).await?;
        settled.into_iter().next().unwrap_or(Ok(Settled::LeaseLost))
    }

    /// Makes all completed changes of the queue durable.
    async fn sync(&self, app: &AppName, now: Timestamp) -> Result<(), StoreError>;

    /// Cancels an event that waits for its delivery.
    async fn cancel(
        &self,
        app: &AppName,
        seq: EventSeq,
        reason: CancelReason,
        now: Timestamp,
    ) -> Result<Cancelled, StoreError>;

    /// Returns the event with this id. If there are several, returns the last accepted event.
    async fn get(&self, app: &AppName, id: &str, source: Option<&str>) -> Result<Option<StoredEvent>, StoreError>;

    /// Returns the content of an event. The content of a done or cancelled event is deleted.
    async fn payload(&self, app: &AppName, seq: EventSeq) -> Result<Option<EventPayload>, StoreError>;

    /// Returns events, newest first. The work for one page is bounded, so a page may contain fewer
    /// events than requested, even none, and still have a next page.
    async fn list(&self, app: &AppName, filter: EventFilter, page: Page) -> Result<Paged<StoredEvent>, StoreError>;

    /// Returns up to `most` events of a source whose ids begin with a prefix, newest first: those
    /// with the greatest ids. The number of events that one call reads is bounded.
    async fn with_id_prefix(
        &self,
        app: &AppName,
        source: &str,
        prefix: &str,
        most: usize,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Redrives or drops up to `most` selected dead letters after the position `after`, oldest
    /// first.
    async fn change_dead(
        &self,
        app: &AppName,
        what: DeadChange,
        filter: EventFilter,
        after: Option<EventSeq>,
        most: usize,
        now: Timestamp,
    ) -> Result<Swept, StoreError>;

    /// Returns the counts of each process type with events that are not done or cancelled. If the
    /// clock was set back, delayed events are due `now`: the next claim shifts their times.
    async fn stats(&self, app: &AppName, now: Timestamp) -> Result<Vec<QueueStats>, StoreError>;

    /// Deletes up to `most` events that were done or cancelled before `older_than`, and returns
    /// their number. The caller repeats the call until it returns less than `most`.
    async fn prune(
        &self,
        app: &AppName,
        older_than: Timestamp,
        most: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError>;

    /// Cancels expired events among a bounded number of waiting events after the position `after`,
    /// oldest first. A claim does the same, but no claim reads the events of a stopped app, or
    /// those that wait for a core.
    async fn expire(&self, app: &AppName, after: Option<EventSeq>, now: Timestamp) -> Result<Swept, StoreError>;

    /// Frees disk space of removed events, in a step that is too short to delay other changes
    /// noticeably. Returns whether more can be freed. Some space is kept for later events.
    async fn shrink(&self, app: &AppName) -> Result<bool, StoreError>;

    /// Returns the queues with events that have not ended or with dead letters, and the queues that
    /// can't be read, without keeping them open. Takes long with many apps. Intended for the start
    /// of a host: all leases count as void.
    async fn app_queues(&self) -> Result<Vec<AppQueue>, StoreError>;

    /// Returns all apps with events, including apps whose events have all ended and apps whose
    /// events can't be read now, without keeping their queues open. Takes long with many apps.
    async fn apps_with_events(&self) -> Result<Vec<AppName>, StoreError>;
}
