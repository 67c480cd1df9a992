//! Owns the route that sends one event. Answers a pull event with its handler's reply, and a push
//! event once it is stored. Never delivers a stored event: the control plane does.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
};
use isopod_engine::{Event, EventFailure, Reply};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, SchemaFormat,
        path::{Parameter, ParameterIn},
        schema::Type,
    },
};

use super::{
    Api,
    body::collect,
    cloud_event::{DeliveryOptions, EventReader, ReceivedEvent},
    edge::{RequestIdText, Subscriber},
    error::{Error, EventError},
    openapi::{self, Binary, CloudEvent, EventReply, ProblemDetails},
    path::AppPath,
    request::{BadRequest, Params, Path, app_name, media_type},
    stored_events::{EventView, refused},
};
use crate::{
    api::limits,
    control::{AppRecord, events::IncomingEvent},
    invoke_problem::{self, Interface},
};

/// The characters that are percent-encoded in a path segment, and in a value of a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SendParams {
    /// `pull`, the default, waits for the reply. `push` stores the event, and responds with 202.
    #[serde(default)]
    #[param(inline)]
    queue: Queue,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Queue {
    #[default]
    Pull,
    Push,
}

/// The headers with the defaults of stored events.
pub(super) enum EventHeaders {}

impl IntoParams for EventHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = |example: &str| ObjectBuilder::new().schema_type(Type::String).examples([example]);
        let described = [
            ("isopod-delay", "A stored event without `isopoddelay` isn't delivered before this duration or time"),
            ("isopod-expires", "A stored event without `isopodexpires` isn't delivered after this duration or time"),
        ];
        described.map(|(name, description)| openapi::header(name, description, text("90s"))).into()
    }
}

/// The headers of an event in binary mode: its attributes. Structured mode has no such headers.
enum AttributeHeaders {}

impl IntoParams for AttributeHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let format = |name: &str| text().format(Some(SchemaFormat::Custom(name.to_owned())));
        let attributes = [
            ("specversion", text().enum_values(Some(["1.0"]))),
            ("id", text()),
            ("source", format("uri-reference")),
            ("type", text()),
            ("subject", text()),
            ("time", format("date-time")),
            ("dataschema", format("uri")),
        ];
        let described = attributes.map(|(name, value)| {
            let text = format!("In binary mode, the attribute `{name}`; every other attribute has such a header too");
            openapi::header(&format!("ce-{name}"), &text, value)
        });
        described.into()
    }
}

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/events",
    operation_id = "send_event",
    summary = "Sends one CloudEvent to an app: returns its reply, or stores it for a later delivery",
    params(AppPath, SendParams, EventHeaders, AttributeHeaders),
    request_body(content(
        (CloudEvent = "application/cloudevents+json"),
        (CloudEvent = "application/json"),
        (Binary = "application/octet-stream")
    )),
    responses(
        (
            status = 200,
            description = "The reply, with the content type that the handler chose",
            content(
                (EventReply = "application/json"),
                (Binary = "*/*")
            )
        ),
        (status = 204, description = "The event is handled, without a reply"),
        (
            status = 202,
            description = "The event is stored: sent with `?queue=push` or `Prefer: respond-async`, or stored before",
            body = EventView,
            headers(("location" = String, description = "The route of the stored event"))
        ),
        (
            status = 502,
            description = "The handler failed",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
        (
            status = 504,
            description = "The handler timed out",
            body = ProblemDetails, content_type = "application/problem+json"
        ),
    )
)]
pub(super) async fn send(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    Params(params): Params<SendParams>,
    request: Request,
) -> Result<Response<Body>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let request_id = request.extensions().get::<RequestIdText>().map_or_else(String::new, |id| id.0.clone());
    let (parts, body) = request.into_parts();
    let body = collect(&api.bodies, &token, body, limits::EVENT_BODY_BYTES).await?;
    let reader = EventReader::new(&parts.headers, Timestamp::now())?;
    let received = reader.read(media_type(&parts.headers).as_deref(), &parts.headers, &body)?;
    // The event has its own copy, and may wait in the queue for a long time.
    drop(body);
    let is_async = wants_no_reply(&parts.headers);
    if is_async || params.queue == Queue::Push {
        return store(&api, &record, received, is_async).await;
    }
    if received.options != DeliveryOptions::default() {
        let detail =
            "a delay or an expiry needs `queue=push` or `Prefer: respond-async`, since a pull event isn't stored";
        return Err(BadRequest::Query { detail: detail.to_owned() }.into());
    }
    deliver(&api, &record, received.event, request_id).await
}

/// Stores an event. Responds once it is durable.
async fn store(
    api: &Api,
    record: &Arc<AppRecord>,
    received: ReceivedEvent,
    is_async: bool,
) -> Result<Response<Body>, Error> {
    let app = record.name.as_str();
    let ReceivedEvent { event, options: DeliveryOptions { not_before, expires_at } } = received;
    let incoming = IncomingEvent { event, not_before, expires_at };
    let stored = api.control.events.accept_one(record, incoming).await.map_err(|error| refused(app, error))?;
    // Events of several sources may have the id.
    let [id, source] = [&stored.id, &stored.source].map(|text| utf8_percent_encode(text, ESCAPED));
    let location = format!("/v1/apps/{app}/events/{id}?source={source}");
    let mut response = (StatusCode::ACCEPTED, axum::Json(EventView::from(stored))).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    if is_async {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    Ok(response)
}

async fn deliver(api: &Api, record: &AppRecord, event: Event, request_id: String) -> Result<Response<Body>, Error> {
    let app = || record.name.to_string();
    let running = api.control.apps.serving(record).await;
    let interface = Interface::Event { app: record.name.as_str() };
    let refuse = |problem| Error::Job(Box::new(problem));
    let running = running.map_err(|why| refuse(invoke_problem::unavailable(why, interface)))?;
    if running.takes_events() {
        record.usage.count(event.subject.as_deref());
    }
    match running.event(event, request_id).await {
        Ok(Ok(Some(reply))) => answer(reply),
        Ok(Ok(None)) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Err(EventFailure::Permanent { message })) => Err(EventError::Refused { app: app(), message }.into()),
        Ok(Err(EventFailure::Retry { message })) => {
            Err(EventError::TryLater { app: app(), message, retry_after_s: 1 }.into())
        }
        Ok(Err(EventFailure::RetryAfter { message, after } | EventFailure::Snooze { message, after })) => {
            let retry_after_s = whole_seconds(after);
            Err(EventError::TryLater { app: app(), message, retry_after_s }.into())
        }
        Err(error) => Err(refuse(invoke_problem::of(&error, interface))),
    }
}

/// Returns a delay in seconds, at least 1, for `Retry-After`. Rounds up, so that the sender doesn't
/// retry too early.
fn whole_seconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1)
}

/// Returns the handler's reply. An invalid content type is replaced by `application/octet-stream`.
fn answer(reply: Reply) -> Result<Response<Body>, Error> {
    let content_type = HeaderValue::from_str(&reply.data_content_type);
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    Ok(([(header::CONTENT_TYPE, content_type)], reply.data).into_response())
}

fn wants_no_reply(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences
        .flat_map(|value| value.split(','))
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
