//! The rules of HTTP for a response's head and content, applied once to every response before
//! HTTP/1 or HTTP/2 writes it: RFC 9110, sections 6.4.1, 8.6 and 9.3.2; RFC 9113, section 8.1.1.
//! Never reads a body and never chooses a status.

use crate::http::{field_classes::is_hop_by_hop, trailers};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use isopod_engine::has_no_content;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Names the side that failed, `host` or `app`, in every error response of the host and in every
/// other response with a 5xx status.
pub(crate) const ERROR_SOURCE: HeaderName = HeaderName::from_static("x-isopod-error-source");

/// Identifies a request in its response and in logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Marks every response of the API, so that the command line recognises a host.
pub(crate) const API: HeaderName = HeaderName::from_static("x-isopod-api");

/// Removes fields that a guest must not set: hop-by-hop fields, and those that only the host sets.
pub(crate) fn strip_guest_fields(headers: &mut HeaderMap) {
    static OWN: [HeaderName; 3] = [ERROR_SOURCE, API, header::HOST];
    let is_ours = |name: &HeaderName| is_hop_by_hop(name) || OWN.contains(name);
    while let Some(name) = headers.keys().find(|name| is_ours(name)).cloned() {
        headers.remove(name);
    }
}

/// Returns the response to send, and the original body if it must not be sent.
pub(crate) fn apply<B: Body>(
    method: &Method,
    version: Version,
    response: Response<B>,
) -> (Response<SentBody<B>>, Option<B>) {
    let (mut parts, body) = response.into_parts();
    let (given, exact) = (given_length(&parts.headers), body.size_hint().exact());
    let length = content_length(method, parts.status, given, exact);
    if has_no_content(method, parts.status) {
        set_length(&mut parts.headers, given, length);
        // HTTP/1 writes the length of a 304 only where its body has that length.
        let content = match length {
            Some(length) if version < Version::HTTP_2 && parts.status == StatusCode::NOT_MODIFIED => {
                SentBody::LengthOnly(length)
            }
            _ => SentBody::Nothing,
        };
        return (Response::from_parts(parts, content), Some(body));
    }
    // If the head has no length, HTTP/1 and HTTP/2 add the known length.
    if parts.headers.contains_key(header::CONTENT_LENGTH) {
        set_length(&mut parts.headers, given, length);
    }
    (Response::from_parts(parts, SentBody::Whole(body)), None)
}

/// Returns `content-length`, given the head's value and the body's known length.
fn content_length(method: &Method, status: StatusCode, given: Option<u64>, exact: Option<u64>) -> Option<u64> {
    match status {
        StatusCode::NO_CONTENT => None,
        status if status.is_informational() => None,
        StatusCode::RESET_CONTENT => Some(0),
        // The length that a 200 would have; only the sender knows it.
        StatusCode::NOT_MODIFIED => given,
        // An empty body doesn't show the length that a GET would get; any other one does.
        _ if method == Method::HEAD => exact.filter(|&length| length > 0).or(given),
        _ => exact.or(given),
    }
}

/// Returns the `content-length` of a head; `None` if it has several or an invalid one.
fn given_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

fn set_length(headers: &mut HeaderMap, given: Option<u64>, length: Option<u64>) {
    match length {
        Some(_) if length == given => {}
        Some(length) => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(header::CONTENT_LENGTH);
        }
    }
}

/// The body of a response as the rules allow it to be sent.
pub(crate) enum SentBody<B> {
    Whole(B),
    Nothing,
    /// No content, but with the length that another request would get.
    LengthOnly(u64),
}

impl<B: Body + Unpin> Body for SentBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.get_mut() {
            Self::Whole(body) => loop {
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Some(frame) = trailers::allowed(frame) {
                            return Poll::Ready(Some(Ok(frame)));
                        }
                    }
                    end => return Poll::Ready(end),
                }
            },
            Self::Nothing | Self::LengthOnly(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Nothing => true,
            Self::LengthOnly(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Nothing => SizeHint::with_exact(0),
            Self::LengthOnly(length) => SizeHint::with_exact(*length),
        }
    }
}

