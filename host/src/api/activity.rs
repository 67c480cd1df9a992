//! Owns the route of an app's activity log. Never records an activity.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::Response, response::IntoResponse};
use futures::stream;
use isopod_policy::AppName;
use isopod_store::NewActivity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Api,
    edge::Subscriber,
    error::Error,
    openapi::{ActivityData, ServerSentEvent},
    path::AppPath,
    request::{List, PageParams, Params, Path, app_name},
    sse::{self, EndReason, StreamEvent},
};
use crate::control::{APP_DESTROYED, AppRecord};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActivityParams {
    /// Responds with server-sent events until the client disconnects.
    #[serde(default)]
    follow: bool,
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ActivityEntry)]
struct ActivityView {
    at: Timestamp,
    app: Option<AppName>,
    kind: String,
    text: String,
    #[schema(value_type = ActivityData)]
    data: Value,
}

/// Lists activities, newest first; with `follow` streams new activities.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/activity",
    operation_id = "show_activity",
    summary = "Lists the activities of an app, newest first; with `?follow=true` streams new activities",
    params(AppPath, ActivityParams),
    responses(
        (
            status = 200,
            description = "A page of entries; each server-sent event is one entry",
            content(
                (List<ActivityView> = "application/json"),
                (ServerSentEvent = "text/event-stream")
            )
        ),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    subscriber: Subscriber,
    Path(app): Path<String>,
    Params(params): Params<ActivityParams>,
) -> Result<Response<Body>, Error> {
    let app = app_name(&app)?;
    // Subscribes before it looks the app up, so that the stream can't miss the app's destruction.
    let activities = api.control.queries.subscribe_activities();
    let record = api.control.apps.app(&app)?;
    let page = PageParams { limit: params.limit, cursor: params.cursor }.page()?;
    if params.follow {
        page.check_number()?;
        let subscription = Subscription::App { record, activities };
        return sse::stream(&api, &subscriber, stream::unfold(Some(subscription), next_activity));
    }
    let found = api.store.activity(Some(&app), page).await?;
    let items: Vec<ActivityView> = found
        .items
        .into_iter()
        .map(|activity| ActivityView {
            at: activity.at,
            app: activity.app,
            kind: activity.kind,
            text: activity.text,
            data: activity.data,
        })
        .collect();
    Ok(axum::Json(List { items, next: found.next }).into_response())
}

/// The state of an event stream.
enum Subscription {
    App {
        record: Arc<AppRecord>,
        activities: Receiver<NewActivity>,
    },
    /// The app is destroyed; the stream ends with [`EndReason::AppDestroyed`].
    End,
}

/// Returns the app's next activity. Its destruction is the last one before the end event.
async fn next_activity(
    subscription: Option<Subscription>,
) -> Option<(StreamEvent<ActivityView>, Option<Subscription>)> {
    let Subscription::App { record, mut activities } = subscription? else {
        return Some((StreamEvent::End(EndReason::AppDestroyed), None));
    };
    loop {
        let NewActivity { app, kind, text, data, at } = match activities.recv().await {
            Ok(activity) if activity.app.as_ref() != Some(&record.name) => continue,
            Ok(activity) => activity,
            // The skipped activities may include the destruction.
            Err(RecvError::Lagged(_)) if record.is_destroyed() => {
                return Some((StreamEvent::End(EndReason::AppDestroyed), None));
            }
            Err(RecvError::Lagged(count)) => {
                let text = format!("{count} entries were skipped: the client reads too slowly");
                return Some((StreamEvent::Comment(text), Some(Subscription::App { record, activities })));
            }
            Err(RecvError::Closed) => return None,
        };
        let next = if kind == APP_DESTROYED { Subscription::End } else { Subscription::App { record, activities } };
        return Some((StreamEvent::Item(ActivityView { at, app, kind, text, data }), Some(next)));
    }
}
