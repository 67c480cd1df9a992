//! Fills an app's queues and reads their state: events for either queue, jobs without a wait for
//! their response, and cores that a test holds. Never starts a host.

use crate::{Answer, Ask, Host, Wire, limits::HELD_BYTES, wait_for};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of events of all tests, which gives each a unique id.
static EVENTS: AtomicU64 = AtomicU64::new(1);

/// One of an app's two queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    Pull,
    Push,
}

impl Queue {
    pub const BOTH: [Self; 2] = [Self::Pull, Self::Push];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

impl Host {
    /// Returns the metrics of one queue of an app.
    #[track_caller]
    pub fn queue(&self, app: &str, queue: Queue) -> Value {
        self.metrics(app)[queue.name()].clone()
    }

    /// Waits until a queue has exactly this many active and waiting jobs.
    #[track_caller]
    pub fn until_queue(&self, app: &str, queue: Queue, active: u64, buffered: u64) {
        let is_so = || {
            let seen = self.queue(app, queue);
            let shown = (seen["active_cores"].as_u64(), seen["buffered"].as_u64());
            (shown == (Some(active), Some(buffered))).then_some(())
        };
        let what = format!("{active} active and {buffered} buffered in the {} queue of {app}", queue.name());
        wait_for(&what, is_so);
    }

    /// Returns the request that delivers an event of this type.
    pub fn event(&self, app: &str, kind: &str, queue: Queue) -> Ask {
        let id = EVENTS.fetch_add(1, Ordering::Relaxed).to_string();
        let event = json!({ "specversion": "1.0", "id": id, "source": "/test", "type": kind });
        let ask = Ask::post(format!("/v1/apps/{app}/events?queue={}", queue.name()));
        let ask = ask.body("application/cloudevents+json", event.to_string());
        ask.header("authorization", format!("Bearer {}", self.token))
    }

    /// Delivers an event and waits for its reply.
    ///
    /// # Panics
    /// If no response arrives.
    #[track_caller]
    pub fn send_event(&self, app: &str, kind: &str, queue: Queue) -> Answer {
        self.api_raw(&self.event(app, kind, queue))
    }

    /// Stores an event in the push queue, and returns its id.
    ///
    /// # Panics
    /// If it is not accepted.
    #[track_caller]
    pub fn push_event(&self, app: &str, kind: &str) -> String {
        let stored = self.send_event(app, kind, Queue::Push).expect(202).json();
        stored["id"].as_str().expect("an event has an id").to_owned()
    }

    /// Returns a stored event.
    #[track_caller]
    pub fn stored_event(&self, app: &str, id: &str) -> Value {
        self.api(Ask::get(format!("/v1/apps/{app}/events/{id}"))).expect(200).json()
    }

    /// Returns all stored events that a query selects, the last accepted first. `query` is as in
    /// `state=dead`.
    #[track_caller]
    pub fn stored_events(&self, app: &str, query: &str) -> Vec<Value> {
        let (mut events, mut next) = (Vec::new(), Some(String::new()));
        while let Some(cursor) = next {
            let (page, following) = self.page_of_events(app, query, &cursor);
            events.extend(page);
            next = following;
        }
        events
    }

    /// Returns whether a query selects any stored event.
    #[track_caller]
    pub fn has_stored_event(&self, app: &str, query: &str) -> bool {
        let mut next = Some(String::new());
        while let Some(cursor) = next {
            let (page, following) = self.page_of_events(app, query, &cursor);
            if !page.is_empty() {
                return true;
            }
            next = following;
        }
        false
    }

    /// Returns one page, which may be empty, and the cursor of the next. An empty cursor is the
    /// first page's.
    #[track_caller]
    fn page_of_events(&self, app: &str, query: &str, cursor: &str) -> (Vec<Value>, Option<String>) {
        let cursor = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let path = format!("/v1/apps/{app}/events?limit=1000&{query}{cursor}");
        let page = self.api(Ask::get(path)).expect(200).json();
        let items = page["items"].as_array().expect("a page has items").clone();
        (items, page["next"].as_str().map(str::to_owned))
    }

    /// Waits until a stored event is in this state, and returns it.
    #[track_caller]
    pub fn until_event(&self, app: &str, id: &str, state: &str) -> Value {
        wait_for(&format!("the event {id} in the state {state}"), || {
            Some(self.stored_event(app, id)).filter(|event| event["state"] == state)
        })
    }

    /// Sends an event without waiting for its reply.
    ///
    /// # Panics
    /// If it can't be sent.
    pub fn begin_event(&self, app: &str, kind: &str, queue: Queue) -> Wire {
        let mut wire = Wire::open(self.admin).expect("the API accepts connections");
        wire.ask(&self.event(app, kind, queue)).expect("it can be sent");
        wire
    }

    /// Sends a request without waiting for its response.
    ///
    /// # Panics
    /// If it can't be sent.
    pub fn begin(&self, app: &str, ask: Ask) -> Wire {
        let mut wire = self.wire();
        wire.ask(&self.to_app(app, ask)).expect("it can be sent");
        wire
    }

    /// Sends `greedy` a request that holds a core. It may have to wait for a core.
    pub fn ask_to_hold(&self, app: &str) -> Held {
        Held(self.begin(app, Ask::get(format!("/reply-flood?bytes={HELD_BYTES}"))))
    }

    /// Holds a core of `greedy` from now on.
    ///
    /// # Panics
    /// If it gets no core.
    #[track_caller]
    pub fn hold(&self, app: &str) -> Held {
        let mut held = self.ask_to_hold(app);
        held.until_held();
        held
    }
}

/// A core of `greedy`, held by a response that continues until the test reads it.
pub struct Held(Wire);

impl Held {
    /// Waits until the guest has started its response.
    ///
    /// # Panics
    /// If it doesn't.
    #[track_caller]
    pub fn until_held(&mut self) {
        let head = self.0.head().unwrap_or_else(|error| panic!("got no core: {error}"));
        if head.status != 200 {
            let text = self.0.piece().ok().flatten().unwrap_or_default();
            panic!("got no core: {}", Answer { body: text, ..head });
        }
    }

    /// Releases the core.
    ///
    /// # Panics
    /// If the response is incomplete.
    #[track_caller]
    pub fn release_core(mut self) {
        let mut bytes = 0;
        while let Some(piece) = self.0.piece().unwrap_or_else(|error| panic!("the answer broke off: {error}")) {
            bytes += piece.len();
        }
        assert_eq!(bytes, HELD_BYTES, "the response has another length");
    }
}
