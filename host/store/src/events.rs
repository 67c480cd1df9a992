//! The durable event queues of apps, in each app's database. Owns the interface of a queue and its
//! backend in SQLite. Never delivers an event, and never decides when to retry one: the caller does
//! both.

mod accept;
mod backend;
mod claim;
mod counters;
mod ended;
mod line;
mod list;
mod maintenance;
mod model;
mod pending;
#[cfg(test)]
mod plans;
mod queue;
mod rescue;
mod row;
mod settle;

pub use self::backend::Events;
pub use self::model::{
    Accepted, AppQueue, CancelReason, Cancelled, Claim, Claimed, DeadChange, Effects, Event, EventFilter, EventPayload,
    EventSeq, EventState, KeyRead, KeyWrite, LastError, Lease, NewEvent, Outcome, QueueStats, Settled, StoredEvent,
    Swept,
};
pub use self::queue::EventQueue;
pub(crate) use self::rescue::rescue_events;
