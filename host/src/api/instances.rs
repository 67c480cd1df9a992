//! Owns the routes of an app's instances: list and restart. Never starts an instance.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isopod_policy::{InstanceId, ProcessName, ReleaseNumber};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api, Urls,
    edge::Caller,
    error::Error,
    path::{AppPath, InstancePath},
    request::{BadRequest, List, PageParams, Params, Path, app_name},
};
use crate::{control::DeployError, runtime::LiveInstance};

/// An instance as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Instance)]
pub(super) struct InstanceView {
    id: InstanceId,
    process: ProcessName,
    /// `starting`, `idle`, `busy`, `stopping`, `restarting` or `stopped`.
    state: &'static str,
    release: Option<ReleaseNumber>,
    started_at: Timestamp,
    age_ms: u64,
    memory_bytes: usize,
    cpu_ms: u64,
    requests: u64,
    restarts: u32,
    /// Null if requests can't reach it: its process type takes no HTTP, it completes the work of a
    /// release that has ended, or the name is too long for DNS.
    url: Option<String>,
}

impl InstanceView {
    fn of(app: &str, instance: LiveInstance, urls: &Urls) -> Self {
        let LiveInstance { release, process, takes_requests, status } = instance;
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            url: takes_requests.then(|| urls.of(&format!("{}--{app}", status.id))).flatten(),
            id: status.id,
            process,
            state: status.state,
            release,
            started_at: status.started_at,
            age_ms: milliseconds(status.age),
            memory_bytes: status.memory_bytes,
            cpu_ms: milliseconds(status.cpu),
            requests: status.requests,
            restarts: status.restarts,
        }
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/instances",
    operation_id = "list_instances",
    summary = "Lists the instances of an app",
    params(AppPath, PageParams),
    responses(
        (status = 200, description = "A page of instances", body = List<InstanceView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<InstanceView>>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    if page.cursor.as_deref().is_some_and(|cursor| cursor.parse::<InstanceId>().is_err()) {
        return Err(BadRequest::Cursor.into());
    }
    let of = |instance| InstanceView::of(record.name.as_str(), instance, &api.urls);
    let items = record.traffic.instances().into_iter().map(of).collect();
    Ok(axum::Json(List::page_of(items, &page, |instance: &InstanceView| instance.id.to_string())?))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/instances/{id}/restart",
    operation_id = "restart_instance",
    summary = "Replaces an instance by a new instance with the same id",
    params(InstancePath),
    responses(
        (status = 202, description = "The instance is being replaced"),
    )
)]
pub(super) async fn restart(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path((app, id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let app = app_name(&app)?;
    let parsed = id.parse::<InstanceId>().ok();
    let found = parsed.ok_or(DeployError::UnknownInstance { app: app.clone(), id })?;
    api.control.apps.restart(&app, &found, &by).await?;
    Ok(StatusCode::ACCEPTED)
}
