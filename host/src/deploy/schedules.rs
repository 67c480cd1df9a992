//! Owns when process types run by their schedules. One task for all apps, which wakes for the next of them; an app
//! without a schedule costs nothing. What is due is asked of the policy, so that a clock that jumps fires nothing twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_engine::Event;
use isopod_policy::{AppName, Entry as ProcessEntry, Manifest, ProcessName, RequestId, Schedule, counted_since, due};
use isopod_store::Control;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use super::{Deployer, Entry};
use crate::{limits, observe::logs::LogLine};

/// Every schedule of every app that runs.
#[derive(Default)]
pub(super) struct Schedules {
    apps: Mutex<HashMap<AppName, Vec<Scheduled>>>,
    changed: Notify,
}

struct Scheduled {
    process: ProcessName,
    entry: ProcessEntry,
    schedule: Schedule,
    /// When it fired last, or when it was made known.
    last: Timestamp,
}

/// A process type whose time has come.
struct Firing {
    app: AppName,
    process: ProcessName,
    entry: ProcessEntry,
    schedule: String,
}

impl Schedules {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Vec<Scheduled>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is due now, and when to look again.
    fn take_due(&self, now: Timestamp) -> (Vec<Firing>, Duration) {
        let (mut firings, mut soonest) = (Vec::new(), limits::SCHEDULE_LOOK);
        for (app, scheduled) in self.lock().iter_mut() {
            for scheduled in scheduled {
                scheduled.last = counted_since(scheduled.last, now);
                let found = due(Some(scheduled.last), now, &scheduled.schedule);
                if found.fire_now {
                    scheduled.last = now;
                    firings.push(Firing {
                        app: app.clone(),
                        process: scheduled.process.clone(),
                        entry: scheduled.entry,
                        schedule: scheduled.schedule.to_string(),
                    });
                }
                if let Some(next) = found.next {
                    soonest = soonest.min(Duration::try_from(now.until(next).unwrap_or_default()).unwrap_or_default());
                }
            }
        }
        (firings, soonest.max(limits::SCHEDULE_PAUSE))
    }
}

impl Deployer {
    /// Follows the schedules of a release that serves from now on.
    pub(super) fn schedule(&self, entry: &Entry, manifest: &Manifest) {
        let now = Timestamp::now();
        let mut apps = self.0.schedules.lock();
        let known = apps.remove(&entry.name).unwrap_or_default();
        // A schedule that was changed begins anew: what the old one missed is not its own.
        let fired = |process: &ProcessName, schedule: &Schedule| match known
            .iter()
            .find(|scheduled| scheduled.process == *process)
        {
            Some(before) if before.schedule == *schedule => before.last,
            Some(_) => now,
            None => entry.facts().fired.get(process).copied().unwrap_or(now),
        };
        let scheduled: Vec<Scheduled> = manifest
            .processes
            .iter()
            .filter_map(|(process, definition)| {
                let schedule = definition.schedule.clone()?;
                let last = fired(process, &schedule);
                Some(Scheduled { process: process.clone(), entry: definition.entry, schedule, last })
            })
            .collect();
        if !scheduled.is_empty() {
            apps.insert(entry.name.clone(), scheduled);
        }
        drop(apps);
        self.0.schedules.changed.notify_one();
    }

    /// Forgets the schedules of an app that does not serve any more.
    pub(super) fn unschedule(&self, app: &AppName) {
        self.0.schedules.lock().remove(app);
    }

    pub(super) async fn keep_schedules(self) {
        loop {
            let now = Timestamp::now();
            let (firings, pause) = self.0.schedules.take_due(now);
            for firing in firings {
                let deployer = self.clone();
                self.in_background(async move { deployer.fire(firing, now).await });
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.0.schedules.changed.notified() => {}
            }
        }
    }

    async fn fire(&self, firing: Firing, at: Timestamp) {
        let Firing { app, process, entry: kind, schedule } = firing;
        let Ok(entry) = self.app(&app) else { return };
        if let Err(error) = self.0.parts.store.schedule_fired(&app, &process, at).await {
            tracing::warn!(%app, %process, %error, "the firing of a schedule could not be stored");
        }
        let Ok(running) = self.serving(&entry).await else { return };
        let outcome = match kind {
            ProcessEntry::Command if running.run_command(&process) => Ok(()),
            ProcessEntry::Command => Err("the run before still goes on, so this one is left out".to_owned()),
            ProcessEntry::Events | ProcessEntry::Http => {
                let id = RequestId::from_random(rand::random());
                let event = event(&app, &process, &schedule, id, at);
                match running.event_to(&process, event, id).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(failure)) => Err(failure.to_string()),
                    Err(refused) => Err(refused.to_string()),
                }
            }
        };
        let text = match &outcome {
            Ok(()) => format!("`{process}` ran by its schedule {schedule}"),
            Err(why) => format!("`{process}` did not run by its schedule {schedule}: {why}"),
        };
        entry.log.write(LogLine::host(&app, text.clone()));
        if outcome.is_err() {
            self.record(&entry, "schedule-failed", text, json!({ "process": process, "schedule": schedule })).await;
        }
    }
}

/// What a scheduled handler gets.
fn event(app: &AppName, process: &ProcessName, schedule: &str, id: RequestId, at: Timestamp) -> Event {
    let data = json!({ "process": process, "schedule": schedule });
    Event {
        id: id.to_string(),
        source: format!("isopod/{app}/{process}"),
        event_type: "isopod.schedule".to_owned(),
        time: Some(at.to_string()),
        data_content_type: Some("application/json".to_owned()),
        data: Some(data.to_string().into_bytes()),
        attempt: 1,
        ..Event::default()
    }
}
