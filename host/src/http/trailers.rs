//! The fields that may follow a message's content as trailers (RFC 9110, section 6.5.1), in both
//! directions. Removes all others. Never reads content.

use crate::http::field_classes::{is_about_client, is_hop_by_hop};
use http::{HeaderMap, HeaderName, header};
use http_body::Frame;

/// Fields that take effect before the content is processed: framing, routing, request modifiers,
/// authentication, response controls and the format of the content. A recipient that merges
/// trailers into the header section would apply them too late, or to the wrong message.
static HEADER_ONLY: [HeaderName; 39] = [
    header::CONTENT_LENGTH,
    header::TRAILER,
    header::HOST,
    header::MAX_FORWARDS,
    header::VIA,
    header::CACHE_CONTROL,
    header::EXPECT,
    header::PRAGMA,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::AUTHORIZATION,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AGE,
    header::DATE,
    header::EXPIRES,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    header::WARNING,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::CONTENT_DISPOSITION,
    header::ORIGIN,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-isopod-error-source"),
    HeaderName::from_static("x-isopod-timing"),
];

/// Returns whether a field may be a trailer.
fn may_follow(name: &HeaderName) -> bool {
    !HEADER_ONLY.contains(name) && !is_hop_by_hop(name) && !is_about_client(name)
}

/// Removes the fields that may not be trailers. Returns `None` for a frame without remaining
/// fields.
pub(crate) fn allowed<D>(frame: Frame<D>) -> Option<Frame<D>> {
    match frame.into_trailers() {
        Err(data) => Some(data),
        Ok(mut trailers) => {
            strip(&mut trailers);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
    }
}

fn strip(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| !may_follow(name)).cloned() {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left(names: &[&'static str]) -> Option<Vec<String>> {
        let mut trailers = HeaderMap::new();
        for name in names {
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
            trailers.append(HeaderName::from_static(name), HeaderValue::from_static("2"));
        }
        let frame = allowed(Frame::<()>::trailers(trailers))?;
        Some(frame.trailers_ref()?.keys().map(|name| name.as_str().to_owned()).collect())
    }

    #[test]
    fn header_section_fields_are_not_allowed_as_trailers() {
        for name in [
            "content-length",
            "transfer-encoding",
            "trailer",
            "te",
            "connection",
            "keep-alive",
            "upgrade",
            "host",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "content-range",
            "cache-control",
            "range",
            "if-match",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_for",
            "x-real-ip",
            "x-request-id",
            "x-isopod-error-source",
            "x-isopod-timing",
        ] {
            assert_eq!(left(&[name, "x-checksum"]), Some(vec!["x-checksum".to_owned()]), "{name}");
            assert_eq!(left(&[name]), None, "{name}");
        }
    }

    #[test]
    fn fields_about_the_content_may_be_trailers() {
        for name in ["grpc-status", "grpc-message", "server-timing", "content-digest", "etag", "authentication-info"] {
            assert_eq!(left(&[name]), Some(vec![name.to_owned()]), "{name}");
        }
        assert!(allowed(Frame::data(())).is_some());
    }
}
