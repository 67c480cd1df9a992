//! Owns the routes of an app's formation: its process types, their instances and their schedules.
//! Never starts an instance.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::State, http::StatusCode};
use isopod_policy::{
    ProcessName, Role,
    formation::{self, ShownProcess},
};
use serde_json::Value;

use super::{
    Api,
    edge::Subscriber,
    error::Error,
    openapi::{FormationPatch, NewProcess},
    path::{AppPath, ProcessPath},
    request::{Json, Path, app_name},
};
use crate::control::{Change, DeployError};

type Shown = axum::Json<BTreeMap<ProcessName, ShownProcess>>;

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/formation",
    operation_id = "show_formation",
    summary = "Shows the process types of an app",
    params(AppPath),
    responses(
        (status = 200, description = "Process types by name", body = BTreeMap<String, ShownProcess>),
    )
)]
pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<Shown, Error> {
    Ok(axum::Json(api.control.queries.formation(&app_name(&app)?).await?))
}

#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/formation",
    operation_id = "change_formation",
    summary = "Changes process types, as a JSON merge patch",
    params(AppPath),
    request_body(content((FormationPatch = "application/json"), (FormationPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "Process types by name", body = BTreeMap<String, ShownProcess>),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Result<Shown, Error> {
    let app = app_name(&app)?;
    if !formation::only_scales(&body) {
        token.ensure(Role::Deploy)?;
    }
    api.control.settings.change(&app, Change::Formation(body), &token.requester()).await?;
    Ok(axum::Json(api.control.queries.formation(&app).await?))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/formation",
    operation_id = "create_process",
    summary = "Adds a process type",
    params(AppPath),
    request_body = NewProcess,
    responses(
        (status = 201, description = "Process types by name", body = BTreeMap<String, ShownProcess>),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Shown), Error> {
    let app = app_name(&app)?;
    api.control.settings.change(&app, Change::NewProcess(body), &token.requester()).await?;
    Ok((StatusCode::CREATED, axum::Json(api.control.queries.formation(&app).await?)))
}

#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/formation/{process}",
    operation_id = "delete_process",
    summary = "Removes a process type",
    params(ProcessPath),
    responses(
        (status = 204, description = "The process type is removed"),
    )
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path((app, process)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let app = app_name(&app)?;
    // An invalid name can't belong to a process type.
    let name = process.parse().map_err(|_| DeployError::UnknownProcess { app: app.clone(), process })?;
    api.control.settings.change(&app, Change::RemoveProcess(name), &token.requester()).await?;
    Ok(StatusCode::NO_CONTENT)
}
