//! Owns the routes of an app's stored events: list, show and cancel. Never delivers an event.

use std::sync::Arc;

use axum::extract::State;
use isopod_policy::ProcessName;
use isopod_store::{CancelReason, Cancelled, EventFilter, EventState, StoreError, StoredEvent};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{ObjectBuilder, Schema, schema::Type};

use super::{
    Api,
    error::{Error, EventError},
    path::{AppPath, EventPath},
    request::{BadRequest, List, PageParams, Params, Path, app_name},
};
use crate::{
    control::{
        EventHandlers,
        events::{self, EventsError},
    },
    invoke_problem::{self, Interface},
    runtime::InvokeError,
};

/// A stored event as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = StoredEvent)]
pub(crate) struct EventView {
    id: String,
    source: String,
    r#type: String,
    subject: Option<String>,
    process: ProcessName,
    /// The request id of the log lines of all its attempts.
    request_id: String,
    /// The queue: always `push`, since events of the queue `pull` aren't stored.
    queue: &'static str,
    /// `ready`, `delayed`, `leased`, `done`, `dead` or `cancelled`.
    state: &'static str,
    /// Whether a ready event waits for an earlier event of its subject.
    is_blocked: bool,
    /// Whether a waiting event or a dead letter can't be delivered because the app's current
    /// release lacks its process type.
    is_stranded: bool,
    /// The number of attempts so far.
    attempt: u32,
    /// The maximum number of attempts. Until the event ends, this is the maximum of the app's
    /// current release.
    attempts_max: u32,
    /// The error of the last attempt. If the event is cancelled, the reason precedes it.
    error: Option<String>,
    accepted_at: Timestamp,
    /// The time until which a delayed event waits.
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl EventView {
    /// Returns a view with the settings of the app's current release.
    fn of(event: StoredEvent, handlers: &EventHandlers) -> Self {
        let attempts = handlers.attempts(&event.process);
        let waits = matches!(event.state, EventState::Ready | EventState::Delayed);
        let is_stranded = attempts.is_none() && (waits || event.state == EventState::Dead);
        let attempts_max = attempts.filter(|_| waits || event.state == EventState::Leased);
        Self { attempts_max: attempts_max.unwrap_or(event.attempts_max), is_stranded, ..Self::from(event) }
    }
}

/// An event that was just accepted, with the settings of the release that serves.
impl From<StoredEvent> for EventView {
    fn from(event: StoredEvent) -> Self {
        Self {
            ended_at: event.ended_at(),
            request_id: events::request_id(&event.source, &event.id).to_string(),
            id: event.id,
            source: event.source,
            r#type: event.event_type,
            subject: event.subject,
            process: event.process,
            queue: "push",
            state: event.state.as_str(),
            is_blocked: event.is_blocked,
            is_stranded: false,
            attempt: event.attempt,
            attempts_max: event.attempts_max,
            error: event.error,
            accepted_at: event.accepted_at,
            due_at: event.due_at,
            expires_at: event.expires_at,
        }
    }
}

/// Selects events by equal attributes.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FilterParams {
    /// The state of the events.
    #[param(schema_with = states)]
    state: Option<String>,
    /// The attribute `type`.
    r#type: Option<String>,
    subject: Option<String>,
    id: Option<String>,
    source: Option<String>,
    /// The process type that handles the event.
    #[param(value_type = Option<ProcessName>, inline)]
    process: Option<String>,
    /// The maximum number of items.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// Returns the description of a state.
fn states() -> Schema {
    let states = EventState::ALL.map(EventState::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(states)).into()
}

impl FilterParams {
    fn filter(&self) -> Result<EventFilter, BadRequest> {
        Ok(EventFilter {
            state: self.state.as_deref().map(state).transpose()?,
            process: self.process.as_deref().map(process).transpose()?,
            event_type: self.r#type.clone(),
            subject: self.subject.clone(),
            id: self.id.clone(),
            source: self.source.clone(),
        })
    }
}

fn state(text: &str) -> Result<EventState, BadRequest> {
    text.parse().map_err(|()| {
        let states = EventState::ALL.map(EventState::as_str).join(", ");
        BadRequest::Query { detail: format!("`state` must be one of {states}") }
    })
}

pub(super) fn process(text: &str) -> Result<ProcessName, BadRequest> {
    text.parse().map_err(|error| BadRequest::Query { detail: format!("`process` is not a process type: {error}") })
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/events",
    operation_id = "list_events",
    summary = "Lists the stored events of an app, the last accepted first",
    params(AppPath, FilterParams),
    responses(
        (status = 200, description = "A page, which may be empty and have a next page", body = List<EventView>),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(app): Path<String>,
    Params(params): Params<FilterParams>,
) -> Result<axum::Json<List<EventView>>, Error> {
    let filter = params.filter()?;
    let page = PageParams { limit: params.limit, cursor: params.cursor };
    page_of(&api, &app, filter, &page).await
}

/// Returns a page of the selected events of an app.
pub(super) async fn page_of(
    api: &Api,
    app: &str,
    filter: EventFilter,
    page: &PageParams,
) -> Result<axum::Json<List<EventView>>, Error> {
    let record = api.control.apps.app(&app_name(app)?)?;
    let page = page.page()?;
    page.check_number()?;
    let found = api.control.events.list(&record, filter, page).await.map_err(|error| refused(app, error))?;
    let handlers = api.control.queries.event_handlers(&record).await?;
    let items = found.items.into_iter().map(|event| EventView::of(event, &handlers)).collect();
    Ok(axum::Json(List { items, next: found.next }))
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SourceParams {
    /// The event's source, if events of several sources have the id. Default: that of the last
    /// accepted event.
    source: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/apps/{app}/events/{id}",
    operation_id = "show_event",
    summary = "Shows a stored event",
    params(EventPath, SourceParams),
    responses(
        (status = 200, description = "The event", body = EventView),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path((app, id)): Path<(String, String)>,
    Params(params): Params<SourceParams>,
) -> Result<axum::Json<EventView>, Error> {
    let event = found(&api, &app, id, params.source.as_deref()).await?;
    let handlers = api.control.queries.event_handlers(&*api.control.apps.app(&app_name(&app)?)?).await?;
    Ok(axum::Json(EventView::of(event, &handlers)))
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/events/{id}/cancel",
    operation_id = "cancel_event",
    summary = "Cancels an event that waits for its delivery",
    params(EventPath, SourceParams),
    responses(
        (status = 200, description = "The event is cancelled", body = EventView),
    )
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Path((app, id)): Path<(String, String)>,
    Params(params): Params<SourceParams>,
) -> Result<axum::Json<EventView>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let event = found(&api, &app, id, params.source.as_deref()).await?;
    let cancelled = api.control.events.cancel(&record, event.seq, CancelReason::Request).await;
    match cancelled.map_err(|error| refused(&app, error))? {
        Cancelled::Cancelled => Ok(axum::Json(found(&api, &app, event.id, Some(&event.source)).await?.into())),
        Cancelled::Running => Err(EventError::Running { app, id: event.id }.into()),
        Cancelled::Ended(state) => Err(EventError::Ended { app, id: event.id, state }.into()),
        Cancelled::Unknown => Err(EventError::Unknown { app, id: event.id, of: Some(event.source) }.into()),
    }
}

/// Returns the error of a request about an app's events.
pub(super) fn refused(app: &str, error: EventsError) -> Error {
    let interface = Interface::Event { app };
    match error {
        EventsError::NotServing(why) => Error::Job(Box::new(invoke_problem::unavailable(why, interface))),
        EventsError::NoHandler => {
            Error::Job(Box::new(invoke_problem::of(&InvokeError::NoProcess("events"), interface)))
        }
        EventsError::Destroyed => app_name(app).map_or_else(Error::from, |name| StoreError::UnknownApp { name }.into()),
        EventsError::Store(error) => error.into(),
    }
}

async fn found(api: &Api, app: &str, id: String, source: Option<&str>) -> Result<StoredEvent, Error> {
    let record = api.control.apps.app(&app_name(app)?)?;
    let event = api.control.events.get(&record, &id, source).await.map_err(|error| refused(app, error))?;
    let of = source.map(str::to_owned);
    event.ok_or_else(|| EventError::Unknown { app: app.to_owned(), id, of }.into())
}
