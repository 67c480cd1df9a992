//! Runs process types by their schedules. One task serves all apps, and wakes for the next due run.
//! Never decides which runs are due: the policy crate does, so that a clock that jumps triggers no
//! run twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use isopod_engine::{Event, EventFailure, Handled};
use isopod_policy::{
    AppName, Entry as ProcessEntry, Manifest, ProcessName, ReleaseNumber, RequestId, Timetable, counted_since,
    limits::MISSED_RUNS_COUNTED,
};
use isopod_store::Store;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::control::{AppRecord, app_table::AppTable, background::activity_log::ActivityLog};
use crate::{
    control::limits,
    observe::logs::LogLine,
    runtime::{Directory, InvokeError},
};

/// The schedules of all apps with a release, including apps that are stopped or in error. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(in crate::control) struct Schedules(Arc<Table>);

#[derive(Default)]
struct Table {
    apps: Mutex<HashMap<AppName, Vec<Scheduled>>>,
    changed: Notify,
}

struct Scheduled {
    process: ProcessName,
    entry: ProcessEntry,
    timetable: Timetable,
    /// The last firing, or the registration of the schedule.
    last: Timestamp,
    /// Missed runs in a row.
    missed: u32,
}

/// The due runs of a process type.
struct Firing {
    app: AppName,
    process: ProcessName,
    entry: ProcessEntry,
    timetable: Timetable,
    /// The scheduled times of the runs, oldest first.
    runs: Vec<Timestamp>,
    /// The last firing before, and the number of times since then that are not made up for.
    since: Timestamp,
    dropped: u32,
}

/// The result of a firing.
enum Outcome {
    Ran,
    /// The run was started and failed.
    Failed(String),
    /// The run was not started.
    NotRun(String),
}

impl Outcome {
    fn of(handled: Result<Handled, InvokeError>) -> Self {
        match handled {
            Ok(Ok(_)) => Self::Ran,
            Ok(Err(failure @ EventFailure::Permanent { .. })) => Self::Failed(failure.to_string()),
            Ok(Err(failure)) => Self::Failed(format!(
                "{failure}; the host does not retry events: the next run is at its scheduled time"
            )),
            Err(refused) if refused.has_run() => Self::Failed(refused.to_string()),
            Err(refused) => Self::NotRun(refused.to_string()),
        }
    }

    fn text(&self, process: &ProcessName, schedule: &Timetable) -> String {
        match self {
            Self::Ran => format!("`{process}` ran by its schedule {schedule}"),
            Self::Failed(why) => format!("`{process}` ran by its schedule {schedule} and failed: {why}"),
            Self::NotRun(why) => format!("`{process}` did not run by its schedule {schedule}: {why}"),
        }
    }
}

impl Schedules {
    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Vec<Scheduled>>> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the due runs, and returns the time until the next check.
    fn take_due(&self, now: Timestamp) -> (Vec<Firing>, Duration) {
        let (mut firings, mut soonest) = (Vec::new(), limits::SCHEDULE_CHECK_INTERVAL_MAX);
        for (app, scheduled) in self.lock().iter_mut() {
            for scheduled in scheduled {
                scheduled.last = counted_since(scheduled.last, now);
                let due = scheduled.timetable.due(scheduled.last, now);
                if !due.runs.is_empty() || due.dropped > 0 {
                    firings.push(Firing {
                        app: app.clone(),
                        process: scheduled.process.clone(),
                        entry: scheduled.entry,
                        timetable: scheduled.timetable.clone(),
                        runs: due.runs,
                        since: std::mem::replace(&mut scheduled.last, now),
                        dropped: due.dropped,
                    });
                }
                if let Some(next) = due.next {
                    soonest = soonest.min(Duration::try_from(now.until(next).unwrap_or_default()).unwrap_or_default());
                }
            }
        }
        (firings, soonest.max(limits::SCHEDULE_CHECK_INTERVAL_MIN))
    }

    /// Counts a missed run of a process type. Returns the number of missed runs in a row.
    fn miss(&self, app: &AppName, process: &ProcessName) -> u32 {
        self.with(app, process, |scheduled| {
            scheduled.missed = scheduled.missed.saturating_add(1);
            scheduled.missed
        })
    }

