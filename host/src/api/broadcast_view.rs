//! The result of a broadcast as the API shows it. Never stores an event.

use serde::Serialize;

/// The events of a broadcast that are durable.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Broadcast {
    /// The number of events that are stored, including the duplicates.
    pub(crate) accepted: u64,
    /// How many of them had been stored before, and were not stored again.
    pub(crate) duplicates: u64,
}
