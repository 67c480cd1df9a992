//! Owns the route of an app's activity: what happened to it, and why.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::Response,
    response::IntoResponse,
};
use futures::stream;
use isopod_policy::AppName;
use isopod_store::{Control, NewActivity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Api,
    error::Error,
    request::{List, PageParams, Params, app_name},
    sse::{self, News},
};

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ActivityParams {
    #[serde(default)]
    follow: bool,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct ActivityView {
    at: Timestamp,
    app: Option<AppName>,
    kind: String,
    text: String,
    data: Value,
}

/// The newest first; with `follow` what happens from now on, as it happens.
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(params): Params<ActivityParams>,
) -> Result<Response<Body>, Error> {
    let app = app_name(&app)?;
    api.deployer.app(&app)?;
    if params.follow {
        return sse::tell(&api, stream::unfold((app, api.deployer.news()), next_entry));
    }
    let page = PageParams { limit: params.limit, cursor: params.cursor }.page()?;
    let found = api.store.activity(Some(&app), page).await?;
    let items: Vec<ActivityView> = found
        .items
        .into_iter()
        .map(|entry| ActivityView {
            at: entry.at,
            app: entry.app,
            kind: entry.kind,
            text: entry.text,
            data: entry.data,
        })
        .collect();
    Ok(axum::Json(List { items, next: found.next }).into_response())
}

type Following = (AppName, Receiver<NewActivity>);

async fn next_entry((app, mut news): Following) -> Option<(News<ActivityView>, Following)> {
    loop {
        let piece = match news.recv().await {
            Ok(entry) if entry.app.as_ref() != Some(&app) => continue,
            Ok(NewActivity { app, kind, text, data, at }) => News::Item(ActivityView { at, app, kind, text, data }),
            Err(RecvError::Lagged(entries)) => {
                News::Comment(format!("{entries} entries were skipped: too slow a reader"))
            }
            Err(RecvError::Closed) => return None,
        };
        return Some((piece, (app, news)));
    }
}
