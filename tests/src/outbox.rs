//! Drives the example `outbox`, whose handlers run the steps that an event or a request lists.
//! Never interprets the result of a step.

use crate::{Ask, Bundle, Host, guest, wait_for, wait_while_it_progresses};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The number of events of all tests, which gives each a unique id.
static EVENTS: AtomicU64 = AtomicU64::new(1);

/// Settings that make retries of failed events quick.
pub const QUICK_RETRY: &str = "retry = { attempts = 4, first = \"100ms\", max = \"200ms\" }\n";

/// The states of an event that has not ended.
const WAITING: [&str; 3] = ["ready", "leased", "delayed"];

/// Returns a bundle of `outbox`, with these lines for its worker and this end of the manifest.
pub fn outbox(app: &str, worker: &str, more: &str) -> Bundle {
    let processes = format!("[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n{worker}\n");
    let grants = "[grants]\nkeyvalue = true\nevents = [\"audit\"]\n";
    Bundle::archive(&format!("name = \"{app}\"\n{processes}{grants}{more}\n"), &guest("outbox"))
}

/// Returns an event whose handler runs these steps.
pub fn event_of_steps(id: &str, subject: Option<&str>, steps: &Value) -> Value {
    let mut event = json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "steps", "data": steps });
    event["datacontenttype"] = json!("application/json");
    if let Some(subject) = subject {
        event["subject"] = json!(subject);
    }
    event
}

/// Returns the request that stores an event. It has no token.
pub fn ask_to_store(app: &str, event: &Value) -> Ask {
    let ask = Ask::post(format!("/v1/apps/{app}/events?queue=push"));
    ask.body("application/cloudevents+json", event.to_string())
}

impl Host {
    /// Stores an event whose handler runs these steps, and returns its id.
    ///
    /// # Panics
    /// If it is not accepted.
    #[track_caller]
    pub fn push_steps(&self, app: &str, subject: Option<&str>, steps: &Value) -> String {
        let id = format!("steps-{}", EVENTS.fetch_add(1, Ordering::Relaxed));
        self.api(ask_to_store(app, &event_of_steps(&id, subject, steps))).expect(202);
        id
    }

    /// Waits until an event that `from` sent to `to` was forwarded and handled, and returns it as
    /// `to` has it. The event can reach `to` after its sending handler is done.
    #[track_caller]
    pub fn until_forwarded(&self, from: &str, to: &str, id: &str) -> Value {
        self.until_event(from, id, "done");
        self.until_event(to, id, "done")
    }

    /// Runs steps in a request, and returns the result of each.
    ///
    /// # Panics
    /// If the request fails.
    #[track_caller]
    pub fn run_steps(&self, app: &str, steps: &Value) -> Vec<Value> {
        let results = self.app(app, Ask::post("/").json(steps)).expect(200).json();
        results.as_array().expect("a list of results").clone()
    }

    /// Returns the values of these keys.
    #[track_caller]
    pub fn values<'a>(&self, app: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
        self.run_steps(app, &keys.into_iter().map(|key| json!(["get", key])).collect())
    }

    /// Returns the value of a key.
    #[track_caller]
    pub fn value(&self, app: &str, key: &str) -> Value {
        self.values(app, [key]).remove(0)
    }

    /// Waits until a release is frozen, and then checks that it stays frozen while an event of
    /// another app is delayed. The event proves that the host checks queues meanwhile.
    ///
    /// # Panics
    /// If the release is thawed.
    #[track_caller]
    pub fn stays_frozen(&self, app: &str, release: u64, other: &str) {
        wait_for("the app to be frozen", || (self.release_state(app, release) == "frozen").then_some(()));
        let mut event = event_of_steps("meanwhile", None, &json!([]));
        event["isopoddelay"] = json!("3s");
        self.api(ask_to_store(other, &event)).expect(202);
        wait_for("the end of the delay", || {
            assert_eq!(self.release_state(app, release), "frozen");
            (self.stored_event(other, "meanwhile")["state"] == "done").then_some(())
        });
    }

    /// Waits until each event of an app is done, cancelled or a dead letter. The patience starts
    /// again with each delivery.
    #[track_caller]
    pub fn until_no_event_waits(&self, app: &str, patience: Duration) {
        let delivered = || self.metric(&format!("isopod_events_total{{app=\"{app}\",queue=\"push\"}}"));
        wait_while_it_progresses(patience, &format!("the end of all events of {app}"), delivered, || {
            let waits = |state: &&str| self.has_stored_event(app, &format!("state={state}"));
            // An event changes its state between two requests, but never back to an earlier one
            // without a wait.
            WAITING.iter().chain(&WAITING).find(|state| waits(state)).is_none().then_some(())
        });
    }
}
