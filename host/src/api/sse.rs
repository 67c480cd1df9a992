//! Owns responses with server-sent events: sends keep-alives, and ends the streams at a stop. Never
//! knows the content of the events.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use futures::{Stream, StreamExt, future, stream};
use serde::Serialize;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::{
    Api,
    edge::Subscriber,
    error::Error,
    token_end::{EndedBy, TokenEnd},
};
use crate::{
    api::limits,
    http::{byte_budget::Exceeded, shares::Share},
};

/// One event of a stream.
pub(crate) enum StreamEvent<T> {
    /// An item, as JSON.
    Item(T),
    /// An item with an id, from which a reconnecting client continues.
    Numbered(T, String),
    /// An item with a type, and with the id from which a reconnecting client continues.
    Typed { of: &'static str, item: T, id: String },
    /// An item as JSON that several streams share. It is never copied: slow clients hold one copy
    /// together.
    Shared { of: &'static str, json: Bytes, id: String },
    /// A comment for people, which programs ignore.
    Comment(String),
    /// The last event, after which a client must not reconnect.
    End(EndReason),
}

/// Why a stream can't be continued.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(crate) enum EndReason {
    /// The app was destroyed.
    AppDestroyed,
    /// The token of the stream was revoked, or its secret replaced.
    TokenRevoked,
    /// The token of the stream expired.
    TokenExpired,
    /// The latest time that the client asked for has passed.
    UntilPassed,
}

impl From<EndedBy> for EndReason {
    fn from(by: EndedBy) -> Self {
        match by {
            EndedBy::Revocation => Self::TokenRevoked,
            EndedBy::Expiry => Self::TokenExpired,
        }
    }
}

/// The type of the event after which a client must not reconnect.
const END: &str = "end";
/// An empty comment.
const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n\n");

/// The permit of one event stream. Handlers take it before they read what they stream.
pub(crate) struct StreamPermit {
    permit: Share,
    stop: CancellationToken,
    end: TokenEnd,
}

impl StreamPermit {
    /// Takes a permit of the subscriber's token.
    pub(crate) fn take(api: &Api, Subscriber(token): &Subscriber) -> Result<Self, Error> {
        let permit = api.subscribers.permit(&token.name).map_err(|exceeded| match exceeded {
            Exceeded::Own => Error::TooManyOfToken { token: token.name.clone() },
            Exceeded::Shared => Error::TooManySubscribers,
        })?;
        Ok(Self { permit, stop: api.stop.clone(), end: token.end.clone() })
    }

    /// Sends the events until the stream ends, its token ends, or the host stops.
    pub(crate) fn stream<T: Serialize + Send + 'static>(
        self,
        events: impl Stream<Item = StreamEvent<T>> + Send + 'static,
    ) -> Response<Body> {
        let Self { permit, stop, end } = self;
        let ends = end.clone();
        let ended = async move {
            tokio::select! { () = stop.cancelled() => {}, _ = ends.wait() => {} }
        };
        let last = async move { end.by().map(|by| StreamEvent::End(by.into())) };
        let last = stream::once(last).filter_map(future::ready);
        let pieces = events.take_until(Box::pin(ended)).chain(last).flat_map(move |event| {
            // Dropping the stream releases the permit.
            let _permit = &permit;
            stream::iter(pieces(event))
        });
        let idle = interval_at(Instant::now() + limits::FOLLOW_KEEP_ALIVE, limits::FOLLOW_KEEP_ALIVE);
        let pieces = tokio_stream::StreamExt::timeout_repeating(pieces, idle)
            .map(|piece| Ok::<Bytes, Infallible>(piece.unwrap_or(KEEP_ALIVE)));
        let mut response = Response::new(Body::from_stream(pieces));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

/// Returns the text of an event. JSON, types and ids contain no line break.
fn pieces<T: Serialize>(event: StreamEvent<T>) -> Vec<Bytes> {
    let (of, id, item) = match event {
        StreamEvent::Item(item) => (None, None, serde_json::to_string(&item)),
        StreamEvent::Numbered(item, id) => (None, Some(id), serde_json::to_string(&item)),
        StreamEvent::Typed { of, item, id } => (Some(of), Some(id), serde_json::to_string(&item)),
        StreamEvent::End(reason) => (Some(END), None, serde_json::to_string(&reason)),
        StreamEvent::Shared { of, json, id } => {
            return vec![head(Some(of), Some(id)).into(), json, Bytes::from_static(b"\n\n")];
        }
        StreamEvent::Comment(text) => return vec![format!(": {text}\n\n").into()],
    };
    match item {
        Ok(json) => vec![format!("{}{json}\n\n", head(of, id)).into()],
        Err(error) => vec![format!(": {error}\n\n").into()],
    }
}

/// Returns the text of an event before its data.
fn head(of: Option<&str>, id: Option<String>) -> String {
    let of = of.map(|of| format!("event: {of}\n")).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{of}{id}data: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: StreamEvent<&str>) -> String {
        pieces(event).into_iter().map(|piece| String::from_utf8_lossy(&piece).into_owned()).collect()
    }

    #[test]
    fn events_are_written_as_server_sent_events() {
        let id = || "log=1-2".to_owned();
        assert_eq!(text(StreamEvent::Item("a\nb")), "data: \"a\\nb\"\n\n");
        assert_eq!(text(StreamEvent::Numbered("a", id())), "id: log=1-2\ndata: \"a\"\n\n");
        let typed = StreamEvent::Typed { of: "log", item: "a", id: id() };
        assert_eq!(text(typed), "event: log\nid: log=1-2\ndata: \"a\"\n\n");
        assert_eq!(text(StreamEvent::Comment("a".to_owned())), ": a\n\n");
        let end = StreamEvent::End(EndReason::AppDestroyed);
        assert_eq!(text(end), "event: end\ndata: {\"reason\":\"app-destroyed\"}\n\n");
    }

    #[test]
    fn a_shared_item_is_not_copied() {
        let json = Bytes::from_static(b"{}");
        let event = StreamEvent::<()>::Shared { of: "apps", json: json.clone(), id: String::new() };
        let pieces = pieces(event);
        assert_eq!(pieces.concat(), b"event: apps\nid: \ndata: {}\n\n");
        assert!(pieces.iter().any(|piece| piece.as_ptr() == json.as_ptr()));
    }
}
