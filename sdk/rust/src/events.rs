//! Events: CloudEvents 1.0, delivered one at a time.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::{Context, Error, Result};

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Which event of its source it is.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What kind of event it is, the CloudEvents attribute `type`.
    pub kind: String,
    /// Whom it is about: for a bot, the user.
    pub subject: Option<String>,
    /// When it happened, RFC 3339.
    pub time: Option<String>,
    /// The media type of the data.
    pub data_content_type: Option<String>,
    /// The schema of the data.
    pub data_schema: Option<String>,
    /// The data.
    pub data: Option<Vec<u8>>,
    /// Extension attributes.
    pub extensions: Vec<(String, String)>,
    /// Which delivery of this event this is, from 1.
    pub attempt: u32,
}

impl Event {
    /// An event of a kind, as tests need it.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { id: "1".to_owned(), source: "test".to_owned(), kind: kind.into(), attempt: 1, ..Self::default() }
    }

    /// The same event about somebody.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same event with a value as JSON for its data.
    pub fn with_json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        self.data = Some(serde_json::to_vec(value)?);
        self.data_content_type = Some("application/json".to_owned());
        Ok(self)
    }

    /// Whom the event is about; an error where it doesn't say.
    pub fn subject(&self) -> Result<&str> {
        self.subject.as_deref().context("the event has no subject")
    }

    /// The data, byte for byte as it was sent; empty where there is none.
    pub fn bytes(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// The data as text, unchanged: JSON keeps its spaces, the order of its members and all digits of its numbers, which
    /// [`json`](Self::json) may not.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).context("the event's data is not UTF-8 text")
    }

    /// The data read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()).context("the event's data is not the JSON that is expected")
    }

    /// An extension attribute.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// The answer to an event, for whoever sent it and waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The media type of the data.
    pub data_content_type: String,
    /// The data.
    pub data: Vec<u8>,
}

impl Reply {
    /// A reply of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { data_content_type: "text/plain; charset=utf-8".to_owned(), data: text.into().into_bytes() }
    }

    /// A reply with a value as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self { data_content_type: "application/json".to_owned(), data: serde_json::to_vec(value)? })
    }

    /// The data read as JSON.
    pub fn body_json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.data)?)
    }
}

/// Why an event could not be handled, and whether another delivery may succeed.
///
/// `?` makes a permanent failure of any error. [`RetryAfter`] makes a temporary one.
///
/// Isopod 0.1 does not store events: each is delivered once, whatever its handler returns. A sender
/// that waits for the reply gets 422 for a permanent failure, and 503 with `Retry-After` for a
/// temporary one, and has to send the event again itself. The event of a schedule has no sender:
/// the failure is logged, and the next event comes at the next scheduled time. So don't rely on
/// another delivery for work that must be done.
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
    /// After how long another delivery may succeed; `None` for a permanent failure.
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

/// Turns an error into a temporary failure: the same event may succeed later.
pub trait RetryAfter {
    /// What comes out.
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
    fn an_error_is_permanent_unless_it_says_otherwise() {
        assert_eq!(handle("7").unwrap(), 7);
        assert_eq!(handle("x").unwrap_err().retry_delay(), None);
        assert_eq!(handle("101").unwrap_err().retry_delay(), Some(Duration::from_secs(2)));
    }
}
