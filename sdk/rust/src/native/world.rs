//! The state of the simulated host of a thread, and the steps of a delivery. Never calls a handler.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::counters::Counters;
use super::log_line::LogLine;
use super::queue::{Buckets, Queue, Queued};
use crate::Result;
use crate::events::{EventError, NewEvent};
use crate::http::{Request, Response};

/// Responds to the requests of handlers.
pub(crate) type Server = std::rc::Rc<dyn Fn(Request) -> Result<Response>>;

/// The state of the simulated host.
pub(crate) struct World {
    pub(crate) buckets: Buckets,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) now: SystemTime,
    pub(crate) timers: Vec<SystemTime>,
    pub(crate) server: Option<Server>,
    pub(crate) keyvalue_granted: bool,
    pub(crate) assets: BTreeMap<String, Vec<u8>>,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            buckets: Buckets::new(),
            config: BTreeMap::new(),
            logs: Vec::new(),
            // A fixed date, so that a test doesn't depend on the day it runs: 2026-01-01T00:00:00Z.
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            timers: Vec::new(),
            server: None,
            keyvalue_granted: true,
            assets: BTreeMap::new(),
            queue: Queue::new(),
            counters: Counters::default(),
        }
    }

    /// Stores an event of a sender outside of the app.
    pub(crate) fn send(&mut self, event: NewEvent) -> String {
        self.queue.send(event, self.now)
    }

    /// Begins a delivery. Returns whether the host crashes immediately.
    pub(crate) fn begin(&mut self) -> bool {
        self.queue.begin(self.buckets.clone())
    }

    /// Discards the changes of the delivery in progress.
    pub(crate) fn roll_back(&mut self) {
        if let Some(before) = self.queue.roll_back() {
            self.buckets = before;
        }
    }

    /// Commits the changes of the delivery in progress. Returns whether the host crashes after it.
    pub(crate) fn commit(&mut self) -> bool {
        self.queue.commit(self.now)
    }

    /// Takes the stored event that is due first, and counts the attempt.
    pub(crate) fn claim(&mut self) -> Option<Queued> {
        self.queue.claim(self.now)
    }

    /// Puts an event back that was not handled, or makes it a dead letter. `failure` is `None` if
    /// the host crashed.
    pub(crate) fn put_back(&mut self, queued: Queued, failure: Option<&EventError>) {
        self.queue.put_back(queued, failure, self.now);
    }

    /// Returns when the next stored event is due.
    pub(crate) fn next_due(&self) -> Option<SystemTime> {
        self.queue.next_due()
    }
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// Reads or changes the state of this thread's host.
pub(crate) fn with<T>(use_world: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(use_world)
}

/// The payload of the unwinding that ends a handler when the simulated host crashes.
pub(crate) struct Crash;

/// Completes one step of a delivery. Unwinds if the simulated host crashes after it.
pub(crate) fn step() {
    if with(|world| world.queue.completes_last_step()) {
        std::panic::resume_unwind(Box::new(Crash));
    }
}
