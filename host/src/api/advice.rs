//! Owns the route that advises a type for an app. Never measures usage.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::advise::Advice;
use isopod_store::Month;
use serde::Serialize;

use super::{
    Api,
    error::Error,
    path::AppPath,
    request::{Path, app_name},
};

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Advised)]
pub(super) struct AdviceView {
    #[serde(flatten)]
    advice: Advice,
    /// The month of the measurements.
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$")]
    month: Month,
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/advice",
    operation_id = "advise_type",
    summary = "Recommends a type for an app from its measured use",
    params(AppPath),
    responses(
        (status = 200, description = "The advice", body = AdviceView),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<AdviceView>, Error> {
    let (month, advice) = api.control.queries.advise(&app_name(&app)?).await?;
    Ok(axum::Json(AdviceView { advice, month }))
}
