//! Owns the routes of releases: list and show.

use std::sync::Arc;

use axum::extract::{Path, State};
use isopod_policy::{AppName, Manifest, ReleaseNumber};
use isopod_store::{Control, Digest, Release};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api,
    error::Error,
    request::{List, PageParams, Params, app_name},
};
use crate::deploy::DeployError;

/// A release as the API shows it.
#[derive(Debug, Serialize)]
pub(super) struct ReleaseView {
    release: ReleaseNumber,
    name: String,
    app: AppName,
    state: &'static str,
    bundle: Digest,
    size_bytes: u64,
    manifest: Manifest,
    created_at: Timestamp,
    created_by: String,
}

impl ReleaseView {
    fn of(release: Release, current: Option<ReleaseNumber>) -> Self {
        Self {
            name: release.number.to_string(),
            state: if current == Some(release.number) { "ready" } else { "retired" },
            release: release.number,
            app: release.app,
            bundle: release.bundle,
            size_bytes: release.size_bytes,
            manifest: release.manifest,
            created_at: release.created_at,
            created_by: release.created_by,
        }
    }
}

pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<ReleaseView>>, Error> {
    let app = app_name(&app)?;
    let current = api.deployer.app(&app)?.facts().release;
    let found = api.store.releases(&app, page.page()?).await?;
    let items = found.items.into_iter().map(|release| ReleaseView::of(release, current)).collect();
    Ok(axum::Json(List { items, next: found.next }))
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path((app, release)): Path<(String, String)>,
) -> Result<axum::Json<ReleaseView>, Error> {
    let app = app_name(&app)?;
    let current = api.deployer.app(&app)?.facts().release;
    let number = release.parse::<ReleaseNumber>().ok();
    let found = match number {
        Some(number) => api.store.release(&app, number).await?,
        None => None,
    };
    let found = found.ok_or(DeployError::UnknownRelease { app, release })?;
    Ok(axum::Json(ReleaseView::of(found, current)))
}
