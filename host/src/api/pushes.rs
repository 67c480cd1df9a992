//! Owns the routes of pushes: receive a bundle, list, show, follow, cancel. Never runs a push job.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
};
use futures::stream;
use isopod_policy::{AppName, BundleKind, PushId, PushState, Role, limits as policy_limits};
use isopod_store::Push;
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder,
        path::{Parameter, ParameterIn},
        schema::Type,
    },
};

use super::{
    Api,
    auth::Authorised,
    body::Chunks,
    changes::ClientGone,
    edge::{Caller, Subscriber},
    error::Error,
    openapi::{self, Binary, ServerSentEvent},
    path::{AppPath, PushPath},
    push_view::PushView,
    request::{BadRequest, List, PageParams, Params, Path, app_name, media_type},
    sse::{StreamEvent, StreamPermit},
};
use crate::{
    api::limits,
    control::{Accepted, DeployError, PushNow, Received, Requester},
};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CreateParams {
    /// Responds after the push has ended: 200, or 422 if it failed.
    #[serde(default)]
    wait: bool,
    /// Lets the bundle widen the grants of the app. A token with the role `deploy` needs it; an
    /// administrator doesn't.
    #[serde(default)]
    pub(super) accept_grants: bool,
    /// Skips the gates of the host's settings. Needs the role `admin`; has no effect on plugins,
    /// which have no gates.
    #[serde(default)]
    pub(super) skip_gates: bool,
}

impl CreateParams {
    /// Returns the requester of the push.
    pub(super) fn requester(&self, token: &Authorised) -> Result<Requester, Error> {
        let requester = gate_skipper(token, self.skip_gates)?;
        Ok(Requester { accepts_grants: self.accept_grants, ..requester })
    }
}

/// The parameters of a change about which gates decide.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GateParams {
    /// Skips the gates of the host's settings. Needs the role `admin`.
    #[serde(default)]
    skip_gates: bool,
}

impl GateParams {
    /// Returns the requester of the change.
    pub(super) fn requester(&self, token: &Authorised) -> Result<Requester, Error> {
        gate_skipper(token, self.skip_gates)
    }
}

/// Returns the requester of a change. Refuses to skip gates without the role `admin`.
fn gate_skipper(token: &Authorised, skips_gates: bool) -> Result<Requester, Error> {
    if skips_gates {
        token.ensure(Role::Admin)?;
    }
    Ok(Requester { skips_gates, ..token.requester() })
}

/// The headers that only uploads have.
pub(super) enum PushHeaders {}

