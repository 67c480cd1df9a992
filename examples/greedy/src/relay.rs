//! Sends the outgoing request that the query names, with the SDK, and passes the response on. Never
//! retries.
//!
//! Query parameters: `url`, `method` (by default GET), `body` (its size in bytes), `timeout_ms`,
//! and `agent` (the `user-agent`).

use isopod_sdk::http::fetch;
use isopod_sdk::prelude::*;
use std::time::Duration;

/// The response's body, with its status as `x-status`; or 502 with the error's text, so that a test
/// can read it.
pub async fn relay(request: &Request) -> Result<Response> {
    let text = |name: &str| request.query_param(name);
    let url = text("url").or_status(400, "the query needs url=")?;
    let method = text("method").unwrap_or("GET".into());
    let mut asked = Request::new(&*method, &url);
    if let Some(bytes) = text("body") {
        asked = asked.with_body(vec![b'x'; bytes.parse()?]);
    }
    if let Some(milliseconds) = text("timeout_ms") {
        asked = asked.with_timeout(Duration::from_millis(milliseconds.parse()?));
    }
    if let Some(agent) = text("agent") {
        asked = asked.with_header("user-agent", agent.into_owned());
    }
    match fetch(asked).await {
        Ok(answer) => Ok(Response::new(200).with_header("x-status", answer.status.to_string()).with_body(answer.body)),
        Err(error) => Ok(Response::text(format!("{error}")).with_status(502)),
    }
}
