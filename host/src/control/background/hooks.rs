//! Passes the activity of apps to hooks. Reads the events that a hook has not received yet, and
//! stores those of its subscription in the hook's own queue, which delivers them. If the host ends
//! before it has recorded them as received, it stores them again after its start, and the queue
//! discards the duplicates. Never delays an activity: each hook has its own task, which waits while
//! the hook can't receive events.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use isopod_policy::{AppName, Order, ProcessName, Subscription, event_type, formation::PLUGIN_PROCESS};
use isopod_store::{Event, EventPayload, HookBacklog, HookEvent, Store, StoreError};
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{Id, JoinSet},
};

use super::activity_log::ActivityLog;
use crate::control::{
    AppRecord,
    app_table::AppTable,
    events::{Events, EventsError, ProcessEvents},
    failpoint::reached,
    limits,
};

/// The dispatcher of all hooks. Cheap to clone.
#[derive(Clone)]
pub(in crate::control) struct Service {
    store: Store,
    app_table: AppTable,
    events: Events,
    activity: ActivityLog,
    /// The hooks whose queue is full, which is reported once.
    full: Arc<Mutex<HashSet<AppName>>>,
}

/// The settings of a hook's current release.
struct Hook {
    process: ProcessName,
    is_ordered: bool,
    subscription: Subscription,
}

impl Service {
    pub(in crate::control) fn new(store: Store, app_table: AppTable, events: Events, activity: ActivityLog) -> Self {
        Self { store, app_table, events, activity, full: Arc::default() }
    }

