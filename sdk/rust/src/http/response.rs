//! Responses: their constructors, and the conversion of errors. Never sends one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::future::Future;

use super::body::BodyWriter;
use super::{Body, HeaderValue, Headers};
use crate::{Error, Result};

/// A response of a handler or of another server.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: Body,
}

impl Response {
    /// Creates a response with a status, without headers and body.
    pub const fn new(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Body::empty() }
    }

    /// Creates a 200 response of plain text.
    pub fn text(text: impl Into<Body>) -> Self {
        Self::with_type("text/plain; charset=utf-8", text)
    }

    /// Creates a 200 response of HTML.
    pub fn html(html: impl Into<Body>) -> Self {
        Self::with_type("text/html; charset=utf-8", html)
    }

    /// Creates a 200 response of this media type.
    pub fn with_type(media_type: &'static str, body: impl Into<Body>) -> Self {
        let headers = Headers::of(vec![(Cow::Borrowed("content-type"), Cow::Borrowed(media_type.as_bytes()))]);
        Self { status: 200, headers, body: body.into() }
    }

    /// Creates a 200 response with a value serialised as JSON.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::with_type("application/json", serde_json::to_vec(value)?))
    }

    /// Creates a 303 response, which has the browser load another page, for example after a form
    /// was posted.
    pub fn see_other(location: impl Into<HeaderValue>) -> Self {
        Self::new(303).with_header("location", location)
    }

    /// Creates a 200 response with a body that is written while it is sent: each chunk reaches the
    /// client immediately.
    pub fn stream<F, Fut>(producer: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        Self::new(200).with_body(Body::produce(producer))
    }

    /// Returns the response with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Returns the response with a header field set.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Returns the response with another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the body's bytes; empty for a body that is written while it is sent.
    pub fn bytes(&self) -> &[u8] {
        self.body.as_bytes().unwrap_or_default()
    }

    /// Returns the body as text.
    pub fn body_text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(self.bytes())?)
    }

    /// Deserialises the body from JSON.
    pub fn body_json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(self.bytes())?)
    }

    /// Converts an error into a response: with the error's own status and text if it was created
    /// for the client, else 500.
    pub(crate) fn from_error(error: &Error) -> Self {
        let answer = if error.is_for_client() {
            Self::text(error.to_string())
        } else {
            Self::text("The app failed to answer this request.\n")
        };
        answer.with_status(error.http_status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inner_error_is_answered_without_its_text() {
        let answer = Response::from_error(&Error::msg("password is hunter2"));
        assert_eq!(answer.status, 500);
        assert!(!answer.body_text().unwrap().contains("hunter2"));
    }

    #[test]
    fn an_error_for_the_client_is_answered_with_its_text() {
        let answer = Response::from_error(&Error::status(404, "no such note"));
        assert_eq!((answer.status, answer.body_text().unwrap()), (404, "no such note"));
    }
}