    /// Records a run, and returns the number of missed runs before it.
    fn run(&self, app: &AppName, process: &ProcessName) -> u32 {
        self.with(app, process, |scheduled| std::mem::take(&mut scheduled.missed))
    }

    fn with(&self, app: &AppName, process: &ProcessName, change: impl FnOnce(&mut Scheduled) -> u32) -> u32 {
        let mut apps = self.lock();
        let known = apps.get_mut(app).and_then(|all| all.iter_mut().find(|scheduled| scheduled.process == *process));
        known.map_or(0, change)
    }
}

impl Schedules {
    /// Registers the schedules of a release that now serves.
    pub(in crate::control) fn schedule(&self, app: &AppRecord, manifest: &Manifest) {
        let now = Timestamp::now();
        let mut apps = self.lock();
        let known = apps.remove(&app.name).unwrap_or_default();
        // A changed schedule starts without missed runs.
        let fired = |process: &ProcessName, timetable: &Timetable| match known
            .iter()
            .find(|scheduled| scheduled.process == *process)
        {
            Some(before) if before.timetable.has_times_of(timetable) => (before.last, before.missed),
            Some(_) => (now, 0),
            None => (app.fired.get(process).copied().unwrap_or(now), 0),
        };
        let scheduled: Vec<Scheduled> = manifest
            .processes
            .iter()
            .filter_map(|(process, definition)| {
                let timetable = definition.timetable()?;
                let (last, missed) = fired(process, &timetable);
                Some(Scheduled { process: process.clone(), entry: definition.entry, timetable, last, missed })
            })
            .collect();
        if !scheduled.is_empty() {
            apps.insert(app.name.clone(), scheduled);
        }
        drop(apps);
        self.0.changed.notify_one();
    }

    /// Registers the schedules of a release that doesn't serve, so that missed runs are recorded.
    pub(in crate::control) async fn schedule_stored(&self, store: &Store, app: &AppRecord, number: ReleaseNumber) {
        // Starting the app reports why a release can't be read.
        if let Ok(Some(release)) = store.release(&app.name, number).await {
            self.schedule(app, &release.manifest);
        }
    }

    /// Removes the schedules of a destroyed app.
    pub(in crate::control) fn unschedule(&self, app: &AppName) {
        self.lock().remove(app);
    }
}

/// The scheduler.
#[derive(Clone)]
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) store: Store,
    pub(in crate::control) directory: Arc<Directory>,
    pub(in crate::control) schedules: Schedules,
    /// Cancelled when the host begins to shut down: runs that are due are dropped.
    pub(in crate::control) closing: CancellationToken,
}

impl Service {
    pub(in crate::control) async fn run(self) {
        loop {
            let now = Timestamp::now();
            let (firings, pause) = self.schedules.take_due(now);
            for firing in firings {
                let service = self.clone();
                let firing = async move { service.fire(firing, now).await };
                tokio::spawn(self.closing.clone().run_until_cancelled_owned(firing));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.schedules.0.changed.notified() => {}
            }
        }
    }

    async fn fire(&self, firing: Firing, at: Timestamp) {
        let Firing { app: name, process, timetable, since, dropped, .. } = &firing;
        let Ok(app) = self.app_table.app(name) else { return };
        if *dropped > 0 {
            let counted = dropped.saturating_add(u32::try_from(firing.runs.len()).unwrap_or(u32::MAX));
            let is_all = usize::try_from(counted).is_ok_and(|counted| counted < MISSED_RUNS_COUNTED);
            let at_least = if is_all { "" } else { "at least " };
            let why = format!("{at_least}{dropped} runs since {since}: the host was down, or its clock jumped");
            self.record_missed(&app, process, timetable, *dropped, &why).await;
        }
        if let Err(error) = self.store.schedule_fired(name, process, at).await {
            tracing::warn!(%name, %process, %error, "the firing of a schedule could not be stored");
        }
        // Runs that a downtime delayed are made up for one after another.
        for time in &firing.runs {
            self.run_once(&app, &firing, *time).await;
        }
    }

