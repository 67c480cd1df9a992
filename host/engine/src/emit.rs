//! Implements `isopod:app/emit` for guests: sends events, and asks event handlers. Never stores or
//! delivers an event itself: the embedder's `EventSink` does.

use crate::{
    event::{EmittedEvent, Reply},
    limits,
    sandbox::{EmitError, EventSink, Level, OutputLine, Stream},
    state::HostState,
    transaction::{Transaction, TransactionFull},
};
use isopod_policy::{Phase, limits::TEXT_NAME_BYTES_SHOWN, text::line_excerpt};
use std::{sync::Arc, time::Duration};
use wasmtime::component::{HasSelf, Linker};

mod generated {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit",
        world: "isopod:app/emitting-app",
        imports: { default: async | trappable },
    });
}

use generated::isopod::app::emit as wit;

impl From<TransactionFull> for EmitError {
    fn from(full: TransactionFull) -> Self {
        Self::Full(full.0)
    }
}

impl From<EmitError> for wit::Error {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Denied(text) => Self::Denied(bounded(text)),
            EmitError::Full(text) => Self::Full(bounded(text)),
            EmitError::Invalid(text) => Self::Invalid(bounded(text)),
            EmitError::Failed(text) => Self::Failed(bounded(text)),
            EmitError::Other(text) => Self::Other(bounded(text)),
        }
    }
}

fn bounded(text: String) -> String {
    isopod_policy::text::excerpt(&text, limits::GUEST_ERROR_BYTES_MAX).into_owned()
}

/// Offers `isopod:app/emit` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit::Host for HostState {
    async fn emit(&mut self, event: wit::NewEvent) -> wasmtime::Result<Result<String, wit::Error>> {
        let event = with_id(event, || self.transaction.as_ref().map_or_else(random_id, Transaction::next_id));
        Ok(self.send(event).await.map_err(Into::into))
    }

    async fn ask(
        &mut self,
        event: wit::NewEvent,
        timeout_ms: Option<u64>,
    ) -> wasmtime::Result<Result<Option<wit::Reply>, wit::Error>> {
        let event = with_id(event, random_id);
        let reply = self.question(event, timeout_ms.map(Duration::from_millis)).await;
        Ok(reply.map(|reply| reply.map(Into::into)).map_err(Into::into))
    }
}

impl HostState {
    /// Stores an event immediately, or buffers it in the delivery's transaction.
    async fn send(&mut self, mut event: EmittedEvent) -> Result<String, EmitError> {
        self.outbound.trace_event(&mut event.extensions);
        let sink = self.sink_for(&event)?;
        let _waiting = self.waits.begin_nested(Phase::Events);
        let id = event.id.clone();
        match &mut self.transaction {
            None => sink.emit(event).await?,
            Some(transaction) => {
                sink.check(&event).await?;
                transaction.emit(&mut self.account, event)?;
            }
        }
        Ok(id)
    }

    async fn question(
        &mut self,
        mut event: EmittedEvent,
        timeout: Option<Duration>,
    ) -> Result<Option<Reply>, EmitError> {
        self.outbound.trace_event(&mut event.extensions);
        let sink = self.sink_for(&event)?;
        if event.delay.is_some() || event.expires_after.is_some() {
            return Err(EmitError::Invalid("an event that waits for its reply has no delay and no expiry".to_owned()));
        }
        let most = self.sandbox.limits.request_timeout;
        let timeout = timeout.map_or(most, |timeout| timeout.min(most));
        let waiting = self.waits.begin_nested(Phase::Events);
        let reply = tokio::time::timeout(timeout, sink.ask(event, timeout)).await.unwrap_or_else(|_| {
            Err(EmitError::Failed(format!("the event handler did not reply within {} ms", timeout.as_millis())))
        })?;
        drop(waiting);
        let bytes = reply.as_ref().map_or(0, |reply| reply.data_content_type.len() + reply.data.len());
        let most = limits::HOST_CALL_BYTES_MAX;
        if bytes > most {
            return Err(EmitError::Failed(format!("the reply has {bytes} bytes; the limit is {most}")));
        }
        Ok(reply)
    }

    /// Returns the sink, or an error if the app must not send this event.
    fn sink_for(&self, event: &EmittedEvent) -> Result<Arc<dyn EventSink>, EmitError> {
        if let Some(app) = &event.app
            && *app != self.sandbox.app
            && !self.sandbox.grants.allows_events_to(app)
        {
            return Err(self.denied(app));
        }
        let (bytes, most) = (event.bytes(), limits::EMITTED_EVENT_BYTES_MAX);
        if bytes > most {
            return Err(EmitError::Invalid(format!("the event has {bytes} bytes; the limit is {most}")));
        }
        let sink = self.sandbox.events.clone();
        sink.ok_or_else(|| EmitError::Denied("this host takes no events from its apps".to_owned()))
    }

    /// Returns the error of an event for an app without a grant, and writes it to the sender's log.
    fn denied(&self, app: &str) -> EmitError {
        let app = line_excerpt(app, TEXT_NAME_BYTES_SHOWN);
        let text =
            format!("events to the app `{app}` are not granted: add \"{app}\" to events under [grants] in isopod.toml");
        let stream = Stream::Log(Level::Warn);
        self.call.with(|origin| {
            self.sandbox.output.line(OutputLine::new(stream, "isopod", origin, &text));
        });
        EmitError::Denied(text)
    }
}

fn random_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Returns the event that a guest sends, with a new id unless the guest has chosen one.
fn with_id(event: wit::NewEvent, new_id: impl FnOnce() -> String) -> EmittedEvent {
    EmittedEvent {
        id: event.id.unwrap_or_else(new_id),
        source: event.source,
        event_type: event.type_,
        subject: event.subject,
        time: event.time,
        data_content_type: event.data_content_type,
        data_schema: event.data_schema,
        data: event.data,
        extensions: event.extensions,
        delay: event.delay_ms.map(Duration::from_millis),
        expires_after: event.expires_ms.map(Duration::from_millis),
        app: event.app,
    }
}

impl From<Reply> for wit::Reply {
    fn from(reply: Reply) -> Self {
        Self { data_content_type: reply.data_content_type, data: reply.data }
    }
}
