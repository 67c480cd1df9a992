//! Delivers events to guests: one CloudEvent in, a reply or a failure out. Never commits the
//! effects of a handler; the embedder does.

use crate::{
    event::{Event, EventFailure, Handled, Reply},
    event_export::EventExport,
    fault::Fault,
    instance::Instance,
    transaction::{Effects, Transaction},
};

/// The success of an event handler whose effects the embedder has to commit.
#[derive(Default)]
pub struct Committable {
    pub reply: Option<Reply>,
    pub effects: Effects,
}

impl Instance {
    /// Delivers one event without a transaction: the handler's effects are stored immediately.
    /// Returns the instance if it can be reused.
    pub async fn event(
        mut self: Box<Self>,
        event: Event,
        request_id: &str,
    ) -> (Result<Handled, Fault>, Option<Box<Self>>) {
        match self.deliver(event, request_id).await {
            Ok(handled) => (Ok(handled), self.finished()),
            Err(Undelivered::NotExported) => (Err(NOT_EXPORTED), Some(self)),
            Err(Undelivered::Failed(error)) => (Err(self.fault(&error)), None),
        }
    }

    /// Delivers one event as a transaction: returns the values that the handler sets and the events
    /// that it sends, for the embedder to commit. A failure discards them. The embedder may deliver
    /// the event again, to this instance or another one, if the commit fails.
    pub async fn event_in_transaction(
        mut self: Box<Self>,
        event: Event,
        request_id: &str,
    ) -> (Result<Result<Committable, EventFailure>, Fault>, Option<Box<Self>>) {
        self.store.data_mut().transaction = Some(Transaction::of(&event));
        let handled = self.deliver(event, request_id).await;
        let effects = self.store.data_mut().end_transaction();
        match handled {
            Ok(handled) => (Ok(handled.map(|reply| Committable { reply, effects })), self.finished()),
            Err(Undelivered::NotExported) => (Err(NOT_EXPORTED), Some(self)),
            Err(Undelivered::Failed(error)) => (Err(self.fault(&error)), None),
        }
    }

    async fn deliver(&mut self, event: Event, request_id: &str) -> Result<Handled, Undelivered> {
        let program = self.program.clone();
        let export = program.exports().events.as_ref().ok_or(Undelivered::NotExported)?;
        self.store.data_mut().begin_event_trace(&event.extensions);
        self.begin(request_id);
        self.store.data_mut().call.set_event(&event.id);
        self.call_handler(export, event).await.map_err(Undelivered::Failed)
    }

    async fn call_handler(&mut self, export: &EventExport, event: Event) -> wasmtime::Result<Handled> {
        let Self { store, ready, component, .. } = self;
        let handler = match &mut ready.events {
            Some(handler) => handler,
            none => none.insert(export.load(&mut *store, component)?),
        };
        handler.call(store, event).await
    }
}

const NOT_EXPORTED: Fault = Fault::NoSuchEntry { entry: "isopod:app/event-handler" };

/// Why a handler has no outcome.
enum Undelivered {
    NotExported,
    Failed(wasmtime::Error),
}
