//! Stores events in the queues of apps, and wakes the apps' delivery tasks. Never delivers an
//! event.

use std::sync::Arc;

use isopod_policy::ProcessName;
use isopod_store::{Accepted, Claim, Event, EventQueue, NewEvent, QueueStats, StoreError, StoredEvent};
use jiff::Timestamp;

use super::{
    conversion::{self, Handler, Sent, Target},
    error::EventsError,
    outcome::Failure,
    pruning::Prunable,
    tasks::Tasks,
};
use crate::{
    control::{AppRecord, app_table::AppTable},
    runtime::{ActiveRelease, Directory, StoredEvents},
};

/// Events that the host itself sends to one process type, such as those of a schedule.
pub(in crate::control) struct ProcessEvents {
    pub(in crate::control) process: ProcessName,
    /// Whether events of the same subject are delivered one at a time, whatever the process type's
    /// `order`.
    pub(in crate::control) is_ordered: bool,
    pub(in crate::control) events: Vec<Event>,
}

/// The queues of all apps, with the handles that storing and delivering share.
pub(super) struct Intake {
    pub(super) queue: Arc<dyn EventQueue>,
    pub(super) directory: Arc<Directory>,
    pub(super) app_table: AppTable,
    pub(super) tasks: Tasks,
    pub(super) prunable: Arc<Prunable>,
}

impl Intake {
    /// Stores events for the app's event handler: all of them, or none. Returns once they are
    /// durable.
    pub(super) async fn store(&self, app: &Arc<AppRecord>, events: Vec<Sent>) -> Result<Vec<Accepted>, EventsError> {
        let handler = self.handler(app).await?;
        let events = events.into_iter().map(|sent| handler.event(sent.event, sent.not_before, sent.expires_at));
        self.accept(app, events.collect()).await
    }

    /// Stores events for one process type like [`Intake::store`].
    pub(super) async fn store_for(
        &self,
        app: &Arc<AppRecord>,
        events: ProcessEvents,
    ) -> Result<Vec<Accepted>, EventsError> {
        let ProcessEvents { process, is_ordered, events } = events;
        let release = self.serving(app).await?;
        let definition = release.event_process(&process).ok_or(EventsError::NoHandler)?;
        let handler = Handler::new(&process, definition);
        let events = events.into_iter().map(|event| NewEvent { is_ordered, ..handler.event(event, None, None) });
        self.accept(app, events.collect()).await
    }

    /// Stores an event like [`Intake::store`], and returns the stored event. Returns the earlier
    /// event for a duplicate.
    pub(super) async fn store_one(&self, app: &Arc<AppRecord>, event: Sent) -> Result<StoredEvent, EventsError> {
        let handler = self.handler(app).await?;
        let event = handler.event(event.event, event.not_before, event.expires_at);
        let (queue, name) = (Arc::clone(&self.queue), app.name.clone());
        self.wake_after(app, first_due(std::slice::from_ref(&event)), async move {
            let (accepted, stored) = queue.accept_one(&name, event, Timestamp::now()).await?;
            Ok((usize::from(is_new(&accepted)), stored))
        })
        .await
    }

    /// Returns the release that serves the app.
    async fn serving(&self, app: &AppRecord) -> Result<Arc<ActiveRelease>, EventsError> {
        let serving = self.directory.serving(&app.traffic).await;
        serving.map_err(|why| if app.is_destroyed() { EventsError::Destroyed } else { EventsError::NotServing(why) })
    }

    /// Returns the process type that takes the app's events.
    async fn handler(&self, app: &AppRecord) -> Result<Handler, EventsError> {
        let release = self.serving(app).await?;
        Handler::of(&release).ok_or(EventsError::NoHandler)
    }

    async fn accept(&self, app: &Arc<AppRecord>, events: Vec<NewEvent>) -> Result<Vec<Accepted>, EventsError> {
        let (queue, name) = (Arc::clone(&self.queue), app.name.clone());
        self.wake_after(app, first_due(&events), async move {
            let accepted = queue.accept(&name, events, Timestamp::now()).await?;
            Ok((accepted.iter().filter(|accepted| is_new(accepted)).count(), accepted))
        })
        .await
    }

