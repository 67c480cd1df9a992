//! A request of the demo to an app: the command that sends it, and its response with any status.
//! Never judges the response.

use std::time::Duration;

use anyhow::{Context, Result};
use ureq::http::{Request, Response};

use super::running::RunningHost;

/// The timeout of a request. The first call of an app may wait for its compilation.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A token for the plugin `require-jwt`: its subject is `ada`, and it expires in 2100.
pub(super) const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.\
     xHQ8yPPZjXA8UH7FPofKrSTXXUuM-plbsNBfZGe-qpg";

pub(super) struct Ask<'a> {
    pub(super) app: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: &'a str,
}

impl<'a> Ask<'a> {
    pub(super) fn get(app: &'a str, path: &'a str) -> Self {
        Ask::new(app, "GET", path)
    }

    pub(super) fn new(app: &'a str, method: &'a str, path: &'a str) -> Self {
        Ask { app, method, path, headers: Vec::new(), body: "" }
    }

    pub(super) fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, media_type: &'a str, body: &'a str) -> Self {
        self.body = body;
        self.header("content-type", media_type)
    }

    /// Returns the command for a terminal.
    pub(super) fn curl(&self, host: &RunningHost) -> String {
        self.curl_at(&format!("{}.localhost:{}", self.app, host.listen.port()))
    }

    fn curl_at(&self, authority: &str) -> String {
        let mut words = vec!["curl -i".to_owned()];
        if self.method != "GET" {
            words.push(format!("-X {}", self.method));
        }
        for (name, value) in &self.headers {
            let value = value.replace(TOKEN, "$TOKEN");
            words.push(if value.contains('"') {
                format!("-H '{name}: {value}'")
            } else {
                format!("-H \"{name}: {value}\"")
            });
        }
        if !self.body.is_empty() {
            words.push(format!("-d '{}'", self.body));
        }
        words.push(format!("http://{authority}{}", self.path));
        words.join(" ")
    }

    /// Sends the request and returns the whole response. Connects to the address and sends the name
    /// as `Host`, since some systems don't resolve names below `localhost`.
    pub(super) fn send(&self, host: &RunningHost) -> Result<Response<String>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://{}{}", host.listen, self.path))
            .header("host", format!("{}.localhost:{}", self.app, host.listen.port()));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        response(self.app, request.body(self.body.to_owned())?)
    }
}

/// Sends a request and returns the whole response, also if its status is an error.
pub(super) fn response(app: &str, request: Request<String>) -> Result<Response<String>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(ANSWER_WITHIN))
        .build()
        .into();
    let (head, mut body) = agent.run(request).with_context(|| format!("no response from {app}"))?.into_parts();
    let text = body.read_to_string().with_context(|| format!("incomplete response from {app}"))?;
    Ok(Response::from_parts(head, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_typed_with_curl() {
        assert_eq!(Ask::get("shop", "/").curl_at("shop.localhost:8080"), "curl -i http://shop.localhost:8080/");
        let ask = Ask::new("shop", "PUT", "/echo").header("authorization", format!("Bearer {TOKEN}"));
        let ask = ask.header("if-match", "\"1\"").body("text/plain", "a book");
        let typed = "curl -i -X PUT -H \"authorization: Bearer $TOKEN\" -H 'if-match: \"1\"' \
                     -H \"content-type: text/plain\" -d 'a book' http://shop/echo";
        assert_eq!(ask.curl_at("shop"), typed);
    }
}
