//! The report of a dead letter, for the activity of its app. Never changes a queue.

use std::sync::Arc;

use crate::control::AppRecord;

/// An event that has become a dead letter.
#[derive(Clone)]
pub(in crate::control) struct DeadLetter {
    pub(in crate::control) app: Arc<AppRecord>,
    /// The event's id.
    pub(in crate::control) event: String,
    pub(in crate::control) error: String,
}
