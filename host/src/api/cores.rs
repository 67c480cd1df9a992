//! Owns the routes of an app's cores: how many of its jobs run at one time, in each queue.

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
    /// What was said of this app; the rest is what the operator allots to all.
    #[serde(rename = "override")]
    said: CoresOverride,
}

impl CoresView {
    fn of(api: &Api, entry: &AppRecord) -> axum::Json<Self> {
        let (cores, said) = api.deployer.cores(entry);
        axum::Json(Self { cores, said })
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/cores",
    operation_id = "show_cores",
    summary = "Shows how many jobs of an app run at a time, in each queue",
    params(AppPath),
    responses(
        (status = 200, description = "The cores", body = CoresView),
    )
)]
pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<axum::Json<CoresView>, Error> {
    let entry = api.deployer.app(&app_name(&app)?)?;
    Ok(CoresView::of(&api, &entry))
}

/// What is not mentioned stays; what is null follows the operator's allotment again.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/cores",
    operation_id = "change_cores",
    summary = "Gives an app other cores than the operator allots to all",
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
    let entry = api.deployer.set_cores(&app_name(&app)?, &change, &by).await?;
    Ok(CoresView::of(&api, &entry))
}