    /// Runs a process type for one scheduled time, and waits until it ends.
    async fn run_once(&self, app: &AppRecord, firing: &Firing, time: Timestamp) {
        let Firing { process, timetable, .. } = firing;
        let running = match self.directory.serving(&app.traffic).await {
            Ok(running) => running,
            Err(why) => return self.missed(app, process, timetable, &why).await,
        };
        let before = self.schedules.run(&app.name, process);
        if let Some(further) = before.checked_sub(limits::MISSED_RUNS_RECORDED).filter(|further| *further > 0) {
            let why = format!("{further} further runs before this one, for the same reason as the recorded ones");
            self.record_missed(app, process, timetable, further, &why).await;
        }
        let mut command = None;
        let outcome = match firing.entry {
            ProcessEntry::Command => match running.run_command(process) {
                Some(run) => {
                    command = Some(run);
                    Outcome::Ran
                }
                None => Outcome::NotRun("the previous run is still in progress, so this one is skipped".to_owned()),
            },
            ProcessEntry::Events | ProcessEntry::Http => {
                let id = RequestId::from_random(rand::random());
                let event = event(&app.name, process, timetable, id, time);
                Outcome::of(running.event_to(process, event, id).await)
            }
        };
        let text = outcome.text(process, timetable);
        app.log.write(LogLine::host(&app.name, text.clone()));
        if !matches!(outcome, Outcome::Ran) {
            let data = json!({ "process": process, "schedule": timetable.schedule });
            self.activity.record(app, "schedule-failed", text, data).await;
        }
        // The release may be stopped before the command ends.
        drop(running);
        if let Some(command) = command {
            let _ended = command.await;
        }
    }

    /// Records a missed run. After several in a row, later runs are only counted.
    async fn missed(&self, app: &AppRecord, process: &ProcessName, timetable: &Timetable, why: &str) {
        let in_a_row = self.schedules.miss(&app.name, process);
        if in_a_row > limits::MISSED_RUNS_RECORDED {
            return;
        }
        let rest = if in_a_row == limits::MISSED_RUNS_RECORDED {
            "; further ones are counted until it runs again"
        } else {
            ""
        };
        self.record_missed(app, process, timetable, 1, &format!("a run: {why}{rest}")).await;
    }

    async fn record_missed(&self, app: &AppRecord, process: &ProcessName, timetable: &Timetable, runs: u32, why: &str) {
        let text = format!("`{process}` with schedule {timetable} missed {why}");
        app.log.write(LogLine::host(&app.name, text.clone()));
        let data = json!({ "process": process, "schedule": timetable.schedule, "runs": runs });
        self.activity.record(app, "schedule-missed", text, data).await;
    }
}

/// Returns the event that a scheduled handler receives. Its time is the scheduled time.
fn event(app: &AppName, process: &ProcessName, timetable: &Timetable, id: RequestId, at: Timestamp) -> Event {
    let data = json!({ "process": process, "schedule": timetable.schedule });
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
    use isopod_policy::{Schedule, TimeZone};

    use super::*;

    fn text(handled: Result<Handled, InvokeError>) -> String {
        let schedule = Schedule::parse("0 3 * * *").expect("valid schedule");
        let timetable = Timetable::new(schedule, TimeZone::default());
        Outcome::of(handled).text(&"nightly".parse().expect("valid name"), &timetable)
    }

    #[test]
    fn a_handler_that_ran_and_failed_is_reported_as_failed() {
        let permanent = text(Ok(Err(EventFailure::Permanent { message: "no stock".to_owned() })));
        assert_eq!(permanent, "`nightly` ran by its schedule 0 3 * * * and failed: no stock");
        let trap = Fault::Trap { message: "a panic".to_owned(), backtrace: Vec::new() };
        for fault in [trap, Fault::Timeout { limit: Duration::from_secs(30) }] {
            assert!(text(Err(fault.into())).contains(" ran by its schedule"));
        }
        assert!(text(Err(InvokeError::NoProcess("events"))).contains("did not run"));
    }

    #[test]
    fn a_handler_that_asks_for_a_retry_is_reported_as_not_retried() {
        let failure = EventFailure::RetryAfter { message: "shop closed".to_owned(), after: Duration::from_secs(7) };
        let text = text(Ok(Err(failure)));
        assert!(text.contains("shop closed") && text.contains("in 7000 ms"), "{text}");
        assert!(text.ends_with("the host does not retry events: the next run is at its scheduled time"), "{text}");
    }
}
