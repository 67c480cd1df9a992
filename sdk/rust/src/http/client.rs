//! Sends requests to other servers. Never decides which servers an app may reach; the host does.

use std::future::Future;
use std::time::Duration;

use super::{Body, IncomingBody, Method, Request, Response};
use crate::time::timeout;
use crate::{Error, Result, limits, platform};

/// The default `user-agent` of requests.
const USER_AGENT: &str = concat!("isopod-sdk/", env!("CARGO_PKG_VERSION"));

/// Sends a request and waits for the whole response.
///
/// The manifest must grant the host: `[grants] http = ["api.example.org"]`. Redirects are not
/// followed. A response is not an error because of its status, but a body larger than
/// [`limits::FETCH_BODY_BYTES_MAX`] is.
///
/// A request with a whole body is sent with its `content-length`. Each request has a `user-agent`;
/// the default applies if the caller sets none.
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
        Error::msg(error.to_string()).context("reading a response (fetch_streaming has no size limit)")
    })?;
    Ok(head.with_body(Body::from(bytes)))
}

/// Sends a request. Returns the response's head, and its body to be read in chunks.
pub async fn fetch_streaming(request: Request) -> Result<(Response, IncomingBody)> {
    let what = format!("sending {} {}://{}", request.method, request.scheme, request.authority());
    let (timeout, request) = (request.timeout, completed(request));
    let (head, body) = within(timeout, platform::fetch(request)).await.map_err(|error| error.context(what))?;
    Ok((head, IncomingBody(body)))
}

/// Adds the default header fields to the request.
fn completed(mut request: Request) -> Request {
    if request.headers.get_bytes("user-agent").is_none() {
        request.headers.set("user-agent", USER_AGENT);
    }
    let is_framed =
        ["content-length", "transfer-encoding"].iter().any(|name| request.headers.get_bytes(name).is_some());
    // A request without a body has no length, unless its method defines content (RFC 9110 §8.6).
    let expects_body = matches!(request.method, Method::Post | Method::Put | Method::Patch);
    if let Some(length) = request.body.as_bytes().map(<[u8]>::len)
        && !is_framed
        && (length > 0 || expects_body)
    {
        request.headers.set("content-length", length.to_string());
    }
    request
}

/// Runs work until it completes or times out.
async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return work.await };
    let late = |_| Error::msg(format!("timeout: no response began within {limit:?}"));
    timeout(limit, work).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(request: Request, name: &str) -> Option<String> {
        completed(request).headers.get(name).map(str::to_owned)
    }

    #[test]
    fn a_whole_body_is_sent_with_its_length() {
        let length = |request| header(request, "content-length");
        assert_eq!(length(Request::post("http://a/").with_body("twelve bytes")).as_deref(), Some("12"));
        assert_eq!(length(Request::post("http://a/")).as_deref(), Some("0"));
        assert_eq!(length(Request::get("http://a/")), None);
        assert_eq!(length(Request::new(Method::Delete, "http://a/").with_body("x")).as_deref(), Some("1"));
        let produced = Body::produce(async |mut out| out.write("x").await);
        assert_eq!(length(Request::post("http://a/").with_body(produced)), None);
        let own = Request::post("http://a/").with_body("x").with_header("Content-Length", "1");
        assert_eq!(completed(own).headers.get_all("content-length").count(), 1);
    }

    #[test]
    fn the_callers_user_agent_replaces_the_default() {
        assert_eq!(header(Request::get("http://a/"), "user-agent").as_deref(), Some(USER_AGENT));
        let own = Request::get("http://a/").with_header("User-Agent", "mine/1");
        let completed = completed(own);
        assert_eq!(completed.headers.get_all("user-agent").collect::<Vec<_>>(), [b"mine/1"]);
    }

    #[test]
    fn work_is_cancelled_when_it_times_out() {
        let ended =
            crate::testing::block_on(within(Some(Duration::from_secs(1)), std::future::pending::<Result<()>>()));
        assert!(ended.is_err_and(|error| error.to_string().contains("no response began within 1s")));
        assert!(
            crate::testing::block_on(within(Some(Duration::from_secs(1)), async { Ok(7) })).is_ok_and(|it| it == 7)
        );
    }
}
