//! Owns responses with server-sent events: sends keep-alives, and ends the streams at a stop. Never
//! knows the content of the events.

use std::{convert::Infallible, pin::Pin};

use axum::{
    body::Body,
    http::Response,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, future, stream};
use serde::Serialize;

use super::{Api, edge::Subscriber, error::Error, token_end::EndedBy};
use crate::{api::limits, http::byte_budget::Exceeded};

/// One event of a stream.
pub(crate) enum StreamEvent<T> {
    /// An item, as JSON.
    Item(T),
    /// An item with an id, from which a reconnecting client continues.
    Numbered(T, String),
    /// An item with a type, and with the id from which a reconnecting client continues.
    Typed { of: &'static str, item: T, id: String },
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

/// Sends the events until the stream ends, its token ends, or the host stops.
pub(crate) fn stream<T: Serialize + Send + 'static>(
    api: &Api,
    Subscriber(token): &Subscriber,
    events: impl Stream<Item = StreamEvent<T>> + Send + 'static,
) -> Result<Response<Body>, Error> {
    let permit = api.subscribers.permit(&token.name).map_err(|exceeded| match exceeded {
        Exceeded::Own => Error::TooManyOfToken { token: token.name.clone() },
        Exceeded::Shared => Error::TooManySubscribers,
    })?;
    let (stop, end) = (api.stop.clone(), token.end.clone());
    let ends = end.clone();
    let ended = async move {
        tokio::select! { () = stop.cancelled() => {}, _ = ends.wait() => {} }
    };
    let last = async move { end.by().map(|by| StreamEvent::End(by.into())) };
    let last = stream::once(last).filter_map(future::ready);
    let events = events.take_until(Box::pin(ended)).chain(last).map(move |item| {
        // Dropping the stream releases the permit.
        let _permit = &permit;
        Ok::<Event, Infallible>(event(item))
    });
    let events: Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>> = Box::pin(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(limits::FOLLOW_KEEP_ALIVE)).into_response())
}

fn event<T: Serialize>(event: StreamEvent<T>) -> Event {
    let data = |item| Event::default().json_data(item).unwrap_or_else(|e| Event::default().comment(e.to_string()));
    match event {
        StreamEvent::Item(item) => data(item),
        StreamEvent::Numbered(item, id) => data(item).id(id),
        StreamEvent::Typed { of, item, id } => data(item).event(of).id(id),
        StreamEvent::Comment(text) => Event::default().comment(text),
        StreamEvent::End(reason) => Event::default().event(END).json_data(reason).unwrap_or_default(),
    }
}
