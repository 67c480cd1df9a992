//! Owns the route of an app's log: its newest lines, a search, and a stream of further lines. Never
//! writes a log.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
    response::IntoResponse,
};
use futures::stream;
use jiff::Timestamp;
use serde::Deserialize;
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
    edge::Subscriber,
    error::Error,
    log_filter::LogFilterParams,
    openapi::{self, ServerSentEvent},
    path::AppPath,
    request::{BadRequest, PageParams, Params, Path, app_name},
    sse::{EndReason, StreamEvent, StreamPermit},
};
use crate::observe::logs::{Cursor, FollowEnd, Follower, LogLine, Page};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Responds with server-sent events until the client disconnects.
    #[serde(default)]
    follow: bool,
    /// The maximum number of lines. With `follow`, 0 omits existing lines.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// The header by which a client continues a stream.
pub(super) enum LogHeaders {}

impl IntoParams for LogHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = "With `follow`, the `id` of the last event that was received: the stream continues after that line";
        // An empty id counts as absent.
        let pattern = format!("^({})?$", Cursor::PATTERN.trim_matches(['^', '$']));
        let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
        vec![openapi::header("Last-Event-ID", text, id)]
    }
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/logs",
    operation_id = "show_log",
    summary = "Shows the newest matching lines of an app's log, oldest first; with `?follow=true` streams new lines",
    params(AppPath, LogParams, LogFilterParams, LogHeaders),
    responses(
        (
            status = 200,
            description = "A page of the lines that match all parameters. `partial` reports that the search stopped at \
                a limit, so that `next` continues it; such a page may be empty. Each server-sent event is one line",
            content(
                (Page = "application/json"),
                (ServerSentEvent = "text/event-stream")
            )
        ),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    subscriber: Subscriber,
    Path(app): Path<String>,
    Params(params): Params<LogParams>,
    Params(filter): Params<LogFilterParams>,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    // `limit=0` with `follow` streams only new lines.
    let limit = match params.limit {
        Some(0) if params.follow => 0,
        limit => PageParams { limit, cursor: None }.limit()? as usize,
    };
    let before = params.cursor.as_deref().map(str::parse::<Cursor>).transpose().map_err(|_| BadRequest::Cursor)?;
    let (filter, last_event) = (filter.filter(Timestamp::now())?, last_event(&headers)?);
    if params.follow {
        let (logs, log) = (api.logs.clone(), Arc::clone(&record.log));
        let permit = StreamPermit::take(&api, &subscriber)?;
        let follower = match last_event {
            Some(cursor) => Follower::after(logs, log, filter, cursor).await?,
            None => Follower::of_newest(logs, log, filter, limit).await?,
        };
        return Ok(permit.stream(stream::unfold(Some(follower), next_line)));
    }
    let page = api.logs.page(&record.name, filter, limit, before).await?;
    Ok(axum::Json(page).into_response())
}

/// Returns the last event that a reconnecting client has received, from `Last-Event-ID`. An empty
/// id counts as absent, as browsers define it.
fn last_event(headers: &HeaderMap) -> Result<Option<Cursor>, BadRequest> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    let cursor = id.to_str().ok().and_then(|id| id.parse().ok());
    let bad = || {
        let detail = "not the `id` of a log event".to_owned();
        BadRequest::Header { name: "Last-Event-ID", detail }
    };
    cursor.map(Some).ok_or_else(bad)
}

/// Returns the next line. The last event reports why no line can follow.
async fn next_line(follower: Option<Follower>) -> Option<(StreamEvent<LogLine>, Option<Follower>)> {
    let mut follower = follower?;
    match follower.next().await {
        Ok((line, cursor)) => Some((StreamEvent::Numbered(line, cursor.to_string()), Some(follower))),
        Err(FollowEnd::Destroyed) => Some((StreamEvent::End(EndReason::AppDestroyed), None)),
        Err(FollowEnd::Past) => Some((StreamEvent::End(EndReason::UntilPassed), None)),
        Err(FollowEnd::Unreadable) => None,
    }
}