impl<B: Body> SentBody<B> {
    /// Returns the number of content bytes, if known in advance.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self {
            Self::Whole(body) => body.size_hint().exact(),
            Self::Nothing | Self::LengthOnly(_) => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;

    fn sent(
        method: &Method,
        version: Version,
        status: u16,
        given: &[&str],
        body: &str,
    ) -> Response<SentBody<Full<Bytes>>> {
        let mut response = Response::builder().status(status);
        for length in given {
            response = response.header(header::CONTENT_LENGTH, *length);
        }
        apply(method, version, response.body(Full::from(body.to_owned())).unwrap()).0
    }

    #[test]
    fn content_and_its_length_follow_from_method_and_status() {
        let (get, head) = (&Method::GET, &Method::HEAD);
        // Method, status, the length in the head, the body; then whether it is sent, and the
        // length.
        type Row<'a> = (&'a Method, u16, &'a [&'a str], &'a str, bool, Option<&'a str>);
        let table: [Row<'_>; 21] = [
            (get, 200, &[], "hello", true, None),
            (get, 200, &["5"], "hello", true, Some("5")),
            (get, 200, &["99"], "hello", true, Some("5")),
            (get, 200, &["5", "5"], "hello", true, Some("5")),
            (get, 200, &["+5"], "hello", true, Some("5")),
            (get, 404, &[], "hello", true, None),
            (head, 200, &[], "hello", false, Some("5")),
            (head, 200, &["13366"], "", false, Some("13366")),
            (head, 200, &["13366"], "hello", false, Some("5")),
            (head, 200, &["nonsense"], "", false, None),
            (head, 200, &[], "", false, None),
            (head, 204, &["5"], "", false, None),
            (head, 304, &["5"], "", false, Some("5")),
            (head, 404, &[], "not here", false, Some("8")),
            (get, 204, &["0"], "", false, None),
            (get, 204, &["5"], "hello", false, None),
            (get, 205, &["5"], "hello", false, Some("0")),
            (get, 205, &[], "", false, Some("0")),
            (get, 304, &["10"], "", false, Some("10")),
            (get, 304, &[], "hello", false, None),
            (get, 103, &["5"], "hello", false, None),
        ];
        for (method, status, given, body, is_sent, length) in table {
            for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
                let row = format!("{method} {version:?} {status} {given:?} {body:?}");
                let response = sent(method, version, status, given, body);
                assert_eq!(matches!(response.body(), SentBody::Whole(_)), is_sent, "{row}");
                let lengths: Vec<_> = response.headers().get_all(header::CONTENT_LENGTH).iter().collect();
                assert_eq!(lengths, length.into_iter().collect::<Vec<_>>(), "{row}");
                assert_eq!(response.body().bytes(), Some(if is_sent { body.len() as u64 } else { 0 }), "{row}");
            }
        }
    }

    #[test]
    fn a_304_has_a_sized_body_over_http_1_only() {
        let length = |version| sent(&Method::GET, version, 304, &["10"], "").body().size_hint().exact();
        assert_eq!((length(Version::HTTP_11), length(Version::HTTP_2)), (Some(10), Some(0)));
    }

    #[test]
    fn an_unsent_body_is_returned() {
        let response = |status: u16| Response::builder().status(status).body(Full::<Bytes>::from("hello")).unwrap();
        let left = |status| apply(&Method::GET, Version::HTTP_2, response(status)).1.is_some();
        assert!(left(204) && left(304) && !left(200));
    }

    #[test]
    fn a_guest_cannot_set_hop_by_hop_or_host_fields() {
        let mut headers = HeaderMap::new();
        for name in [
            "connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "host",
            "x-isopod-error-source",
            "x-isopod-api",
            "x-a",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
        }
        strip_guest_fields(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-a"]);
        assert_eq!(headers.len(), 2);
    }
}
