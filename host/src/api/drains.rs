//! Owns the routes of an app's log drains. Never sends a line.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Api,
    edge::Subscriber,
    error::Error,
    path::{AppPath, DrainPath},
    request::{List, Object, Path, app_name},
};
use crate::control::drains::{Counters, DrainStatus};

/// A new drain.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDrain {
    /// The endpoint: `https://…` or `http://…` (NDJSON), `otlp+https://…` or `otlp+http://…`,
    /// `syslog://…` (TCP), `syslog+tls://…` or `syslog+udp://…`.
    url: String,
}

/// A log drain of an app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Drain)]
pub(super) struct DrainView {
    id: String,
    /// The endpoint, without user, password, path and query; `unreadable` if `error` states why the
    /// stored URL can't be used.
    url: String,
    created_by: String,
    created_at: Timestamp,
    /// The lines that wait to be sent.
    waiting: usize,
    /// The lines sent since the host's start.
    sent: u64,
    /// The lines dropped since the host's start.
    dropped: u64,
    /// Why the last attempt failed; null if it succeeded.
    error: Option<String>,
}

impl From<DrainStatus> for DrainView {
    fn from(DrainStatus { id, url, created_by, created_at, counters }: DrainStatus) -> Self {
        let Counters { waiting, sent, dropped, error } = counters;
        Self { id, url, created_by, created_at, waiting, sent, dropped, error }
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/drains",
    operation_id = "list_drains",
    summary = "Lists the log drains of an app",
    params(AppPath),
    responses(
        (status = 200, description = "The drains", body = List<DrainView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<List<DrainView>>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let items = api.control.drains.list(&record).into_iter().map(DrainView::from).collect();
    Ok(axum::Json(List { items, next: None }))
}

/// Sends the lines that are written from now on. The ceiling on outbound hosts applies.
#[utoipa::path(
    post,
    path = "/v1/apps/{app}/drains",
    operation_id = "add_drain",
    summary = "Adds a log drain to an app",
    params(AppPath),
    request_body = NewDrain,
    responses(
        (status = 201, description = "The drain", body = DrainView),
    )
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Object(new): Object<NewDrain>,
) -> Result<(StatusCode, axum::Json<DrainView>), Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let added = api.control.drains.add(&record, &new.url, &token.requester()).await?;
    Ok((StatusCode::CREATED, axum::Json(added.into())))
}

/// Drops the lines that wait to be sent.
#[utoipa::path(
    delete,
    path = "/v1/apps/{app}/drains/{drain}",
    operation_id = "remove_drain",
    summary = "Removes a log drain of an app",
    params(DrainPath),
    responses(
        (status = 204, description = "The drain is removed"),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path((app, drain)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    api.control.drains.remove(&record, &drain, &token.requester()).await?;
    Ok(StatusCode::NO_CONTENT)
}
