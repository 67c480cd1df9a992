//! Owns the route of an app's activity: what happened to it, and why.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::Response, response::IntoResponse};
use futures::stream;
use isopod_policy::AppName;
use isopod_store::{Control, NewActivity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Api,
    edge::Caller,
    error::Error,
    openapi::ServerSentEvent,
    path::AppPath,
    request::{List, PageParams, Params, Path, app_name},
    sse::{self, News},
};
use crate::control::{APP_DESTROYED, AppRecord};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActivityParams {
    /// Answers with server-sent events, without end.
    #[serde(default)]
    follow: bool,
    /// How many items at most.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ActivityEntry)]
struct ActivityView {
    at: Timestamp,
    app: Option<AppName>,
    kind: String,
    text: String,
    data: Value,
}

/// The newest first; with `follow` what happens from now on, as it happens.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/activity",
    operation_id = "show_activity",
    summary = "Shows what happened to an app and why, newest first; with `?follow=true` what happens from now on",
    params(AppPath, ActivityParams),
    responses(
        (status = 200, description = "A page of entries; each server-sent event is one entry", content((List<ActivityView> = "application/json"), (ServerSentEvent = "text/event-stream"))),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(app): Path<String>,
    Params(params): Params<ActivityParams>,
) -> Result<Response<Body>, Error> {
    let app = app_name(&app)?;
    // Listened to before it is known that the app is there, so that its end is not missed.
    let news = api.deployer.news();
    let entry = api.deployer.app(&app)?;
    let page = PageParams { limit: params.limit, cursor: params.cursor }.page()?;
    if params.follow {
        page.check_number()?;
        let following = Following::App { entry, news };
        return sse::tell(&api, &caller, stream::unfold(Some(following), next_entry));
    }
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

/// What a follower waits for.
enum Following {
    App {
        entry: Arc<AppRecord>,
        news: Receiver<NewActivity>,
    },
    /// The app is destroyed; only the end is left to be sent.
    End,
}

/// What happens to the app next; that it was destroyed is the last entry.
async fn next_entry(following: Option<Following>) -> Option<(News<ActivityView>, Option<Following>)> {
    let Following::App { entry, mut news } = following? else { return Some((News::Destroyed, None)) };
    loop {
        let NewActivity { app, kind, text, data, at } = match news.recv().await {
            Ok(happened) if happened.app.as_ref() != Some(&entry.name) => continue,
            Ok(happened) => happened,
            // Its end may be among what was skipped.
            Err(RecvError::Lagged(_)) if entry.fields().deleted => return Some((News::Destroyed, None)),
            Err(RecvError::Lagged(entries)) => {
                let told = News::Comment(format!("{entries} entries were skipped: too slow a reader"));
                return Some((told, Some(Following::App { entry, news })));
            }
            Err(RecvError::Closed) => return None,
        };
        let next = if kind == APP_DESTROYED { Following::End } else { Following::App { entry, news } };
        return Some((News::Item(ActivityView { at, app, kind, text, data }), Some(next)));
    }
}
