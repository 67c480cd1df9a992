//! Owns the route of a page's event stream: one connection carries the metrics of apps, the
//! activity of an app and the lines of its log. Never measures or records anything itself.

mod activity;
mod log;
mod position;
mod topics;
mod unsent_lines;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, Response},
};
use futures::{
    StreamExt,
    stream::{self, SelectAll},
};
use isopod_policy::AppName;
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

use self::{
    position::Position,
    topics::{Data, Step, Topic},
};
use super::{
    Api,
    auth::Authorised,
    edge::Subscriber,
    error::Error,
    log_filter::LogFilterParams,
    openapi::{self, ProblemDetails, ServerSentEvent},
    request::{BadRequest, Params, app_name},
    sse::{EndReason, StreamEvent, StreamPermit},
};
use crate::{
    control::{AppRecord, DeployError},
    observe::logs::LineFilter,
};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Streams the metrics of all active apps and the host every 2 seconds as `apps` events.
    #[serde(default)]
    apps: bool,
    /// Streams the metrics of this app once per second as `metrics` events.
    #[param(value_type = Option<AppName>, inline)]
    metrics: Option<String>,
    /// Streams new activities of this app as `activity` events.
    #[param(value_type = Option<AppName>, inline)]
    activity: Option<String>,
    /// Streams new lines of this app's log that match the parameters of a log as `log` events.
    #[param(value_type = Option<AppName>, inline)]
    log: Option<String>,
}

impl StreamParams {
    fn ensure_topic(&self) -> Result<(), BadRequest> {
        if self.apps || [&self.metrics, &self.activity, &self.log].iter().any(|app| app.is_some()) {
            return Ok(());
        }
        let detail = "no topic selected; add `apps=true`, `metrics=APP`, `activity=APP` or `log=APP`".to_owned();
        Err(BadRequest::Query { detail })
    }
}

/// The header by which a client continues a stream.
pub(super) enum StreamHeaders {}

impl IntoParams for StreamHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = "The `id` of the last event that was received: activities and lines continue after it";
        // An empty id counts as absent.
        let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some(Position::PATTERN));
        vec![openapi::header("Last-Event-ID", text, id)]
    }
}

#[utoipa::path(
    get,
    path = "/v1/stream",
    operation_id = "show_stream",
    summary = "Streams metrics, activities and log lines over one connection, each as an event with a type",
    params(StreamParams, LogFilterParams, StreamHeaders),
    responses(
        (
            status = 200,
            description = "Events of the types `started`, `apps`, `metrics`, `activity`, `log`, `missed`, `broken`, \
                `ended` and `end`",
            body = ServerSentEvent, content_type = "text/event-stream"
        ),
        (
            status = 404,
            description = "The app does not exist",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    subscriber: Subscriber,
    Params(params): Params<StreamParams>,
    Params(filter): Params<LogFilterParams>,
    headers: HeaderMap,
) -> Result<Response<Body>, Error> {
    params.ensure_topic()?;
    let (filter, from) = (filter.filter(Timestamp::now())?, Position::of(&headers)?);
    let permit = StreamPermit::take(&api, &subscriber)?;
    let opened = Opened::of(&api, &subscriber.0, &params, filter, from)?;
    Ok(permit.stream(stream::unfold(Some(opened), next)))
}

/// An open stream. Nothing is read before its topics are polled, so that a topic that can't be read
/// doesn't delay the others.
struct Opened {
    topics: SelectAll<Topic>,
    /// The position after the last event.
    position: Position,
    /// Why the latest topic to end has ended.
    end: Option<EndReason>,
}

impl Opened {
    fn of(
        api: &Arc<Api>,
        token: &Authorised,
        params: &StreamParams,
        filter: LineFilter,
        from: Position,
    ) -> Result<Self, Error> {
        let named = |app: Option<&String>| app.map(|app| named(api, token, app)).transpose();
        // Subscribes before it looks the app up, so that it can't miss the app's destruction.
        let activities = api.control.queries.subscribe_activities();
        let (metrics, activity, log) =
            (named(params.metrics.as_ref())?, named(params.activity.as_ref())?, named(params.log.as_ref())?);
        let (mut topics, mut position) = (SelectAll::new(), Position::default());
        if params.apps {
            topics.push(topics::apps(Arc::clone(api), token.clone()));
        }
        if let Some(record) = metrics {
            topics.push(topics::metrics(Arc::clone(api), record));
        }
        if let Some(record) = activity {
            position.activity = from.activity;
            topics.push(activity::activity(api.store.clone(), record, activities, from.activity));
        }
        if let Some(record) = log {
            position.log = from.log;
            topics.push(log::log(api.logs.clone(), record, filter, from.log));
        }
        Ok(Self { topics, position, end: None })
    }

    /// Moves the position after a step, and returns the step's event.
    fn event(&mut self, step: Step) -> StreamEvent<Data> {
        let (data, position) = match step {
            Step::Apps(json) => return StreamEvent::Shared { of: "apps", json, id: self.position.to_string() },
            Step::Data(data, position) => (data, position),
        };
        self.position.advance(position);
        if let Data::Ended { reason, .. } = data {
            self.end = Some(reason);
        }
        StreamEvent::Typed { of: data.event_type(), item: data, id: self.position.to_string() }
    }
}

/// Returns the app with this name. A token for some apps can't test which other apps exist.
fn named(api: &Api, token: &Authorised, name: &str) -> Result<Arc<AppRecord>, Error> {
    match api.control.apps.app(&app_name(name)?) {
        Ok(record) => token.ensure_sees(&record).map(|()| record).map_err(Error::from),
        Err(DeployError::UnknownApp(_)) if !token.sees_all() => Err(token.out_of_scope().into()),
        Err(error) => Err(error.into()),
    }
}

/// Returns the next event of any topic. After the last topic ends, the last event reports why.
async fn next(opened: Option<Opened>) -> Option<(StreamEvent<Data>, Option<Opened>)> {
    let mut opened = opened?;
    match opened.topics.next().await {
        Some(step) => Some((opened.event(step), Some(opened))),
        // Topics end without a reason if the host stops: then the client connects again.
        None => opened.end.map(|reason| (StreamEvent::End(reason), None)),
    }
}
