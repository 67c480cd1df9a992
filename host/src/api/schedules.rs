//! Owns the routes of an app's schedules: their state and history, and runs by hand. Never decides
//! when a schedule fires.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isopod_policy::ProcessName;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api,
    error::{Error, EventError},
    path::{AppPath, ProcessPath},
    request::{Path, app_name},
    stored_events::{EventView, refused},
};
use crate::control::schedules::{ManualRun, RunError, ScheduleRun, ScheduleStatus};

/// All schedules of an app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ScheduleList {
    items: Vec<ScheduleView>,
}

/// A schedule of an app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Schedule)]
pub(super) struct ScheduleView {
    /// The process type that runs.
    process: ProcessName,
    /// Minute, hour, day, month and weekday.
    schedule: String,
    time_zone: String,
    /// `once`, `skip` or `all`.
    missed: &'static str,
    /// `skip`, `queue` or `allow`.
    overlap: &'static str,
    last_run_at: Option<Timestamp>,
    next_run_at: Option<Timestamp>,
    /// The state of the latest run.
    last_state: Option<&'static str>,
    /// The latest runs, newest first, at most 20.
    runs: Vec<RunView>,
}

/// A run of a schedule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ScheduledRun)]
pub(super) struct RunView {
    /// The id of the stored event; null for a command.
    event: Option<String>,
    /// When the event was stored, or the command was started.
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// The state of the event, with `skipped` for a cancelled one; `running`, `done` or `failed`
    /// for a command.
    state: &'static str,
    /// The number of attempts so far.
    attempt: u32,
    /// Why the last attempt failed. If the run is skipped, the reason precedes it.
    error: Option<String>,
}

/// A run that was requested.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RequestedRun {
    process: ProcessName,
    started_at: Timestamp,
    /// The stored event; null for a command.
    event: Option<EventView>,
}

impl From<ScheduleStatus> for ScheduleView {
    fn from(status: ScheduleStatus) -> Self {
        let ScheduleStatus { process, timetable, last_run, next_run, runs } = status;
        Self {
            process,
            schedule: timetable.schedule.as_str().to_owned(),
            time_zone: timetable.time_zone.as_str().to_owned(),
            missed: timetable.missed.as_str(),
            overlap: timetable.overlap.as_str(),
            last_run_at: last_run,
            next_run_at: next_run,
            last_state: runs.first().map(|run| run.state),
            runs: runs.into_iter().map(RunView::from).collect(),
        }
    }
}

impl From<ScheduleRun> for RunView {
    fn from(run: ScheduleRun) -> Self {
        let ScheduleRun { event, started_at, ended_at, state, attempt, error } = run;
        Self { event, started_at, ended_at, state, attempt, error }
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/schedules",
    operation_id = "list_schedules",
    summary = "Lists the schedules of an app with their last and next runs",
    params(AppPath),
    responses(
        (status = 200, description = "All schedules, sorted by process type", body = ScheduleList),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<ScheduleList>, Error> {
    let schedules = api.control.schedules.list(&app_name(&app)?).await.map_err(|error| explained(&app, error))?;
    Ok(axum::Json(ScheduleList { items: schedules.into_iter().map(ScheduleView::from).collect() }))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/schedules/{process}/run",
    operation_id = "run_schedule",
    summary = "Runs a scheduled process type now",
    params(ProcessPath),
    responses(
        (status = 202, description = "The event is stored, or the command is started", body = RequestedRun),
    )
)]
pub(super) async fn run(
    State(api): State<Arc<Api>>,
    Path((app, process)): Path<(String, String)>,
) -> Result<(StatusCode, axum::Json<RequestedRun>), Error> {
    let requested = api.control.schedules.run_by_hand(&app_name(&app)?, &process).await;
    let (process, run) = requested.map_err(|error| explained(&app, error))?;
    let (started_at, event) = match run {
        ManualRun::Event(event) => (event.accepted_at, Some(EventView::from(*event))),
        ManualRun::Command { started_at } => (started_at, None),
    };
    Ok((StatusCode::ACCEPTED, axum::Json(RequestedRun { process, started_at, event })))
}

fn explained(app: &str, error: RunError) -> Error {
    match error {
        RunError::App(error) => error.into(),
        RunError::Events(error) => refused(app, error),
        RunError::NoSchedule { app, process } => EventError::NoSchedule { app: app.to_string(), process }.into(),
        RunError::InProgress { app, process } => {
            EventError::RunInProgress { app: app.to_string(), process: process.to_string() }.into()
        }
    }
}
