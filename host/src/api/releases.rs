//! Owns the routes of releases: list and show.

use std::sync::Arc;

use axum::extract::{Path, State};
use isopod_policy::{AppName, ReleaseNumber};
use isopod_store::ReleaseRow;
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
    let found = api.store.releases(&app, page.cursor.as_deref(), page.limit()?).await?;
    let items: Vec<Value> = found.items.iter().map(|row| view(row, current)).collect();
    Ok(axum::Json(json!({ "items": items, "next": found.next })))
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path((app, release)): Path<(String, String)>,
) -> Result<axum::Json<Value>, Error> {
    let app = app_name(&app)?;
    let current = api.deployer.app(&app)?.facts().release;
    let unknown = |app: &AppName| DeployError::UnknownRelease { app: app.clone(), release: release.clone() };
    let number: ReleaseNumber = release.parse().map_err(|_| unknown(&app))?;
    let row = api.store.release(&app, number).await?.ok_or_else(|| unknown(&app))?;
    Ok(axum::Json(view(&row, current)))
}

fn view(row: &ReleaseRow, current: Option<ReleaseNumber>) -> Value {
    let manifest: Value = serde_json::from_str(&row.manifest).unwrap_or_default();
    json!({
        "release": row.number,
        "name": row.number.to_string(),
        "app": row.app,
        "state": if current == Some(row.number) { "ready" } else { "retired" },
        "digest": row.digest,
        "size_bytes": row.size_bytes,
        "manifest": manifest,
        "created_at": row.created_at,
        "created_by": row.created_by,
    })
}
