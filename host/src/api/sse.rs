//! Owns responses with server-sent events: limits the number of streams, sends keep-alives, and
//! ends the streams at a stop. Never knows the content of the events.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Body,
    http::Response,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt};
use serde::Serialize;

use super::{Api, edge::Caller, error::Error};
use crate::api::limits;

/// One event of a stream.
pub(crate) enum StreamEvent<T> {
    /// An item, as JSON.
    Item(T),
    /// An item with an id, from which a reconnecting client continues.
    Numbered(T, String),
    /// A comment for people, which programs ignore.
    Comment(String),
    /// The last event: the app was destroyed, so the client must not reconnect.
    Destroyed,
}

/// The type of the event after which a client must not reconnect. All other events have no type.
const END: &str = "end";

/// The number of open event streams by token.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<HashMap<String, usize>>);

impl Subscribers {
    /// Takes a permit for one event stream. Dropping the permit releases it.
    fn take(self: &Arc<Self>, token: &str) -> Result<SubscriberPermit, Error> {
        let mut permits = self.lock();
        if permits.values().sum::<usize>() >= limits::SUBSCRIBERS_MAX {
            return Err(Error::TooManySubscribers);
        }
        let own = permits.entry(token.to_owned()).or_default();
        if *own >= limits::SUBSCRIBERS_PER_TOKEN {
            return Err(Error::TooManyOfToken { token: token.to_owned() });
        }
        *own += 1;
        Ok(SubscriberPermit { subscribers: Arc::clone(self), token: token.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of one event stream.
struct SubscriberPermit {
    subscribers: Arc<Subscribers>,
    token: String,
}

impl Drop for SubscriberPermit {
    fn drop(&mut self) {
        let mut permits = self.subscribers.lock();
        if let Some(own) = permits.get_mut(&self.token) {
            *own -= 1;
        }
        permits.retain(|_, own| *own > 0);
    }
}

/// Sends the events until the stream ends or the host stops.
pub(crate) fn stream<T: Serialize + 'static>(
    api: &Api,
    Caller(token): &Caller,
    events: impl Stream<Item = StreamEvent<T>> + Send + 'static,
) -> Result<Response<Body>, Error> {
    let permit = api.subscribers.take(token)?;
    let stop = api.stop.clone();
    let events = events.take_until(stop.cancelled_owned()).map(move |item| {
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
        StreamEvent::Comment(text) => Event::default().comment(text),
        StreamEvent::Destroyed => Event::default().event(END).data(r#"{"reason":"app-destroyed"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_cannot_take_all_permits_and_a_dropped_permit_is_released() {
        let subscribers = Arc::new(Subscribers::default());
        let mut own: Vec<SubscriberPermit> =
            (0..limits::SUBSCRIBERS_PER_TOKEN).map_while(|_| subscribers.take("ci").ok()).collect();
        assert_eq!(own.len(), limits::SUBSCRIBERS_PER_TOKEN);
        assert!(matches!(subscribers.take("ci"), Err(Error::TooManyOfToken { .. })));
        let others: Vec<SubscriberPermit> =
            (0..).map_while(|n| subscribers.take(&format!("other-{}", n % 7)).ok()).collect();
        assert_eq!(own.len() + others.len(), limits::SUBSCRIBERS_MAX);
        assert!(matches!(subscribers.take("ann"), Err(Error::TooManySubscribers)));
        own.pop();
        assert!(subscribers.take("ann").is_ok());
        drop((own, others));
        assert!(subscribers.lock().is_empty());
    }
}
