//! The types of the event queue's interface. Never reads or writes anything.

use std::fmt;
use std::str::FromStr;

use isopod_policy::{AppName, ProcessName};
use jiff::Timestamp;
use serde::Serialize;

use crate::limits::{EVENT_ERROR_BYTES_MAX, EVENT_OVERHEAD_BYTES};
use crate::{StoreError, ValueVersion};

/// The position of an event in its app's queue, in the order of acceptance. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EventSeq(pub i64);

/// A CloudEvent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub payload: EventPayload,
}

impl Event {
    /// Returns the size of the event that counts towards the limits of queues and batches.
    pub fn bytes(&self) -> u64 {
        let Self { id, source, event_type, subject, payload } = self;
        let EventPayload { time, data_content_type, data_schema, extensions, data } = payload;
        let optional = [subject, time, data_content_type, data_schema].into_iter().flatten();
        let named = extensions.iter().flat_map(|(name, value)| [name, value]);
        let texts: usize = [id, source, event_type].into_iter().chain(optional).chain(named).map(String::len).sum();
        (texts + data.as_ref().map_or(0, Vec::len)) as u64 + EVENT_OVERHEAD_BYTES
    }
}

/// The data of an event, and the attributes that the queue doesn't use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPayload {
    pub time: Option<String>,
    pub data_content_type: Option<String>,
    pub data_schema: Option<String>,
    pub extensions: Vec<(String, String)>,
    pub data: Option<Vec<u8>>,
}

/// An event to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The process type that handles the event.
    pub process: ProcessName,
    pub event: Event,
    /// Whether events of the same process type and subject are delivered one at a time and in the
    /// order of acceptance. Without effect for an event without a subject.
    pub is_ordered: bool,
    /// The time of the earliest delivery; `None` for now. Until then, the event doesn't block later
    /// events of its subject.
    pub not_before: Option<Timestamp>,
    /// The time from which the event is cancelled instead of delivered.
    pub expires_at: Option<Timestamp>,
    /// The attempt after which a lost lease makes the event a dead letter.
    pub attempts_max: u32,
}

/// The result of accepting one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    New {
        seq: EventSeq,
    },
    /// An event with this source and id was accepted before.
    Duplicate {
        seq: EventSeq,
        state: EventState,
    },
}

impl Accepted {
    /// Returns the position of the event, or of the earlier event if it is a duplicate.
    pub fn seq(&self) -> EventSeq {
        match self {
            Self::New { seq } | Self::Duplicate { seq, .. } => *seq,
        }
    }
}

/// The state of an event as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// Waits for its delivery, or for an earlier event of its subject.
    Ready,
    /// Waits for a certain time: for its delay or its next attempt.
    Delayed,
    /// Being delivered.
    Leased,
    Done,
    /// A dead letter: kept until it is redriven or dropped.
    Dead,
    Cancelled,
}

impl EventState {
    pub const ALL: [Self; 6] = [Self::Ready, Self::Delayed, Self::Leased, Self::Done, Self::Dead, Self::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Delayed => "delayed",
            Self::Leased => "leased",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for EventState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// The exclusive use of an event by one delivery. It ends when the delivery is settled, or with the
/// host session that claimed the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub seq: EventSeq,
    /// Unique in a host session.
    pub(super) number: i64,
}

/// A delivery that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub lease: Lease,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    pub attempts_max: u32,
    pub accepted_at: Timestamp,
    /// The time from which the event is cancelled instead of delivered.
    pub expires_at: Option<Timestamp>,
    pub event: Event,
    /// The error of the previous attempt.
    pub last_error: Option<LastError>,
}

/// The error of an event's previous attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    pub text: String,
    /// The number of attempts in a row that ended with this text.
    pub repeats: u32,
}

impl LastError {
    /// Returns whether an attempt that failed with `error` ended with this text. The stored text of
    /// a long error is truncated.
    pub fn is_of(&self, error: &str) -> bool {
        self.text == shortened(error)
    }
}

/// Truncates an error to its limit, at a character boundary.
pub(super) fn shortened(error: &str) -> &str {
    &error[..error.floor_char_boundary(EVENT_ERROR_BYTES_MAX)]
}

/// The result of a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    pub claims: Vec<Claim>,
    /// Whether another claim may return further events immediately.
    pub has_more: bool,
    /// The time at which the next delayed event is due; `None` if no event waits for a time.
    pub next_due: Option<Timestamp>,
}

/// The outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done {
        effects: Effects,
    },
    Retry {
        at: Timestamp,
        error: String,
        /// Whether the attempt counts. If not, the number of attempts returns to that before the
        /// claim.
        is_counted: bool,
    },
    Dead {
        error: String,
    },
}

impl Outcome {
    pub(super) fn has_effects(&self) -> bool {
        matches!(self, Self::Done { effects } if !effects.is_empty())
    }

    /// Returns the size of the values and events that the handler wrote, in bytes.
    pub fn effect_bytes(&self) -> usize {
        let Self::Done { effects } = self else { return 0 };
        let written = effects.writes.iter().filter_map(|write| write.value.as_ref()).map(Vec::len);
        let emitted = effects.emitted.iter().filter_map(|new| new.event.payload.data.as_ref()).map(Vec::len);
        written.chain(emitted).sum()
    }
}

