//! A log record, as tests read it. Never written anywhere.

use crate::logging::Level;

/// A log record of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The target of the `log` crate.
    pub context: String,
    /// The message.
    pub message: String,
}