impl IntoParams for PushHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let most = limits::IDEMPOTENCY_KEY_CHARS_MAX;
        let key = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]+$")).max_length(Some(most));
        let text = "An upload with the same key and bytes is the same push";
        vec![openapi::header("Idempotency-Key", text, key.min_length(Some(1)))]
    }
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowParams {
    /// Responds with server-sent events until the push has ended.
    #[serde(default)]
    follow: bool,
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/pushes",
    operation_id = "create_push",
    summary = "Deploys a component or a `.tar.gz` bundle; creates the app if it does not exist",
    params(AppPath, CreateParams, PushHeaders),
    request_body(content(
        (Binary = "application/wasm"),
        (Binary = "application/gzip"),
        (Binary = "application/octet-stream")
    )),
    responses(
        (status = 202, description = "The push, queued or running", body = PushView),
        (status = 200, description = "With `?wait=true`: the completed push", body = PushView),
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    gone: ClientGone,
    Path(app): Path<String>,
    Params(params): Params<CreateParams>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let app: AppName = app.parse().map_err(Error::BadName)?;
    let kind = kind_of(request.headers())?;
    check_encoding(request.headers())?;
    let key = idempotency_key(request.headers())?;
    let requester = params.requester(&token)?;
    let received = receive(&api, Some(&app), &token, request).await?;
    let accepted = api.control.pushes.submit(&app, received, kind, &requester, key).await?;
    respond(&api, accepted, params, gone).await
}

/// Responds with an accepted push, or waits until it has ended if the client requested that.
pub(super) async fn respond(
    api: &Api,
    accepted: Accepted,
    params: CreateParams,
    gone: ClientGone,
) -> Result<Response<Body>, Error> {
    let mut view = PushView::from(accepted.now);
    view.created_app = accepted.created_app;
    if !params.wait {
        return Ok((StatusCode::ACCEPTED, axum::Json(view)).into_response());
    }
    let mut updates = accepted.updates;
    let now = tokio::select! {
        // The sender is dropped once the push is final; the last value is then the final state.
        ended = updates.wait_for(|now| now.push.state.is_final()) => ended.ok().map(|now| now.clone()),
        () = api.stop.cancelled() => return Err(DeployError::Stopping.into()),
        // No client reads the response.
        () = gone.wait() => None,
    };
    let now = now.unwrap_or_else(|| updates.borrow().clone());
    let view = PushView { created_app: view.created_app, ..PushView::from(now) };
    match view.state {
        PushState::Completed => Ok((StatusCode::OK, axum::Json(view)).into_response()),
        PushState::Queued
        | PushState::Cancelled
        | PushState::Running
        | PushState::Building
        | PushState::Deploying
        | PushState::Failed => Err(Error::PushFailed(Box::new(view))),
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/pushes",
    operation_id = "list_pushes",
    summary = "Lists the pushes of an app, newest first, without their logs",
    params(AppPath, PageParams),
    responses(
        (status = 200, description = "A page of pushes", body = List<PushView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(page): Params<PageParams>,
) -> Result<axum::Json<List<PushView>>, Error> {
    let app = app_name(&app)?;
    api.control.apps.app(&app)?;
    let found = api.store.pushes(&app, page.page()?).await?;
    // Without the log, which the route of a single push returns.
    let stored = |push: Push| PushNow { push, log: Vec::new() };
    let newest = |push: Push| api.control.pushes.under_way(&push.id).unwrap_or_else(|| stored(push));
    let items: Vec<PushView> = found.items.into_iter().map(|push| newest(push).into()).collect();
    Ok(axum::Json(List { items, next: found.next }))
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/pushes/{id}",
    operation_id = "show_push",
    summary = "Shows a push; with `?follow=true` streams each change",
    params(PushPath, ShowParams),
    responses(
        (
            status = 200,
            description = "The push; each server-sent event is the push after a change",
            content(
                (PushView = "application/json"),
                (ServerSentEvent = "text/event-stream")
            )
        ),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    subscriber: Subscriber,
    Path((app, id)): Path<(String, String)>,
    Params(params): Params<ShowParams>,
) -> Result<Response<Body>, Error> {
    let (app, id) = (app_name(&app)?, push_id(&app, &id)?);
    if !params.follow {
        let now = api.control.pushes.get(&app, &id).await?;
        return Ok(axum::Json(PushView::from(now)).into_response());
    }
    let permit = StreamPermit::take(&api, &subscriber)?;
    let updates = api.control.pushes.follow(&app, &id).await?;
    Ok(permit.stream(stream::unfold(Some((updates, true)), next_state)))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/pushes/{id}/cancel",
    operation_id = "cancel_push",
    summary = "Cancels a queued push",
    params(PushPath),
    responses(
        (status = 200, description = "The cancelled push", body = PushView),
    )
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Caller(by): Caller,
    Path((app, id)): Path<(String, String)>,
) -> Result<axum::Json<PushView>, Error> {
    let (app, id) = (app_name(&app)?, push_id(&app, &id)?);
    Ok(axum::Json(api.control.pushes.cancel(&app, &id, &by).await?.into()))
}

/// Yields the current push, then the push after each change, until it is final.
async fn next_state(
    subscription: Option<(watch::Receiver<PushNow>, bool)>,
) -> Option<(StreamEvent<PushView>, Option<(watch::Receiver<PushNow>, bool)>)> {
    let (mut updates, is_first) = subscription?;
    if !is_first && updates.changed().await.is_err() {
        return None;
    }
    let now = updates.borrow_and_update().clone();
    let ended = now.push.state.is_final();
    Some((StreamEvent::Item(now.into()), (!ended).then_some((updates, false))))
}

fn push_id(app: &str, id: &str) -> Result<PushId, Error> {
    let app = app_name(app)?;
    id.parse().map_err(|_| DeployError::UnknownPush { app, id: id.to_owned() }.into())
}

pub(super) fn kind_of(headers: &HeaderMap) -> Result<BundleKind, Error> {
    let media_type = media_type(headers);
    match media_type.as_deref() {
        Some("application/wasm") => Ok(BundleKind::Component),
        Some(
            "application/gzip"
            | "application/x-gzip"
            | "application/x-tar"
            | "application/x-tar+gzip"
            | "application/x-compressed-tar"
            | "application/octet-stream",
        ) => Ok(BundleKind::TarGz),
        Some(_) | None => Err(BadRequest::ContentType {
            got: media_type.filter(|given| !given.is_empty()).unwrap_or_else(|| "missing".to_owned()),
            wanted: "application/wasm for a component, or application/gzip for a .tar.gz bundle",
        }
        .into()),
    }
}

/// Refuses a bundle with a content encoding: it would look like a damaged bundle.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), BadRequest> {
    match headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()) {
        None | Some("" | "identity") => Ok(()),
        Some(encoding) => Err(BadRequest::ContentType {
            got: format!("encoded as {encoding}"),
            wanted: "application/wasm or application/gzip, without a content-encoding",
        }),
    }
}

/// Returns the idempotency key, which identifies a repeated upload, if the client sent it.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, BadRequest> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let is_key = |key: &&str| {
        let has_length = (1..=limits::IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len());
        has_length && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let key = value.to_str().ok().filter(is_key).filter(|_| values.next().is_none());
    let detail = || {
        let most = limits::IDEMPOTENCY_KEY_CHARS_MAX;
        BadRequest::Header {
            name: "Idempotency-Key",
            detail: format!("it must be one value of 1 to {most} visible ASCII characters"),
        }
    };
    key.map(|key| Some(key.to_owned())).ok_or_else(detail)
}

/// Receives a bundle for an app, or of a plugin if `app` is `None`.
pub(super) async fn receive(
    api: &Api,
    app: Option<&AppName>,
    token: &Authorised,
    request: Request,
) -> Result<Received, Error> {
    let limit_bytes = policy_limits::BUNDLE_BYTES_MAX as u64;
    // A body with a declared length over the limit is refused before it is read.
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit_bytes) {
        return Err(BadRequest::TooLarge { limit_bytes }.into());
    }
    let upload = api.control.pushes.upload(app, &token.name)?;
    let chunks = Chunks::new(request.into_body(), limit_bytes, token);
    let receiving = async move {
        let (mut upload, mut chunks) = (upload, chunks);
        while let Some(chunk) = chunks.next().await? {
            upload.write(&chunk).await?;
        }
        Ok(upload.finish().await?)
    };
    tokio::select! {
        received = receiving => received,
        // The stopping host accepts no further bytes.
        () = api.stop.cancelled() => Err(DeployError::Stopping.into()),
    }
}
