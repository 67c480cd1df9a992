//! Drains the unread rest of a request's body: a response may be sent before the body has arrived.
//! If the host closed the connection while the client still sends, the client would not see the
//! response. So the rest is read and discarded, up to a limit of bytes and time, and the connection
//! then serves the next request. Never keeps the discarded bytes.

use super::line::Exchange;
use crate::{http::limits, http::trailers};
use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::runtime::Handle;

/// A request's body. Its unread rest is discarded when it is dropped.
pub(crate) struct DrainedBody {
    body: Option<Incoming>,
    /// The runtime of the connection, which reads the rest.
    runtime: Option<Handle>,
    /// Whether the client sends the body.
    is_sent: bool,
    /// Keeps the request in progress until its body is read.
    exchange: Option<Exchange>,
}

impl DrainedBody {
    /// Wraps the body of a request. Must be called on the runtime of the request's connection.
    pub(crate) fn of(request: Request<Incoming>, exchange: &Exchange) -> Request<Self> {
        let is_empty = request.body().is_end_stream();
        // A client that waits for `100 Continue` sends nothing before the body is read.
        let is_sent = is_empty || !expects_continue(request.headers());
        request.map(|body| {
            let runtime = (!is_empty).then(Handle::current);
            let exchange = runtime.is_some().then(|| exchange.clone());
            Self { body: Some(body), runtime, is_sent, exchange }
        })
    }

    /// Returns whether the client sends the body only after `100 Continue`.
    pub(crate) fn client_waits(&self) -> bool {
        self.exchange.as_ref().is_some_and(Exchange::is_client_waiting)
    }
}

impl Body for DrainedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.is_sent {
            self.is_sent = true;
            self.exchange.iter().for_each(Exchange::body_is_read);
        }
        loop {
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(frame) = trailers::allowed(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                end => {
                    (self.body, self.exchange) = (None, None);
                    return Poll::Ready(end);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        if let (Some(body), Some(runtime)) = (self.body.take(), &self.runtime)
            && self.is_sent
            && !body.is_end_stream()
        {
            let exchange = self.exchange.take();
            runtime.spawn(async move {
                let _in_progress = exchange;
                let _ = tokio::time::timeout(limits::BODY_DRAIN_TIME, discard(body)).await;
            });
        }
    }
}

/// Returns whether a client waits for `100 Continue` before it sends the body, by hyper's own
/// criterion.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::EXPECT).iter().next_back();
    last.is_some_and(|expectation| expectation.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Reads a body to its end, or up to the limit of bytes. Beyond the limit the connection is closed.
async fn discard(mut body: Incoming) {
    let mut left = limits::BODY_DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
