//! Owns the routes of apps: create, list, show, change the type, start, stop, delete.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use isopod_policy::{AppKind, AppName, AppState, AppType, ReleaseNumber};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Api, Urls, activity,
    caller::{Caller, ClientAddress},
    edge::Subscriber,
    error::Error,
    path::AppPath,
    pushes::GateParams,
    request::{BadRequest, List, Object, PageParams, Params, Path, app_name},
};
use crate::control::{AppRecord, Fields};

/// An app as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = App)]
pub(crate) struct AppView {
    name: AppName,
    kind: AppKind,
    #[serde(rename = "type")]
    app_type: AppType,
    state: AppState,
    error: Option<ErrorView>,
    release: Option<ReleaseNumber>,
    /// Empty if the app takes no HTTP requests.
    urls: Vec<String>,
    /// The compiler's output while the newest code of a dev app can't be built.
    build_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_error_at: Option<Timestamp>,
    created_at: Timestamp,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AppError)]
pub(super) struct ErrorView {
    cause: isopod_policy::ErrorCause,
    message: String,
    detail: Option<String>,
}

impl ErrorView {
    /// Returns the error of an app or a plugin, if it is in the state `error`.
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        let cause = fields.state.cause()?;
        Some(Self { cause, message: cause.to_string(), detail: fields.error_detail.clone() })
    }
}

impl AppView {
    pub(crate) fn of(record: &AppRecord, urls: &Urls) -> Self {
        let fields = record.fields();
        Self {
            name: record.name.clone(),
            kind: record.kind,
            app_type: fields.app_type,
            state: fields.state,
            error: ErrorView::of(&fields),
            release: fields.release,
            urls: urls.of(record.name.as_str()).filter(|_| fields.serves_http).into_iter().collect(),
            build_error_at: fields.build_error.as_ref().map(|error| error.at),
            build_error: fields.build_error.as_ref().map(|error| error.message.clone()),
            created_at: record.created_at,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewApp {
    #[schema(value_type = AppName)]
    name: String,
    #[serde(default, rename = "type")]
    app_type: AppType,
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = AppPatch)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(rename = "type")]
    app_type: AppType,
}

type Shown = axum::Json<AppView>;

#[utoipa::path(
    post,
    path = "/v1/apps",
    operation_id = "create_app",
    summary = "Creates an app",
    request_body = NewApp,
    responses(
        (status = 201, description = "The app", body = AppView),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Object(new): Object<NewApp>,
) -> Result<(StatusCode, Shown), Error> {
    let name: AppName = new.name.parse().map_err(Error::BadName)?;
    let record = api.control.apps.create(&name, new.app_type, "requested", &token.requester()).await?;
    Ok((StatusCode::CREATED, axum::Json(AppView::of(&record, &api.urls))))
}

#[utoipa::path(
    get,
    path = "/v1/apps",
    operation_id = "list_apps",
    summary = "Lists the apps, by name",
    params(PageParams),
    responses(
        (status = 200, description = "A page of apps", body = List<AppView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<AppView>>, Error> {
    let limit = page.limit()? as usize;
    let mut after = page.cursor.as_deref().map(str::parse::<AppName>).transpose().map_err(|_| BadRequest::Cursor)?;
    let mut items = Vec::new();
    // A token for some apps sees only those, so a page may need several reads.
    loop {
        let found = api.control.apps.list(after.as_ref(), limit + 1);
        let last_page = found.len() <= limit;
        after = found.last().map(|record| record.name.clone());
        items.extend(found.into_iter().filter(|record| api.tokens.may_see(&headers, record)));
        if last_page || items.len() > limit {
            break;
        }
    }
    let next = (items.len() > limit).then(|| items[limit - 1].name.to_string());
    items.truncate(limit);
    let items: Vec<AppView> = items.iter().map(|record| AppView::of(record, &api.urls)).collect();
    Ok(axum::Json(List { items, next }))
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}",
    operation_id = "show_app",
    summary = "Shows an app",
    params(AppPath),
    responses(
        (status = 200, description = "The app", body = AppView),
    )
)]
pub(super) async fn show(State(api): State<Arc<Api>>, Path(app): Path<String>) -> Result<Shown, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    Ok(axum::Json(AppView::of(&record, &api.urls)))
}

#[utoipa::path(
    patch,
    path = "/v1/apps/{app}",
    operation_id = "change_app",
    summary = "Changes the type of a stopped app",
    params(AppPath, GateParams),
    request_body(content((Change = "application/json"), (Change = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The app", body = AppView),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Params(params): Params<GateParams>,
    Object(change): Object<Change>,
) -> Result<Shown, Error> {
    let requester = params.requester(&token)?;
    let record = api.control.apps.set_type(&app_name(&app)?, change.app_type, &requester).await?;
    Ok(axum::Json(AppView::of(&record, &api.urls)))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/start",
    operation_id = "start_app",
    summary = "Starts an app",
    params(AppPath),
    responses(
        (status = 202, description = "The app is starting", body = AppView),
    )
)]
pub(super) async fn start(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
) -> Result<(StatusCode, Shown), Error> {
    let record = api.control.apps.start(&app_name(&app)?, &by).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(AppView::of(&record, &api.urls))))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/stop",
    operation_id = "stop_app",
    summary = "Stops an app",
    params(AppPath),
    responses(
        (status = 202, description = "The app is stopping", body = AppView),
    )
)]
pub(super) async fn stop(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path(app): Path<String>,
) -> Result<(StatusCode, Shown), Error> {
    let record = api.control.apps.stop(&app_name(&app)?, &by).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(AppView::of(&record, &api.urls))))
}

#[utoipa::path(
    delete,
    path = "/v1/apps/{app}",
    operation_id = "destroy_app",
    summary = "Destroys an app with its releases, data and logs",
    params(AppPath),
    responses(
        (status = 204, description = "The app is destroyed"),
    )
)]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    caller: Caller,
    from: ClientAddress,
    Path(app): Path<String>,
) -> Result<StatusCode, Error> {
    destroy(&api, &caller, from, &app_name(&app)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Destroys an app or a plugin. Records it as a change of the host, since the activity of the app
/// itself is deleted with it.
pub(super) async fn destroy(api: &Api, caller: &Caller, from: ClientAddress, app: &AppName) -> Result<(), Error> {
    let is_plugin = api.is_plugin(app);
    api.control.apps.delete(app, &caller.0).await?;
    let (kind, text) = match is_plugin {
        true => ("plugin-removed", format!("plugin `{app}` removed with its data")),
        false => ("app-destroyed", format!("app `{app}` destroyed with its data")),
    };
    activity::record(api, caller, from, kind, text, json!({ "destroyed": app })).await;
    Ok(())
}
