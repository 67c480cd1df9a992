//! Owns the routes of releases: list and show.

use std::sync::Arc;

use axum::extract::{Path, State};
use isopod_policy::ReleaseNumber;
use isopod_store::{Control, Release};
use serde_json::{Value, json};

use super::{
    Api,
    error::Error,
    request::{PageParams, Params, app_name},
};
use crate::deploy::DeployError;

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<Value>, Error> {
    let app = app_name(&app)?;
    let current = api.deployer.app(&app)?.facts().release;
    let found = api.store.releases(&app, page.page()?).await?;
    let items: Vec<Value> = found.items.iter().map(|release| view(release, current)).collect();
    Ok(axum::Json(json!({ "items": items, "next": found.next })))
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path((app, release)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let app = app_name(&app)?;
    let current = api.deployer.app(&app)?.facts().release;
    let number = release.parse::<ReleaseNumber>().ok();
    let found = match number {
        Some(number) => api.store.release(&app, number).await?,
        None => None,
    };
    let found = found.ok_or(DeployError::UnknownRelease { app, release })?;
    Ok(axum::Json(view(&found, current)))
}

fn view(release: &Release, current: Option<ReleaseNumber>) -> Value {
    json!({
        "release": release.number,
        "name": release.number.to_string(),
        "app": release.app,
        "state": if current == Some(release.number) { "ready" } else { "retired" },
        "bundle": release.bundle,
        "size_bytes": release.size_bytes,
        "manifest": release.manifest,
        "created_at": release.created_at,
        "created_by": release.created_by,
    })
}
