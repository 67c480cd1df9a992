//! The durable events of apps. Owns their acceptance and the requests about stored events. An app's
//! delivery task delivers the events from the app's database. Never answers a sender before its
//! event is durable.
//!
//! ```text
//!  API, guests, schedules ──accept──▶ queue (store) ──claim──▶ Delivery ──▶ instance
//!                                        ▲                        │
//!                                        └──────── settle ────────┘
//! ```

pub(crate) mod attributes;
mod conversion;
mod dead_letter;
mod deliveries;
mod delivery;
mod error;
mod intake;
mod next_check;
mod outcome;
mod pace;
mod pruning;
mod settling;
mod shares;
mod sink;
mod stranded;
mod tasks;
mod warnings;

use std::{collections::HashSet, sync::Arc};

use isopod_policy::AppName;
use isopod_store::{
    Accepted, CancelReason, Cancelled, DeadChange, EventFilter, EventQueue, EventSeq, Page, Paged, QueueStats,
    StoreError, StoredEvent, Swept,
};
use jiff::Timestamp;
use tokio::sync::mpsc;

pub(crate) use self::conversion::request_id;
pub(crate) use self::error::EventsError;
use self::{conversion::Sent, intake::Intake, tasks::Tasks};
pub(in crate::control) use self::{
    dead_letter::DeadLetter, deliveries::Deliveries, intake::ProcessEvents, sink::AppEvents,
};
use crate::{
    control::{AppRecord, app_table::AppTable, shutdown::Shutdown},
    runtime::{Directory, StoredEvents},
};

/// An event to accept.
#[derive(Debug, Clone)]
pub(crate) struct IncomingEvent {
    pub(crate) event: isopod_engine::Event,
    /// The earliest delivery.
    pub(crate) not_before: Option<Timestamp>,
    /// The time after which the event is cancelled instead of delivered.
    pub(crate) expires_at: Option<Timestamp>,
}

/// The handle to the stored events of all apps. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Events(Arc<Intake>);

/// Creates the handle to the events of all apps, and the service that delivers the events and
/// reports dead letters.
pub(in crate::control) fn open(
    queue: Arc<dyn EventQueue>,
    directory: Arc<Directory>,
    app_table: AppTable,
    shutdown: Shutdown,
    dead_letters: mpsc::Sender<DeadLetter>,
) -> (Events, Deliveries) {
    let intake = Arc::new(Intake { queue, directory, app_table, tasks: Tasks::default(), prunable: Arc::default() });
    let deliveries = Deliveries { intake: Arc::clone(&intake), shutdown, dead_letters };
    (Events(intake), deliveries)
}

impl Events {
    /// Makes the app's delivery check its queue. Called when a release begins to serve.
    pub(in crate::control) fn wake(&self, app: &Arc<AppRecord>) {
        self.0.tasks.wake(app);
    }

    /// Wakes the delivery of events that were stored before the host's start, and sets the metrics
    /// of all queues. Returns the apps whose database can't be read, except damaged databases: the
    /// delivery replaces and reports these.
    pub(in crate::control) async fn resume(self) -> Vec<(Arc<AppRecord>, StoreError)> {
        let queues = match self.0.queue.app_queues().await {
            Ok(queues) => queues,
            Err(error) => {
                tracing::error!(%error, "can't find the apps with stored events: each waits for its next event");
                return Vec::new();
            }
        };
        let mut unreadable = Vec::new();
        let mut without_events: HashSet<AppName> = self.0.app_table.all().iter().map(|app| app.name.clone()).collect();
        for queue in queues {
            without_events.remove(&queue.app);
            let Ok(app) = self.0.app_table.app(&queue.app) else { continue };
            if let Ok(stats) = &queue.stats {
                app.traffic.resources().set_first_stored_events(intake::sums(stats));
            }
            if queue.is_pending() {
                self.wake(&app);
            }
            match queue.stats {
                Ok(_) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => unreadable.push((app, error)),
            }
        }
        for app in without_events.iter().filter_map(|name| self.0.app_table.app(name).ok()) {
            app.traffic.resources().set_first_stored_events(StoredEvents::default());
        }
        unreadable
    }

    /// Stores events for the app's event handler: all of them, or none. Returns once they are
    /// durable.
    pub(crate) async fn accept(
        &self,
        app: &Arc<AppRecord>,
        events: Vec<IncomingEvent>,
    ) -> Result<Vec<Accepted>, EventsError> {
        self.0.store(app, events.into_iter().map(|event| sent(app, event)).collect()).await
    }

    /// Stores one event like [`Events::accept`], and returns the stored event. Returns the earlier
    /// event for a duplicate.
    pub(crate) async fn accept_one(
        &self,
        app: &Arc<AppRecord>,
        event: IncomingEvent,
    ) -> Result<StoredEvent, EventsError> {
        self.0.store_one(app, sent(app, event)).await
    }

