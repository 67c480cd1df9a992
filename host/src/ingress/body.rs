//! Applies the limits of a request's body, and buffers a small body before an instance is leased,
//! so that a slow client holds a buffer and not an instance. Never passes the body to a guest.
//!
//! A client that sends `Expect: 100-continue` waits before it sends the body. A guest of
//! `wasi:http` is then started at the head, and the client gets its `100 Continue` when the guest
//! reads the body. A guest that responds before it reads the body refuses the body, and can't read
//! it afterwards. A guest of the flat interface gets the body with the call, so the host itself
//! sends `100 Continue`.

use super::failure::{Failed, broken, too_large, too_many, too_slow};
use super::forwarded;
use crate::{
    http::{
        byte_budget::room_for,
        connections::{DrainedBody, expects_continue},
    },
    ingress::limits,
    runtime::{ActiveRelease, AppResources, IncomingBody},
};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use isopod_engine::{HttpAbi, RequestBody, broken_off};
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
    match timeout(crate::runtime::limits::TRAFFIC_BODY_TIMEOUT, whole(body, length, &mut arriving, headers)).await {
        Ok(whole) => match whole? {
            (bytes, None) => Ok(RequestBody::Full(Full::new(bytes))),
            (bytes, Some(trailers)) => {
                let body = Full::new(bytes).with_trailers(std::future::ready(Some(Ok(trailers))));
                let body = body.map_err(|never| match never {});
                Ok(RequestBody::incoming(body, limit.bytes, running.stall_timeout()))
            }
        },
        Err(_) => {
            let seconds = crate::runtime::limits::TRAFFIC_BODY_TIMEOUT.as_secs();
            Err(too_slow(format!("a body of this size must arrive within {seconds} s")))
        }
    }
}

/// Reads a body to its end, and counts its buffer. The chunks are joined as they arrive: a thousand
/// small chunks would use many times the memory that is counted. Also returns the trailers.
async fn whole(
    mut body: DrainedBody,
    length: u64,
    arriving: &mut IncomingBody<'_>,
    headers: &HeaderMap,
) -> Result<(Bytes, Option<HeaderMap>), Failed> {
    let client = || forwarded::client(headers);
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let piece = match frame.map_err(|error| broken(broken_off(&error)))?.into_data() {
            Ok(piece) => piece,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        if first.is_empty() && all.is_empty() {
            // The host waits for no further byte of a body in one piece.
            if !body.is_end_stream() {
                arriving.grow_to(piece.len() as u64, client()).map_err(too_many)?;
            }
            first = piece;
            continue;
        }
        let so_far = first.len() + all.len() + piece.len();
        if so_far > all.capacity() {
            let room = room_for(so_far, length);
            arriving.grow_to(room as u64, client()).map_err(too_many)?;
            all.reserve_exact(room - all.len());
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok((if all.is_empty() { first } else { all.into() }, trailers))
}
