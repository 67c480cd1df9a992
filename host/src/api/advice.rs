//! Owns the route that says which type fits an app.

use std::sync::Arc;

use axum::extract::{Path, State};
use isopod_policy::AppType;
use serde::Serialize;

use super::{Api, error::Error, request::app_name};

#[derive(Debug, Serialize)]
pub(super) struct AdviceView {
    advice: AppType,
    reason: String,
    monthly_users: u64,
    events_per_user: f64,
    month: String,
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<AdviceView>, Error> {
    let advised = api.deployer.advise(&app_name(&app)?).await?;
    Ok(axum::Json(AdviceView {
        advice: advised.advice.app_type,
        reason: advised.advice.reason,
        monthly_users: advised.measured.monthly_users,
        events_per_user: advised.measured.events_per_user(),
        month: advised.month,
    }))
}
