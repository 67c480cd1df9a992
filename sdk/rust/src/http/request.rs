//! Requests that a handler receives, or creates for `fetch`. Never sends one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::{Body, HeaderValue, Headers, Method, packed, url};
use crate::{Error, Result};

/// A request, with its whole body.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The header fields.
    pub headers: Headers,
    /// The body.
    pub body: Body,
    pub(crate) scheme: Cow<'static, str>,
    pub(crate) target: Target,
    pub(crate) params: Vec<(&'static str, String)>,
    pub(crate) timeout: Option<Duration>,
}

/// The host of a request, and its path with the query. They share an allocation.
#[derive(Debug)]
pub(crate) struct Target {
    text: String,
    authority_length: usize,
}

impl Target {
    pub(crate) fn new(authority: &str, path_with_query: &str) -> Self {
        Self { text: [authority, path_with_query].concat(), authority_length: authority.len() }
    }

    /// Returns a target from its two parts; `None` if they are not UTF-8.
    fn of(parts: [&[u8]; 2]) -> Option<Self> {
        let text = String::from_utf8(parts.concat()).ok()?;
        let authority_length = parts[0].len();
        text.is_char_boundary(authority_length).then_some(Self { text, authority_length })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.text[..self.authority_length]
    }

    pub(crate) fn path_with_query(&self) -> &str {
        &self.text[self.authority_length..]
    }
}

/// The host's side.
impl Request {
    /// Returns a request from its body, its head, and the length of its head; `None` if they are
    /// not encoded as `isopod:app/http-packed` defines.
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a host passes such a request"))]
    pub(crate) fn unpack(mut bytes: Vec<u8>) -> Option<Self> {
        let (rest, head_length) = bytes.split_last_chunk()?;
        let length = rest.len();
        let body_length = length.checked_sub(u32::from_le_bytes(*head_length) as usize)?;
        bytes.truncate(length);
        // A body keeps the allocation, since it is usually larger than the head.
        let head = if body_length == 0 { std::mem::take(&mut bytes) } else { bytes.split_off(body_length) };
        let (method, rest) = packed::split(&head)?;
        let (scheme, rest) = packed::split(rest)?;
        let (authority, rest) = packed::split(rest)?;
        let (path, rest) = packed::split(rest)?;
        let start = head.len() - rest.len();
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
        Some(Self {
            method: match Method::standard(method) {
                Some(method) => method,
                None => Method::Other(text(method)?),
            },
            scheme: Cow::Borrowed(if scheme == b"https" { "https" } else { "http" }),
            target: Target::of([authority, path])?,
            params: Vec::new(),
            timeout: None,
            body: Body::from(bytes),
            headers: Headers::received(head, start),
        })
    }
}

/// Accessors for handlers.
impl Request {
    /// Returns the path as it was sent: `/notes/1`.
    pub fn path(&self) -> &str {
        let (path, _) = url::split_at_byte(self.target.path_with_query(), b'?');
        if path.is_empty() { "/" } else { path }
    }

    /// Returns the query without its `?`; empty if the URL has no query.
    pub fn query(&self) -> &str {
        url::split_at_byte(self.target.path_with_query(), b'?').1.unwrap_or_default()
    }

    /// Returns a decoded value of the query.
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        url::pairs(self.query()).find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns the part of the path that the route's pattern names: `id` in `/notes/{id}`.
    ///
    /// Fails if the pattern has no such name.
    pub fn param(&self, name: &str) -> Result<&str> {
        let found = self.params.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| &**value).ok_or_else(|| Error::msg(format!("the route's pattern has no {{{name}}}")))
    }

    /// Returns `http` or `https`, as used by the client. A trusted proxy may report `https`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the host, with its port unless it is the scheme's default.
    pub fn authority(&self) -> &str {
        self.target.authority()
    }

    /// Returns the address of the client, from `x-real-ip`, which Isopod sets on every request.
    /// Behind a proxy that the host trusts (`trusted_proxies`), it is the address that the proxy
    /// reports.
    ///
    /// Other hosts may not set the field, or may pass on an address that the client claims.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.header("x-real-ip")?.parse().ok()
    }

    /// Returns the first value of a header field, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Returns the body's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.body.as_bytes().unwrap_or_default()
    }

    /// Returns the body as text. The error for a body that isn't UTF-8 has status 400.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes()).map_err(|_| Error::status(400, "the body is not UTF-8 text"))
    }

    /// Deserialises the body from JSON. The error for invalid JSON has status 400 and names the
    /// reason.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.bytes()).map_err(|error| Error::status(400, format!("invalid JSON body: {error}")))
    }

    /// Returns a decoded field of a posted form.
    pub fn form_param(&self, name: &str) -> Option<Cow<'_, str>> {
        let form = std::str::from_utf8(self.bytes()).ok()?;
        url::pairs(form).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Constructors, for `fetch` and for tests.
