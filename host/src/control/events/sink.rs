//! Implements the engine's `EventSink`, which receives the events that guests send, with the event
//! queues of apps. Never decides which apps a guest may send to: the engine checks the grants.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use isopod_engine::{EmitError, EmittedEvent, Event, EventSink, Reply};
use isopod_policy::{AppName, RequestId};
use isopod_store::StoreError;
use jiff::Timestamp;

use super::{Events, conversion, error::EventsError, intake::Intake};
use crate::{
    control::AppRecord,
    runtime::{AskError, InvokeError},
};

/// The receiver of the events that one app sends. A release in memory holds it, so it refers weakly
/// to the directory of releases.
pub(in crate::control) struct AppEvents {
    events: Weak<Intake>,
    app: AppName,
}

impl AppEvents {
    pub(in crate::control) fn shared(events: &Events, app: &AppName) -> Arc<dyn EventSink> {
        Arc::new(Self { events: Arc::downgrade(&events.0), app: app.clone() })
    }

    /// Returns the service of the queues, and the app whose event handler receives the event.
    fn target(&self, event: &EmittedEvent) -> Result<(Arc<Intake>, Arc<AppRecord>), EmitError> {
        let events = self.events.upgrade();
        let events = events.ok_or_else(|| EmitError::Other("the host is stopping".to_owned()))?;
        let unknown = |name: &str| EmitError::Invalid(format!("there is no app `{name}`"));
        let name = match &event.app {
            Some(name) => name.parse().map_err(|_| unknown(name))?,
            None => self.app.clone(),
        };
        let app = events.app_table.app(&name).map_err(|_| unknown(name.as_str()))?;
        Ok((events, app))
    }
}

#[async_trait]
impl EventSink for AppEvents {
    async fn check(&self, event: &EmittedEvent) -> Result<(), EmitError> {
        self.target(event)?;
        conversion::check(event, &self.app, Timestamp::now()).map(drop)
    }

    async fn emit(&self, event: EmittedEvent) -> Result<(), EmitError> {
        let (events, target) = self.target(&event)?;
        let sent = conversion::from_guest(event, &self.app, Timestamp::now())?;
        events.store(&target, vec![sent]).await.map(drop).map_err(explained)
    }

    async fn ask(&self, event: EmittedEvent, _: Duration) -> Result<Option<Reply>, EmitError> {
        let (events, target) = self.target(&event)?;
        let sent = conversion::from_guest(event, &self.app, Timestamp::now())?;
        let release = events.directory.serving(&target.traffic).await;
        let release = release.map_err(|why| explained(EventsError::NotServing(why)))?;
        let event = Event { attempt: 1, ..conversion::asked(sent.event) };
        let handled = release.ask(event, RequestId::from_random(rand::random())).await;
        let handled = handled.map_err(|error| unanswered(&error))?;
        handled.map_err(|failure| EmitError::Failed(failure.message().to_owned()))
    }
}

fn explained(error: EventsError) -> EmitError {
    let text = error.to_string();
    match error {
        EventsError::Store(StoreError::EventQueueFull) => EmitError::Full(text),
        EventsError::Store(StoreError::EventTooLarge { .. }) | EventsError::NoHandler => EmitError::Invalid(text),
        EventsError::NotServing(_) | EventsError::Destroyed | EventsError::Store(_) => EmitError::Other(text),
    }
}

/// Returns the error of a call whose event got no reply from a handler.
fn unanswered(error: &AskError) -> EmitError {
    let text = error.to_string();
    match error {
        AskError::Invoke(InvokeError::NoProcess(_)) => EmitError::Invalid(text),
        AskError::Invoke(InvokeError::Stopping | InvokeError::Destroyed) => EmitError::Other(text),
        AskError::TooDeep | AskError::NeverFree { .. } | AskError::Invoke(_) => EmitError::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emit_and_ask_report_an_unavailable_app_in_the_same_way() {
        assert!(matches!(explained(EventsError::NotServing("it is stopped".to_owned())), EmitError::Other(_)));
        assert!(matches!(unanswered(&InvokeError::Stopping.into()), EmitError::Other(_)));
        assert!(matches!(explained(EventsError::NoHandler), EmitError::Invalid(_)));
        assert!(matches!(unanswered(&InvokeError::NoProcess("events").into()), EmitError::Invalid(_)));
        assert!(matches!(unanswered(&AskError::TooDeep), EmitError::Failed(_)));
    }
}
