//! Owns answering with server-sent events: their bound in number, their keep-alive, and their end at a stop. Never
//! knows what is told.

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
use crate::limits;

/// One piece of news.
pub(crate) enum News<T> {
    /// A message; each is one JSON text.
    Item(T),
    /// As above, with an id from which a reconnecting client continues.
    Numbered(T, String),
    /// A remark for people that programs pass over.
    Comment(String),
    /// The last event: the app was destroyed, so a client must not reconnect.
    Destroyed,
}

/// The type of the event that ends a stream for good. All other events have no type.
const END: &str = "end";

/// How many follow, by their tokens.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<HashMap<String, usize>>);

impl Subscribers {
    /// A place for one more, so long as it is kept.
    fn take(self: &Arc<Self>, token: &str) -> Result<SubscriberPermit, Error> {
        let mut places = self.lock();
        if places.values().sum::<usize>() >= limits::SUBSCRIBERS_MAX {
            return Err(Error::TooManyFollowers);
        }
        let own = places.entry(token.to_owned()).or_default();
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

/// The place of one follower.
struct SubscriberPermit {
    subscribers: Arc<Subscribers>,
    token: String,
}

impl Drop for SubscriberPermit {
    fn drop(&mut self) {
        let mut places = self.subscribers.lock();
        if let Some(own) = places.get_mut(&self.token) {
            *own -= 1;
        }
        places.retain(|_, own| *own > 0);
    }
}

/// Tells the news until they end or the host stops.
pub(crate) fn tell<T: Serialize + 'static>(
    api: &Api,
    Caller(token): &Caller,
    news: impl Stream<Item = News<T>> + Send + 'static,
) -> Result<Response<Body>, Error> {
    let place = api.subscribers.take(token)?;
    let stop = api.stop.clone();
    let events = news.take_until(stop.cancelled_owned()).map(move |piece| {
        // The place is free again when the stream is dropped.
        let _held = &place;
        Ok::<Event, Infallible>(event(piece))
    });
    let events: Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>> = Box::pin(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(limits::FOLLOW_KEEP_ALIVE)).into_response())
}

fn event<T: Serialize>(piece: News<T>) -> Event {
    let data = |item| Event::default().json_data(item).unwrap_or_else(|e| Event::default().comment(e.to_string()));
    match piece {
        News::Item(item) => data(item),
        News::Numbered(item, id) => data(item).id(id),
        News::Comment(text) => Event::default().comment(text),
        News::Destroyed => Event::default().event(END).data(r#"{"reason":"app-destroyed"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_takes_all_places_and_each_is_free_again() {
        let subscribers = Arc::new(Subscribers::default());
        let mut own: Vec<SubscriberPermit> =
            (0..limits::SUBSCRIBERS_PER_TOKEN).map_while(|_| subscribers.take("ci").ok()).collect();
        assert_eq!(own.len(), limits::SUBSCRIBERS_PER_TOKEN);
        assert!(matches!(subscribers.take("ci"), Err(Error::TooManyOfToken { .. })));
        let others: Vec<SubscriberPermit> =
            (0..).map_while(|n| subscribers.take(&format!("other-{}", n % 7)).ok()).collect();
        assert_eq!(own.len() + others.len(), limits::SUBSCRIBERS_MAX);
        assert!(matches!(subscribers.take("ann"), Err(Error::TooManyFollowers)));
        own.pop();
        assert!(subscribers.take("ann").is_ok());
        drop((own, others));
        assert!(subscribers.lock().is_empty());
    }
}
