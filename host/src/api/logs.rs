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
    request::{BadRequest, PageParams, Params, Path, app_name},
    sse::{self, News},
};
use crate::observe::logs::{Cursor, Follower, LogLine};

#[derive(Debug, Default, Deserialize)]
pub(crate) struct LogParams {
    #[serde(default)]
    follow: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

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
    let before = before.map_err(|detail| BadRequest::Query { detail: detail.to_owned() })?;
    let page = api.logs.page(&app, limit, before).await?;
    Ok(axum::Json(page).into_response())
}

/// Where a client that lost its connection stopped reading, as server-sent events have it.
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
