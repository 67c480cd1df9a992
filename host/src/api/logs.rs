//! Owns the route of an app's log: its newest lines, a search, and a stream of further lines. Never
//! writes a log.

use std::{str::FromStr, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
    response::IntoResponse,
};
use futures::stream;
use isopod_policy::{IdError, InstanceId, RequestId, text::excerpt, units::parse_duration};
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
    openapi::{self, ServerSentEvent},
    path::AppPath,
    request::{BadRequest, PageParams, Params, Path, app_name},
    sse::{self, EndReason, StreamEvent},
};
use crate::{
    api::limits,
    control::events::attributes::is_rfc3339,
    observe::logs::{Cursor, FollowEnd, Follower, Level, LineFilter, LogLine, Page, SearchText, Stream},
};

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
    /// Selects the lines of one request, or of all attempts of one event.
    #[param(pattern = "^[0-9a-hjkmnp-tv-z]{16}$")]
    request_id: Option<String>,
    /// Selects the lines of one instance.
    #[param(pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9a-hjkmnp-tv-z]{5}$", max_length = 26)]
    instance: Option<String>,
    /// Selects the lines of one source.
    #[param(inline)]
    stream: Option<Stream>,
    /// Selects the lines of this level or a higher one. Lines without a level count as `error` if
    /// they are about a failed request, as `warn` on standard error, otherwise as `info`.
    #[param(inline)]
    level: Option<Level>,
    /// Selects the lines since a time: a duration before now, such as `10m`, or an RFC 3339 time.
    #[param(pattern = "^([0-9]{1,4}(ms|s|m|h|d)|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].*)$", example = "10m")]
    since: Option<String>,
    /// Selects the lines until a time, in the form of `since`. With `follow`, the stream ends at
    /// that time.
    #[param(pattern = "^([0-9]{1,4}(ms|s|m|h|d)|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].*)$", example = "5m")]
    until: Option<String>,
    /// Selects the lines whose message contains this text, in any case. It is not a pattern.
    #[param(min_length = 1, max_length = 1_024)]
    grep: Option<String>,
}

impl LogParams {
    fn filter(&self, now: Timestamp) -> Result<LineFilter, BadRequest> {
        let since = self.since.as_deref().map(|text| moment("since", text, now)).transpose()?;
        let until = self.until.as_deref().map(|text| moment("until", text, now)).transpose()?;
        if let Some((since, until)) = since.zip(until).filter(|(since, until)| since > until) {
            let detail = format!("`since` ({since}) is after `until` ({until}), so no line can match");
            return Err(BadRequest::Query { detail });
        }
        Ok(LineFilter {
            request_id: id::<RequestId>("request_id", self.request_id.as_deref())?,
            instance: id::<InstanceId>("instance", self.instance.as_deref())?,
            stream: self.stream,
            level: self.level,
            since,
            until,
            text: self.grep.as_deref().map(search_text).transpose()?,
        })
    }
}

fn id<T: FromStr<Err = IdError>>(name: &str, text: Option<&str>) -> Result<Option<T>, BadRequest> {
    let bad = |error| BadRequest::Query { detail: format!("`{name}`: {error}") };
    text.map(str::parse).transpose().map_err(bad)
}

/// Parses a duration before now, or an RFC 3339 time.
fn moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, BadRequest> {
    let bad = |why: String| {
        let detail = format!("`{name}` is neither a duration before now, such as 10m, nor an RFC 3339 time: {why}");
        BadRequest::Query { detail }
    };
    if is_rfc3339(text) {
        return text.parse().map_err(|_| bad(format!("`{}` is not a valid time", excerpt(text, SHOWN_BYTES))));
    }
    let ago = parse_duration(text).map_err(|error| bad(error.to_string()))?;
    // Before the earliest timestamp, no line exists.
    Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

fn search_text(text: &str) -> Result<SearchText, BadRequest> {
    let (bytes, most) = (text.len(), limits::LOG_SEARCH_TEXT_BYTES_MAX);
    if bytes == 0 {
        return Err(BadRequest::Query { detail: "`grep` is empty; leave it out to select all lines".to_owned() });
    }
    if bytes > most {
        let detail =
            format!("`grep` has {bytes} bytes, but at most {most} are possible; search for a part of the text");
        return Err(BadRequest::Query { detail });
    }
    Ok(SearchText::new(text))
}

/// Bytes of a parameter that an error shows. The rest is cut off.
const SHOWN_BYTES: usize = 80;

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
    params(AppPath, LogParams, LogHeaders),
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
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    // `limit=0` with `follow` streams only new lines.
    let limit = match params.limit {
        Some(0) if params.follow => 0,
        limit => PageParams { limit, cursor: None }.limit()? as usize,
    };
    let before = params.cursor.as_deref().map(str::parse::<Cursor>).transpose().map_err(|_| BadRequest::Cursor)?;
    let (filter, last_event) = (params.filter(Timestamp::now())?, last_event(&headers)?);
    if params.follow {
        let (logs, log) = (api.logs.clone(), Arc::clone(&record.log));
        let follower = match last_event {
            Some(cursor) => Follower::after(logs, log, filter, cursor).await?,
            None => Follower::of_newest(logs, log, filter, limit).await?,
        };
        return sse::stream(&api, &subscriber, stream::unfold(Some(follower), next_line));
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
        let detail = "it is not the `id` of a log event".to_owned();
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
