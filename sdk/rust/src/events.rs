//! Events: CloudEvents 1.0, delivered one at a time to a handler, and sent by handlers. Never
//! stores an event; the host does.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::{Context, Error, Result, platform};

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
    /// Creates an event of this kind for a test, with the id 1 and the source `test`.
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

    /// Returns the event with this id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Returns the subject. An event without a subject is an error, which is a permanent failure.
    pub fn subject(&self) -> Result<&str> {
        self.subject.as_deref().or_status(UNREADABLE, "the event has no subject")
    }

    /// Returns a key that is the same in every delivery of this event and differs from that of any
    /// other event: 32 hexadecimal digits.
    ///
    /// The key-value changes and the events of a handler take effect exactly once. A request to
    /// another server is sent again if the host or the handler fails afterwards. A server that
    /// recognises idempotency keys, as payment services do, ignores the repeated request:
    ///
    /// ```
    /// # use isopod_sdk::prelude::*;
    /// # fn charge(event: &Event) -> Request {
    /// Request::post("https://pay.example/charges").with_header("idempotency-key", event.idempotency_key())
    /// # }
    /// # let request = charge(&Event::new("order.placed"));
    /// # assert_eq!(request.headers.get("idempotency-key").unwrap().len(), 32);
    /// ```
    ///
    /// A handler that sends several requests appends a word to the key for each of them.
    pub fn idempotency_key(&self) -> String {
        format!("{:032x}", digest([self.source.as_bytes(), self.id.as_bytes()]))
    }

    /// Returns the data as it was sent; empty if the event has no data.
    pub fn bytes(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// Returns the data as text, unchanged. Unlike [`json`](Self::json) it preserves the whitespace
    /// of JSON, the order of members and all digits of numbers.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).or_status(UNREADABLE, "the event's data is not UTF-8 text")
    }

    /// Deserialises the data from JSON. An error is a permanent failure.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()).map_err(|error| {
            Error::status(UNREADABLE, format!("the event's data is not valid JSON for this type: {error}"))
        })
    }

    /// Returns the value of an extension attribute.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// The status of an error that every delivery of an event would cause.
const UNREADABLE: u16 = 422;

