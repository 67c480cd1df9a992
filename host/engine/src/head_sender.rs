//! Passes a response's head from a guest to the caller. Never reads a body.

use crate::{fault::Fault, head, response_body::Link};
use http::{Method, Response, header::CONTENT_LENGTH, response::Parts};
use std::sync::Arc;
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

/// Receives a response's head from the guest, and connects its body to the link.
pub(crate) struct HeadSender {
    pub(crate) head: oneshot::Sender<Head>,
    pub(crate) link: Arc<Link>,
    /// The request's method.
    pub(crate) method: Method,
}

pub(crate) type Head = Result<Opened, Fault>;

/// A response's head, with its body opened.
pub(crate) struct Opened {
    pub(crate) parts: Parts,
    /// The `content-length` of a body that is sent; `None` if the head has none, or if no body is
    /// sent.
    pub(crate) length: Option<u64>,
}

fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl HeadSender {
    pub(crate) fn send(self, response: Result<Response<WasiBody>, Fault>) {
        let Self { head, link, method } = self;
        // If the receiver is dropped, the head is dropped too, and the guest's next write to the
        // body fails.
        let _ = head.send(response.and_then(|response| {
            let (parts, body) = response.into_parts();
            head::final_status(parts.status.as_u16())?;
            let length = if head::has_no_content(&method, parts.status) { None } else { content_length(&parts) };
            link.open(head::content(&method, parts.status, body));
            Ok(Opened { parts, length })
        }));
    }
}
