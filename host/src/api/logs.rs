//! Owns the route of an app's log: its newest lines, and the ones after them.

use std::{collections::VecDeque, sync::Arc};

use axum::{body::Body, extract::State, http::Response, response::IntoResponse};
use futures::stream;
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Api,
    edge::Caller,
    error::Error,
    request::{BadRequest, PageParams, Params, Path, app_name},
    sse::{self, News},
};
use crate::observe::logs::{Cursor, LogLine};

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
) -> Result<Response<Body>, Error> {
    let app = api.deployer.app(&app_name(&app)?)?.name.clone();
    // `limit=0` with `follow` means: only what comes from now on.
    let limit = match params.limit {
        Some(0) if params.follow => 0,
        limit => PageParams { limit, cursor: None }.limit()? as usize,
    };
    if params.follow {
        let (page, news) = api.logs.follow(&app, limit).await?;
        let following = Following { old: page.items.into(), news };
        return sse::tell(&api, &caller, stream::unfold(following, next_line));
    }
    let before = params.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let before = before.map_err(|detail| BadRequest::Query { detail: detail.to_owned() })?;
    let page = api.logs.page(&app, limit, before).await?;
    Ok(axum::Json(page).into_response())
}

struct Following {
    old: VecDeque<LogLine>,
    news: Receiver<Arc<LogLine>>,
}

async fn next_line(mut following: Following) -> Option<(News<LogLine>, Following)> {
    let piece = match following.old.pop_front() {
        Some(line) => News::Item(line),
        None => match following.news.recv().await {
            Ok(line) => News::Item(LogLine::clone(&line)),
            Err(RecvError::Lagged(lines)) => News::Comment(format!("{lines} lines were skipped: too slow a reader")),
            // The app is deleted.
            Err(RecvError::Closed) => return None,
        },
    };
    Some((piece, following))
}
