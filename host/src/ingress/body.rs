//! What becomes of a request's body before an instance is taken for it: its limits, and the reading of a small one, so
//! that a slow client holds a buffer and not an instance. Never gives it to a guest.

use super::connection::Failed;
use crate::{
    dispatch::{Running, Share, TooManyBodies},
    limits,
    linger::Lingering,
    problem::Problem,
};
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use isopod_engine::RequestBody;
use tokio::time::timeout;

/// Gives the body its limit, and reads a small one of known length.
pub(super) async fn take_in(
    request: Request<Lingering>,
    limit: u64,
    running: &Running,
    share: &Share,
) -> Result<Request<RequestBody>, Failed> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, RequestBody::empty()));
    }
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let Some(length) = length.filter(|&length| length <= limits::TRAFFIC_BODY_READ_FIRST) else {
        return Ok(Request::from_parts(parts, RequestBody::incoming(body, limit, running.patience())));
    };
    let _counted = share.receive(length).map_err(too_many)?;
    match timeout(limits::TRAFFIC_BODY_TIMEOUT, whole(body, length)).await {
        Ok(Ok(whole)) => Ok(Request::from_parts(parts, RequestBody::Full(Full::new(whole)))),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => {
            let seconds = limits::TRAFFIC_BODY_TIMEOUT.as_secs();
            Err(too_slow(format!("a body of this size is waited for during {seconds} s")))
        }
    }
}

/// Reads a body to its end. Its pieces are put together as they come: a thousand small ones would hold many times what
/// the body is counted for.
async fn whole(mut body: Lingering, length: u64) -> Result<Bytes, hyper::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = piece;
            continue;
        }
        if all.is_empty() {
            all.reserve(usize::try_from(length).unwrap_or_default());
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&piece);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_many(bodies: TooManyBodies) -> Failed {
    let (status, hint) = match bodies {
        TooManyBodies::OfApp => {
            (StatusCode::TOO_MANY_REQUESTS, "slow clients hold most of it: send this one again, and fewer at one time")
        }
        TooManyBodies::OfAll => {
            (StatusCode::SERVICE_UNAVAILABLE, "send it again: requests without a body are answered")
        }
    };
    let problem = Problem::new(status, "too-many-bodies", "Too many bodies at one time", bodies.to_string());
    (problem.retry_after(limits::BODIES_RETRY_AFTER.as_secs()).hint(hint), Some("too-many-bodies"))
}

pub(super) fn too_large(limit: u64) -> Failed {
    let problem = Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The request's body is too large",
        format!("the app takes bodies of at most {limit} bytes"),
    );
    (problem.hint("raise request_body under [limits] in isopod.toml"), None)
}

pub(super) fn too_slow(detail: String) -> Failed {
    let title = "The request's body came too slowly";
    (Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", title, detail), None)
}

pub(super) fn broken(detail: String) -> Failed {
    (Problem::new(StatusCode::BAD_REQUEST, "body-broken", "The request's body broke off", detail), None)
}
