//! Owns the route of a page's event stream: one connection carries the metrics of apps, the
//! activity of an app and the lines of its log. Never measures or records anything itself.

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
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
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
    topics::{Step, Topic},
};
use super::{
    Api,
    activity::ActivityView,
    auth::Authorised,
    edge::Subscriber,
    error::Error,
    log_filter::LogFilterParams,
    metrics::AppMetrics,
    openapi::{self, ProblemDetails, ServerSentEvent},
    request::{BadRequest, Params, app_name},
    sse::{self, EndReason, StreamEvent},
};
use crate::{
    control::AppRecord,
    observe::logs::{Follower, LineFilter, LogLine},
};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Sends the metrics of all active apps and of the host every 2 seconds, as events `apps`.
    #[serde(default)]
    apps: bool,
    /// Sends the metrics of this app once per second, as events `metrics`.
    #[param(value_type = Option<AppName>, inline)]
    metrics: Option<String>,
    /// Sends new activities of this app, as events `activity`.
    #[param(value_type = Option<AppName>, inline)]
    activity: Option<String>,
    /// Sends new lines of this app's log that match the parameters of a log, as events `log`.
    #[param(value_type = Option<AppName>, inline)]
    log: Option<String>,
}

impl StreamParams {
    fn ensure_topic(&self) -> Result<(), BadRequest> {
        if self.apps || [&self.metrics, &self.activity, &self.log].iter().any(|app| app.is_some()) {
            return Ok(());
        }
        let detail = "it names no topic; add `apps=true`, `metrics=APP`, `activity=APP` or `log=APP`".to_owned();
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

/// The data of an event.
#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Started {},
    Apps(#[serde(serialize_with = "shared")] Arc<RawValue>),
    Metrics(Box<AppMetrics>),
    Activity(ActivityView),
    Log(Box<LogLine>),
    Missed { lines: u64 },
}

fn shared<S: Serializer>(value: &Arc<RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
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
            description = "Events of the types `started`, `apps`, `metrics`, `activity`, `log`, `missed` and `end`",
            body = ServerSentEvent, content_type = "text/event-stream"
        ),
        (
            status = 404,
            description = "There is no such app",
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
    let opened = Opened::of(&api, &subscriber.0, &params, filter, from).await?;
    let started = opened.event("started", Data::Started {});
    let events = stream::once(async move { started }).chain(stream::unfold(Some(opened), next));
    sse::stream(&api, &subscriber, events)
}

/// An open stream.
struct Opened {
    topics: SelectAll<Topic>,
    /// The position after the last event.
    position: Position,
    /// Why the topics that ended have ended.
    end: EndReason,
}

impl Opened {
    async fn of(
        api: &Arc<Api>,
        token: &Authorised,
        params: &StreamParams,
        filter: LineFilter,
        from: Position,
    ) -> Result<Self, Error> {
        let named = |app: Option<&String>| -> Result<Option<Arc<AppRecord>>, Error> {
            let Some(app) = app else { return Ok(None) };
            let record = api.control.apps.app(&app_name(app)?)?;
            token.ensure_sees(&record)?;
            Ok(Some(record))
        };
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
            let start = topics::activity_start(api, &record, from.activity).await?;
            position.activity = Some(start);
            topics.push(topics::activity(api.store.clone(), record, activities, start));
        }
        if let Some(record) = log {
            let start = match from.log {
                Some(cursor) => cursor,
                None => api.logs.page(&record.name, LineFilter::default(), 1, None).await?.end,
            };
            position.log = Some(start);
            let follower = Follower::after(api.logs.clone(), Arc::clone(&record.log), filter, start).await?;
            topics.push(topics::log(follower));
        }
        Ok(Self { topics, position, end: EndReason::AppDestroyed })
    }

    fn event(&self, of: &'static str, item: Data) -> StreamEvent<Data> {
        StreamEvent::Typed { of, item, id: self.position.to_string() }
    }

    /// Moves the position after a step, and returns the step's event.
    fn event_of(&mut self, step: Step) -> Next {
        let (of, data) = match step {
            Step::Apps(top) => ("apps", Data::Apps(top)),
            Step::Metrics(metrics) => ("metrics", Data::Metrics(metrics)),
            Step::Activity(id, activity) => {
                self.position.activity = id.or(self.position.activity);
                ("activity", Data::Activity(activity))
            }
            Step::Line(line, end) => {
                self.position.log = Some(end);
                ("log", Data::Log(line))
            }
            Step::Missed(lines) => ("missed", Data::Missed { lines }),
            Step::Past => {
                self.end = EndReason::UntilPassed;
                return Next::Later;
            }
            Step::Broken => return Next::Disconnect,
        };
        Next::Event(self.event(of, data))
    }
}

/// What follows from one step of a topic.
enum Next {
    Event(StreamEvent<Data>),
    /// The topic has ended, and others may continue.
    Later,
    /// The client must connect again.
    Disconnect,
}

/// Returns the next event of any topic. After the last topic ends, the last event reports why.
async fn next(opened: Option<Opened>) -> Option<(StreamEvent<Data>, Option<Opened>)> {
    let mut opened = opened?;
    loop {
        let Some(step) = opened.topics.next().await else { return Some((StreamEvent::End(opened.end), None)) };
        match opened.event_of(step) {
            Next::Event(event) => return Some((event, Some(opened))),
            Next::Later => {}
            Next::Disconnect => return None,
        }
    }
}
