//! Owns the routes of an app's config vars and grants. A secret goes in and never comes out.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::{ConfigChange, Grants};
use serde_json::Value;

use super::{
    Api,
    edge::Caller,
    error::Error,
    request::{Json, Path, app_name},
};
use crate::deploy::{Change, Entry};

pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<axum::Json<Value>, Error> {
    let entry = api.deployer.app(&app_name(&app)?)?;
    Ok(axum::Json(redacted(&entry)))
}

pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(change): Json<ConfigChange>,
) -> Result<axum::Json<Value>, Error> {
    let entry = api.deployer.change(&app_name(&app)?, Change::Config(change), &by).await?;
    Ok(axum::Json(redacted(&entry)))
}

fn redacted(entry: &Entry) -> Value {
    serde_json::to_value(entry.facts().config.redacted()).unwrap_or_default()
}

pub(super) async fn grants(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<axum::Json<Grants>, Error> {
    Ok(axum::Json(api.deployer.grants(&app_name(&app)?).await?))
}

pub(super) async fn change_grants(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
    Json(patch): Json<Value>,
) -> Result<axum::Json<Grants>, Error> {
    let app = app_name(&app)?;
    api.deployer.change(&app, Change::Grants(patch), &by).await?;
    Ok(axum::Json(api.deployer.grants(&app).await?))
}
