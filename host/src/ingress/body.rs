//! Applies the limits of a request's body, and buffers a small body before an instance is leased,
//! so that a slow client holds a buffer and not an instance. Never passes the body to a guest.
//!
//! A client that sends `Expect: 100-continue` waits before it sends the body. A guest of
//! `wasi:http` is then started at the head, and the client gets its `100 Continue` when the guest
//! reads the body. A guest that responds before it reads the body refuses the body, and can't read
//! it afterwards. A guest of the flat interface gets the body with the call, so the host itself
//! sends `100 Continue`.

use super::failure::{Failed, too_large, too_many, unreadable};
use super::forwarded;
use crate::{
    http::connections::{DrainedBody, expects_continue},
    ingress::limits,
    runtime::{ActiveRelease, AppResources, UnreadableBody, WholeBody, limits::TRAFFIC_BODY_TIMEOUT, receive},
};
use http::HeaderMap;
use http_body::Body;
use isopod_engine::{HttpAbi, RequestBody};
use isopod_policy::BodyLimit;
use tokio::time::timeout;

/// Applies the limit to a body that isn't empty, and buffers a small body of known length.
pub(super) async fn take_in(
    headers: &HeaderMap,
    body: DrainedBody,
    limit: BodyLimit,
    running: &ActiveRelease,
    resources: &AppResources,
) -> Result<RequestBody, Failed> {
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limit.bytes) {
        return Err(too_large(limit));
    }
    let waits = running.program().info().entries.http != Some(HttpAbi::Flat) && expects_continue(headers);
    let is_sent_on_demand = waits && body.client_waits();
    let Some(length) = length.filter(|&length| length <= limits::BUFFERED_BODY_BYTES_MAX && !waits) else {
        let body = RequestBody::incoming(body, limit.bytes, running.stall_timeout());
        return Ok(if is_sent_on_demand { body.sent_on_demand() } else { body });
    };
    let mut arriving = resources.receive(length).map_err(too_many)?;
    let received = receive(body, length, &mut arriving, || forwarded::client(headers));
    match timeout(TRAFFIC_BODY_TIMEOUT, received).await {
        Ok(whole) => {
            let whole = whole.map_err(unreadable)?.ok_or_else(|| too_large(limit))?;
            let WholeBody { bytes, trailers } = whole;
            Ok(RequestBody::received(bytes, trailers))
        }
        Err(_) => Err(unreadable(UnreadableBody::TooSlow { seconds: TRAFFIC_BODY_TIMEOUT.as_secs() })),
    }
}
