//! Sends requests over the version of `wasi:http` that the call may use. Never reads a body.

use super::body::BodySource;
use super::http;
#[cfg(feature = "wasi-03")]
use super::{http03, reactor};
use crate::Result;
use crate::http::{Request, Response};

/// Sends a request. Returns the response's head, and its body to be read.
///
/// With the feature `wasi-03` an HTTP handler runs as a task of 0.3. Events and health checks are
/// still synchronous calls, which may not suspend, so they use 0.2.
pub(crate) async fn fetch(request: Request) -> Result<(Response, BodySource)> {
    #[cfg(feature = "wasi-03")]
    if !reactor::is_running() {
        let (head, body) = http03::fetch(request).await?;
        return Ok((head, BodySource::V3(body)));
    }
    let (head, body) = http::fetch(request).await?;
    Ok((head, BodySource::V2(body)))
}
