//! Hooks: plugins that receive the activity of apps as events. Never receives an event itself;
//! `wasm/` does.
//!
//! ```
//! use isopod_sdk::plugin::Activity;
//! use isopod_sdk::prelude::*;
//! use isopod_sdk::testing::TestHost;
//!
//! isopod_sdk::hook!(on_event);
//!
//! async fn on_event(event: Event) -> Result<(), EventError> {
//!     let activity: Activity = event.json()?;
//!     let app = event.subject.as_deref().unwrap_or("the host");
//!     let log = Request::post("https://log.example/").with_body(format!("{app}: {}", activity.text));
//!     fetch(log.with_header("idempotency-key", event.id.clone())).await?;
//!     Ok(())
//! }
//!
//! # fn main() {
//! let host = TestHost::new();
//! host.on_fetch(|request| {
//!     assert_eq!(request.text()?, "shop: v3 is in service");
//!     Ok(Response::new(204))
//! });
//! let activity = Activity::new("app-deployed", "v3 is in service");
//! host.deliver_to_hook(activity.into_event("isopod.app.deployed", "shop"), on_event).reply();
//! # }
//! ```

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Value, json};

use crate::Result;
use crate::events::{Event, EventError, Reply};

/// The data of an event that a hook receives: an entry of an app's activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The kind of activity, such as `app-deployed`. An event of type `isopod.app.alert` has one of
    /// several kinds.
    pub kind: String,
    /// A sentence for people: what happened and why.
    pub text: String,
    /// The details of the activity: an object whose members depend on the kind. Null if they are
    /// too large for an event.
    pub details: Value,
}

impl Activity {
    /// Creates an activity without details, for a test.
    pub fn new(kind: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind: kind.into(), text: text.into(), details: Value::Null }
    }

    /// Returns the activity with these details, for a test.
    #[must_use]
    pub fn with_details(self, details: Value) -> Self {
        Self { details, ..self }
    }

    /// Returns the event of this type about this app, for a test.
    pub fn into_event(self, event_type: &str, app: &str) -> Event {
        let data = json!({ "kind": self.kind, "text": self.text, "details": self.details });
        Event {
            source: format!("/apps/{app}"),
            time: Some("2026-01-01T00:00:00Z".to_owned()),
            data_content_type: Some("application/json".to_owned()),
            data: Some(data.to_string().into_bytes()),
            ..Event::new(event_type).with_subject(app)
        }
    }
}

impl<'de> Deserialize<'de> for Activity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Value::deserialize(deserializer)?;
        let text = |key| data[key].as_str().map(str::to_owned).ok_or_else(|| D::Error::missing_field(key));
        Ok(Self { kind: text("kind")?, text: text("text")?, details: data["details"].take() })
    }
}

/// Calls a hook as a handler of events. A hook has no reply.
#[doc(hidden)]
pub async fn __handle<F: Future<Output = Result<(), EventError>>>(handled: F) -> Result<Option<Reply>, EventError> {
    handled.await.map(|()| None)
}