/// Returns the FNV-1a hash of several texts. Only the sender of events chooses the texts.
fn digest<const N: usize>(texts: [&[u8]; N]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for text in texts {
        let length = (text.len() as u64).to_le_bytes();
        for byte in length.iter().chain(text) {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash
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

/// An event that a handler sends.
///
/// ```
/// # use isopod_sdk::prelude::*;
/// # use std::time::Duration;
/// # fn example() -> Result<()> {
/// let reminder = NewEvent::new("reminder").with_subject("user-7");
/// let reminder = reminder.with_json(&"Your basket is still full")?;
/// events::emit(reminder.with_delay(Duration::from_secs(3600)))?;
/// # Ok(())
/// # }
/// # isopod_sdk::testing::TestHost::new();
/// # example().unwrap();
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// The id, unique for its source; `None` for one that the host chooses.
    pub id: Option<String>,
    /// The source; `None` for the app.
    pub source: Option<String>,
    /// The kind of event: the CloudEvents attribute `type`.
    pub kind: String,
    /// The subject: for a bot, the user.
    pub subject: Option<String>,
    /// When the event occurred, in RFC 3339; `None` for now.
    pub time: Option<String>,
    /// The media type of the data.
    pub data_content_type: Option<String>,
    /// The schema of the data.
    pub data_schema: Option<String>,
    /// The data.
    pub data: Option<Vec<u8>>,
    /// Extension attributes.
    pub extensions: Vec<(String, String)>,
    /// The delay before the first delivery.
    pub delay: Option<Duration>,
    /// The time from now until the event expires. The host cancels an event that expires before its
    /// handler starts.
    pub expiry: Option<Duration>,
    /// The app that handles the event; `None` for this app.
    pub app: Option<String>,
}

impl NewEvent {
    /// Creates an event of this kind.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// Returns the event with this id. The host stores only one event with the same id and source
    /// within a day. Derive the id from the app's own data to send an event only once.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Returns the event with this source, a URI reference.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the event with this subject.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Returns the event with data of a media type.
    #[must_use]
    pub fn with_data(mut self, content_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        self.data_content_type = Some(content_type.into());
        self.data = Some(data.into());
        self
    }

    /// Returns the event with a value, serialised as JSON, as its data.
    pub fn with_json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        Ok(self.with_data("application/json", serde_json::to_vec(value)?))
    }

    /// Returns the event with another extension attribute.
    #[must_use]
    pub fn with_extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// Returns the event with a delay before its first delivery.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Returns the event with an expiry. If it is not delivered within this time, it is cancelled.
    #[must_use]
    pub fn with_expiry(mut self, expiry: Duration) -> Self {
        self.expiry = Some(expiry);
        self
    }

    /// Returns the event for the event handler of another app. The manifest must grant it:
    /// `[grants] events = ["billing"]`.
    #[must_use]
    pub fn to_app(mut self, app: impl Into<String>) -> Self {
        self.app = Some(app.into());
        self
    }
}

/// Sends an event to an event handler, by default to this app's own, and returns the event's id.
///
/// In an HTTP handler, the event is on disk when the function returns, so the handler can respond
/// immediately and leave the work to the event handler. In the handler of a stored event, the host
/// sends the new event when it commits the handler's key-value changes, and discards it if the
/// handler fails.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// async fn webhook(request: Request) -> Result<Response> {
///     let update: serde_json::Value = request.json()?;
///     let id = update["update_id"].to_string();
///     events::emit(NewEvent::new("chat.message").with_id(id).with_json(&update)?)?;
///     Ok(Response::new(202))
/// }
/// # isopod_sdk::testing::TestHost::new();
/// # let request = Request::post("/").with_body(r#"{"update_id":7}"#);
/// # assert_eq!(isopod_sdk::testing::answer(webhook(request)).status, 202);
/// ```
pub fn emit(event: NewEvent) -> Result<String> {
    let what = format!("sending an event of type {}", event.kind);
    platform::emit(event).map_err(|error| error.context(what))
}

/// Delivers an event to an event handler immediately, by default to this app's own, and returns its
/// reply. The event isn't stored. Fails after `timeout`, or after the caller's own
/// `request_timeout` if that is shorter.
///
/// The other handler runs in another instance without a transaction: its changes remain even if
/// this handler fails. It doesn't see changes that this handler has not committed.
pub async fn ask(event: NewEvent, timeout: Duration) -> Result<Option<Reply>> {
    let what = format!("asking with an event of type {}", event.kind);
    platform::ask(event, timeout).map_err(|error| error.context(what))
}

/// Why an event could not be handled, and whether another delivery may succeed.
///
/// `?` converts any error. An error with a status from 400 to 499, made by [`Error::status`] or by
/// the methods of [`Event`], is permanent: the event becomes a dead letter. With any other error
/// the host delivers the event again, by the retry policy of the process type. [`IntoEventError`]
/// chooses explicitly. If a stored event's handler fails, the host discards its key-value changes
/// and the events that it has sent.
///
/// A sender that waits for the reply receives 422 for a permanent failure, and 503 with
/// `Retry-After` for others. Its event isn't stored, so it isn't delivered again.
///
/// ```
/// use isopod_sdk::prelude::*;
/// use std::time::Duration;
///
/// isopod_sdk::events!(on_event);
///
/// async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
///     let order: serde_json::Value = event.json()?;
///     if order["cancelled"] == true {
///         return Err(EventError::permanent("the order is cancelled"));
///     }
///     let request = Request::post("https://shop.example/orders").with_json(&order)?;
///     let request = request.with_header("idempotency-key", event.idempotency_key());
///     let answer = fetch(request).await.retry_after(Duration::from_secs(30))?;
///     Ok(Some(Reply::text(format!("the shop says {}", answer.status))))
/// }
/// # fn main() {}
/// ```
pub struct EventError {
    error: Error,
    next: Next,
}

/// The next delivery after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// None: the event becomes a dead letter.
    Never,
    /// After the delay of the process type's retry policy.
    Retry,
    /// By the retry policy, but no earlier than after this delay.
    RetryAfter(Duration),
    /// After this delay. The delivery isn't counted as an attempt.
    Snooze(Duration),
}

impl EventError {
    /// Creates a permanent failure: the event becomes a dead letter.
    pub fn permanent(error: impl Into<Error>) -> Self {
        Self { error: error.into(), next: Next::Never }
    }

    /// Creates a temporary failure: the event is delivered again by the retry policy of the process
    /// type, until no attempt is left.
    pub fn retry(error: impl Into<Error>) -> Self {
        Self { error: error.into(), next: Next::Retry }
    }

    /// Creates a temporary failure: the event is delivered again by the retry policy, but no
    /// earlier than after this delay.
    pub fn retry_after(error: impl Into<Error>, delay: Duration) -> Self {
        Self { error: error.into(), next: Next::RetryAfter(delay) }
    }

