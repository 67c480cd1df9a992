//! Owns the routes of the ceilings: what the releases of all apps, and of one app, may ask for.
//! Never compares a release with a ceiling.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::Ceiling;
use serde::Serialize;
use serde_json::Value;

use super::{
    Api,
    edge::Caller,
    error::Error,
    openapi::PolicyPatch,
    path::AppPath,
    request::{Json, Path, app_name},
};
use crate::control::AppRecord;

/// A ceiling as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Policy)]
pub(super) struct PolicyView {
    /// What releases may ask for; an absent setting limits nothing.
    ceiling: Ceiling,
    /// The settings that the app overrides; all others are the host's.
    #[serde(rename = "override")]
    own: Ceiling,
}

impl PolicyView {
    fn of(api: &Api, record: &AppRecord) -> axum::Json<Self> {
        axum::Json(Self { ceiling: api.control.apps.ceiling(record), own: record.fields().ceiling.clone() })
    }
}

#[utoipa::path(
    get,
    path = "/v1/policy",
    operation_id = "show_policy",
    summary = "Shows what releases of all apps may ask for",
    responses(
        (status = 200, description = "The ceiling, without an override", body = PolicyView),
    )
)]
pub(super) async fn show_host(State(api): State<Arc<Api>>) -> axum::Json<PolicyView> {
    axum::Json(PolicyView { ceiling: api.control.apps.host_ceiling().clone(), own: Ceiling::default() })
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/policy",
    operation_id = "show_app_policy",
    summary = "Shows what releases of an app may ask for",
    params(AppPath),
    responses(
        (status = 200, description = "The ceiling", body = PolicyView),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<PolicyView>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    Ok(PolicyView::of(&api, &record))
}

/// Absent members remain unchanged; null resets a member to the host's setting.
#[utoipa::path(
    patch,
    path = "/v1/apps/{app}/policy",
    operation_id = "change_app_policy",
    summary = "Overrides the host's ceiling for an app",
    params(AppPath),
    request_body(content((PolicyPatch = "application/json"), (PolicyPatch = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The ceiling", body = PolicyView),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(change): Json<Value>,
) -> Result<axum::Json<PolicyView>, Error> {
    let record = api.control.apps.set_ceiling(&app_name(&app)?, change, &by).await?;
    Ok(PolicyView::of(&api, &record))
}
