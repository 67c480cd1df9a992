//! Owns the routes of an app's formation: its process types, how many instances each has, and when they run.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::StatusCode};
use isopod_policy::{ProcessName, formation::ShownProcess};
use serde_json::Value;

use super::{
    Api,
    edge::Caller,
    error::Error,
    request::{Json, Path, app_name},
};
use crate::deploy::{Change, DeployError};

type Shown = axum::Json<BTreeMap<ProcessName, ShownProcess>>;

pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<Shown, Error> {
    Ok(axum::Json(api.deployer.formation(&app_name(&app)?).await?))
}

pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Result<Shown, Error> {
    let app = app_name(&app)?;
    api.deployer.change(&app, Change::Formation(body), &by).await?;
    Ok(axum::Json(api.deployer.formation(&app).await?))
}

pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Shown), Error> {
    let app = app_name(&app)?;
    api.deployer.change(&app, Change::NewProcess(body), &by).await?;
    Ok((StatusCode::CREATED, axum::Json(api.deployer.formation(&app).await?)))
}

pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path((app, process)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let app = app_name(&app)?;
    // What is no name of a process type names none.
    let name = process.parse().map_err(|_| DeployError::UnknownProcess { app: app.clone(), process })?;
    api.deployer.change(&app, Change::RemoveProcess(name), &by).await?;
    Ok(StatusCode::NO_CONTENT)
}
