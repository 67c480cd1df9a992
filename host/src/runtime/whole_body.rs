//! Receives a request's whole body into memory, charged to the budgets of its client, its app and
//! the host. Never passes it to a guest.

use super::resources::{BodyBudgetExceeded, IncomingBody};
use crate::http::{byte_budget::room_for, connections::DrainedBody};
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use isopod_engine::broken_off;
use isopod_policy::{AppName, BodyLimit};
use std::net::IpAddr;

/// A request's body in memory.
#[derive(Default)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Why a request's body can't be received.
#[derive(Debug)]
pub(crate) enum UnreadableBody {
    /// It is larger than the app accepts.
    TooLarge(BodyLimit),
    /// It is larger than a middleware accepts.
    TooLargeForPlugin {
        plugin: AppName,
        bytes_max: u64,
    },
    /// It did not arrive within this number of seconds.
    TooSlow {
        seconds: u64,
    },
    /// It ended early.
    Broken(String),
    TooMany(BodyBudgetExceeded),
}

/// Reads a body to its end, and counts its buffer. Returns `None` if it has more than `bytes_max`
/// bytes.
///
/// The chunks are joined as they arrive: a thousand small chunks would use many times the memory
/// that is counted.
pub(crate) async fn receive(
    mut body: DrainedBody,
    bytes_max: u64,
    arriving: &mut IncomingBody<'_>,
    client: impl Fn() -> Option<IpAddr>,
) -> Result<Option<WholeBody>, UnreadableBody> {
    let length = body.size_hint().exact().unwrap_or(bytes_max);
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| UnreadableBody::Broken(broken_off(&error)))?;
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        let so_far = first.len() + all.len() + piece.len();
        if so_far as u64 > bytes_max {
            return Ok(None);
        }
        if first.is_empty() && all.is_empty() {
            // A body that arrived in one piece is complete, so it isn't charged here.
            if !body.is_end_stream() {
                arriving.grow_to(piece.len() as u64, client()).map_err(UnreadableBody::TooMany)?;
            }
            first = piece;
            continue;
        }
        if so_far > all.capacity() {
            let room = room_for(so_far, length);
            arriving.grow_to(room as u64, client()).map_err(UnreadableBody::TooMany)?;
            all.reserve_exact(room - all.len());
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    let bytes = if all.is_empty() { first } else { all.into() };
    Ok(Some(WholeBody { bytes, trailers }))
}
