//! Delivers events to guests: one CloudEvent in, a reply or a failure out.

use crate::{bindings::events as wit, fault::Fault, instance::Instance};
use std::time::Duration;

/// A CloudEvent as the handler receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub data_content_type: Option<String>,
    pub data_schema: Option<String>,
    pub data: Option<Vec<u8>>,
    pub extensions: Vec<(String, String)>,
    /// Delivery attempt, from 1.
    pub attempt: u32,
}

impl Event {
    /// Returns the event's size in memory, counting only the parts that its sender controls.
    pub fn bytes(&self) -> u64 {
        let Self {
            id,
            source,
            event_type,
            subject,
            time,
            data_content_type,
            data_schema,
            data,
            extensions,
            attempt: _,
        } = self;
        let optional = [subject, time, data_content_type, data_schema].into_iter().flatten();
        let named = extensions.iter().flat_map(|(name, value)| [name, value]);
        let texts: usize = [id, source, event_type].into_iter().chain(optional).chain(named).map(String::len).sum();
        (texts + data.as_ref().map_or(0, Vec::len)) as u64
    }
}

/// A handler's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub data_content_type: String,
    pub data: Vec<u8>,
}

/// A failure that the handler reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFailure {
    #[error("{message}")]
    Permanent { message: String },
    #[error("{message} (the handler asks for a retry in {} ms)", .after.as_millis())]
    Retry { message: String, after: Duration },
}

/// A handler's outcome for one event.
pub type Handled = Result<Option<Reply>, EventFailure>;

impl Instance {
    /// Delivers one event. Returns the instance if it can be reused.
    pub async fn event(
        mut self: Box<Self>,
        event: Event,
        request_id: &str,
    ) -> (Result<Handled, Fault>, Option<Box<Self>>) {
        if self.program.exports().events.is_none() {
            return (Err(Fault::NoSuchEntry { entry: "isopod:app/events" }), Some(self));
        }
        self.begin(request_id);
        match self.deliver(event.into()).await {
            Ok(handled) => (Ok(handled), self.finished()),
            Err(error) => (Err(self.fault(&error)), None),
        }
    }

    async fn deliver(&mut self, event: wit::Event) -> wasmtime::Result<Handled> {
        let Self { store, ready, component, program, .. } = self;
        if ready.events.is_none()
            && let Some(indices) = &program.exports().events
        {
            ready.events = Some(indices.load(&mut *store, component)?);
        }
        let app = ready.events.as_ref().ok_or_else(|| wasmtime::format_err!("isopod:app/events is not exported"))?;
        let handled = app.isopod_app_events().call_handle(store, &event).await?;
        Ok(handled.map(|reply| reply.map(Reply::from)).map_err(EventFailure::from))
    }
}

impl From<Event> for wit::Event {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            source: event.source,
            type_: event.event_type,
            subject: event.subject,
            time: event.time,
            data_content_type: event.data_content_type,
            data_schema: event.data_schema,
            data: event.data,
            extensions: event.extensions,
            attempt: event.attempt,
        }
    }
}

impl From<wit::Reply> for Reply {
    fn from(reply: wit::Reply) -> Self {
        Self { data_content_type: reply.data_content_type, data: reply.data }
    }
}

impl From<wit::Failure> for EventFailure {
    fn from(failure: wit::Failure) -> Self {
        match failure {
            wit::Failure::Permanent(message) => Self::Permanent { message },
            wit::Failure::Retry((message, after_ms)) => Self::Retry { message, after: Duration::from_millis(after_ms) },
        }
    }
}
