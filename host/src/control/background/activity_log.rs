//! The activity log: one task stores the activities of all apps in order, and publishes them to
//! subscribers. If the disk can't be written, it retries later. Subscribers never wait for the
//! disk.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use futures::future::join_all;
use isopod_policy::{
    limits::TEXT_LINE_BYTES_MAX,
    text::{excerpt, printable},
};
use isopod_store::{NewActivity, Store};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::control::limits;
use crate::control::{
    AppRecord,
    app_table::AppTable,
    storing::{Storing, retry_until_stored},
};

/// A message to the task of the activity log.
pub(in crate::control) enum Record {
    Activity(NewActivity),
    /// Replies once all earlier activities are stored, or failed.
    Flush(oneshot::Sender<()>),
}

/// The settings and handles of the activity log.
pub(in crate::control) struct Options {
    pub(in crate::control) store: Store,
    pub(in crate::control) app_table: AppTable,
    /// Cancelled when the host begins to shut down; no record is retried afterwards.
    pub(in crate::control) closing: CancellationToken,
    /// Cancelled once no further activity follows; the service then stores its queue and ends.
    pub(in crate::control) drained: CancellationToken,
}

/// Receives every activity. It must not block.
type Observer = Box<dyn Fn(&NewActivity) + Send + Sync>;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct ActivityLog {
    records: mpsc::Sender<Record>,
    /// Publishes recorded activities to subscribers.
    subscribers: broadcast::Sender<NewActivity>,
    observer: Arc<OnceLock<Observer>>,
    closing: CancellationToken,
}

/// The task that stores activities.
pub(in crate::control) struct Service {
    store: Store,
    app_table: AppTable,
    log: ActivityLog,
    received: mpsc::Receiver<Record>,
    drained: CancellationToken,
}

impl Service {
    pub(in crate::control) fn new(options: Options) -> (ActivityLog, Self) {
        let Options { store, app_table, closing, drained } = options;
        let (records, received) = mpsc::channel(limits::ACTIVITIES_QUEUED_MAX);
        let subscribers = broadcast::Sender::new(limits::ACTIVITY_FOLLOW_ENTRIES);
        let log = ActivityLog { records, subscribers, observer: Arc::default(), closing };
        (log.clone(), Self { store, app_table, log, received, drained })
    }

    /// Stores activities, several at a time if they queue up, so that the store waits for the disk
    /// once for all. Continues during shutdown, for the activities of push jobs that end then.
    pub(in crate::control) async fn run(mut self) {
        let (mut deferred, mut retry_at) = (VecDeque::new(), Instant::now());
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                _ = self.received.recv_many(&mut waiting, limits::ACTIVITIES_PER_WRITE_MAX) => {}
                () = tokio::time::sleep_until(retry_at), if !deferred.is_empty() => {}
                // A shutdown does not wait for space on the disk.
                () = self.drained.cancelled() => return,
            }
            self.write(waiting, &mut deferred).await;
            if !deferred.is_empty() && retry_at <= Instant::now() {
                self.retry_deferred(&mut deferred).await;
                retry_at = Instant::now() + limits::ACTIVITY_RETRY_INTERVAL;
            }
        }
    }

    /// Stores activities and publishes them. If the disk can't be written, they and later
    /// activities are `deferred`: subscribers and callers of `flush` don't wait for the disk.
    async fn write(&self, records: Vec<Record>, deferred: &mut VecDeque<NewActivity>) {
        let (mut activities, mut replies) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Activity(activity) => activities.push(activity),
                Record::Flush(done) => replies.push(done),
            }
        }
        let left = if deferred.is_empty() { self.append(activities.clone()).await } else { activities.clone() };
        for activity in left {
            if deferred.len() < limits::ACTIVITIES_QUEUED_MAX {
                deferred.push_back(activity);
            } else {
                tracing::warn!(
                    kind = activity.kind,
                    "an activity is not recorded: too many wait for space on the disk"
                );
            }
        }
        activities.into_iter().for_each(|activity| self.log.publish(activity));
        for done in replies {
            // The caller may have stopped waiting.
            let _abandoned = done.send(());
        }
    }

    /// Stores deferred activities in order, until all are stored or the disk can't be written.
    async fn retry_deferred(&self, deferred: &mut VecDeque<NewActivity>) {
        while !deferred.is_empty() {
            let some: Vec<_> = deferred.drain(..deferred.len().min(limits::ACTIVITIES_PER_WRITE_MAX)).collect();
            let left =
                self.append(some.into_iter().filter(|activity| self.belongs_to_known_app(activity)).collect()).await;
            if !left.is_empty() {
                left.into_iter().rev().for_each(|activity| deferred.push_front(activity));
                return;
            }
        }
    }

    /// Returns whether the activity belongs to an existing app. A new app of the same name doesn't
    /// receive it.
    fn belongs_to_known_app(&self, activity: &NewActivity) -> bool {
        let exists = |name| self.app_table.app(name).is_ok_and(|app| app.created_at <= activity.at);
        activity.app.as_ref().is_none_or(exists)
    }

    /// Stores activities, and returns those that failed because the disk can't be written.
    async fn append(&self, activities: Vec<NewActivity>) -> Vec<NewActivity> {
        let store = &self.store;
        // The calls reach the store's queue in this order, which the store keeps.
        let stored = join_all(activities.iter().map(|activity| store.append_activity(activity.clone()))).await;
        let mut left = Vec::new();
        for (activity, stored) in activities.into_iter().zip(stored) {
            let Err(error) = stored else { continue };
            if error.is_of_unwritable_disk() {
                tracing::debug!(%error, kind = activity.kind, "an activity is recorded later");
                left.push(activity);
            } else {
                tracing::warn!(%error, kind = activity.kind, "an activity could not be recorded");
            }
        }
        left
    }
}

