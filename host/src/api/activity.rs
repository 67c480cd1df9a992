//! Owns the routes of the activity of an app and of the whole host. Never records an activity of an
//! app.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::Response, response::IntoResponse};
use futures::stream;
use isopod_policy::AppName;
use isopod_store::{Activity, NewActivity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Api,
    caller::{Caller, ClientAddress},
    edge::Subscriber,
    error::Error,
    openapi::{ActivityData, ProblemDetails, ServerSentEvent},
    path::AppPath,
    request::{List, PageParams, Params, Path, app_name},
    sse::{EndReason, StreamEvent, StreamPermit},
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
pub(super) struct ActivityView {
    pub(super) at: Timestamp,
    pub(super) app: Option<AppName>,
    pub(super) kind: String,
    pub(super) text: String,
    #[schema(value_type = ActivityData)]
    pub(super) data: Value,
}

impl From<Activity> for ActivityView {
    fn from(Activity { at, app, kind, text, data, .. }: Activity) -> Self {
        Self { at, app, kind, text, data }
    }
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
        return Ok(StreamPermit::take(&api, &subscriber)?.stream(stream::unfold(Some(subscription), next_activity)));
    }
    let found = api.store.activity(Some(&app), page).await?;
    let items: Vec<ActivityView> = found.items.into_iter().map(ActivityView::from).collect();
    Ok(axum::Json(List { items, next: found.next }).into_response())
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HostActivityParams {
    /// Only the audit trail: entries that a token caused, and its refused calls.
    #[serde(default)]
    audit: bool,
    /// Only the entries of this app.
    #[param(value_type = Option<AppName>, inline)]
    app: Option<String>,
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// Lists the activities of all apps and of the host, newest first.
#[utoipa::path(
    get,
    path = "/v1/activity",
    operation_id = "list_activity",
    summary = "Lists the activities of all apps and of the host, newest first; with `?audit=true` the audit trail",
    params(HostActivityParams),
    responses(
        (status = 200, description = "A page of entries", body = List<ActivityView>),
        (
            status = 404,
            description = "The app does not exist",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Params(params): Params<HostActivityParams>,
) -> Result<axum::Json<List<ActivityView>>, Error> {
    let app = params.app.as_deref().map(app_name).transpose()?;
    if let Some(app) = &app {
        api.control.apps.app(app)?;
    }
    let page = PageParams { limit: params.limit, cursor: params.cursor }.page()?;
    let found = match params.audit {
        true => api.store.audit(app.as_ref(), page).await?,
        false => api.store.activity(app.as_ref(), page).await?,
    };
    let items = found.items.into_iter().map(ActivityView::from).collect();
    Ok(axum::Json(List { items, next: found.next }))
}

/// Records a change that belongs to no app, with the token that requested it and its address. The
/// change itself has succeeded, so a failure is only logged.
pub(super) async fn record(api: &Api, caller: &Caller, from: ClientAddress, kind: &str, text: String, mut data: Value) {
    data["by"] = caller.0.clone().into();
    data["address"] = from.0.map(|address| address.to_string()).into();
    let entry = NewActivity { app: None, kind: kind.to_owned(), text, data, at: Timestamp::now() };
    if let Err(error) = api.store.append_activity(entry).await {
        tracing::warn!(%error, kind, "failed to record a change, which is now missing from the audit trail");
    }
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
