//! Owns the route that sends many events in one request. Stores the events in batches while the
//! body arrives, so a body needs no size limit. Never delivers an event.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
};
use isopod_store::Accepted;
use jiff::Timestamp;

use super::{
    Api,
    auth::Authorised,
    bad_request::EventPosition,
    body::{Chunks, collect, exceeded},
    broadcast_view::Broadcast,
    cloud_event::{EventReader, ReceivedEvent},
    edge::Subscriber,
    error::Error,
    events::EventHeaders,
    ndjson::{LineTooLong, Lines},
    openapi::{EventBatch, EventLines},
    path::AppPath,
    request::{BadRequest, Path, app_name, media_type},
    stored_events::refused,
};
use crate::{
    api::limits,
    control::{AppRecord, DeployError, events::IncomingEvent},
    http::shares::Share,
};

#[utoipa::path(
    post,
    path = "/v1/apps/{app}/broadcasts",
    operation_id = "send_broadcast",
    summary = "Stores many CloudEvents for an app, in batches as they arrive",
    params(AppPath, EventHeaders),
    request_body(content(
        (EventLines = "application/x-ndjson"),
        (EventBatch = "application/cloudevents-batch+json")
    )),
    responses(
        (status = 202, description = "All events are stored", body = Broadcast),
    )
)]
pub(super) async fn send(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Path(app): Path<String>,
    request: Request,
) -> Result<(StatusCode, axum::Json<Broadcast>), Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    let (parts, body) = request.into_parts();
    let form = Form::of(&parts.headers)?;
    // The headers set the defaults of all events.
    EventReader::new(&parts.headers, Timestamp::now())?;
    let (batch, stored) = (Vec::new(), Broadcast::default());
    let mut intake = Intake { api: &api, app: &record, token: &token, batch, batch_bytes: 0, stored };
    let taken = match form {
        Form::Lines => intake.take_lines(&parts.headers, body).await,
        Form::Batch => intake.take_batch(&parts.headers, body).await,
    };
    // The events before an error are stored too, so that the sender can continue after them.
    match intake.store().await.and(taken) {
        Ok(()) => Ok((StatusCode::ACCEPTED, axum::Json(intake.stored))),
        Err(error) => Err(Error::Broadcast { stored: intake.stored, error: Box::new(error) }),
    }
}

/// The form of a broadcast's body.
enum Form {
    Lines,
    Batch,
}

impl Form {
    fn of(headers: &HeaderMap) -> Result<Self, BadRequest> {
        match media_type(headers).as_deref() {
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Ok(Self::Lines),
            Some("application/cloudevents-batch+json") => Ok(Self::Batch),
            other => Err(BadRequest::ContentType {
                got: other.unwrap_or("missing").to_owned(),
                wanted: "application/x-ndjson, one event per line, or application/cloudevents-batch+json",
            }),
        }
    }
}

/// Collects the events of a broadcast, and stores each full batch before it takes the next event.
struct Intake<'a> {
    api: &'a Api,
    app: &'a Arc<AppRecord>,
    token: &'a Authorised,
    batch: Vec<IncomingEvent>,
    /// The size of the batch as text. With the store's overhead for each event, it is an upper
    /// bound of the batch's stored size.
    batch_bytes: usize,
    stored: Broadcast,
}

impl Intake<'_> {
    /// Takes the events of NDJSON while it arrives. Stores a full batch before it reads the next
    /// part of the body.
    async fn take_lines(&mut self, headers: &HeaderMap, body: Body) -> Result<(), Error> {
        let mut counted = self.api.bodies.up_to(&self.token.name, 0).map_err(|over| exceeded(self.token, over))?;
        let (mut chunks, mut lines) = (Chunks::endless(body, self.token), Lines::new(limits::EVENT_BODY_BYTES));
        loop {
            let mut chunk = self.received(chunks.next()).await?.unwrap_or_default();
            // A delay counts from the arrival of the event.
            let reader = EventReader::new(headers, Timestamp::now())?;
            if chunk.is_empty() {
                let last = lines.finish().map_err(too_long)?;
                return match last {
                    Some(line) => self.take(reader.read_line(&line)?, line.bytes.len()).await,
                    None => Ok(()),
                };
            }
            self.count(&mut counted, lines.held() + chunk.len()).await?;
            while let Some(line) = lines.next(&mut chunk).map_err(too_long)? {
                self.take(reader.read_line(&line)?, line.bytes.len()).await?;
            }
        }
    }

    /// Takes the events of a JSON array.
    async fn take_batch(&mut self, headers: &HeaderMap, body: Body) -> Result<(), Error> {
        let body = collect(&self.api.bodies, self.token, body, limits::EVENT_BATCH_BODY_BYTES);
        let body = self.received(body).await?;
        let reader = EventReader::new(headers, Timestamp::now())?;
        for event in reader.read_batch(&body)? {
            let (event, length) = event?;
            self.take(event, length).await?;
        }
        Ok(())
    }

    /// Returns the next part of the body, unless the host stops.
    async fn received<T>(&self, body: impl Future<Output = Result<T, BadRequest>>) -> Result<T, Error> {
        tokio::select! {
            received = body => Ok(received?),
            () = self.api.stop.cancelled() => Err(DeployError::Stopping.into()),
        }
    }

    /// Adds an event. Stores the batch first if it has no room.
    async fn take(&mut self, received: ReceivedEvent, bytes: usize) -> Result<(), Error> {
        let is_full = self.batch.len() >= limits::BROADCAST_BATCH_EVENTS;
        if is_full || self.batch_bytes + bytes > limits::BROADCAST_BATCH_BYTES {
            self.store().await?;
        }
        let ReceivedEvent { event, options } = received;
        self.batch_bytes += bytes;
        self.batch.push(IncomingEvent { event, not_before: options.not_before, expires_at: options.expires_at });
        Ok(())
    }

    /// Charges the bytes in memory: the batch and `more`. If the token's budget is used up, stores
    /// the batch before it is full.
    async fn count(&mut self, counted: &mut Share, more: usize) -> Result<(), Error> {
        if counted.grow_to((self.batch_bytes + more) as u64).is_ok() {
            return Ok(());
        }
        self.store().await?;
        Ok(counted.grow_to(more as u64).map_err(|over| exceeded(self.token, over))?)
    }

    /// Stores the batch. Returns once it is durable.
    async fn store(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let accepted = self.api.control.events.accept(self.app, batch).await;
        let accepted = accepted.map_err(|error| refused(self.app.name.as_str(), error))?;
        let is_duplicate = |accepted: &&Accepted| matches!(accepted, Accepted::Duplicate { .. });
        self.stored.accepted += accepted.len() as u64;
        self.stored.duplicates += accepted.iter().filter(is_duplicate).count() as u64;
        Ok(())
    }
}

fn too_long(error: LineTooLong) -> Error {
    let detail = format!("the event is larger than {} bytes", error.bytes_max);
    BadRequest::Event { position: Some(EventPosition::Line(error.number)), attribute: None, detail }.into()
}