impl ActivityLog {
    /// Subscribes to the activities of all apps from now on.
    pub(in crate::control) fn subscribe(&self) -> broadcast::Receiver<NewActivity> {
        self.subscribers.subscribe()
    }

    /// Passes every activity from now on to the observer. Unlike a subscriber, it misses none.
    /// There is one observer: a second one is ignored.
    pub(in crate::control) fn observe(&self, observer: impl Fn(&NewActivity) + Send + Sync + 'static) {
        let is_first = self.observer.set(Box::new(observer)).is_ok();
        debug_assert!(is_first, "the activity log has one observer");
    }

    /// Stores a record of an app, and retries in the background if the disk can't be written.
    /// Returns whether the record is stored now.
    pub(in crate::control) async fn store_or_later(
        &self,
        app: &AppRecord,
        what: &str,
        attempt: impl Fn() -> Storing + Send + Sync + 'static,
    ) -> bool {
        let Err(error) = attempt().await else { return true };
        if app.is_destroyed() {
            // The record would be deleted with the app.
            return false;
        }
        tracing::error!(app = %app.name, %error, "{what} is not stored");
        if error.is_of_unwritable_disk() {
            // The record must not be stored for a new app of the same name.
            let destroyed = app.destroyed();
            let retrying = async move {
                tokio::select! {
                    () = destroyed => {}
                    () = retry_until_stored(&attempt) => {}
                }
            };
            tokio::spawn(self.closing.clone().run_until_cancelled_owned(retrying));
        }
        false
    }

    /// Records an activity, and waits until it is stored or times out. A failure doesn't undo the
    /// action itself. Nothing is recorded for a destroyed app, since a new app of the same name may
    /// exist by then.
    pub(in crate::control) async fn record(&self, app: &AppRecord, kind: &str, text: String, data: Value) {
        if app.is_destroyed() {
            return;
        }
        let activity = activity_of(app, kind, text, data);
        if self.records.send_timeout(Record::Activity(activity), limits::ACTIVITY_STORE_TIMEOUT).await.is_err() {
            tracing::warn!(app = %app.name, kind, "an activity is not recorded: the queue of activities is full");
            return;
        }
        self.flush().await;
    }

    /// Records an activity without waiting. A full queue drops it.
    pub(in crate::control) fn try_record(&self, app: &AppRecord, kind: &str, text: String, data: Value) {
        if app.is_destroyed() {
            return;
        }
        if self.records.try_send(Record::Activity(activity_of(app, kind, text, data))).is_err() {
            tracing::warn!(app = %app.name, kind, "an activity is not recorded: the queue of activities is full");
        }
    }

    /// Records an activity of the host without waiting. A full queue drops it.
    pub(in crate::control) fn try_record_of_host(&self, kind: &str, text: String, data: Value) {
        let activity = NewActivity { app: None, kind: kind.to_owned(), text: shown(&text), data, at: Timestamp::now() };
        if self.records.try_send(Record::Activity(activity)).is_err() {
            tracing::warn!(kind, "an activity is not recorded: the queue of activities is full");
        }
    }

    /// Waits until all activities so far are stored. Doesn't wait for space on a full disk.
    pub(in crate::control) async fn flush(&self) {
        let (done, when_done) = oneshot::channel();
        if self.records.send_timeout(Record::Flush(done), limits::ACTIVITY_STORE_TIMEOUT).await.is_ok() {
            drop(tokio::time::timeout(limits::ACTIVITY_STORE_TIMEOUT, when_done).await);
        }
    }

    /// Publishes an activity to the observer and the subscribers, if there are any.
    pub(in crate::control) fn publish(&self, activity: NewActivity) {
        if let Some(observer) = self.observer.get() {
            observer(&activity);
        }
        drop(self.subscribers.send(activity));
    }
}

/// Creates an activity of an app.
pub(in crate::control) fn activity_of(app: &AppRecord, kind: &str, text: String, data: Value) -> NewActivity {
    let (app, text) = (Some(app.name.clone()), shown(&text));
    NewActivity { app, kind: kind.to_owned(), text, data, at: Timestamp::now() }
}

fn shown(text: &str) -> String {
    excerpt(&printable(text), TEXT_LINE_BYTES_MAX).into_owned()
}
