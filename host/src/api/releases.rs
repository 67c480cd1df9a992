//! Owns the routes of releases: list, show, compare, and roll back. Never creates a release itself.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use isopod_policy::{
    AppName, Manifest, RedactedValue, ReleaseContent, ReleaseNumber, ReleaseState,
    json::whole,
    release_diff::{Change as Difference, changes},
};
use isopod_store::{DamagedRelease, Digest, ListedRelease, Reason, Release, StoredAssets};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Api, Urls,
    edge::Subscriber,
    error::Error,
    openapi::ReleaseWanted,
    path::{AppPath, ReleasePath},
    pushes::GateParams,
    request::{BadRequest, List, Object, PageParams, Params, Path, app_name},
};
use crate::control::{Change, DeployError};

/// A release as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Release)]
pub(super) struct ReleaseView {
    release: ReleaseNumber,
    name: String,
    app: AppName,
    state: ReleaseState,
    reason: Option<Reason>,
    cause: String,
    #[schema(value_type = String)]
    bundle: Digest,
    #[schema(value_type = Option<String>)]
    snapshot: Option<Digest>,
    /// The files below `static/` of its bundle, if it has any.
    assets: Option<StoredAssets>,
    /// The size of its component and its assets.
    size_bytes: u64,
    /// The parsed manifest with its defaults; docs/manifest.md describes its keys.
    manifest: Manifest,
    config: BTreeMap<String, RedactedValue>,
    created_at: Timestamp,
    created_by: String,
    /// Null if the name is too long for DNS.
    url: Option<String>,
}

