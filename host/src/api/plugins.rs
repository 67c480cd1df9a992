//! Owns the routes of plugins: install, list, show, remove. The other routes of a plugin, such as
//! those of its releases and logs, are those of an app. Never runs a push job.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode},
};
use isopod_policy::{AppName, AppState, Grants, PluginKind, ReleaseNumber, Subscription};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Api,
    apps::{self, ErrorView},
    caller::{Caller, ClientAddress},
    changes::ClientGone,
    edge::Subscriber,
    error::Error,
    openapi::Binary,
    path::PluginPath,
    push_view::PushView,
    pushes::{self, CreateParams, PushHeaders},
    request::{BadRequest, List, PageParams, Params, Path, app_name},
};
use crate::control::{Plugin, PluginRelease};

/// A plugin as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Plugin)]
pub(crate) struct PluginView {
    name: AppName,
    /// What it extends; null before its first release.
    kind: Option<PluginKind>,
    /// The version of the current release.
    version: Option<String>,
    release: Option<ReleaseNumber>,
    state: AppState,
    error: Option<ErrorView>,
    /// The apps whose current release uses it. A token for some apps sees only those apps.
    used_by: Vec<AppName>,
    /// Whether the host's settings require it for all apps, or use it as a gate.
    required: bool,
    grants: Option<Grants>,
    /// The interfaces that a provider offers to apps.
    interfaces: Vec<String>,
    /// The events that a hook receives; null for other plugins.
    subscription: Option<SubscriptionView>,
    /// The timeout of each call.
    time_limit_ms: Option<u64>,
    created_at: Timestamp,
}

/// The events that a hook receives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionView {
    /// The types of events; null for all.
    events: Option<Vec<String>>,
    /// The apps; null for all. A token for some apps sees only those apps.
    apps: Option<Vec<AppName>>,
}

impl SubscriptionView {
    fn of(Subscription { events, apps }: &Subscription, may_see: impl Fn(&AppName) -> bool) -> Self {
        let types = || events.iter().map(ToString::to_string).collect();
        let names = || apps.iter().filter(|app| may_see(app)).cloned().collect();
        Self { events: (!events.is_empty()).then(types), apps: (!apps.is_empty()).then(names) }
    }
}

impl PluginView {
    fn of(plugin: Plugin, may_see: impl Fn(&AppName) -> bool) -> Self {
        let Plugin { record, release, users } = plugin;
        let fields = record.fields();
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (number, kind, settings, grants, interfaces) = match release {
            Some(PluginRelease { number, kind, settings, grants, interfaces }) => {
                (Some(number), kind, Some(settings), Some(grants), interfaces)
            }
            None => (None, None, None, None, Vec::new()),
        };
        let is_hook = kind == Some(PluginKind::Hook);
        let subscribe = settings.as_ref().filter(|_| is_hook).map(|settings| &settings.subscribe);
        Self {
            name: record.name.clone(),
            kind,
            version: settings.as_ref().map(|settings| settings.version.to_string()),
            release: number,
            state: fields.state,
            error: ErrorView::of(&fields),
            used_by: users.apps.into_iter().filter(&may_see).collect(),
            required: users.is_required,
            grants,
            interfaces,
            subscription: subscribe.map(|subscribe| SubscriptionView::of(subscribe, &may_see)),
            time_limit_ms: settings.map(|settings| milliseconds(settings.time_limit)),
            created_at: record.created_at,
        }
    }
}

/// Returns a function that checks whether the caller may see an app, which may not exist yet.
fn visible<'a>(api: &'a Api, headers: &'a HeaderMap) -> impl Fn(&AppName) -> bool + 'a {
    let sees_all = api.tokens.may_see_all(headers);
    move |app| sees_all || api.control.apps.app(app).is_ok_and(|record| api.tokens.may_see(headers, &record))
}

#[utoipa::path(
    post,
    path = "/v1/plugins",
    operation_id = "install_plugin",
    summary = "Installs the plugin of a `.tar.gz` bundle, or a new version of it",
    params(CreateParams, PushHeaders),
    request_body(content((Binary = "application/gzip"), (Binary = "application/octet-stream"))),
    responses(
        (status = 202, description = "The push, queued or running; its `app` is the plugin", body = PushView),
        (status = 200, description = "With `?wait=true`: the completed push", body = PushView),
    )
)]
pub(super) async fn install(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    gone: ClientGone,
    Params(params): Params<CreateParams>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let kind = pushes::kind_of(request.headers())?;
    pushes::check_encoding(request.headers())?;
    let key = pushes::idempotency_key(request.headers())?;
    let requester = params.requester(&token)?;
    let received = pushes::receive(&api, None, &token, request).await?;
    let accepted = api.control.pushes.install_plugin(received, kind, &requester, key).await?;
    pushes::respond(&api, accepted, params, gone).await
}

#[utoipa::path(
    get,
    path = "/v1/plugins",
    operation_id = "list_plugins",
    summary = "Lists the plugins, by name",
    params(PageParams),
    responses(
        (status = 200, description = "A page of plugins", body = List<PluginView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<PluginView>>, Error> {
    if page.cursor.as_deref().is_some_and(|cursor| cursor.parse::<AppName>().is_err()) {
        return Err(BadRequest::Cursor.into());
    }
    let found = api.control.plugins.list().await?.into_iter();
    let items = found.map(|plugin| PluginView::of(plugin, visible(&api, &headers))).collect();
    Ok(axum::Json(List::page_of(items, &page, |plugin| plugin.name.to_string())?))
}

#[utoipa::path(
    get,
    path = "/v1/plugins/{name}",
    operation_id = "show_plugin",
    summary = "Shows a plugin",
    params(PluginPath),
    responses(
        (status = 200, description = "The plugin", body = PluginView),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<axum::Json<PluginView>, Error> {
    let plugin = api.control.plugins.get(&app_name(&name)?).await?;
    Ok(axum::Json(PluginView::of(plugin, visible(&api, &headers))))
}

#[utoipa::path(
    delete,
    path = "/v1/plugins/{name}",
    operation_id = "remove_plugin",
    summary = "Removes a plugin that nothing uses, with its releases, data and logs",
    params(PluginPath),
    responses(
        (status = 204, description = "The plugin is removed"),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    from: ClientAddress,
    Path(name): Path<String>,
) -> Result<StatusCode, Error> {
    let name = app_name(&name)?;
    api.control.plugins.get(&name).await?;
    apps::destroy(&api, &caller, from, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
