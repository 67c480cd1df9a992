//! Owns the routes of an app's cores: the number of its concurrent jobs in each queue. Never
//! schedules a job.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::{Cores, CoresOverride};
use serde::Serialize;
use serde_json::Value;

use super::{
    Api,
    edge::Caller,
    error::Error,
    openapi::CoresPatch,
    path::AppPath,
    request::{Json, Path, app_name},
};
use crate::control::AppRecord;

/// The cores of an app as the API shows them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AppCores)]
pub(super) struct CoresView {
    #[serde(flatten)]
    cores: Cores,
    /// The app's own settings; all other values are the host's defaults.
    #[serde(rename = "override")]
    own: CoresOverride,
}

impl CoresView {
    fn of(api: &Api, record: &AppRecord) -> axum::Json<Self> {
        let (cores, own) = api.control.apps.cores(record);
        axum::Json(Self { cores, own })
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/cores",
    operation_id = "show_cores",
    summary = "Shows the number of concurrent jobs of an app in each queue",
    params(AppPath),
    responses(
        (status = 200, description = "The cores", body = CoresView),
    )
)]
pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<axum::Json<CoresView>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    Ok(CoresView::of(&api, &record))
}

/// Keeps absent members; null resets a member to the host's default.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/cores",
    operation_id = "change_cores",
    summary = "Overrides the host's default cores for an app",
    params(AppPath),
    request_body(content((CoresPatch = "application/json"), (CoresPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The cores", body = CoresView),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(change): Json<Value>,
) -> Result<axum::Json<CoresView>, Error> {
    let record = api.control.apps.set_cores(&app_name(&app)?, change, &by).await?;
    Ok(CoresView::of(&api, &record))
}
