//! Owns the routes of the status of the host and its apps, for supervisors, uptime monitors and
//! Prometheus. Never changes a state.

use std::{
    collections::BTreeMap,
    mem::discriminant,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use isopod_policy::{AppName, AppState, AppType, PluginKind, ReleaseNumber};
use isopod_store::StoreError;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api,
    error::Error,
    openapi::Binary,
    path::AppPath,
    request::{Path, app_name},
};
use crate::{
    control,
    observe::{exposition::Format, metrics::EncodeError},
};

/// The response of liveness and readiness checks.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Readiness)]
pub(super) struct Health {
    /// `ok`, `starting`, `stopping` or `stuck`.
    status: &'static str,
    /// The host threads that don't respond.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    threads: Vec<String>,
}

impl Health {
    fn of(status: &'static str) -> Self {
        Self { status, threads: Vec::new() }
    }
}

/// The status of the host.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct HostStatus {
    /// `up` or `down`.
    status: &'static str,
    version: &'static str,
    started_at: Timestamp,
    apps: usize,
    apps_by_state: BTreeMap<&'static str, u32>,
    /// The apps in the state `error`, and those whose database can't be used.
    apps_in_error: Vec<AppName>,
    pushes_under_way: usize,
    log_lines_dropped: u64,
    /// The problems of the data folder and its disk, each with its remedy.
    data_folder_problems: Vec<String>,
    /// The middleware of the host's settings that can't handle requests.
    middleware_problems: Vec<PluginProblem>,
    /// The gates of the host's settings that can't decide about releases.
    gate_problems: Vec<PluginProblem>,
}

/// A plugin of the host's settings that can't be called.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PluginProblem {
    plugin: AppName,
    why: String,
}

impl PluginProblem {
    /// Returns the problems of the plugins of this kind.
    async fn of(api: &Api, kind: PluginKind) -> Vec<Self> {
        let problems = api.control.plugins.problems(kind).await.into_iter();
        problems.map(|control::PluginProblem { plugin, why }| Self { plugin, why }).collect()
    }
}

/// The status of an app.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct AppStatus {
    app: AppName,
    /// `up` or `down`.
    status: &'static str,
    state: AppState,
    /// The cause of the state `error`, or why the app's database can't be used.
    error: Option<String>,
    release: Option<ReleaseNumber>,
}

/// Checks that the process is alive and that each host thread responds.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "check_liveness",
    summary = "Checks whether the process is alive; needs no token",
    responses(
        (status = 200, description = "The process is alive", body = Health),
        (status = 503, description = "A thread of the host does not respond", body = Health),
    )
)]
pub(super) async fn live(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<Health>) {
    let threads = api.liveness.silent().await;
    if threads.is_empty() {
        return (StatusCode::OK, axum::Json(Health::of("ok")));
    }
    tracing::error!(?threads, "host threads don't respond");
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(Health { status: "stuck", threads }))
}

/// Checks that the host can serve: all apps are restored, and it is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "check_readiness",
    summary = "Checks whether the host can serve; needs no token",
    responses(
        (status = 200, description = "The host serves", body = Health),
        (status = 503, description = "The host is starting or stopping", body = Health),
    )
)]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<Health>) {
    if api.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(Health::of("stopping")));
    }
    if !api.ready.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(Health::of("starting")));
    }
    (StatusCode::OK, axum::Json(Health::of("ok")))
}

/// Returns the host's status: up unless a staging or production app is in error, or the database of
/// an app can't be used. A dev app may be in error while its developer works on it.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "show_host_status",
    summary = "Shows whether the host is up",
    responses(
        (status = 200, description = "The host is up", body = HostStatus),
        (
            status = 503,
            description = "A staging or production app is in error, the database of an app can't be used, or the host \
                           is starting or stopping",
            body = HostStatus
        ),
    )
)]
pub(super) async fn host(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<HostStatus>) {
    let records = api.control.apps.with_plugins();
    let mut states = BTreeMap::<&str, u32>::new();
    let (mut in_error, mut problems) = (Vec::new(), Vec::from_iter(api.store.control_problem()));
    let mut up = api.ready.load(Ordering::Acquire) && !api.stop.is_cancelled();
    for record in &records {
        let fields = record.fields();
        let state = fields.state;
        if record.kind.is_app() {
            *states.entry(state.as_str()).or_default() += 1;
        }
        let data_error = api.store.app_data_error(&record.name);
        if matches!(state, AppState::Error(_)) || data_error.is_some() {
            in_error.push(record.name.clone());
            up &= fields.app_type == AppType::Dev && data_error.is_none();
        }
        // A full disk affects many apps, but is listed once.
        let is_new = |error: &StoreError| problems.iter().all(|known| discriminant(known) != discriminant(error));
        problems.extend(data_error.filter(|error| error.is_of_unwritable_disk() && is_new(error)));
    }
    let body = HostStatus {
        status: word(up),
        version: env!("CARGO_PKG_VERSION"),
        started_at: api.started_at,
        apps: records.iter().filter(|record| record.kind.is_app()).count(),
        apps_by_state: states,
        apps_in_error: in_error,
        pushes_under_way: api.control.pushes.count(),
        log_lines_dropped: api.logs.dropped(),
        data_folder_problems: problems.iter().map(ToString::to_string).collect(),
        middleware_problems: PluginProblem::of(&api, PluginKind::Middleware).await,
        gate_problems: PluginProblem::of(&api, PluginKind::Gate).await,
    };
    (status(up), axum::Json(body))
}

/// Returns the app's status: up while it takes traffic and its database can be used, including
/// during a push.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/status",
    operation_id = "show_app_status",
    summary = "Shows whether an app takes traffic",
    params(AppPath),
    responses(
        (status = 200, description = "The app takes traffic", body = AppStatus),
        (status = 503, description = "The app takes no traffic, or its database can't be used", body = AppStatus),
    )
)]
pub(super) async fn app(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<(StatusCode, axum::Json<AppStatus>), Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let fields = record.fields();
    let data_error = api.store.app_data_error(&record.name);
    let up = record.traffic.is_up() && data_error.is_none();
    let body = AppStatus {
        app: record.name.clone(),
        status: word(up),
        state: fields.state,
        error: fields.state.cause().map(|cause| cause.to_string()).or(data_error.map(|error| error.to_string())),
        release: fields.release,
    };
    Ok((status(up), axum::Json(body)))
}

#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "show_prometheus_metrics",
    summary = "Shows metrics for Prometheus",
    responses(
        (
            status = 200,
            description = "Protocol Buffers or OpenMetrics if `Accept` prefers it, otherwise Prometheus' text format",
            content(
                (String = "text/plain"),
                (String = "application/openmetrics-text"),
                (Binary = "application/vnd.google.protobuf")
            )
        ),
    )
)]
pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<impl IntoResponse, Error> {
    let format = Format::negotiated(&headers);
    let host = Arc::clone(&api);
    let sample = move || host.control.queries.sample(host.logs.dropped());
    let metrics = api.metrics.exported(sample, format).await.map_err(|EncodeError| Error::Panicked)?;
    Ok(([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], metrics))
}

fn status(up: bool) -> StatusCode {
    if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub(super) fn word(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}
