//! Owns answering with server-sent events: their bound in number, their keep-alive, and their end at a stop. Never
//! knows what is told.

use std::{convert::Infallible, pin::Pin};

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

use super::{Api, error::Error};
use crate::limits;

/// One piece of news.
pub(crate) enum News<T> {
    /// A message; each is one JSON text.
    Item(T),
    /// A remark for people that programs pass over.
    Comment(String),
}

/// Tells the news until they end or the host stops.
pub(crate) fn tell<T: Serialize + 'static>(
    api: &Api,
    news: impl Stream<Item = News<T>> + Send + 'static,
) -> Result<Response<Body>, Error> {
    let slot = std::sync::Arc::clone(&api.followers).try_acquire_owned().map_err(|_| Error::TooManyFollowers)?;
    let stop = api.stop.clone();
    let events = news.take_until(stop.cancelled_owned()).map(move |piece| {
        // The slot is free again when the stream is dropped.
        let _held = &slot;
        Ok::<Event, Infallible>(event(piece))
    });
    let events: Pin<Box<dyn Stream<Item = Result<Event, Infallible>> + Send>> = Box::pin(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(limits::FOLLOW_KEEP_ALIVE)).into_response())
}

fn event<T: Serialize>(piece: News<T>) -> Event {
    match piece {
        News::Item(item) => {
            Event::default().json_data(item).unwrap_or_else(|e| Event::default().comment(e.to_string()))
        }
        News::Comment(text) => Event::default().comment(text),
    }
}
