//! Owns the routes of an app's formation: its process types, how many instances each has, and when they run.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use isopod_policy::{AppName, Entry, FormationChange, Health, NewProcess, Process, ProcessName};
use serde::Serialize;

use super::{
    Api,
    error::Error,
    request::{Json, app_name},
};
use crate::deploy::{Change, DeployError};

/// A process type as the API shows it, with everything resolved.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessView {
    entry: Entry,
    health: Option<Health>,
    min: u32,
    max: u32,
    schedule: Option<String>,
    args: Vec<String>,
}

type Formation = BTreeMap<ProcessName, ProcessView>;

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<Formation>, Error> {
    Ok(axum::Json(formation(&api, &app_name(&app)?).await?))
}

pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Json(change): Json<FormationChange>,
) -> Result<axum::Json<Formation>, Error> {
    let app = app_name(&app)?;
    api.deployer.change(&app, Change::Formation(change), "api").await?;
    Ok(axum::Json(formation(&api, &app).await?))
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Json(new): Json<NewProcess>,
) -> Result<(StatusCode, axum::Json<Formation>), Error> {
    let app = app_name(&app)?;
    api.deployer.change(&app, Change::NewProcess(new), "api").await?;
    Ok((StatusCode::CREATED, axum::Json(formation(&api, &app).await?)))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Path((app, process)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let app = app_name(&app)?;
    let name: Result<ProcessName, _> = process.parse();
    // What is no name of a process type names none.
    let name = name.map_err(|_| DeployError::UnknownProcess { app: app.clone(), process })?;
    api.deployer.change(&app, Change::RemoveProcess(name), "api").await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn formation(api: &Api, app: &AppName) -> Result<Formation, Error> {
    let (app_type, limits, processes) = api.deployer.formation(app).await?;
    let view = |process: Process| {
        let scale = process.scale(app_type, &limits);
        ProcessView {
            entry: process.entry,
            health: process.health,
            min: scale.min,
            max: scale.max,
            schedule: process.schedule.map(|schedule| schedule.to_string()),
            args: process.args,
        }
    };
    Ok(processes.into_iter().map(|(name, process)| (name, view(process))).collect())
}
