//! The events between guests and the embedder, and the outcomes of handlers. Never delivers or
//! sends an event.

use crate::limits;
use isopod_policy::text::excerpt;
use std::{borrow::Cow, time::Duration};

/// A CloudEvent as the handler receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub data_content_type: Option<String>,
    pub data_schema: Option<String>,
    pub data: Option<Vec<u8>>,
    pub extensions: Vec<(String, String)>,
    /// Delivery attempt, from 1.
    pub attempt: u32,
    /// When a stored event was accepted, in milliseconds since 1970; otherwise 0. Distinguishes it
    /// from earlier events with its source and id. The handler doesn't receive it.
    pub accepted_ms: i64,
}

impl Event {
    /// Returns the event's size in memory, counting only the parts that its sender controls.
    pub fn bytes(&self) -> u64 {
        let Self {
            id,
            source,
            event_type,
            subject,
            time,
            data_content_type,
            data_schema,
            data,
            extensions,
            attempt: _,
            accepted_ms: _,
        } = self;
        let optional = [subject, time, data_content_type, data_schema].into_iter().flatten();
        let named = extensions.iter().flat_map(|(name, value)| [name, value]);
        let texts: usize = [id, source, event_type].into_iter().chain(optional).chain(named).map(String::len).sum();
        (texts + data.as_ref().map_or(0, Vec::len)) as u64
    }
}

/// A handler's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub data_content_type: String,
    pub data: Vec<u8>,
}

/// A failure that the handler reports. Its message has at most `GUEST_ERROR_BYTES_MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFailure {
    /// Another delivery would fail again.
    #[error("{message}")]
    Permanent { message: String },
    /// Another delivery may succeed, after the delay of the retry policy.
    #[error("{message} (the handler asks for a retry)")]
    Retry { message: String },
    /// Another delivery may succeed, after this delay at least.
    #[error("{message} (the handler asks for a retry in {} ms)", .after.as_millis())]
    RetryAfter { message: String, after: Duration },
    /// The event is not due yet. The delivery isn't counted as an attempt.
    #[error("{message} (the handler asks to be called again in {} ms)", .after.as_millis())]
    Snooze { message: String, after: Duration },
}

/// A handler's outcome for one event.
pub type Handled = Result<Option<Reply>, EventFailure>;

impl EventFailure {
    /// Returns the handler's message about the failure.
    pub fn message(&self) -> &str {
        match self {
            Self::Permanent { message }
            | Self::Retry { message }
            | Self::RetryAfter { message, .. }
            | Self::Snooze { message, .. } => message,
        }
    }

    /// Truncates a message that is too long.
    pub(crate) fn bounded(mut self) -> Self {
        let (Self::Permanent { message }
        | Self::Retry { message }
        | Self::RetryAfter { message, .. }
        | Self::Snooze { message, .. }) = &mut self;
        if let Cow::Owned(excerpt) = excerpt(message, limits::GUEST_ERROR_BYTES_MAX) {
            *message = excerpt;
        }
        self
    }
}

/// An event that a guest sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmittedEvent {
    /// The id that the guest has chosen. Otherwise, in a transaction, an id derived from the
    /// delivered event; elsewhere a random id.
    pub id: String,
    /// By default the app.
    pub source: Option<String>,
    pub event_type: String,
    pub subject: Option<String>,
    /// By default now.
    pub time: Option<String>,
    pub data_content_type: Option<String>,
    pub data_schema: Option<String>,
    pub data: Option<Vec<u8>>,
    pub extensions: Vec<(String, String)>,
    /// The delay before the first delivery.
    pub delay: Option<Duration>,
    /// The time after which the event expires. The host cancels an event that expires before
    /// its handler starts.
    pub expires_after: Option<Duration>,
    /// The app whose event handler receives the event, if it is another app. The engine checks the
    /// grant before the sink receives the event.
    pub app: Option<String>,
}

impl EmittedEvent {
    /// Returns the event's size in memory.
    pub fn bytes(&self) -> u64 {
        let Self { id, source, event_type, subject, time, data_content_type, data_schema, app, .. } = self;
        let optional = [source, subject, time, data_content_type, data_schema, app].into_iter().flatten();
        let named = self.extensions.iter().flat_map(|(name, value)| [name, value]);
        let texts: usize = [id, event_type].into_iter().chain(optional).chain(named).map(String::len).sum();
        (texts + self.data.as_ref().map_or(0, Vec::len)) as u64
    }

    /// Returns an upper bound of the event's size in the embedder's store.
    pub fn stored_bytes_max(&self) -> u64 {
        self.bytes() + limits::EMITTED_EVENT_ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_failure_message_is_truncated_at_a_character() {
        let most = limits::GUEST_ERROR_BYTES_MAX;
        let long = "é".repeat(most);
        let failure = EventFailure::Snooze { message: long.clone(), after: Duration::ZERO }.bounded();
        assert!(
            failure.message().len() <= most + "…".len() && long.starts_with(failure.message().trim_end_matches('…'))
        );
        let short = EventFailure::Permanent { message: "no\nstock".to_owned() };
        assert_eq!(short.clone().bounded(), short);
    }
}