    /// Creates a failure that doesn't count as an attempt: the event is delivered again after this
    /// delay. Intended for an event that isn't due yet.
    pub fn snooze(reason: impl Into<Error>, delay: Duration) -> Self {
        Self { error: reason.into(), next: Next::Snooze(delay) }
    }

    /// Returns the next delivery.
    pub fn next(&self) -> Next {
        self.next
    }

    fn of(error: Error) -> Self {
        let next =
            if error.is_for_client() && (400..500).contains(&error.http_status()) { Next::Never } else { Next::Retry };
        Self { error, next }
    }
}

impl From<Error> for EventError {
    fn from(error: Error) -> Self {
        Self::of(error)
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync + 'static>>> From<E> for EventError {
    fn from(error: E) -> Self {
        Self::of(Error::from(error))
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

/// Converts an error, or the error of a `Result`, into a failure of an event handler.
pub trait IntoEventError {
    /// The type of the converted value.
    type Output;

    /// As [`EventError::permanent`].
    fn permanent(self) -> Self::Output;

    /// As [`EventError::retry`].
    fn retry(self) -> Self::Output;

    /// As [`EventError::retry_after`].
    fn retry_after(self, delay: Duration) -> Self::Output;

    /// As [`EventError::snooze`].
    fn snooze(self, delay: Duration) -> Self::Output;
}

impl IntoEventError for Error {
    type Output = EventError;

    fn permanent(self) -> EventError {
        EventError::permanent(self)
    }

    fn retry(self) -> EventError {
        EventError::retry(self)
    }

    fn retry_after(self, delay: Duration) -> EventError {
        EventError::retry_after(self, delay)
    }

    fn snooze(self, delay: Duration) -> EventError {
        EventError::snooze(self, delay)
    }
}

impl<T, E: Into<Error>> IntoEventError for Result<T, E> {
    type Output = Result<T, EventError>;

    fn permanent(self) -> Self::Output {
        self.map_err(EventError::permanent)
    }

    fn retry(self) -> Self::Output {
        self.map_err(EventError::retry)
    }

    fn retry_after(self, delay: Duration) -> Self::Output {
        self.map_err(|error| EventError::retry_after(error, delay))
    }

    fn snooze(self, delay: Duration) -> Self::Output {
        self.map_err(|reason| EventError::snooze(reason, delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(input: &str) -> Result<u8, EventError> {
        let number = input.parse::<u8>()?;
        "99".parse::<i8>().permanent()?;
        if number > 200 {
            return Err(Error::msg("too early").snooze(Duration::from_secs(3)));
        }
        if number > 100 {
            return Err(Error::msg("too many").retry_after(Duration::from_secs(2)));
        }
        (number > 0).then_some(number).or_status(400, "none").map_err(Into::into)
    }

    #[test]
    fn an_error_is_retried_unless_it_is_the_senders() {
        let next = |input: &str| handle(input).map_err(|error| error.next());
        assert_eq!(next("7"), Ok(7));
        assert_eq!(next("x"), Err(Next::Retry));
        assert_eq!(next("0"), Err(Next::Never));
        assert_eq!(next("101"), Err(Next::RetryAfter(Duration::from_secs(2))));
        assert_eq!(next("201"), Err(Next::Snooze(Duration::from_secs(3))));
    }

    #[test]
    fn an_unreadable_event_fails_permanently() {
        let event = Event { data: Some(vec![0xff]), ..Event::new("x") };
        let next = |error: Error| EventError::from(error).next();
        assert_eq!(event.subject().map_err(next), Err(Next::Never));
        assert_eq!(event.text().map_err(next), Err(Next::Never));
        assert_eq!(event.json::<u8>().map_err(next), Err(Next::Never));
    }

    #[test]
    fn an_idempotency_key_depends_on_source_and_id_only() {
        let key = |source: &str, id: &str| {
            let event = Event { source: source.to_owned(), ..Event::new("a").with_id(id) };
            assert_eq!(event.idempotency_key(), Event { attempt: 9, ..event.clone() }.idempotency_key());
            event.idempotency_key()
        };
        let keys = [key("a", "bc"), key("ab", "c"), key("a", "bd"), key("", "abc")];
        for (index, one) in keys.iter().enumerate() {
            assert_eq!(one.len(), 32);
            assert!(keys[index + 1..].iter().all(|other| other != one), "{keys:?}");
        }
    }
}