    /// Stores events of the host for one process type: all of them, or none. Returns once they are
    /// durable.
    pub(in crate::control) async fn accept_for(
        &self,
        app: &Arc<AppRecord>,
        events: ProcessEvents,
    ) -> Result<Vec<Accepted>, EventsError> {
        self.0.store_for(app, events).await
    }

    /// Returns the event with this id. If events of several sources have the id,
    /// returns the last accepted one.
    pub(crate) async fn get(
        &self,
        app: &AppRecord,
        id: &str,
        source: Option<&str>,
    ) -> Result<Option<StoredEvent>, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        Ok(self.0.queue.get(&app.name, id, source).await?)
    }

    /// Returns events, the last accepted first.
    pub(crate) async fn list(
        &self,
        app: &AppRecord,
        filter: EventFilter,
        page: Page,
    ) -> Result<Paged<StoredEvent>, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        Ok(self.0.queue.list(&app.name, filter, page).await?)
    }

    /// Returns up to `most` events of a source whose ids begin with a prefix, newest first.
    pub(in crate::control) async fn with_id_prefix(
        &self,
        app: &AppRecord,
        source: &str,
        prefix: &str,
        most: usize,
    ) -> Result<Vec<StoredEvent>, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        Ok(self.0.queue.with_id_prefix(&app.name, source, prefix, most).await?)
    }

    /// Returns the numbers of the app's events by process type, and updates the app's metrics.
    pub(crate) async fn stats(&self, app: &AppRecord) -> Result<Vec<QueueStats>, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        Ok(self.0.stats(app).await?)
    }

    /// Cancels an event that waits for its delivery.
    pub(crate) async fn cancel(
        &self,
        app: &Arc<AppRecord>,
        event: EventSeq,
        reason: CancelReason,
    ) -> Result<Cancelled, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let cancelled = self.0.queue.cancel(&app.name, event, reason, Timestamp::now()).await?;
        // The next event of its subject may be due.
        self.wake(app);
        Ok(cancelled)
    }

    /// Redrives or drops up to `most` selected dead letters.
    pub(crate) async fn change_dead(
        &self,
        app: &Arc<AppRecord>,
        what: DeadChange,
        filter: EventFilter,
        after: Option<EventSeq>,
        most: usize,
    ) -> Result<Swept, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let swept = self.0.queue.change_dead(&app.name, what, filter, after, most, Timestamp::now()).await?;
        // The task delivers redriven events, and updates the metrics of the queue.
        self.wake(app);
        Ok(swept)
    }

    /// Finds the apps that have events of earlier runs of the host. Only the first call reads.
    pub(in crate::control) async fn find_kept(&self) -> Result<(), EventsError> {
        let prunable = &self.0.prunable;
        if !prunable.is_complete() {
            prunable.complete(self.0.queue.apps_with_events().await?);
        }
        Ok(())
    }

    /// Takes the apps that have events. Pruning an app puts it back if it still has some.
    pub(in crate::control) fn take_prunable(&self) -> HashSet<AppName> {
        self.0.prunable.take()
    }

    /// Cancels expired events of an app in one bounded step. Returns the position after which the
    /// next step continues.
    pub(in crate::control) async fn expire(
        &self,
        app: &Arc<AppRecord>,
        after: Option<EventSeq>,
    ) -> Result<Option<EventSeq>, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let expired = self.0.queue.expire(&app.name, after, Timestamp::now()).await?;
        if expired.changed > 0 {
            // The next events of their subjects may be due. The task also updates the metrics.
            self.wake(app);
        }
        Ok(expired.next)
    }

    /// Shrinks an app's database after events were removed, in a short step. Returns whether it can
    /// shrink further.
    pub(in crate::control) async fn shrink(&self, app: &AppRecord) -> Result<bool, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        Ok(self.0.queue.shrink(&app.name).await?)
    }

    /// Puts an app back that [`Events::take_prunable`] returned.
    pub(in crate::control) fn prune_again(&self, app: &AppRecord) {
        self.0.prunable.note(&app.name);
    }

    /// Deletes up to `most` events of an app that ended before a time. Returns their number.
    pub(in crate::control) async fn prune(
        &self,
        app: &AppRecord,
        before: Timestamp,
        most: usize,
    ) -> Result<usize, EventsError> {
        let _guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let (queue, name) = (&self.0.queue, &app.name);
        let pruned = queue.prune(name, before, most, Timestamp::now()).await;
        let left = queue.list(name, EventFilter::default(), Page { cursor: None, limit: Some(1) }).await;
        if !left.as_ref().is_ok_and(|left| left.items.is_empty() && left.next.is_none()) {
            self.0.prunable.note(name);
        }
        Ok(pruned?)
    }
}

/// Counts the event's subject, and returns the event for the store.
fn sent(app: &AppRecord, IncomingEvent { event, not_before, expires_at }: IncomingEvent) -> Sent {
    app.usage.count(event.subject.as_deref());
    Sent { event: conversion::from_sender(event), not_before, expires_at }
}