    /// Runs `accepting`, which stores events and returns their number, and wakes the app's delivery
    /// task. `due` is the time at which the first of them is due, or `None` if one is due now. Runs
    /// to completion even if the caller is dropped. Otherwise, a stored event could remain
    /// undelivered until the next event is stored.
    async fn wake_after<T: Send + 'static>(
        &self,
        app: &Arc<AppRecord>,
        due: Option<Timestamp>,
        accepting: impl Future<Output = Result<(usize, T), StoreError>> + Send + 'static,
    ) -> Result<T, EventsError> {
        let guard = app.data_gate.guard().ok_or(EventsError::Destroyed)?;
        let (app, prunable, tasks) = (Arc::clone(app), Arc::clone(&self.prunable), self.tasks.clone());
        let accepting = tokio::spawn(async move {
            let _guard = guard;
            let (new, accepted) = accepting.await?;
            prunable.note(&app.name);
            if due.is_none() {
                app.traffic.resources().add_stored_work(new);
            }
            tasks.wake_for(&app, due);
            Ok(accepted)
        });
        // The task is never aborted, and a panic was logged.
        accepting.await.unwrap_or_else(|error| Err(StoreError::Panicked { detail: error.to_string() }.into()))
    }

    /// Makes the outcomes of an app's deliveries durable. A destroyed app has none.
    async fn sync(&self, app: &AppRecord) -> Result<(), StoreError> {
        let Some(_guard) = app.data_gate.guard() else { return Ok(()) };
        self.queue.sync(&app.name, Timestamp::now()).await
    }

    /// Reads the numbers of an app's stored events by process type, and publishes their sums as the
    /// app's metrics.
    pub(super) async fn stats(&self, app: &AppRecord) -> Result<Vec<QueueStats>, StoreError> {
        let stats = self.queue.stats(&app.name, Timestamp::now()).await?;
        app.traffic.resources().set_stored_events(sums(&stats));
        Ok(stats)
    }

    /// Returns the app with this name, unless it is destroyed.
    pub(super) fn app_named(&self, name: &str) -> Option<Arc<AppRecord>> {
        self.app_table.app(&name.parse().ok()?).ok()
    }

    /// Stores an event in another app's queue. Repeating the call has no effect, since the queue
    /// recognises the duplicate by its source and id. While the target takes no events, the attempt
    /// isn't counted.
    ///
    /// Syncs the sender's queue first: otherwise a power failure could undo the transaction that
    /// sent the event, but not the event.
    pub(super) async fn forward(
        &self,
        sender: &AppRecord,
        target: Target<'_>,
        is_granted: bool,
        claim: &Claim,
    ) -> Result<(), Failure> {
        let text = |why: &str| format!("the event can't be forwarded to `{}`: {why}", target.name);
        if !is_granted {
            return Err(Failure::Forward(text("the release has no grant to send events to it")));
        }
        let app = self.app_named(target.name).ok_or_else(|| Failure::NoTarget(text("the app does not exist")))?;
        if let Some(why) = target.mismatch(&app.id) {
            return Err(Failure::NoTarget(text(why)));
        }
        let event = conversion::forwarded(claim.event.clone(), target.name);
        let forwarded = async {
            let handler = self.handler(&app).await?;
            self.sync(sender).await?;
            self.accept(&app, vec![handler.event(event, None, claim.expires_at)]).await
        };
        forwarded.await.map(drop).map_err(|error| match error {
            EventsError::NotServing(why) => Failure::TargetUnavailable(text(&why)),
            EventsError::Store(StoreError::EventQueueFull) => Failure::TargetUnavailable(text(&error.to_string())),
            EventsError::Destroyed => Failure::NoTarget(text(&error.to_string())),
            EventsError::Store(StoreError::EventTooLarge { .. }) | EventsError::NoHandler => {
                Failure::Forward(text(&error.to_string()))
            }
            EventsError::Store(error) => Failure::Store(text(&error.to_string())),
        })
    }
}

/// Returns when the first of these events is due, or `None` if one is due now.
fn first_due(events: &[NewEvent]) -> Option<Timestamp> {
    let now = Timestamp::now();
    events.iter().map(|new| new.not_before.filter(|at| *at > now)).min().flatten()
}

fn is_new(accepted: &Accepted) -> bool {
    matches!(accepted, Accepted::New { .. })
}

/// Returns the sums of all process types.
pub(super) fn sums(stats: &[QueueStats]) -> StoredEvents {
    StoredEvents {
        ready: stats.iter().map(|of| of.ready).sum(),
        delayed: stats.iter().map(|of| of.delayed).sum(),
        leased: stats.iter().map(|of| of.leased).sum(),
        dead: stats.iter().map(|of| of.dead).sum(),
        oldest_accepted_at: stats.iter().filter_map(|of| of.oldest_accepted_at).min(),
    }
}