///
/// `fetch` rejects a request with an invalid URL. A path alone is sufficient in tests.
impl Request {
    /// Creates a request with a method and a URL.
    pub fn new(method: impl Into<Method>, url: &str) -> Self {
        let (scheme, authority, path) = url::split(url).unwrap_or(("http", "", url));
        Self {
            method: method.into(),
            headers: Headers::new(),
            body: Body::empty(),
            scheme: Cow::Borrowed(scheme),
            target: Target::new(authority, path),
            params: Vec::new(),
            timeout: None,
        }
    }

    /// Creates a GET request.
    pub fn get(url: &str) -> Self {
        Self::new(Method::Get, url)
    }

    /// Creates a POST request.
    pub fn post(url: &str) -> Self {
        Self::new(Method::Post, url)
    }

    /// Returns the request with a header field set.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Returns the request with a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns the request with a value serialised as JSON as its body.
    pub fn with_json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        Ok(self.with_header("content-type", "application/json").with_body(serde_json::to_vec(value)?))
    }

    /// Returns the request with a timeout: it is cancelled if no response begins within this time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_path_query_and_form() {
        let request = Request::post("https://a.example/find?q=a%26b&q=c&empty").with_body("name=J%C3%B8rn+L&age=7");
        assert_eq!((request.path(), request.authority()), ("/find", "a.example"));
        assert_eq!(request.query_param("q").as_deref(), Some("a&b"));
        assert_eq!(request.query_param("empty").as_deref(), Some(""));
        assert_eq!(request.query_param("none"), None);
        assert_eq!(request.form_param("name").as_deref(), Some("Jørn L"));
    }

    #[test]
    fn the_client_address_is_taken_from_x_real_ip() {
        let address = |text: &'static str| Request::get("/").with_header("x-real-ip", text).client_address();
        assert_eq!(address("192.0.2.1"), "192.0.2.1".parse().ok());
        assert_eq!(address("2001:db8::1"), "2001:db8::1".parse().ok());
        assert_eq!(address("unknown"), None);
        assert_eq!(Request::get("/").client_address(), None);
    }

    #[test]
    fn invalid_json_is_answered_with_400() {
        let request = Request::post("/").with_body("{\"age\": \"seven\"}");
        let error = request.json::<std::collections::HashMap<String, u8>>().unwrap_err();
        assert_eq!(error.http_status(), 400);
    }

    fn encoded(body: &[u8], head: &[&str]) -> Vec<u8> {
        let mut sequence = Vec::new();
        head.iter().for_each(|text| packed::push(&mut sequence, text.as_bytes()));
        [body, &sequence, &(sequence.len() as u32).to_le_bytes()].concat()
    }

    #[test]
    fn a_request_has_the_body_and_the_head_that_were_packed() {
        for body in ["", "some body"] {
            let head = ["PURGE", "https", "a.example", "/x?y=1", "accept", "*/*", "x-empty", ""];
            let request = Request::unpack(encoded(body.as_bytes(), &head)).unwrap();
            assert_eq!((request.method.as_str(), request.scheme()), ("PURGE", "https"));
            assert_eq!((request.authority(), request.path(), request.query()), ("a.example", "/x", "y=1"));
            let fields: Vec<_> = request.headers.iter().collect();
            assert_eq!(fields, [("accept", &b"*/*"[..]), ("x-empty", b"")]);
            assert_eq!(request.bytes(), body.as_bytes());
        }
    }

    #[test]
    fn a_truncated_head_is_rejected() {
        let whole = encoded(b"", &["GET", "http", "a", "/"]);
        let head = &whole[..whole.len() - 4];
        for end in 0..head.len() {
            let length = (end as u32).to_le_bytes();
            assert!(Request::unpack([&head[..end], &length].concat()).is_none(), "{end}");
        }
        assert!(Request::unpack(vec![1, 0, 0, 0]).is_none(), "the head is longer than the request");
        assert!(Request::unpack(vec![0; 3]).is_none());
    }
}
