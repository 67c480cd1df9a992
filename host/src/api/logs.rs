//! Owns the route of an app's log: its newest lines, and the ones after them.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
    response::IntoResponse,
};
use futures::stream;
use serde::Deserialize;

use super::{
    Api,
    edge::Caller,
    error::Error,
    openapi::ServerSentEvent,
    path::AppPath,
    request::{BadRequest, PageParams, Params, Path, app_name},
    sse::{self, News},
};
use crate::observe::logs::{Cursor, Follower, LogLine, Page};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Answers with server-sent events, without end.
    #[serde(default)]
    follow: bool,
    /// How many lines at most. With `follow`, 0 leaves out the past.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/logs",
    operation_id = "show_log",
    summary = "Shows the newest lines of an app's log, oldest first; with `?follow=true` new ones as well",
    params(AppPath, LogParams),
    responses(
        (status = 200, description = "A page of lines; each server-sent event is one line", content((Page = "application/json"), (ServerSentEvent = "text/event-stream"))),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(app): Path<String>,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let app = api.deployer.app(&app_name(&app)?)?.name.clone();
    // `limit=0` with `follow` means: only what comes from now on.
    let limit = match params.limit {
        Some(0) if params.follow => 0,
        limit => PageParams { limit, cursor: None }.limit()? as usize,
    };
    if params.follow {
        let logs = api.logs.clone();
        let follower = match last_event(&headers)? {
            Some(place) => Follower::after(logs, app, place).await?,
            None => Follower::of_newest(logs, app, limit).await?,
        };
        return sse::tell(&api, &caller, stream::unfold(follower, next_line));
    }
    let before = params.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let before = before.map_err(|_| BadRequest::Cursor)?;
    let page = api.logs.page(&app, limit, before).await?;
    Ok(axum::Json(page).into_response())
}

/// The last event that a reconnecting client has received, from `Last-Event-ID`.
fn last_event(headers: &HeaderMap) -> Result<Option<Cursor>, BadRequest> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let place = id.to_str().ok().and_then(|id| id.parse().ok());
    let detail = || BadRequest::Query { detail: "`Last-Event-ID` is not the `id` of an event of a log".to_owned() };
    place.map(Some).ok_or_else(detail)
}

/// Ends once the app is deleted.
async fn next_line(mut follower: Follower) -> Option<(News<LogLine>, Follower)> {
    let (line, place) = follower.next().await?;
    Some((News::Numbered(line, place.to_string()), follower))
}
