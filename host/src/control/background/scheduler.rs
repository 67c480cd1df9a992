//! Runs process types by their schedules. One task serves all apps and wakes for the next due run.
//! Never decides which runs are due: the policy crate does, so that a clock that jumps triggers no
//! run twice.

mod by_hand;
mod event_runs;
mod table;

use std::sync::Arc;

use isopod_policy::{Entry, Overlap, ProcessName, Timetable, limits::MISSED_RUNS_COUNTED};
use isopod_store::Store;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use self::by_hand::{ManualRun, RunError, ScheduleRun, ScheduleStatus};
pub(in crate::control) use self::table::Schedules;
use self::table::{Firing, Queued, StartPermit};
use crate::control::{AppRecord, app_table::AppTable, background::activity_log::ActivityLog, events::Events};
use crate::{
    control::limits,
    observe::logs::LogLine,
    runtime::{ActiveRelease, Directory},
};

/// Why a run that is due doesn't start while the previous one is in progress.
const IN_PROGRESS: &str = "the previous run is still in progress, so this one is skipped";

/// The scheduler, and the handle to the schedules for the API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) store: Store,
    pub(in crate::control) directory: Arc<Directory>,
    pub(in crate::control) events: Events,
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
                () = self.schedules.changed() => {}
            }
        }
    }

    /// Starts the due runs of a process type. The events of a handler are stored before the firing:
    /// if the host ends in between, the next start stores them again, and the queue recognises the
    /// duplicates. A command has no queue, so its firing is stored first and no run starts twice.
    /// The firing of a run that waits for the previous run is stored only when the run starts: if
    /// the host ends before, the run counts as missed.
    async fn fire(&self, firing: Firing, at: Timestamp) {
        let Ok(app) = self.app_table.app(&firing.app) else { return };
        match firing.entry {
            Entry::Command if firing.timetable.overlap == Overlap::Queue => {
                self.queue_commands(&app, &firing, at).await
            }
            Entry::Command => {
                self.firing_is_stored(&firing, at).await;
                self.report_dropped(&app, &firing).await;
                self.run_commands(&app, &firing, None).await;
            }
            Entry::Events | Entry::Http | Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook => {
                let stored = self.store_runs(&app, &firing).await;
                self.firing_is_stored(&firing, at).await;
                self.report_dropped(&app, &firing).await;
                self.report_runs(&app, &firing, stored).await;
            }
        }
    }

    async fn firing_is_stored(&self, firing: &Firing, at: Timestamp) {
        let Firing { app: name, process, .. } = firing;
        if let Err(error) = self.store.schedule_fired(name, process, at).await {
            tracing::warn!(%name, %process, %error, "the firing of a schedule could not be stored");
        }
    }

    /// Records the scheduled times that passed and don't run.
    async fn report_dropped(&self, app: &AppRecord, firing: &Firing) {
        let Firing { process, timetable, since, dropped, .. } = firing;
        if *dropped == 0 {
            return;
        }
        let counted = dropped.saturating_add(u32::try_from(firing.runs.len()).unwrap_or(u32::MAX));
        let is_all = usize::try_from(counted).is_ok_and(|counted| counted < MISSED_RUNS_COUNTED);
        let at_least = if is_all { "" } else { "at least " };
        let noun = if *dropped == 1 { "run" } else { "runs" };
        let of = scheduled(process, timetable);
        let why = "the host was down, or its clock jumped";
        let text = format!("the scheduler missed {at_least}{dropped} {noun} of {of} since {since}: {why}");
        self.record_missed(app, process, timetable, *dropped, text).await;
    }

    /// Runs a command once for each time of a firing at `at`, after the runs of earlier firings.
    /// Waits until the earlier runs have started. It then records the firing's missed times and
    /// stores them as fired in one step. If the host ends before that, the earlier runs count as
    /// missed.
    async fn queue_commands(&self, app: &AppRecord, firing: &Firing, at: Timestamp) {
        let Firing { process, timetable, runs, dropped, .. } = firing;
        let permit = match self.schedules.start_permit(&app.name, process, at).await {
            Queued::Permitted(permit) => permit,
            Queued::Refused => {
                self.report_dropped(app, firing).await;
                if !runs.is_empty() {
                    let waiting = limits::SCHEDULED_RUNS_WAITING_MAX;
                    let why = format!("{waiting} runs already wait for the previous one");
                    self.not_started(app, process, timetable, &why).await;
                }
                return;
            }
            Queued::Removed => return,
        };
        if *dropped > 0 {
            let before_runs =
                runs.first().map(|first| first.checked_sub(SignedDuration::from_secs(1)).unwrap_or(*first));
            let fired = before_runs.or_else(|| permit.end_firing()).unwrap_or(at);
            self.firing_is_stored(firing, fired).await;
            self.report_dropped(app, firing).await;
        }
        self.run_commands(app, firing, Some(permit)).await;
    }

    /// Runs a command once for each time, and waits until the last run ends. Runs that were delayed
    /// by downtime run one after another. With a permit, each run is stored as fired when it
    /// starts.
    async fn run_commands(&self, app: &AppRecord, firing: &Firing, permit: Option<StartPermit>) {
        let Firing { process, timetable, runs, .. } = firing;
        for (started, time) in runs.iter().enumerate() {
            if let Some(permit) = &permit {
                let end = (started + 1 == runs.len()).then(|| permit.end_firing()).flatten();
                self.firing_is_stored(firing, end.unwrap_or(*time)).await;
            }
            let release = match self.directory.serving(&app.traffic).await {
                Ok(release) => release,
                Err(why) => {
                    self.missed(app, process, timetable, &why).await;
                    continue;
                }
            };
            match self.start_command(app, process, &release) {
                Some(run) => {
                    // The release may be stopped before the command ends.
                    drop(release);
                    self.run_follows_missed(app, process, timetable).await;
                    let text = format!("the scheduler started {}", scheduled(process, timetable));
                    app.log.write(LogLine::host(&app.name, text));
                    run.await;
                }
                None => self.not_started(app, process, timetable, IN_PROGRESS).await,
            }
        }
    }

    /// Starts a run of a command. Returns its end, or `None` while the previous run is in progress.
    fn start_command(
        &self,
        app: &AppRecord,
        process: &ProcessName,
        release: &ActiveRelease,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let run = release.run_command(process)?;
        let (schedules, name, process, started_at) =
            (self.schedules.clone(), app.name.clone(), process.clone(), Timestamp::now());
        schedules.begin_command(&name, &process, started_at);
        Some(async move {
            let outcome = match run.await {
                Ok(Some(outcome)) => outcome,
                Ok(None) | Err(_) => Err("the release was stopped".to_owned()),
            };
            schedules.end_command(&name, &process, started_at, outcome);
        })
    }

    /// Records missed runs that were only counted, before the first run after them.
    async fn run_follows_missed(&self, app: &AppRecord, process: &ProcessName, timetable: &Timetable) {
        let before = self.schedules.run(&app.name, process, Timestamp::now());
        if let Some(further) = before.checked_sub(limits::MISSED_RUNS_RECORDED).filter(|further| *further > 0) {
            let noun = if further == 1 { "run" } else { "runs" };
            let of = scheduled(process, timetable);
            let text = format!("the scheduler missed {further} more {noun} of {of}, for the reasons already recorded");
            self.record_missed(app, process, timetable, further, text).await;
        }
    }

    /// Records a run that was not started.
    async fn not_started(&self, app: &AppRecord, process: &ProcessName, timetable: &Timetable, why: &str) {
        let text = format!("the scheduler did not start {}: {why}", scheduled(process, timetable));
        app.log.write(LogLine::host(&app.name, text.clone()));
        let data = json!({ "process": process, "schedule": timetable.schedule });
        self.activity.record(app, "schedule-failed", text, data).await;
    }

    /// Records a missed run. After several in a row, later runs are only counted.
    async fn missed(&self, app: &AppRecord, process: &ProcessName, timetable: &Timetable, why: &str) {
        let in_a_row = self.schedules.miss(&app.name, process);
        if in_a_row > limits::MISSED_RUNS_RECORDED {
            return;
        }
        let rest = if in_a_row == limits::MISSED_RUNS_RECORDED {
            "; the scheduler records the number of further missed runs before the next run"
        } else {
            ""
        };
        let text = format!("the scheduler missed a run of {}: {why}{rest}", scheduled(process, timetable));
        self.record_missed(app, process, timetable, 1, text).await;
    }

    async fn record_missed(
        &self,
        app: &AppRecord,
        process: &ProcessName,
        timetable: &Timetable,
        runs: u32,
        text: String,
    ) {
        app.log.write(LogLine::host(&app.name, text.clone()));
        let data = json!({ "process": process, "schedule": timetable.schedule, "runs": runs });
        self.activity.record(app, "schedule-missed", text, data).await;
    }
}

/// Returns how messages name a scheduled process type.
fn scheduled(process: &ProcessName, timetable: &Timetable) -> String {
    format!("`{process}` (schedule {timetable})")
}
