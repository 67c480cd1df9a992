//! Chooses the interface over which an instance handles an HTTP request. Never calls a guest
//! itself.

use crate::{
    body::RequestBody,
    fault::Fault,
    flat,
    http_outcome::HttpOutcome,
    instance::Instance,
    limits,
    streaming::{self, Version},
};
use futures::future::BoxFuture;
use http::{Request, header::CONTENT_LENGTH};
use http_body::Body;
use std::future::ready;

impl Instance {
    /// Handles one HTTP request over the best interface that the component and the request allow.
    /// Dropping the returned future, or the unfinished body, ends the instance.
    ///
    /// The future is boxed, since it is large, and the caller's futures move several times.
    pub fn http<'a>(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        request_id: &'a str,
    ) -> BoxFuture<'a, HttpOutcome> {
        self.store.data_mut().begin_trace(request.headers());
        let exports = self.program.exports();
        if exports.flat.is_some() && (fits_flat(&request) || exports.wasi02.is_none() && exports.wasi03.is_none()) {
            // Allocated first, so that the future isn't copied into the box.
            let handling = Box::write(Box::new_uninit(), flat::handle(self, request, request_id));
            return Box::into_pin(handling);
        }
        if exports.wasi03.is_some() {
            return Box::pin(streaming::handle(self, request, request_id, Version::Wasi03));
        }
        if exports.wasi02.is_some() {
            return Box::pin(streaming::handle(self, request, request_id, Version::Wasi02));
        }
        let response = Err(Fault::NoSuchEntry { entry: "an HTTP handler" });
        Box::pin(ready(HttpOutcome { response, after: Some(self).into() }))
    }
}

/// Returns whether a request can be passed to the guest whole: its body is absent, or small and of
/// known length.
fn fits_flat(request: &Request<RequestBody>) -> bool {
    request.body().is_end_stream()
        || request.headers().contains_key(CONTENT_LENGTH)
            && request.body().size_hint().exact().is_some_and(|length| length <= limits::FLAT_BODY_BYTES_MAX)
}
