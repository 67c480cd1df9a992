//! The exports that handle events: `event-handler`, or `events` of older components. Never decides
//! when an event is delivered.

use crate::{
    bindings,
    event::{Event, EventFailure, Handled, Reply},
    state::HostState,
};
use std::time::Duration;
use wasmtime::Store;

/// The export that handles events: `event-handler`, or `events` of older components.
pub(crate) enum EventExport {
    Current(bindings::event_handler::EventHandlerAppIndices),
    Former(bindings::events::EventAppIndices),
}

/// The export in one instance.
pub(crate) enum EventHandler {
    Current(bindings::event_handler::EventHandlerApp),
    Former(bindings::events::EventApp),
}

impl EventExport {
    /// Finds the export in an instance.
    pub(crate) fn load(
        &self,
        store: &mut Store<HostState>,
        component: &wasmtime::component::Instance,
    ) -> wasmtime::Result<EventHandler> {
        Ok(match self {
            Self::Current(indices) => EventHandler::Current(indices.load(store, component)?),
            Self::Former(indices) => EventHandler::Former(indices.load(store, component)?),
        })
    }
}

impl EventHandler {
    /// Calls the handler. The messages of its failures are bounded.
    pub(crate) async fn call(&self, store: &mut Store<HostState>, event: Event) -> wasmtime::Result<Handled> {
        let handled = match self {
            Self::Current(app) => {
                let handled = app.isopod_app_event_handler().call_handle(store, &event.into()).await?;
                handled.map(|reply| reply.map(Reply::from)).map_err(EventFailure::from)
            }
            Self::Former(app) => {
                let handled = app.isopod_app_events().call_handle(store, &event.into()).await?;
                handled.map(|reply| reply.map(Reply::from)).map_err(EventFailure::from)
            }
        };
        Ok(handled.map_err(EventFailure::bounded))
    }
}

/// Implements the conversions of the records that both interfaces define in the same way.
macro_rules! records {
    ($wit:path) => {
        const _: () = {
            use $wit as wit;

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
        };
    };
}

records!(bindings::event_handler);
records!(bindings::events);

impl From<bindings::event_handler::Failure> for EventFailure {
    fn from(failure: bindings::event_handler::Failure) -> Self {
        use bindings::event_handler::Failure;
        match failure {
            Failure::Permanent(message) => Self::Permanent { message },
            Failure::Retry(message) => Self::Retry { message },
            Failure::RetryAfter((message, ms)) => Self::RetryAfter { message, after: Duration::from_millis(ms) },
            Failure::Snooze((message, ms)) => Self::Snooze { message, after: Duration::from_millis(ms) },
        }
    }
}

impl From<bindings::events::Failure> for EventFailure {
    fn from(failure: bindings::events::Failure) -> Self {
        use bindings::events::Failure;
        match failure {
            Failure::Permanent(message) => Self::Permanent { message },
            Failure::Retry((message, ms)) => Self::RetryAfter { message, after: Duration::from_millis(ms) },
        }
    }
}
