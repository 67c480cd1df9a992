//! Reads request bodies within the limits on their size, rate and time, and counts the bytes in
//! memory against the share of their token. Never parses a body.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use isopod_policy::BodyRate;
use tokio::time::{Instant, timeout_at};

use super::{auth::Authorised, bad_request::BadRequest, token_end::TokenEnd};
use crate::{
    api::limits,
    http::{
        byte_budget::{Exceeded, room_for},
        shares::Shares,
    },
};

/// Reads a whole body of up to `limit` bytes. Its bytes count as they arrive: an announced length
/// costs the client nothing.
pub(super) async fn collect(
    bodies: &Arc<Shares>,
    token: &Authorised,
    body: Body,
    limit: usize,
) -> Result<Bytes, BadRequest> {
    let limit_bytes = limit as u64;
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > limit_bytes) {
        return Err(BadRequest::TooLarge { limit_bytes });
    }
    let exceeded = |over| exceeded(token, over);
    let mut counted = bodies.up_to(&token.name, announced.unwrap_or(0)).map_err(exceeded)?;
    let mut chunks = Chunks::new(body, limit_bytes, token);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await? {
        let so_far = bytes.len() + chunk.len();
        if so_far > bytes.capacity() {
            let room = room_for(so_far, announced.unwrap_or(limit_bytes));
            counted.grow_to(room as u64).map_err(exceeded)?;
            bytes.reserve(room - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Returns the error of a body whose bytes exceed a limit on the memory of all bodies.
pub(super) fn exceeded(token: &Authorised, over: Exceeded) -> BadRequest {
    match over {
        Exceeded::Own => BadRequest::TooManyOfToken { token: token.name.clone() },
        Exceeded::Shared => BadRequest::TooMany,
    }
}

/// Yields the chunks of a body within the limits on its size, rate and time.
pub(super) struct Chunks {
    body: Body,
    limit_bytes: u64,
    left_bytes: u64,
    deadline: Instant,
    rate: BodyRate,
    /// The end of the body's token. The body ends with it, since it holds permits.
    token_end: TokenEnd,
}

impl Chunks {
    pub(super) fn new(body: Body, limit_bytes: u64, token: &Authorised) -> Self {
        let rate = BodyRate::new(limits::ADMIN_BODY_PART_BYTES, limits::ADMIN_BODY_PART_TIME);
        let deadline = Instant::now() + limits::ADMIN_BODY_TIME;
        let token_end = token.end.clone();
        Self { body, limit_bytes, left_bytes: limit_bytes, deadline, rate, token_end }
    }

    /// Returns the chunks of a body that may have any size.
    pub(super) fn endless(body: Body, token: &Authorised) -> Self {
        Self::new(body, u64::MAX, token)
    }

    /// Returns the next chunk, which isn't empty, or `None` at the body's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BadRequest> {
        loop {
            let started = Instant::now();
            let until = self.deadline.min(started + self.rate.left());
            let frame = tokio::select! {
                frame = timeout_at(until, self.body.frame()) => frame.map_err(|_| BadRequest::TooSlow)?,
                by = self.token_end.wait() => return Err(BadRequest::TokenEnded(by)),
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| BadRequest::Truncated { detail: root_cause(&e) })?;
            let Some(chunk) = frame.into_data().ok().filter(|chunk| !chunk.is_empty()) else { continue };
            let length = chunk.len() as u64;
            self.rate.received(length, started.elapsed());
            let left = self.left_bytes.checked_sub(length);
            self.left_bytes = left.ok_or(BadRequest::TooLarge { limit_bytes: self.limit_bytes })?;
            return Ok(Some(chunk));
        }
    }
}

/// Returns the innermost source of an error.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream, stream::FuturesUnordered};
    use isopod_policy::{Role, Scope};
    use isopod_store::Token;
    use jiff::Timestamp;

    use super::*;
    use crate::api::token_end::EndedBy;

    fn caller(name: &str) -> Authorised {
        let row = Token::new(name, String::new(), Role::Deploy, Scope::All, Timestamp::UNIX_EPOCH);
        Authorised { name: name.to_owned(), row: Arc::new(row), end: TokenEnd::default() }
    }

    #[tokio::test]
    async fn a_body_ends_with_its_token() {
        let (bodies, ci) = (Shares::new(100, 50), caller("ci"));
        let mut slow = Box::pin(collect(&bodies, &ci, withheld("1234"), 8));
        assert!(futures::poll!(&mut slow).is_pending());
        ci.end.end(EndedBy::Expiry);
        assert!(matches!(slow.await, Err(BadRequest::TokenEnded(EndedBy::Expiry))));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused() {
        let (bodies, ci) = (Shares::new(100, 50), caller("ci"));
        let collect = |text| collect(&bodies, &ci, Body::from(text), 4);
        assert!(matches!(collect("12345").await, Err(BadRequest::TooLarge { limit_bytes: 4 })));
        assert_eq!(collect("1234").await.expect("fits"), "1234");
    }

    /// Bodies without a length, which send these bytes and then nothing more.
    fn withheld(bytes: &'static str) -> Body {
        let sent = stream::once(async move { Ok::<_, std::io::Error>(Bytes::from_static(bytes.as_bytes())) });
        Body::from_stream(sent.chain(stream::pending()))
    }

    #[tokio::test]
    async fn only_received_bytes_count_and_each_token_has_a_share() {
        let (bodies, ci, ann, bob) = (Shares::new(20, 10), caller("ci"), caller("ann"), caller("bob"));
        let mut silent = FuturesUnordered::new();
        silent.extend((0..20).map(|_| collect(&bodies, &ci, withheld(""), 8)));
        assert!(futures::poll!(silent.next()).is_pending());
        let mut slow = Box::pin(collect(&bodies, &ci, withheld("1234"), 8));
        assert!(futures::poll!(&mut slow).is_pending());
        let refused = collect(&bodies, &ci, Body::from("123"), 8).await;
        assert!(matches!(refused, Err(BadRequest::TooManyOfToken { token }) if token == "ci"));
        assert_eq!(collect(&bodies, &ci, Body::from("12"), 8).await.expect("fits"), "12");
        let mut others = FuturesUnordered::new();
        others.extend([(&ann, "1234"), (&bob, "12")].map(|(token, sent)| collect(&bodies, token, withheld(sent), 8)));
        assert!(futures::poll!(others.next()).is_pending());
        assert!(matches!(collect(&bodies, &caller("eve"), Body::from("1"), 8).await, Err(BadRequest::TooMany)));
        drop(slow);
        assert_eq!(collect(&bodies, &ci, Body::from("123"), 8).await.expect("fits"), "123");
    }
}
