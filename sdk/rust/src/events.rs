//! Types for events: CloudEvents 1.0, delivered one at a time. Never delivers or stores an event.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::{Context, Error, Result};

/// An event that the host delivers to a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's id, unique for its source.
    pub id: String,
    /// The source of the event.
    pub source: String,
    /// The kind of event: the CloudEvents attribute `type`.
    pub kind: String,
    /// The subject: for a bot, the user.
    pub subject: Option<String>,
    /// When the event occurred, in RFC 3339.
    pub time: Option<String>,
    /// The media type of the data.
    pub data_content_type: Option<String>,
    /// The schema of the data.
    pub data_schema: Option<String>,
    /// The data.
    pub data: Option<Vec<u8>>,
    /// Extension attributes.
    pub extensions: Vec<(String, String)>,
    /// The number of this delivery attempt, from 1.
    pub attempt: u32,
}

impl Event {
    /// Creates an event of this kind for a test.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { id: "1".to_owned(), source: "test".to_owned(), kind: kind.into(), attempt: 1, ..Self::default() }
    }

    /// Returns the event with this subject.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Returns the event with a value, serialised as JSON, as its data.
    pub fn with_json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        self.data = Some(serde_json::to_vec(value)?);
        self.data_content_type = Some("application/json".to_owned());
        Ok(self)
    }

    /// Returns the subject, or an error if the event has none.
    pub fn subject(&self) -> Result<&str> {
        self.subject.as_deref().context("the event has no subject")
    }

    /// Returns the data as it was sent; empty if the event has no data.
    pub fn bytes(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// Returns the data as text, unchanged. Unlike [`json`](Self::json) it preserves the whitespace
    /// of JSON, the order of members and all digits of numbers.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).context("the event's data is not UTF-8 text")
    }

    /// Deserialises the data from JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()).context("the event's data is not valid JSON for this type")
    }

    /// Returns the value of an extension attribute.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// The reply to an event, for the sender that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The media type of the data.
    pub data_content_type: String,
    /// The data.
    pub data: Vec<u8>,
}

impl Reply {
    /// Creates a reply of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { data_content_type: "text/plain; charset=utf-8".to_owned(), data: text.into().into_bytes() }
    }

    /// Creates a reply with a value serialised as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self { data_content_type: "application/json".to_owned(), data: serde_json::to_vec(value)? })
    }

    /// Deserialises the data from JSON.
    pub fn body_json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.data)?)
    }
}

/// Why an event could not be handled, and whether another delivery may succeed.
///
/// `?` makes a permanent failure of any error. [`RetryAfter`] makes a temporary one.
///
/// Isopod 0.1 doesn't store events: the host delivers each event once, even if the handler fails. A
/// waiting sender receives 422 for a permanent failure, and 503 with `Retry-After` for a temporary
/// one, and has to send the event again. A scheduled event has no sender: the failure is logged,
/// and the next event comes at the next scheduled time. So don't rely on another delivery for work
/// that must be done.
///
/// ```
/// use isopod_sdk::prelude::*;
/// use std::time::Duration;
///
/// isopod_sdk::events!(on_event);
///
/// async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
///     let order: serde_json::Value = event.json()?;
///     let request = Request::post("https://shop.example/orders").with_json(&order)?;
///     let answer = fetch(request).await.retry_after(Duration::from_secs(30))?;
///     Ok(Some(Reply::text(format!("the shop says {}", answer.status))))
/// }
/// # fn main() {}
/// ```
pub struct EventError {
    error: Error,
    retry_after: Option<Duration>,
}

impl EventError {
    /// Returns the delay after which another delivery may succeed; `None` for a permanent failure.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl From<Error> for EventError {
    fn from(error: Error) -> Self {
        Self { error, retry_after: None }
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync + 'static>>> From<E> for EventError {
    fn from(error: E) -> Self {
        Self { error: Error::from(error), retry_after: None }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(formatter)
    }
}

impl fmt::Debug for EventError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Converts an error into a temporary failure: another delivery of the same event may succeed.
pub trait RetryAfter {
    /// The type of the converted value.
    type Output;

    /// Reports that another delivery after `delay` may succeed. The sender receives `Retry-After`;
    /// the host itself does not deliver the event again, as [`EventError`] explains.
    fn retry_after(self, delay: Duration) -> Self::Output;
}

impl RetryAfter for Error {
    type Output = EventError;

    fn retry_after(self, delay: Duration) -> EventError {
        EventError { error: self, retry_after: Some(delay) }
    }
}

impl<T, E: Into<Error>> RetryAfter for Result<T, E> {
    type Output = Result<T, EventError>;

    fn retry_after(self, delay: Duration) -> Self::Output {
        self.map_err(|error| error.into().retry_after(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(input: &str) -> Result<u8, EventError> {
        let number = input.parse::<u8>()?;
        "99".parse::<i8>().retry_after(Duration::from_secs(1))?;
        if number > 100 {
            return Err(Error::msg("too many").retry_after(Duration::from_secs(2)));
        }
        Ok(number)
    }

    #[test]
    fn an_error_is_permanent_unless_it_has_a_retry_delay() {
        assert_eq!(handle("7").unwrap(), 7);
        assert_eq!(handle("x").unwrap_err().retry_delay(), None);
        assert_eq!(handle("101").unwrap_err().retry_delay(), Some(Duration::from_secs(2)));
    }
}
