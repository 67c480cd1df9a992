//! The exports that handle events: `event-handler`, `events` of older components, or `hook` of a
//! plugin. Never decides when an event is delivered.

use crate::{
    bindings,
    event::{Event, EventFailure, Handled, Reply},
    state::HostState,
};
use std::time::Duration;
use wasmtime::Store;

/// The export that handles events: `event-handler`, `events` of older components, or `hook`.
pub(crate) enum EventExport {
    Current(bindings::event_handler::EventHandlerAppIndices),
    Former(bindings::events::EventAppIndices),
    Hook(bindings::hook::HookPluginIndices),
}

/// The export in one instance.
pub(crate) enum EventHandler {
    Current(bindings::event_handler::EventHandlerApp),
    Former(bindings::events::EventApp),
    Hook(bindings::hook::HookPlugin),
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
            Self::Hook(indices) => EventHandler::Hook(indices.load(store, component)?),
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
            Self::Hook(plugin) => {
                let handled = plugin.isopod_plugin_hook().call_on_event(store, &event.into()).await?;
                handled.map(|()| None).map_err(EventFailure::from)
            }
        };
        Ok(handled.map_err(EventFailure::bounded))
    }
}

/// Implements the conversion of the event, which all interfaces define in the same way.
macro_rules! event_record {
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
        };
    };
}

event_record!(bindings::event_handler);
event_record!(bindings::events);
event_record!(bindings::hook);

/// Implements the conversion of a reply.
macro_rules! reply_record {
    ($wit:path) => {
        const _: () = {
            use $wit as wit;

            impl From<wit::Reply> for Reply {
                fn from(reply: wit::Reply) -> Self {
                    Self { data_content_type: reply.data_content_type, data: reply.data }
                }
            }
        };
    };
}

reply_record!(bindings::event_handler);
reply_record!(bindings::events);

/// Implements the conversion of a failure of the interfaces that can also postpone an event.
macro_rules! failure_variant {
    ($wit:path) => {
        const _: () = {
            use $wit as wit;

            impl From<wit::Failure> for EventFailure {
                fn from(failure: wit::Failure) -> Self {
                    let after = Duration::from_millis;
                    match failure {
                        wit::Failure::Permanent(message) => Self::Permanent { message },
                        wit::Failure::Retry(message) => Self::Retry { message },
                        wit::Failure::RetryAfter((message, ms)) => Self::RetryAfter { message, after: after(ms) },
                        wit::Failure::Snooze((message, ms)) => Self::Snooze { message, after: after(ms) },
                    }
                }
            }
        };
    };
}

failure_variant!(bindings::event_handler);
failure_variant!(bindings::hook);

impl From<bindings::events::Failure> for EventFailure {
    fn from(failure: bindings::events::Failure) -> Self {
        use bindings::events::Failure;
        match failure {
            Failure::Permanent(message) => Self::Permanent { message },
            Failure::Retry((message, ms)) => Self::RetryAfter { message, after: Duration::from_millis(ms) },
        }
    }
}
