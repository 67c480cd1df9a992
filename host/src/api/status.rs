//! Owns the routes that say how the host and its apps are: for supervisors, uptime monitors and Prometheus.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use isopod_policy::AppState;
use serde_json::{Value, json};

use super::{
    Api,
    error::Error,
    request::{Path, app_name},
};
use crate::observe::exposition::Format;

/// The process is alive, and each of its own threads answers.
pub(super) async fn live(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<Value>) {
    let silent = api.liveness.silent().await;
    if silent.is_empty() {
        return (StatusCode::OK, axum::Json(json!({ "status": "ok" })));
    }
    tracing::error!(threads = ?silent, "host threads don't respond");
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "stuck", "threads": silent })))
}

/// The host can serve: all apps were brought back, and it is not stopping.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<Value>) {
    if api.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "stopping" })));
    }
    if !api.ready.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "starting" })));
    }
    (StatusCode::OK, axum::Json(json!({ "status": "ok" })))
}

/// Up unless an app that should run is in error.
pub(super) async fn host(State(api): State<Arc<Api>>) -> (StatusCode, axum::Json<Value>) {
    let entries = api.deployer.apps(None, usize::MAX);
    let mut states = std::collections::BTreeMap::<&str, u32>::new();
    let mut in_error = Vec::new();
    for entry in &entries {
        let state = entry.facts().state;
        *states.entry(state.as_str()).or_default() += 1;
        if matches!(state, AppState::Error(_)) {
            in_error.push(entry.name.clone());
        }
    }
    let up = in_error.is_empty() && api.ready.load(Ordering::Acquire) && !api.stop.is_cancelled();
    let body = json!({
        "status": if up { "up" } else { "down" },
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": api.started_at,
        "apps": entries.len(),
        "apps_by_state": states,
        "apps_in_error": in_error,
        "pushes_under_way": api.deployer.pushes_under_way(),
        "log_lines_dropped": api.logs.dropped(),
    });
    (status(up), axum::Json(body))
}

/// Up while the app takes traffic, also during a push.
pub(super) async fn app(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<(StatusCode, axum::Json<Value>), Error> {
    let entry = api.deployer.app(&app_name(&app)?)?;
    let facts = entry.facts().clone();
    let up = entry.traffic.is_up();
    let body = json!({
        "app": entry.name,
        "status": if up { "up" } else { "down" },
        "state": facts.state,
        "error": facts.state.cause().map(|cause| cause.to_string()),
        "release": facts.release,
    });
    Ok((status(up), axum::Json(body)))
}

pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> impl IntoResponse {
    let format = Format::wanted(&headers);
    let text = format.text(api.metrics.text(&api.deployer, &api.logs));
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")], text)
}

fn status(up: bool) -> StatusCode {
    if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
