//! Decides the response to a request for an asset: the representation, the conditions and the range
//! (RFC 9110, sections 12.5.3, 13.2 and 14.2). Pure: reads no file.

use fly_accept_encoding::Encoding;
use headers::{ContentRange, ETag, HeaderMapExt, IfMatch, IfNoneMatch, IfRange};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request, response};
use http_range_header::parse_range_header;
use isopod_engine::{AssetResponse, content_type, quoted_etag};
use isopod_policy::{Asset, AssetEncoding, AssetIndex};

/// The content of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    None,
    /// A part of the pack.
    Bytes {
        offset: u64,
        length: u64,
    },
}

/// The representation of an asset for one client.
struct Selected<'a> {
    asset: &'a Asset,
    encoding: Option<AssetEncoding>,
    /// Whether another client may get another representation.
    varies: bool,
}

/// The decision about a request's conditions and range.
#[derive(Debug, PartialEq, Eq)]
enum Evaluated {
    Whole,
    Part { start: u64, end: u64 },
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
}

/// Returns the head of the response with an asset, and its content.
pub(super) fn respond(
    request: &request::Parts,
    index: &AssetIndex,
    asset: &Asset,
    response: &AssetResponse,
) -> (response::Parts, Content) {
    let (status, headers) = (response.status, response.headers.clone());
    let selected = select(&request.headers, index, asset);
    let Asset { offset, size, .. } = *selected.asset;
    let etag = quoted_etag(selected.asset);
    let evaluated = match status {
        StatusCode::OK => evaluate(request, &etag, size),
        _ => Evaluated::Whole,
    };
    let (mut head, ()) = Response::new(()).into_parts();
    (head.status, head.headers) = (status, headers);
    let fields = &mut head.headers;
    for name in [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::CONTENT_ENCODING, header::LAST_MODIFIED] {
        fields.remove(name);
    }
    if let Ok(etag) = HeaderValue::try_from(etag) {
        fields.insert(header::ETAG, etag);
    }
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if selected.varies {
        fields.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    let (status, part) = match evaluated {
        Evaluated::Whole => (status, Some((0, size))),
        Evaluated::Part { start, end } => {
            if let Ok(range) = ContentRange::bytes(start..end, size) {
                fields.typed_insert(range);
            }
            (StatusCode::PARTIAL_CONTENT, Some((start, end)))
        }
        Evaluated::NotModified => (StatusCode::NOT_MODIFIED, None),
        Evaluated::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Evaluated::Unsatisfiable => {
            fields.typed_insert(ContentRange::unsatisfied_bytes(size));
            (StatusCode::RANGE_NOT_SATISFIABLE, None)
        }
    };
    head.status = status;
    let Some((start, end)) = part else {
        // This response has no content that the fields could describe.
        head.headers.remove(header::CONTENT_TYPE);
        if status != StatusCode::NOT_MODIFIED {
            // Caches must not keep an error.
            head.headers.remove(header::CACHE_CONTROL);
        }
        return (head, Content::None);
    };
    if !head.headers.contains_key(header::CONTENT_TYPE)
        && let Ok(value) = HeaderValue::try_from(content_type(asset))
    {
        head.headers.insert(header::CONTENT_TYPE, value);
    }
    if let Some(encoding) = selected.encoding {
        head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    }
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    (head, Content::Bytes { offset: offset + start, length: end - start })
}

/// Selects the representation with the highest quality for the client (`accept-encoding`). Among
/// equal qualities, selects the smallest. The content itself is always acceptable.
fn select<'a>(request: &HeaderMap, index: &'a AssetIndex, asset: &'a Asset) -> Selected<'a> {
    let accepted = Accepted::of(request);
    let mut selected = Selected { asset, encoding: None, varies: false };
    let mut quality = accepted.identity;
    for (encoding, form) in index.encoded(asset) {
        selected.varies = true;
        let offered = accepted.quality(encoding);
        if offered > 0.0 && (offered > quality || (offered >= quality && form.size < selected.asset.size)) {
            (selected.asset, selected.encoding, quality) = (form, Some(encoding), offered);
        }
    }
    selected
}

/// The qualities in a request's `accept-encoding`. Without the field, only the content itself is
/// accepted.
#[derive(Default)]
struct Accepted {
    identity: f32,
    /// The quality of encodings that the field doesn't name.
    others: f32,
    named: Vec<(Encoding, f32)>,
}

impl Accepted {
    fn of(request: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for (encoding, quality) in fly_accept_encoding::encodings_iter(request).filter_map(Result::ok) {
            match encoding {
                Some(Encoding::Identity) => accepted.identity = quality,
                Some(encoding) => accepted.named.push((encoding, quality)),
                None => accepted.others = quality,
            }
        }
        accepted
    }

    fn quality(&self, encoding: AssetEncoding) -> f32 {
        let encoding = match encoding {
            AssetEncoding::Brotli => Encoding::Brotli,
            AssetEncoding::Zstd => Encoding::Zstd,
            AssetEncoding::Gzip => Encoding::Gzip,
        };
        self.named.iter().find(|(named, _)| *named == encoding).map_or(self.others, |(_, quality)| *quality)
    }
}

/// Evaluates the conditions of a request, then its range. Several ranges, and a range that isn't
/// valid, are ignored.
fn evaluate(request: &request::Parts, etag: &str, size: u64) -> Evaluated {
    let (method, headers) = (&request.method, &request.headers);
    let Ok(etag) = etag.parse::<ETag>() else { return Evaluated::Whole };
    if headers.typed_get::<IfMatch>().is_some_and(|condition| !condition.precondition_passes(&etag)) {
        return Evaluated::PreconditionFailed;
    }
    if headers.typed_get::<IfNoneMatch>().is_some_and(|condition| !condition.precondition_passes(&etag)) {
        return match *method {
            Method::GET | Method::HEAD => Evaluated::NotModified,
            _ => Evaluated::PreconditionFailed,
        };
    }
    let is_modified =
        || headers.typed_get::<IfRange>().is_some_and(|condition| condition.is_modified(Some(&etag), None));
    let has_invalid_condition = || headers.contains_key(header::IF_RANGE) && headers.typed_get::<IfRange>().is_none();
    let Some(range) = headers.get(header::RANGE).filter(|_| *method == Method::GET) else { return Evaluated::Whole };
    if has_invalid_condition() || is_modified() {
        return Evaluated::Whole;
    }
    let Some(ranges) = range.to_str().ok().and_then(|range| parse_range_header(range).ok()) else {
        return Evaluated::Whole;
    };
    if ranges.len() > 1 {
        return Evaluated::Whole;
    }
    match ranges.validate(size).as_deref() {
        Ok([range]) => Evaluated::Part { start: *range.start(), end: range.end() + 1 },
        Ok(_) => Evaluated::Whole,
        Err(_) => Evaluated::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_policy::assets;
    use std::collections::BTreeMap;

    fn index(files: &[(&str, &str)]) -> AssetIndex {
        let files: BTreeMap<_, _> =
            files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect();
        let pack = assets::pack(&files);
        let length = assets::index_length(pack.first_chunk().expect("a head")).expect("a length");
        AssetIndex::parse(&pack[assets::HEAD_BYTES..assets::HEAD_BYTES + length]).expect("an index")
    }

    fn answer(method: Method, path: &str, fields: &[(&str, &str)]) -> (response::Parts, Content) {
        let index = index(&[("a.txt", "0123456789"), ("b.js", "the script"), ("b.js.br", "br"), ("b.js.gz", "gzip")]);
        answer_of(&index, StatusCode::OK, method, path, fields)
    }

    fn answer_of(
        index: &AssetIndex,
        status: StatusCode,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (response::Parts, Content) {
        let mut request = http::Request::builder().method(method);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).expect("a request").into_parts();
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let response = AssetResponse { path: path.to_owned(), status, headers };
        respond(&request, index, index.get(path).expect("an asset"), &response)
    }

    fn text<'a>(head: &'a response::Parts, name: &str) -> &'a str {
        head.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    fn etag_of(path: &str) -> String {
        let (head, _) = answer(Method::GET, path, &[]);
        text(&head, "etag").to_owned()
    }

    #[test]
    fn a_whole_asset_has_its_length_type_and_validator() {
        for method in [Method::GET, Method::HEAD] {
            let (head, content) = answer(method, "a.txt", &[("range", "bytes=1-2,4-5")]);
            assert_eq!((head.status, text(&head, "content-length")), (StatusCode::OK, "10"));
            assert_eq!((text(&head, "content-type"), text(&head, "vary")), ("text/plain; charset=utf-8", ""));
            assert_eq!((text(&head, "cache-control"), text(&head, "accept-ranges")), ("no-cache", "bytes"));
            assert!(matches!(content, Content::Bytes { length: 10, .. }) && text(&head, "etag").len() == 34);
        }
    }

    #[test]
    fn a_request_with_the_current_etag_gets_304() {
        let etag = etag_of("a.txt");
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let (head, content) = answer(Method::GET, "a.txt", &[("if-none-match", &known), ("range", "bytes=0-1")]);
            assert_eq!((head.status, content), (StatusCode::NOT_MODIFIED, Content::None), "{known}");
            assert_eq!((text(&head, "etag"), text(&head, "cache-control")), (etag.as_str(), "no-cache"));
            assert_eq!((text(&head, "content-type"), text(&head, "content-length")), ("", ""));
        }
        let (head, _) = answer(Method::GET, "a.txt", &[("if-none-match", "\"x\"")]);
        assert_eq!(head.status, StatusCode::OK);
        for (condition, known, status) in [
            ("if-match", "\"x\"", StatusCode::PRECONDITION_FAILED),
            ("if-match", etag.as_str(), StatusCode::OK),
            ("if-match", "*", StatusCode::OK),
        ] {
            assert_eq!(answer(Method::GET, "a.txt", &[(condition, known)]).0.status, status, "{condition}: {known}");
        }
    }

    #[test]
    fn one_range_gets_a_part_and_a_range_beyond_the_end_gets_416() {
        let start = match answer(Method::GET, "a.txt", &[]).1 {
            Content::Bytes { offset, .. } => offset,
            Content::None => panic!("no content"),
        };
        for (range, from, length, shown) in [
            ("bytes=0-0", 0, 1, "bytes 0-0/10"),
            ("bytes=2-4", 2, 3, "bytes 2-4/10"),
            ("bytes=8-", 8, 2, "bytes 8-9/10"),
            ("bytes=-3", 7, 3, "bytes 7-9/10"),
            ("bytes=5-99", 5, 5, "bytes 5-9/10"),
            ("bytes=-99", 0, 10, "bytes 0-9/10"),
        ] {
            let (head, content) = answer(Method::GET, "a.txt", &[("range", range)]);
            assert_eq!((head.status, text(&head, "content-range")), (StatusCode::PARTIAL_CONTENT, shown), "{range}");
            assert_eq!(content, Content::Bytes { offset: start + from, length }, "{range}");
            assert_eq!(text(&head, "content-length"), length.to_string());
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            let (head, content) = answer(Method::GET, "a.txt", &[("range", range)]);
            let seen = (head.status, text(&head, "content-range"), content);
            assert_eq!(seen, (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */10", Content::None), "{range}");
        }
        for range in ["bytes=4-2", "bytes=a-b", "lines=1-2", "bytes", "bytes=0-1,3-4", "bytes=0--1"] {
            assert_eq!(answer(Method::GET, "a.txt", &[("range", range)]).0.status, StatusCode::OK, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_ignored() {
        let etag = etag_of("a.txt");
        for (condition, status) in [
            (etag.clone(), StatusCode::PARTIAL_CONTENT),
            (format!("W/{etag}"), StatusCode::OK),
            ("\"x\"".to_owned(), StatusCode::OK),
            ("Sat, 29 Oct 1994 19:43:31 GMT".to_owned(), StatusCode::OK),
            ("invalid".to_owned(), StatusCode::OK),
        ] {
            let (head, _) = answer(Method::GET, "a.txt", &[("range", "bytes=0-1"), ("if-range", &condition)]);
            assert_eq!(head.status, status, "{condition}");
        }
    }

    #[test]
    fn the_client_gets_the_smallest_of_its_preferred_representations() {
        for (accepted, encoding) in [
            ("gzip, deflate, br, zstd", "br"),
            ("gzip", "gzip"),
            ("br;q=0.5, gzip;q=0.9", "gzip"),
            ("br;q=0, gzip;q=0.1", "gzip"),
            ("*", "br"),
            ("*;q=0.5, br;q=0", "gzip"),
            ("identity, gzip;q=0.5", ""),
            ("identity;q=0, br", "br"),
            ("br;q=0", ""),
            ("zstd", ""),
            ("", ""),
            ("nonsense;;q=x,,", ""),
        ] {
            let (head, _) = answer(Method::GET, "b.js", &[("accept-encoding", accepted)]);
            assert_eq!((text(&head, "content-encoding"), text(&head, "vary")), (encoding, "accept-encoding"));
            assert_eq!(text(&head, "content-type"), "text/javascript; charset=utf-8", "{accepted}");
        }
        let (head, _) = answer(Method::GET, "b.js", &[]);
        assert_eq!((text(&head, "content-encoding"), text(&head, "vary")), ("", "accept-encoding"));
        let (encoded, _) = answer(Method::GET, "b.js", &[("accept-encoding", "br"), ("range", "bytes=1-")]);
        assert_ne!(text(&encoded, "etag"), text(&head, "etag"), "each representation has its own validator");
        assert_eq!((encoded.status, text(&encoded, "content-range")), (StatusCode::PARTIAL_CONTENT, "bytes 1-1/2"));
    }

    #[test]
    fn a_larger_form_is_sent_only_to_clients_that_prefer_it() {
        let index = index(&[("a.js", "1"), ("a.js.gz", "longer")]);
        for (accepted, encoding) in
            [("gzip", "gzip"), ("gzip, identity;q=0.5", "gzip"), ("gzip, identity", ""), ("gzip;q=0.5, identity", "")]
        {
            let fields = [("accept-encoding", accepted)];
            let (head, _) = answer_of(&index, StatusCode::OK, Method::GET, "a.js", &fields);
            assert_eq!(text(&head, "content-encoding"), encoding, "{accepted}");
        }
    }

    #[test]
    fn conditions_and_ranges_apply_to_status_200_only() {
        let index = index(&[("404.html", "not found")]);
        let fields = [("if-none-match", "*"), ("range", "bytes=0-1")];
        let (head, content) = answer_of(&index, StatusCode::NOT_FOUND, Method::GET, "404.html", &fields);
        assert_eq!((head.status, text(&head, "content-length")), (StatusCode::NOT_FOUND, "9"));
        assert!(matches!(content, Content::Bytes { length: 9, .. }));
    }
}
