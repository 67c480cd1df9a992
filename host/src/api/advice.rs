//! Owns the route that says which type fits an app.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::advise::Advice;
use isopod_store::Month;
use serde::Serialize;

use super::{
    Api,
    error::Error,
    request::{Path, app_name},
};

#[derive(Debug, Serialize)]
pub(super) struct AdviceView {
    #[serde(flatten)]
    advice: Advice,
    /// The month in which it was measured.
    month: Month,
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
) -> Result<axum::Json<AdviceView>, Error> {
    let (month, advice) = api.deployer.advise(&app_name(&app)?).await?;
    Ok(axum::Json(AdviceView { advice, month }))
}