    /// Dispatches events until the host shuts down: after each activity, and at an interval, since
    /// an activity may be stored later than it is published.
    pub(in crate::control) async fn run(self) {
        let mut published = self.activity.subscribe();
        let (mut tasks, mut busy) = (JoinSet::new(), HashMap::<Id, AppName>::new());
        loop {
            match self.store.hook_backlogs().await {
                Ok(backlogs) => {
                    self.forget_others(&backlogs);
                    for backlog in backlogs {
                        if !busy.values().any(|hook| *hook == backlog.plugin) {
                            let (service, hook) = (self.clone(), backlog.plugin.clone());
                            let task = tasks.spawn(async move { service.dispatch_or_wait(backlog).await });
                            busy.insert(task.id(), hook);
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the events for hooks can't be read; retrying"),
            }
            tokio::select! {
                () = next_activity(&mut published) => {}
                Some(ended) = tasks.join_next_with_id() => {
                    busy.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = tokio::time::sleep(limits::HOOK_CHECK_INTERVAL) => {}
            }
        }
    }

    /// Dispatches the events of one hook. After a failure, waits before the next attempt.
    async fn dispatch_or_wait(&self, backlog: HookBacklog) {
        // The app is missing only after its row in the store was removed, and its backlog with it.
        let Ok(app) = self.app_table.app(&backlog.plugin) else { return };
        let dispatched = self.dispatch(&app, &backlog).await;
        let is_full = matches!(&dispatched, Err(EventsError::Store(StoreError::EventQueueFull)));
        if self.note_full(&app.name, is_full) {
            let text = "its event queue is full: the host keeps further events until the queue has space".to_owned();
            self.activity.record(&app, "hook-paused", text, json!({})).await;
        }
        if let Err(error) = dispatched {
            tracing::debug!(hook = %app.name, %error, "a hook can't receive events now; retrying");
            tokio::select! {
                () = tokio::time::sleep(limits::HOOK_RETRY_INTERVAL) => {}
                () = app.destroyed() => {}
            }
        }
    }

    /// Forgets full queues of hooks that have received all events, or were removed.
    fn forget_others(&self, backlogs: &[HookBacklog]) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        full.retain(|hook| backlogs.iter().any(|backlog| backlog.plugin == *hook));
    }

    /// Notes whether the queue of a hook is full. Returns whether that is to be reported.
    fn note_full(&self, hook: &AppName, is_full: bool) -> bool {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            return full.insert(hook.clone());
        }
        full.remove(hook);
        false
    }

    /// Stores the events of one hook in its queue, until it has received all of them.
    async fn dispatch(&self, app: &Arc<AppRecord>, backlog: &HookBacklog) -> Result<(), EventsError> {
        let mut received = backlog.received;
        loop {
            let events = self.store.hook_events(received, limits::HOOK_EVENTS_PER_STEP).await?;
            let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
            let (dropped, last) = (first.number.saturating_sub(received + 1), last.number);
            let hook = self.hook(app).await?.ok_or(EventsError::NoHandler)?;
            let events: Vec<_> = events.into_iter().filter_map(|event| hook.event(event)).collect();
            if !events.is_empty() {
                reached("hook-dispatch").await;
                let Hook { process, is_ordered, .. } = hook;
                self.events.accept_for(app, ProcessEvents { process, is_ordered, events }).await?;
                reached("hook-dispatched").await;
            }
            if dropped > 0 {
                self.report_dropped(app, dropped).await;
            }
            self.store.advance_hook(&app.name, last).await?;
            received = last;
        }
    }

    async fn report_dropped(&self, app: &AppRecord, dropped: u64) {
        let noun = if dropped == 1 { "event" } else { "events" };
        let most = isopod_store::limits::HOOK_EVENTS_MAX;
        let text =
            format!("{dropped} {noun} of apps dropped before this hook received them: the host keeps at most {most}");
        tracing::warn!(hook = %app.name, "{text}");
        self.activity.record(app, "hook-events-dropped", text, json!({ "events": dropped })).await;
    }

    /// Returns the settings of a hook; `None` if its current release is not a hook.
    async fn hook(&self, app: &AppRecord) -> Result<Option<Hook>, StoreError> {
        let Some(number) = app.fields().release else { return Ok(None) };
        let release = self.store.release(&app.name, number).await?;
        let Some((manifest, settings)) = release.and_then(|release| {
            let settings = release.manifest.plugin.clone()?;
            Some((release.manifest, settings))
        }) else {
            return Ok(None);
        };
        let process = manifest.processes.into_iter().find(|(name, _)| name.as_str() == PLUGIN_PROCESS);
        Ok(process.map(|(process, definition)| Hook {
            process,
            is_ordered: definition.order == Some(Order::Subject),
            subscription: settings.subscribe,
        }))
    }
}

impl Hook {
    /// Returns the event that the hook receives, if its subscription includes it.
    fn event(&self, event: HookEvent) -> Option<Event> {
        let HookEvent { number: _, id, app, kind, text, data, at } = event;
        let event_type =
            event_type(&kind, app.as_ref()).filter(|name| self.subscription.includes(name, app.as_ref()))?;
        let details = if data.to_string().len() <= limits::HOOK_EVENT_DETAILS_BYTES_MAX { data } else { Value::Null };
        let data = json!({ "kind": kind, "text": text, "details": details });
        let payload = EventPayload {
            time: Some(at.to_string()),
            data_content_type: Some("application/json".to_owned()),
            data: Some(data.to_string().into_bytes()),
            ..EventPayload::default()
        };
        let source = app.as_ref().map_or_else(|| "/host".to_owned(), |app| format!("/apps/{app}"));
        let subject = app.map(|app| app.to_string());
        Some(Event { id, source, event_type: event_type.to_owned(), subject, payload })
    }
}

/// Completes after the next activity. Skips those that were published meanwhile.
async fn next_activity<T: Clone>(published: &mut broadcast::Receiver<T>) {
    if let Err(RecvError::Closed) = published.recv().await {
        // The host shuts down.
        std::future::pending().await
    }
    while published.try_recv().is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn hook(events: &[&str]) -> Hook {
        let events = events.iter().map(|pattern| pattern.parse().expect("a valid pattern")).collect();
        let subscription = Subscription { events, apps: Vec::new() };
        Hook { process: PLUGIN_PROCESS.parse().expect("a valid name"), is_ordered: false, subscription }
    }

    fn activity(kind: &str, data: Value) -> HookEvent {
        let app = Some("shop".parse().expect("a valid name"));
        let (id, at) = ("abc".to_owned(), Timestamp::UNIX_EPOCH);
        HookEvent { number: 1, id, app, kind: kind.to_owned(), text: "v3 is in service".to_owned(), data, at }
    }

    #[test]
    fn an_activity_is_an_event_about_its_app() {
        let event = hook(&[]).event(activity("app-deployed", json!({ "release": 3 }))).expect("it is included");
        assert_eq!(
            (event.id.as_str(), event.source.as_str(), event.event_type.as_str(), event.subject.as_deref()),
            ("abc", "/apps/shop", "isopod.app.deployed", Some("shop"))
        );
        let data: Value = serde_json::from_slice(&event.payload.data.expect("it has data")).expect("JSON");
        assert_eq!(data, json!({ "kind": "app-deployed", "text": "v3 is in service", "details": { "release": 3 } }));
    }

    #[test]
    fn an_alert_of_the_host_is_an_event_without_a_subject() {
        let alert = HookEvent { app: None, ..activity("alert", json!({})) };
        let event = hook(&["isopod.host.alert"]).event(alert.clone()).expect("it is included");
        assert_eq!((event.source.as_str(), event.subject), ("/host", None));
        assert!(hook(&["isopod.app.*"]).event(alert).is_none());
    }

    #[test]
    fn an_activity_outside_the_subscription_is_not_an_event() {
        assert!(hook(&["isopod.app.alert"]).event(activity("app-deployed", json!({}))).is_none());
        assert!(hook(&["isopod.app.alert"]).event(activity("process-failing", json!({}))).is_some());
        assert!(hook(&[]).event(activity("hook-paused", json!({}))).is_none());
    }

    #[test]
    fn details_that_are_too_large_are_left_out() {
        let large = json!("x".repeat(limits::HOOK_EVENT_DETAILS_BYTES_MAX));
        let event = hook(&[]).event(activity("app-deployed", large)).expect("it is included");
        let data: Value = serde_json::from_slice(&event.payload.data.expect("it has data")).expect("JSON");
        assert_eq!(data["details"], Value::Null);
    }
}
