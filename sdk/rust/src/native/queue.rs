//! The event queue of the simulated host: stored events, the transaction of a delivery, and the
//! step after which the host crashes. Never calls a handler; `testing` does.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::events::{Event, EventError, NewEvent, Next, Reply};

/// The key-value data, by bucket and key.
pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// Replies to the events that handlers send with `events::ask`.
pub(crate) type Answers = Rc<dyn Fn(NewEvent) -> Result<Option<Reply>>>;

/// A change by another handler immediately before the next commit or write.
pub(crate) type Conflict = Box<dyn FnOnce()>;

/// An event that has failed without a further attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event, as it was last delivered.
    pub event: Event,
    /// The error of the last delivery.
    pub error: String,
}

/// A stored event.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) event: Event,
    due: SystemTime,
    expires: Option<SystemTime>,
}

/// The changes of the delivery in progress.
struct Transaction {
    /// The data before the delivery.
    before: Buckets,
    emitted: Vec<NewEvent>,
}

/// The state of the simulated queue.
pub(crate) struct Queue {
    pub(crate) waiting: Vec<Queued>,
    pub(crate) dead: Vec<DeadLetter>,
    /// The events that handlers have sent, in order.
    pub(crate) emitted: Vec<NewEvent>,
    pub(crate) granted: BTreeSet<String>,
    pub(crate) answers: Option<Answers>,
    pub(crate) conflict: Option<Conflict>,
    /// The number of steps of the delivery after which the host crashes.
    pub(crate) crash_after: Option<u32>,
    /// Attempts, and the first and the largest delay between them.
    pub(crate) retry: (u32, Duration, Duration),
    seen: BTreeSet<(String, String)>,
    last_id: u64,
    transaction: Option<Transaction>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Vec::new(),
            dead: Vec::new(),
            emitted: Vec::new(),
            granted: BTreeSet::new(),
            answers: None,
            conflict: None,
            crash_after: None,
            retry: (10, Duration::from_secs(1), Duration::from_secs(3600)),
            seen: BTreeSet::new(),
            last_id: 0,
            transaction: None,
        }
    }

    /// Counts a completed step of the delivery in progress. Returns whether the host crashes now.
    pub(crate) fn completes_last_step(&mut self) -> bool {
        if self.transaction.is_none() {
            return false;
        }
        let Some(left) = &mut self.crash_after else { return false };
        *left = left.saturating_sub(1);
        *left == 0
    }

    /// Takes the conflict of a write outside a delivery.
    pub(crate) fn conflict_of_write(&mut self) -> Option<Conflict> {
        if self.transaction.is_some() { None } else { self.conflict.take() }
    }

    /// Stores an event of this app, unless an event with its id and source was stored before.
    fn accept(&mut self, event: NewEvent, now: SystemTime) {
        let stored = Event {
            id: event.id.unwrap_or_default(),
            source: event.source.unwrap_or_else(|| "/apps/test".to_owned()),
            kind: event.kind,
            subject: event.subject,
            time: event.time,
            data_content_type: event.data_content_type,
            data_schema: event.data_schema,
            data: event.data,
            extensions: event.extensions,
            attempt: 0,
        };
        if self.seen.insert((stored.source.clone(), stored.id.clone())) {
            let due = now + event.delay.unwrap_or_default();
            self.waiting.push(Queued { event: stored, due, expires: event.expiry.map(|expiry| now + expiry) });
        }
    }

    fn commit_events(&mut self, events: Vec<NewEvent>, now: SystemTime) {
        for event in events {
            self.emitted.push(event.clone());
            if event.app.is_none() {
                self.accept(event, now);
            }
        }
    }

    fn named(&mut self, mut event: NewEvent) -> (String, NewEvent) {
        self.last_id += 1;
        let id = event.id.get_or_insert_with(|| format!("event-{}", self.last_id)).clone();
        (id, event)
    }

    /// Stores an event of a sender outside of the app.
    pub(crate) fn send(&mut self, event: NewEvent, now: SystemTime) -> String {
        let (id, event) = self.named(event);
        self.accept(event, now);
        id
    }

    /// Stores an event of a handler, or buffers it in the delivery in progress.
    pub(crate) fn emit(&mut self, event: NewEvent, now: SystemTime) -> String {
        let (id, event) = self.named(event);
        match &mut self.transaction {
            Some(transaction) => transaction.emitted.push(event),
            None => self.commit_events(vec![event], now),
        }
        id
    }

    /// Begins a delivery with the present data. Returns whether the host crashes immediately.
    pub(crate) fn begin(&mut self, before: Buckets) -> bool {
        self.transaction = Some(Transaction { before, emitted: Vec::new() });
        self.crash_after == Some(0)
    }

    /// Discards the events of the delivery in progress. Returns the data before it.
    pub(crate) fn roll_back(&mut self) -> Option<Buckets> {
        self.transaction.take().map(|transaction| transaction.before)
    }

    /// Commits the changes of the delivery in progress. Returns whether the host crashes after it.
    pub(crate) fn commit(&mut self, now: SystemTime) -> bool {
        let crashes = self.completes_last_step();
        if let Some(transaction) = self.transaction.take() {
            self.commit_events(transaction.emitted, now);
        }
        crashes
    }

    /// Takes the stored event that is due first, and counts the attempt.
    pub(crate) fn claim(&mut self, now: SystemTime) -> Option<Queued> {
        self.waiting.retain(|queued| queued.expires.is_none_or(|expires| expires > now));
        let due = self.waiting.iter().enumerate().filter(|(_, queued)| queued.due <= now);
        let (index, _) = due.min_by_key(|(_, queued)| queued.due)?;
        let mut claimed = self.waiting.remove(index);
        claimed.event.attempt += 1;
        Some(claimed)
    }

    /// Puts an event back that was not handled, or makes it a dead letter. `failure` is `None` if
    /// the host crashed.
    pub(crate) fn put_back(&mut self, mut queued: Queued, failure: Option<&EventError>, now: SystemTime) {
        let (attempts, first, max) = self.retry;
        let attempt = queued.event.attempt;
        let usual = first.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(max);
        let delay = match failure.map(EventError::next) {
            Some(Next::Never) => None,
            Some(Next::Snooze(delay)) => {
                queued.event.attempt -= 1;
                Some(delay)
            }
            _ if attempt >= attempts => None,
            Some(Next::Retry) => Some(usual),
            Some(Next::RetryAfter(delay)) => Some(delay.max(usual)),
            None => Some(Duration::ZERO),
        };
        match delay {
            Some(delay) => {
                queued.due = now + delay;
                self.waiting.push(queued);
            }
            None => {
                let error = failure.map_or("the host ended during the last attempt".to_owned(), ToString::to_string);
                self.dead.push(DeadLetter { event: queued.event, error });
            }
        }
    }

    /// Returns when the next stored event is due.
    pub(crate) fn next_due(&self) -> Option<SystemTime> {
        self.waiting.iter().map(|queued| queued.due).min()
    }
}
