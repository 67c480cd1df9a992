//! Asking other servers. The host decides which ones an app may ask.

use super::{Body, IncomingBody, Request, Response};
use crate::{Result, limits, platform};

/// Sends a request and waits for the whole answer.
///
/// The manifest must grant the host: `[grants] http = ["api.example.org"]`. Redirects are not followed. An answer of
/// any status is no error; one larger than [`limits::FETCH_BODY_BYTES_MAX`] is.
///
/// ```no_run
/// # use isopod_sdk::prelude::*;
/// # async fn example() -> Result<()> {
/// let answer = fetch(Request::get("https://api.example.org/weather?city=Delft")).await?;
/// let weather: serde_json::Value = answer.body_json()?;
/// # Ok(())
/// # }
/// ```
pub async fn fetch(request: Request) -> Result<Response> {
    let (head, mut body) = fetch_streaming(request).await?;
    let bytes = body.read_to_end(limits::FETCH_BODY_BYTES_MAX).await.map_err(|error| {
        crate::Error::msg(error.to_string()).context("reading an answer (fetch_streaming takes answers of any size)")
    })?;
    Ok(head.with_body(Body::from(bytes)))
}

/// Sends a request and gives the answer's head, with its body to be read piece by piece.
pub async fn fetch_streaming(request: Request) -> Result<(Response, IncomingBody)> {
    let what = format!("asking {} {}://{}", request.method, request.scheme, request.authority);
    let (head, body) = platform::fetch(request).await.map_err(|error| error.context(what))?;
    Ok((head, IncomingBody(body)))
}