/// The differences between two releases.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ReleaseDiff)]
pub(super) struct DiffView {
    from: ReleaseNumber,
    to: ReleaseNumber,
    changes: Vec<Difference>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DiffParams {
    /// The release to compare with, as `2` or `v2`; by default the previous release.
    #[param(pattern = "^v?[1-9][0-9]{0,8}$")]
    with: Option<String>,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Accepts 3, "3" and "v3".
    #[schema(value_type = ReleaseWanted)]
    release: Value,
}

/// A release in a list. A damaged release doesn't prevent listing the others.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ListedRelease)]
#[serde(untagged)]
pub(super) enum ListedView {
    Whole(Box<ReleaseView>),
    Damaged { release: ReleaseNumber, name: String, app: AppName, damaged: String },
}

impl ListedView {
    fn of(listed: ListedRelease, frozen: Option<ReleaseNumber>, app: &AppName, urls: &Urls) -> Self {
        match listed {
            Ok(release) => Self::Whole(Box::new(ReleaseView::of(release, frozen, urls))),
            Err(DamagedRelease { number, detail }) => {
                Self::Damaged { release: number, name: number.to_string(), app: app.clone(), damaged: detail }
            }
        }
    }
}

impl ReleaseView {
    /// Returns the view of a release. `frozen` is the app's release that is currently frozen. That
    /// state isn't stored, since each request may thaw the release.
    fn of(release: Release, frozen: Option<ReleaseNumber>, urls: &Urls) -> Self {
        let state = match release.state {
            ReleaseState::Ready if frozen == Some(release.number) => ReleaseState::Frozen,
            state => state,
        };
        Self {
            url: urls.of(&format!("{}--{}", release.number, release.app)),
            name: release.number.to_string(),
            state,
            reason: release.reason,
            cause: release.cause,
            release: release.number,
            app: release.app,
            bundle: release.bundle,
            snapshot: release.snapshot,
            assets: release.assets,
            size_bytes: release.size_bytes,
            manifest: release.manifest,
            config: release.config.redacted(),
            created_at: release.created_at,
            created_by: release.created_by,
        }
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/releases",
    operation_id = "list_releases",
    summary = "Lists the releases of an app, newest first",
    params(AppPath, PageParams),
    responses(
        (status = 200, description = "A page of releases", body = List<ListedView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<ListedView>>, Error> {
    let app = app_name(&app)?;
    let frozen = api.control.apps.app(&app)?.traffic.frozen();
    let found = api.store.releases(&app, page.page()?).await?;
    let items = found.items.into_iter().map(|listed| ListedView::of(listed, frozen, &app, &api.urls)).collect();
    Ok(axum::Json(List { items, next: found.next }))
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/releases/{release}",
    operation_id = "show_release",
    summary = "Shows a release",
    params(ReleasePath),
    responses(
        (status = 200, description = "The release", body = ReleaseView),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path((app, release)): Path<(String, String)>,
) -> Result<axum::Json<ReleaseView>, Error> {
    let app = app_name(&app)?;
    let frozen = api.control.apps.app(&app)?.traffic.frozen();
    Ok(axum::Json(ReleaseView::of(find(&api, &app, &release).await?, frozen, &api.urls)))
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/releases/{release}/diff",
    operation_id = "compare_releases",
    summary = "Shows the differences between two releases",
    params(ReleasePath, DiffParams),
    responses(
        (status = 200, description = "The differences", body = DiffView),
    )
)]
pub(super) async fn diff(
    State(api): State<Arc<Api>>,
    Path((app, release)): Path<(String, String)>,
    Params(params): Params<DiffParams>,
) -> Result<axum::Json<DiffView>, Error> {
    let app = app_name(&app)?;
    api.control.apps.app(&app)?;
    let to = find(&api, &app, &release).await?;
    let with = match params.with {
        Some(with) => with,
        None => to.number.get().saturating_sub(1).to_string(),
    };
    let from = find(&api, &app, &with).await?;
    Ok(axum::Json(DiffView { from: from.number, to: to.number, changes: changes(&content(&from), &content(&to)) }))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/rollback",
    operation_id = "roll_back",
    summary = "Creates a new release from an earlier one",
    params(AppPath, GateParams),
    request_body = Rollback,
    responses(
        (status = 200, description = "The new release", body = ReleaseView),
    )
)]
pub(super) async fn rollback(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Params(params): Params<GateParams>,
    Object(wanted): Object<Rollback>,
) -> Result<axum::Json<ReleaseView>, Error> {
    let app = app_name(&app)?;
    let requester = params.requester(&token)?;
    let text = match wanted.release {
        Value::Number(number) => {
            whole(&Value::Number(number.clone())).map_or_else(|| number.to_string(), |whole| whole.to_string())
        }
        Value::String(name) => name,
        other => {
            let detail = format!("`release` is {other}, but must be a release such as 3 or \"v3\"");
            return Err(BadRequest::Json { detail, line: 0, column: 0 }.into());
        }
    };
    let given = || text.chars().take(80).collect();
    let number = text.parse::<ReleaseNumber>().map_err(|_| Error::BadRelease { app: app.clone(), given: given() })?;
    let record = api.control.settings.change(&app, Change::Rollback(number), &requester).await?;
    let unknown = || DeployError::UnknownRelease { app: app.clone(), release: text.clone() };
    let present = record.fields().release.ok_or_else(unknown)?;
    Ok(axum::Json(ReleaseView::of(find(&api, &app, &present.to_string()).await?, None, &api.urls)))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/releases/{release}/approve",
    operation_id = "approve_release",
    summary = "Creates a new release from one that asks for more than its ceiling allows",
    params(ReleasePath),
    responses(
        (status = 200, description = "The new release", body = ReleaseView),
    )
)]
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path((app, release)): Path<(String, String)>,
) -> Result<axum::Json<ReleaseView>, Error> {
    let app = app_name(&app)?;
    let unknown = || DeployError::UnknownRelease { app: app.clone(), release: release.clone() };
    let number = release.parse::<ReleaseNumber>().map_err(|_| unknown())?;
    let record = api.control.settings.change(&app, Change::Approve(number), &token.requester()).await?;
    let present = record.fields().release.ok_or_else(unknown)?;
    Ok(axum::Json(ReleaseView::of(find(&api, &app, &present.to_string()).await?, None, &api.urls)))
}

async fn find(api: &Api, app: &AppName, release: &str) -> Result<Release, Error> {
    let found = match release.parse::<ReleaseNumber>() {
        Ok(number) => api.store.release(app, number).await?,
        Err(_) => None,
    };
    let unknown = || DeployError::UnknownRelease { app: app.clone(), release: release.to_owned() };
    found.ok_or_else(|| unknown().into())
}

fn content(release: &Release) -> ReleaseContent<'_> {
    let assets = release.assets.as_ref().map(|assets| assets.digest.as_str());
    ReleaseContent { bundle: release.bundle.as_str(), assets, manifest: &release.manifest, config: &release.config }
}
