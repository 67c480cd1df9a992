//! The schedules of an app for the API: their state, the history of their runs, and runs by hand.
//! Never decides when a schedule fires.

use isopod_policy::{AppName, Entry, ProcessName, Timetable};
use isopod_store::{EventState, StoredEvent};
use jiff::Timestamp;

use super::{
    Service, event_runs,
    table::{CommandRun, ListedSchedule},
};
use crate::control::{AppRecord, DeployError, events::EventsError, limits};
use crate::observe::logs::LogLine;

/// A schedule with its state.
pub(crate) struct ScheduleStatus {
    pub(crate) process: ProcessName,
    pub(crate) timetable: Timetable,
    pub(crate) last_run: Option<Timestamp>,
    pub(crate) next_run: Option<Timestamp>,
    /// The latest runs, newest first.
    pub(crate) runs: Vec<ScheduleRun>,
}

/// A run of a schedule.
pub(crate) struct ScheduleRun {
    /// The id of the event; `None` for a command.
    pub(crate) event: Option<String>,
    /// The time at which the event was stored, or the command was started.
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) state: &'static str,
    pub(crate) attempt: u32,
    pub(crate) error: Option<String>,
}

/// A run that a user has requested.
pub(crate) enum ManualRun {
    /// The stored event.
    Event(Box<StoredEvent>),
    Command {
        started_at: Timestamp,
    },
}

/// Why a run by hand is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    App(#[from] DeployError),
    #[error(transparent)]
    Events(#[from] EventsError),
    #[error("`{process}` of `{app}` has no schedule")]
    NoSchedule { app: AppName, process: String },
    #[error("the previous run of `{process}` is still in progress")]
    InProgress { app: AppName, process: ProcessName },
}

impl From<StoredEvent> for ScheduleRun {
    fn from(event: StoredEvent) -> Self {
        Self {
            ended_at: event.ended_at(),
            event: Some(event.id),
            started_at: event.accepted_at,
            // Only overlapping runs are cancelled, and runs that a user cancels.
            state: if event.state == EventState::Cancelled { "skipped" } else { event.state.as_str() },
            attempt: event.attempt,
            error: event.error,
        }
    }
}

impl From<CommandRun> for ScheduleRun {
    fn from(run: CommandRun) -> Self {
        let CommandRun { started_at, ended } = run;
        let (ended_at, state, error) = match ended {
            None => (None, "running", None),
            Some((at, Ok(()))) => (Some(at), "done", None),
            Some((at, Err(error))) => (Some(at), "failed", Some(error)),
        };
        Self { event: None, started_at, ended_at, state, attempt: 1, error }
    }
}

impl Service {
    /// Returns the schedules of an app, sorted by process type.
    pub(crate) async fn list(&self, app: &AppName) -> Result<Vec<ScheduleStatus>, RunError> {
        let app = self.app_table.app(app)?;
        let mut listed = Vec::new();
        for schedule in self.schedules.of(&app.name, Timestamp::now()) {
            let ListedSchedule { process, entry, timetable, last_run, next_run, commands } = schedule;
            let runs = match entry {
                Entry::Command => commands.into_iter().map(ScheduleRun::from).collect(),
                Entry::Events | Entry::Http | Entry::Middleware | Entry::Gate | Entry::Provider | Entry::Hook => {
                    self.event_runs(&app, &process).await?
                }
            };
            // A run by hand is newer than the schedule's own.
            let last_run = last_run.max(runs.first().map(|run| run.started_at));
            listed.push(ScheduleStatus { process, timetable, last_run, next_run, runs });
        }
        listed.sort_by(|one, other| one.process.cmp(&other.process));
        Ok(listed)
    }

    /// Returns the latest runs of an event handler that are still stored, newest first.
    async fn event_runs(&self, app: &AppRecord, process: &ProcessName) -> Result<Vec<ScheduleRun>, RunError> {
        let (source, prefix) = (event_runs::source(&app.name, process), event_runs::id_prefix(process));
        let runs = self.events.with_id_prefix(app, &source, &prefix, limits::SCHEDULE_HISTORY_RUNS).await?;
        Ok(runs.into_iter().map(ScheduleRun::from).collect())
    }

    /// Runs a scheduled process type now. An event waits for the run in progress, unless the
    /// schedule allows overlapping runs.
    pub(crate) async fn run_by_hand(&self, app: &AppName, process: &str) -> Result<(ProcessName, ManualRun), RunError> {
        let app = self.app_table.app(app)?;
        let unknown = || RunError::NoSchedule { app: app.name.clone(), process: process.to_owned() };
        let now = Timestamp::now();
        let mut schedules = self.schedules.of(&app.name, now).into_iter();
        let schedule = schedules.find(|schedule| schedule.process.as_str() == process).ok_or_else(unknown)?;
        let ListedSchedule { process, entry, timetable, .. } = schedule;
        if entry == Entry::Command {
            let release = self.directory.serving(&app.traffic).await.map_err(EventsError::NotServing)?;
            let Some(run) = self.start_command(&app, &process, &release) else {
                return Err(RunError::InProgress { app: app.name.clone(), process });
            };
            tokio::spawn(self.closing.clone().run_until_cancelled_owned(run));
            app.log.write(LogLine::host(&app.name, format!("a request started `{process}`")));
            return Ok((process, ManualRun::Command { started_at: now }));
        }
        let id = event_runs::id_at(&process, now, format_args!("{:08x}", rand::random::<u32>()));
        let event = event_runs::event(&app.name, &process, &timetable, &id, now);
        self.events.accept_for(&app, event_runs::process_events(&process, &timetable, vec![event])).await?;
        let stored = self.events.get(&app, &id, Some(&event_runs::source(&app.name, &process))).await?;
        let line = LogLine::host(&app.name, format!("a request stored event {id} for `{process}`"));
        app.log.write(line.about_event(&id));
        let stored = stored.ok_or(EventsError::Destroyed)?;
        Ok((process, ManualRun::Event(Box::new(stored))))
    }
}