/// The changes of a handler, committed together with the outcome of its event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The keys that the handler read. If a key has another version now, nothing is written.
    pub reads: Vec<KeyRead>,
    pub writes: Vec<KeyWrite>,
    /// The events that the handler sent, for the same app.
    pub emitted: Vec<NewEvent>,
}

impl Effects {
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty() && self.emitted.is_empty()
    }
}

/// A key that a handler read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRead {
    pub bucket: String,
    pub key: String,
    pub version: ValueVersion,
}

/// A key that a handler changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrite {
    pub bucket: String,
    pub key: String,
    /// `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

/// The result of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Committed. `has_emitted` says whether the effects added events to the queue.
    Committed { has_emitted: bool },
    /// A key that the handler read has changed. Nothing is written, and the lease is kept.
    Conflict,
    /// The delivery does not hold the lease. Nothing is written.
    LeaseLost,
}

/// Why an event is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    Request,
    /// It is a run of a schedule, and was due during the previous run.
    Overlap,
    /// The time until which it can be delivered has passed.
    Expiry,
}

impl CancelReason {
    /// Returns the error of the cancelled event. An earlier error follows the reason.
    pub(super) fn error(self, earlier: Option<&str>) -> String {
        let reason = match self {
            Self::Request => "cancelled by a request",
            Self::Overlap => "skipped, because the previous run was in progress",
            Self::Expiry => "expired before its delivery",
        };
        match earlier {
            None | Some("") => reason.to_owned(),
            Some(earlier) => format!("{reason}; last error: {earlier}"),
        }
    }
}

/// The result of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    Cancelled,
    /// The event is being delivered.
    Running,
    /// The event is done, dead or cancelled.
    Ended(EventState),
    Unknown,
}

/// An event as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    pub seq: EventSeq,
    pub process: ProcessName,
    pub id: String,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub state: EventState,
    /// Whether it is ready and waits for an earlier event of its subject.
    pub is_blocked: bool,
    /// Attempts so far.
    pub attempt: u32,
    pub attempts_max: u32,
    /// The error of the last attempt. If the event was cancelled, the reason precedes it.
    pub error: Option<String>,
    pub accepted_at: Timestamp,
    /// The time until which a delayed event waits.
    pub due_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The time of the last change of the state.
    pub since: Timestamp,
}

impl StoredEvent {
    /// Returns the size of the event's texts.
    pub(super) fn bytes(&self) -> usize {
        let optional = [&self.subject, &self.error].into_iter().flatten();
        [&self.id, &self.source, &self.event_type].into_iter().chain(optional).map(String::len).sum()
    }

    /// Returns when the event was done, became a dead letter or was cancelled.
    pub fn ended_at(&self) -> Option<Timestamp> {
        matches!(self.state, EventState::Done | EventState::Dead | EventState::Cancelled).then_some(self.since)
    }
}

/// Selects events. An empty filter selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub state: Option<EventState>,
    pub process: Option<ProcessName>,
    pub event_type: Option<String>,
    pub subject: Option<String>,
    pub id: Option<String>,
    pub source: Option<String>,
}

/// What happens to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadChange {
    /// They return to the queue, with their attempts reset to 0.
    Redrive,
    /// They are deleted.
    Drop,
}

/// The result of one step of a change of many events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// The number of changed events.
    pub changed: u64,
    /// The position after which the next step continues; `None` after the last step.
    pub next: Option<EventSeq>,
}

/// The events of one process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStats {
    pub process: ProcessName,
    /// Events that wait for a delivery or for an earlier event of their subject.
    pub ready: u64,
    pub delayed: u64,
    pub leased: u64,
    pub dead: u64,
    /// Bytes of all events above.
    pub bytes: u64,
    /// When the oldest ready or leased event was accepted.
    pub oldest_accepted_at: Option<Timestamp>,
    /// The time at which the next delayed event is due.
    pub next_due: Option<Timestamp>,
    /// Whether a ready event waits only for a delivery, and for no earlier event of its subject.
    pub has_claimable: bool,
}

impl QueueStats {
    /// Returns the number of ready events, or 0 if each waits for an earlier event of its subject.
    pub fn claimable_at_most(&self) -> u64 {
        if self.has_claimable { self.ready } else { 0 }
    }

    /// Returns the number of events that have not ended.
    pub fn backlog(&self) -> u64 {
        self.ready + self.delayed + self.leased
    }
}

/// An app with events that have not ended or with dead letters, at the start of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppQueue {
    pub app: AppName,
    /// The statistics of the app's process types, or the reason why its database can't be read. A
    /// damaged database is replaced at the first use of the queue, which reports it.
    pub stats: Result<Vec<QueueStats>, StoreError>,
}

impl AppQueue {
    /// Returns whether this host may have events of the app to deliver, now or later.
    pub fn is_pending(&self) -> bool {
        match &self.stats {
            Ok(stats) => stats.iter().any(|of| of.backlog() > 0),
            Err(StoreError::TooNew { .. }) => false,
            Err(_) => true,
        }
    }
}
