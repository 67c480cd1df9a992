//! Owns how tests fill an app's queues and see into them: events for either, jobs that are begun and not waited for, and
//! cores that are held as long as a test wants.

use crate::{Answer, Ask, Host, Wire, limits::HELD_BYTES, wait_for};
use serde_json::{Value, json};

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
    /// What one queue of an app does now, as the API shows it.
    #[track_caller]
    pub fn queue(&self, app: &str, queue: Queue) -> Value {
        self.metrics(app)[queue.name()].clone()
    }

    /// Waits until so many jobs of a queue run and so many wait.
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

    /// The request that delivers an event of this type.
    pub fn event(&self, app: &str, kind: &str, queue: Queue) -> Ask {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": kind });
        let ask = Ask::post(format!("/v1/apps/{app}/events?queue={}", queue.name()));
        let ask = ask.body("application/cloudevents+json", event.to_string());
        ask.header("authorization", format!("Bearer {}", self.token))
    }

    /// Delivers an event and waits for its reply.
    ///
    /// # Panics
    /// Where no answer comes.
    #[track_caller]
    pub fn send_event(&self, app: &str, kind: &str, queue: Queue) -> Answer {
        self.api_as_it_is(&self.event(app, kind, queue))
    }

    /// Sends an event whose reply is read later, or never.
    ///
    /// # Panics
    /// Where it cannot be sent.
    pub fn begin_event(&self, app: &str, kind: &str, queue: Queue) -> Wire {
        let mut wire = Wire::open(self.admin).expect("the API accepts connections");
        wire.ask(&self.event(app, kind, queue)).expect("it can be sent");
        wire
    }

    /// Sends a request whose answer is read later, or never.
    ///
    /// # Panics
    /// Where it cannot be sent.
    pub fn begin(&self, app: &str, ask: Ask) -> Wire {
        let mut wire = self.wire();
        wire.ask(&self.to_app(app, ask)).expect("it can be sent");
        wire
    }

    /// Asks `greedy` for a core to hold. It may have to wait for one.
    pub fn ask_to_hold(&self, app: &str) -> Held {
        Held(self.begin(app, Ask::get(format!("/reply-flood?bytes={HELD_BYTES}"))))
    }

    /// Holds a core of `greedy`, from now on.
    ///
    /// # Panics
    /// Where it gets none.
    #[track_caller]
    pub fn hold(&self, app: &str) -> Held {
        let mut held = self.ask_to_hold(app);
        held.until_held();
        held
    }
}

/// A core of `greedy`, whose answer goes on until the test reads it.
pub struct Held(Wire);

impl Held {
    /// Waits until the guest has begun to answer.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn until_held(&mut self) {
        let head = self.0.head().unwrap_or_else(|error| panic!("no core was got: {error}"));
        if head.status != 200 {
            let text = self.0.piece().ok().flatten().unwrap_or_default();
            panic!("no core was got: {}", Answer { body: text, ..head });
        }
    }

    /// Gives the core back.
    ///
    /// # Panics
    /// Where the answer is not whole.
    #[track_caller]
    pub fn let_go(mut self) {
        let mut bytes = 0;
        while let Some(piece) = self.0.piece().unwrap_or_else(|error| panic!("the answer broke off: {error}")) {
            bytes += piece.len();
        }
        assert_eq!(bytes, HELD_BYTES, "the answer is another");
    }
}
