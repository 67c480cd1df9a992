//! HTTP's requirements for a guest's heads over every interface: a final status, no content if the
//! method or the status forbids it, and no fields of the connection. Never sends anything.

use crate::fault::Fault;
use bytes::Bytes;
use http::{HeaderName, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, WasiBody};

/// Fields of the connection, and `host`. A static, since a constant would be built at each use.
static FORBIDDEN: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

/// Returns whether a guest can't set a field over `wasi:http`.
pub(crate) fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.contains(name)
}

/// Returns whether a response to `method` with `status` has no content, regardless of its body (RFC
/// 9110, section 6.4.1).
pub fn has_no_content(method: &Method, status: StatusCode) -> bool {
    const WITHOUT: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED];
    method == Method::HEAD || status.is_informational() || WITHOUT.contains(&status)
}

/// Returns the status of a final response.
pub(crate) fn final_status(status: u16) -> Result<StatusCode, Fault> {
    let known = StatusCode::from_u16(status).ok().filter(|_| (200..600).contains(&status));
    known.ok_or_else(|| Fault::InvalidResponse { detail: format!("status {status} is not between 200 and 599") })
}

/// Returns the body of a response. If the body isn't sent, an abandoned body counts as ended: the
/// head is the whole response.
pub(crate) fn content(method: &Method, status: StatusCode, body: WasiBody) -> WasiBody {
    if has_no_content(method, status) { WasiBody::new(Unsent(body)) } else { body }
}

/// A body that is read only so that its writer can finish.
struct Unsent(WasiBody);

impl Body for Unsent {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx).map(|frame| frame.filter(Result::is_ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};
    use wasmtime_wasi_http::Error;

    #[test]
    fn a_guest_can_set_only_fields_of_its_own() {
        for name in &DEFAULT_FORBIDDEN_HEADERS {
            assert!(is_forbidden(name), "{name}");
        }
        assert!(!is_forbidden(&http::header::CONTENT_LENGTH) && !is_forbidden(&HeaderName::from_static("x-a")));
    }

    #[test]
    fn only_a_status_from_200_to_599_is_final() {
        for status in [0, 99, 100, 101, 102, 103, 199, 600, 999, 1000] {
            assert!(matches!(final_status(status), Err(Fault::InvalidResponse { .. })), "{status}");
        }
        for status in [200, 204, 304, 418, 599] {
            assert_eq!(final_status(status).ok().map(|status| status.as_u16()), Some(status));
        }
    }

    #[tokio::test]
    async fn an_abandoned_body_ends_cleanly_only_if_it_is_not_sent() {
        let given_up = || {
            let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(Error::HttpProtocolError)];
            WasiBody::new(StreamBody::new(futures::stream::iter(frames)))
        };
        let head = content(&Method::HEAD, StatusCode::OK, given_up());
        assert_eq!(head.collect().await.expect("it ends").to_bytes(), "half");
        assert!(content(&Method::GET, StatusCode::OK, given_up()).collect().await.is_err());
    }
}
