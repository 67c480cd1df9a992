//! Owns when process types run by their schedules. One task for all apps, which wakes for the next of them; an app
//! without a schedule costs nothing. What is due is asked of the policy, so that a clock that jumps fires nothing twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_engine::{Event, EventFailure, Handled};
use isopod_policy::{AppName, Entry as ProcessEntry, Manifest, ProcessName, RequestId, Schedule, counted_since, due};
use isopod_store::Control;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;

use super::{Deployer, Entry};
use crate::{dispatch::Refused, limits, observe::logs::LogLine};

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

/// The result of a firing.
enum Outcome {
    Ran,
    /// It was started, and did not succeed.
    Failed(String),
    /// It was not started.
    NotRun(String),
}

impl Outcome {
    fn of(handled: Result<Handled, Refused>) -> Self {
        match handled {
            Ok(Ok(_)) => Self::Ran,
            Ok(Err(failure @ EventFailure::Retry { .. })) => {
                Self::Failed(format!("{failure}; the host keeps no events, so it runs next at its scheduled time"))
            }
            Ok(Err(failure @ EventFailure::Permanent { .. })) => Self::Failed(failure.to_string()),
            Err(refused) if refused.has_run() => Self::Failed(refused.to_string()),
            Err(refused) => Self::NotRun(refused.to_string()),
        }
    }

    fn text(&self, process: &ProcessName, schedule: &str) -> String {
        match self {
            Self::Ran => format!("`{process}` ran by its schedule {schedule}"),
            Self::Failed(why) => format!("`{process}` ran by its schedule {schedule} and failed: {why}"),
            Self::NotRun(why) => format!("`{process}` did not run by its schedule {schedule}: {why}"),
        }
    }
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
            ProcessEntry::Command if running.run_command(&process) => Outcome::Ran,
            ProcessEntry::Command => {
                Outcome::NotRun("the run before still goes on, so this one is left out".to_owned())
            }
            ProcessEntry::Events | ProcessEntry::Http => {
                let id = RequestId::from_random(rand::random());
                let event = event(&app, &process, &schedule, id, at);
                Outcome::of(running.event_to(&process, event, id).await)
            }
        };
        let text = outcome.text(&process, &schedule);
        entry.log.write(LogLine::host(&app, text.clone()));
        if !matches!(outcome, Outcome::Ran) {
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

#[cfg(test)]
mod tests {
    use isopod_engine::Fault;

    use super::*;

    fn text(handled: Result<Handled, Refused>) -> String {
        Outcome::of(handled).text(&"nightly".parse().expect("is a name"), "0 3 * * *")
    }

    #[test]
    fn a_handler_that_ran_and_failed_is_not_said_to_have_not_run() {
        let permanent = text(Ok(Err(EventFailure::Permanent { message: "no stock".to_owned() })));
        assert_eq!(permanent, "`nightly` ran by its schedule 0 3 * * * and failed: no stock");
        let trap = Fault::Trap { message: "a panic".to_owned(), backtrace: Vec::new() };
        for fault in [trap, Fault::Timeout { limit: Duration::from_secs(30) }] {
            assert!(text(Err(fault.into())).contains(" ran by its schedule"));
        }
        assert!(text(Err(Refused::NoProcess("events"))).contains("did not run"));
    }

    #[test]
    fn a_handler_that_asks_for_a_retry_is_said_to_get_none() {
        let failure = EventFailure::Retry { message: "shop closed".to_owned(), after: Duration::from_secs(7) };
        let text = text(Ok(Err(failure)));
        assert!(text.contains("shop closed") && text.contains("in 7000 ms"), "{text}");
        assert!(text.ends_with("the host keeps no events, so it runs next at its scheduled time"), "{text}");
    }
}
