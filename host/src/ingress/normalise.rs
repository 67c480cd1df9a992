//! Normalises every request before it reaches an app: an absolute target, one `host` with the same
//! authority, one scheme, one `cookie`, and no hop-by-hop fields. Refuses requests that can't be
//! normalised. Never selects an app.

use super::{
    authority::{bad_host, read_authority},
    forwarded::{self, Peer},
    last_host::LastHost,
    trusted::TrustedProxies,
};
use crate::{http::field_classes::is_hop_by_hop, http::problem::Problem};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use std::net::SocketAddr;

/// The connection on which a request arrived.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) peer: Peer,
    /// The authority of an HTTP/1.0 request without `host`, if every request is for one app.
    pub(super) authority: Option<Authority>,
    pub(super) last_host: LastHost,
}

impl Arrival {
    pub(super) fn new(peer: Peer, local: Option<SocketAddr>) -> Self {
        let authority = local.and_then(|address| Authority::try_from(address.to_string()).ok());
        Self { peer, authority, last_host: LastHost::default() }
    }

    /// Parses a host, unless it is the connection's last host.
    #[expect(clippy::result_large_err, reason = "a problem is rare, and is answered where it is made")]
    fn read_host(&self, text: &[u8]) -> Result<Authority, Problem> {
        if let Some(authority) = self.last_host.authority(text) {
            return Ok(authority);
        }
        let authority = read_authority(text)?;
        self.last_host.set(text, authority.clone(), value_of(&authority)?);
        Ok(authority)
    }

    /// Returns an authority as a field value.
    #[expect(clippy::result_large_err, reason = "as above")]
    fn value_of(&self, authority: &Authority) -> Result<HeaderValue, Problem> {
        self.last_host.value(authority).map_or_else(|| value_of(authority), Ok)
    }
}

/// The recipient of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    App,
    /// `OPTIONS *`: a request to the server itself, not to an app.
    Server,
}

/// Normalises the request, or returns why it is refused.
#[expect(clippy::result_large_err, reason = "a problem is rare, and is answered where it is made")]
pub(super) fn normalise<B>(
    request: &mut Request<B>,
    arrival: &Arrival,
    proxies: &TrustedProxies,
) -> Result<Target, Problem> {
    let has_connection_fields = request.headers().keys().any(is_hop_by_hop);
    check_method(request)?;
    if has_connection_fields {
        check_codings(request.headers())?;
    }
    let authority = authority(request, arrival.authority.as_ref(), |text| arrival.read_host(text))?;
    let target = std::mem::take(request.uri_mut()).into_parts();
    if target.scheme.as_ref().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(bad_target("its scheme is neither http nor https"));
    }
    let is_absolute = target.scheme.is_some();
    let path = match target.path_and_query {
        Some(path) if path == "*" && request.method() == Method::OPTIONS => return Ok(Target::Server),
        Some(path) if path.as_str().starts_with('/') => path,
        // The path of `http://h?q` is empty, which is the same as `/`.
        Some(path) if is_absolute && path.as_str().starts_with('?') => slashed(&path)?,
        None if is_absolute => PathAndQuery::from_static("/"),
        _ => return Err(bad_target("it is neither a path that begins with `/` nor a URL")),
    };
    let headers = request.headers_mut();
    if has_connection_fields {
        end_connection_fields(headers);
    }
    let has_repeated_fields = headers.len() > headers.keys_len();
    if has_repeated_fields {
        join_cookies(headers);
        join_lengths(headers);
    }
    let host = arrival.value_of(&authority)?;
    let scheme = forwarded::apply(headers, &arrival.peer, proxies, &host, target.scheme.as_ref());
    if headers.get(header::HOST) != Some(&host) {
        headers.insert(header::HOST, host);
    }
    let mut parts = http::uri::Parts::default();
    (parts.scheme, parts.authority, parts.path_and_query) = (Some(scheme), Some(authority), Some(path));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad_target("it is not a URL"))?;
    Ok(Target::App)
}

/// Applies the checks of both addresses: no tunnel, only codings that hyper decodes, and one valid
/// host. Returns the authority; `usual` is the authority of an HTTP/1.0 request without `host`.
#[expect(clippy::result_large_err, reason = "as above")]
pub(crate) fn checked<B>(request: &Request<B>, usual: Option<&Authority>) -> Result<Authority, Problem> {
    check_method(request)?;
    check_codings(request.headers())?;
    authority(request, usual, read_authority)
}

#[expect(clippy::result_large_err, reason = "as above")]
fn check_method<B>(request: &Request<B>) -> Result<(), Problem> {
    if request.method() == Method::CONNECT {
        let (title, detail) = ("CONNECT is not supported", "this host is not a proxy: it answers requests itself");
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "no-tunnels", title, detail));
    }
    Ok(())
}

fn bad_target(detail: &str) -> Problem {
    let detail = format!("the request's target is invalid: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, "bad-target", "Invalid request target", detail)
}

fn no_host(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "no-host", "No host, or several", detail)
        .hint("send one `Host` header, such as `Host: hello.localhost`")
}

/// Refuses transfer codings that hyper doesn't decode: the app would receive the encoded body.
#[expect(clippy::result_large_err, reason = "as above")]
fn check_codings(headers: &HeaderMap) -> Result<(), Problem> {
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let mut is_chunked = false;
    for coding in codings.filter(|coding| !coding.is_empty()) {
        let problem = if !coding.eq_ignore_ascii_case(b"chunked") {
            let detail = format!("the transfer coding `{}` is not supported; only `chunked` is", coding.escape_ascii());
            Problem::new(StatusCode::NOT_IMPLEMENTED, "unknown-coding", "Unknown transfer coding", detail)
                .hint("compress the body before sending, and name the compression in `content-encoding`")
        } else if is_chunked {
            let detail = "the body is chunked more than once";
            Problem::new(StatusCode::BAD_REQUEST, "bad-coding", "Repeated transfer coding", detail)
        } else {
            is_chunked = true;
            continue;
        };
        // The next bytes on the connection may be framed differently than the client intends.
        return Err(problem.header(header::CONNECTION, HeaderValue::from_static("close")));
    }
    Ok(())
}

/// Returns the authority of a request: that of its target, otherwise its `host`. The target
/// overrides the header (RFC 9112, section 3.2.2). In HTTP/2 both must be equal (RFC 9113, section
/// 8.3.1). `read_host` parses a host.
#[expect(clippy::result_large_err, reason = "as above")]
fn authority<B>(
    request: &Request<B>,
    usual: Option<&Authority>,
    read_host: impl Fn(&[u8]) -> Result<Authority, Problem>,
) -> Result<Authority, Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        // A proxy in front may have checked another value than this host would use.
        return Err(no_host("the request names several hosts"));
    }
    let host = host.map(|host| read_host(host.as_bytes())).transpose()?;
    match (request.uri().authority(), host) {
        // The authority form, which only CONNECT uses.
        (Some(_), _) if request.uri().scheme().is_none() => Err(bad_target("it is a host without a path")),
        (Some(_), None) if request.version() == Version::HTTP_11 => Err(no_host("the request has no `Host`")),
        (Some(target), host) => {
            let target = read_host(target.as_str().as_bytes())?;
            if request.version() == Version::HTTP_2 && host.is_some_and(|host| host != target) {
                return Err(bad_host("`:authority` and `host` differ"));
            }
            Ok(target)
        }
        (None, Some(host)) => Ok(host),
        (None, None) if request.version() == Version::HTTP_10 => {
            usual.cloned().ok_or_else(|| no_host("the request names no host"))
        }
        (None, None) => Err(no_host("the request names no host")),
    }
}

#[expect(clippy::result_large_err, reason = "as above")]
fn value_of(authority: &Authority) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(authority.as_str()).map_err(|_| bad_host("it is not text"))
}

#[expect(clippy::result_large_err, reason = "as above")]
fn slashed(path: &PathAndQuery) -> Result<PathAndQuery, Problem> {
    PathAndQuery::try_from(format!("/{}", path.as_str())).map_err(|_| bad_target("its query can't be read"))
}

/// Removes hop-by-hop fields, including those that `connection` names (RFC 9110, section 7.6.1).
/// Fields that frame the message are kept in any case, and so is `te: trailers`, which the app
/// needs.
fn end_connection_fields(headers: &mut HeaderMap) {
    let listed = |name: &HeaderName, item: &str| -> bool {
        let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(item))
    };
    let takes_trailers = listed(&header::TE, "trailers");
    let framing = [header::HOST, header::CONTENT_LENGTH];
    let lines = headers.get_all(header::CONNECTION).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let named: Vec<_> = lines.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in named.iter().filter(|name| !framing.contains(name)) {
        headers.remove(name);
    }
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Replaces several equal `content-length` fields by one field (RFC 9110, section 8.6). Both
/// protocols refuse differing values before a request arrives here.
fn join_lengths(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lengths.next().cloned();
    if lengths.next().is_some()
        && let Some(first) = first
    {
        headers.insert(header::CONTENT_LENGTH, first);
    }
}

/// Joins `cookie` fields that HTTP/2 may have split (RFC 9113, section 8.2.3). Empty fields are
/// skipped.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let cookies: Vec<_> = cookies.filter(|cookie| !cookie.is_empty()).collect();
    let joined = cookies.join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::try_from(joined) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: &[(&str, &str)] = &[];

    fn arrival(local: Option<&str>) -> Arrival {
        let peer = Peer::new("192.0.2.1".parse().expect("an address"), &TrustedProxies::default());
        Arrival::new(peer, local.map(|local| local.parse().expect("an address")))
    }

    fn request(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    fn normal(mut request: Request<()>) -> Result<(Target, Request<()>), &'static str> {
        let target = normalise(&mut request, &arrival(None), &TrustedProxies::default());
        target.map(|target| (target, request)).map_err(|problem| problem.code)
    }

    #[test]
    fn targets_are_normalised() {
        let host = &[("host", "a.localhost:8080")][..];
        let table = [
            (Version::HTTP_11, "/x?q", host, "http://a.localhost:8080/x?q"),
            (Version::HTTP_11, "http://b.localhost/x", host, "http://b.localhost/x"),
            (Version::HTTP_11, "https://b.localhost/x", host, "http://b.localhost/x"),
            (Version::HTTP_11, "http://b.localhost?q", host, "http://b.localhost/?q"),
            (Version::HTTP_11, "http://b.localhost", host, "http://b.localhost/"),
            (Version::HTTP_11, "http://[::1]:80/", host, "http://[::1]:80/"),
            (Version::HTTP_10, "http://b.localhost/", NONE, "http://b.localhost/"),
            (Version::HTTP_10, "/", &[("host", "a.localhost:")], "http://a.localhost/"),
            (Version::HTTP_2, "http://b.localhost/x", NONE, "http://b.localhost/x"),
            (Version::HTTP_2, "http://b.localhost/x", &[("host", "B.localhost")], "http://b.localhost/x"),
            (Version::HTTP_2, "/x", &[("host", "a.localhost")], "http://a.localhost/x"),
        ];
        for (version, target, fields, expected) in table {
            let (found, request) = normal(request(version, "GET", target, fields)).expect(target);
            assert_eq!((found, request.uri().to_string().as_str()), (Target::App, expected), "{target}");
            let path = request.uri().path_and_query().map(PathAndQuery::as_str);
            assert!(path.is_some_and(|path| expected.ends_with(path) && path.starts_with('/')), "{target}: {path:?}");
            let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
            assert_eq!(hosts, [request.uri().authority().expect("the target is absolute").as_str()], "{target}");
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        let host = &[("host", "a.localhost")][..];
        let table = [
            (Version::HTTP_11, "CONNECT", "a.localhost:80", host, "no-tunnels"),
            (Version::HTTP_11, "GET", "b.localhost", host, "bad-target"),
            (Version::HTTP_11, "GET", "*", host, "bad-target"),
            (Version::HTTP_2, "GET", "*", host, "bad-target"),
            (Version::HTTP_11, "GET", "ftp://a.localhost/", host, "bad-target"),
            (Version::HTTP_11, "GET", "http://u@a.localhost/", host, "bad-host"),
            (Version::HTTP_11, "GET", "http://u:p@a.localhost/", host, "bad-host"),
            (Version::HTTP_11, "GET", "http://a.localhost:99999/", host, "bad-host"),
            (Version::HTTP_11, "GET", "/", NONE, "no-host"),
            (Version::HTTP_10, "GET", "/", NONE, "no-host"),
            (Version::HTTP_2, "GET", "/", NONE, "no-host"),
            (Version::HTTP_11, "GET", "http://a.localhost/", NONE, "no-host"),
            (Version::HTTP_11, "GET", "/", &[("host", "a"), ("host", "a")], "no-host"),
            (Version::HTTP_11, "GET", "http://a/", &[("host", "a"), ("host", "b")], "no-host"),
            (Version::HTTP_2, "GET", "http://a.localhost/", &[("host", "b.localhost")], "bad-host"),
            (Version::HTTP_11, "POST", "/", &[("host", "a"), ("transfer-encoding", "gzip, chunked")], "unknown-coding"),
            (Version::HTTP_11, "POST", "/", &[("host", "a"), ("transfer-encoding", "chunked,chunked")], "bad-coding"),
        ];
        for (version, method, target, fields, code) in table {
            let refused = normal(request(version, method, target, fields)).map(|(target, _)| target);
            assert_eq!(refused, Err(code), "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn options_of_asterisk_is_for_the_server() {
        let (target, _) =
            normal(request(Version::HTTP_11, "OPTIONS", "*", &[("host", "a.localhost")])).expect("it is valid");
        assert_eq!(target, Target::Server);
        assert!(normal(request(Version::HTTP_11, "OPTIONS", "*", NONE)).is_err());
    }

    #[test]
    fn an_http_1_0_request_without_a_host_uses_the_listen_address() {
        let normalised = |version| {
            let mut request = request(version, "GET", "/x", NONE);
            let target = normalise(&mut request, &arrival(Some("127.0.0.1:8080")), &TrustedProxies::default());
            target.map(|_| request.uri().to_string()).map_err(|problem| problem.code)
        };
        assert_eq!(normalised(Version::HTTP_10).as_deref(), Ok("http://127.0.0.1:8080/x"));
        assert_eq!(normalised(Version::HTTP_11), Err("no-host"));
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let fields = [
            ("host", "a"),
            ("connection", "keep-alive, X-Hop, host, content-length"),
            ("connection", "te"),
            ("content-length", "0"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, Trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABk"),
            ("x-hop", "1"),
            ("x-kept", "2"),
        ];
        let (_, request) = normal(request(Version::HTTP_11, "POST", "/", &fields)).expect("it is valid");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.retain(|name| !name.starts_with("x-forwarded-") && *name != "x-real-ip");
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "te", "x-kept"]);
        assert_eq!(request.headers()["te"], "trailers");
    }

    #[test]
    fn cookies_that_were_split_are_joined() {
        let fields = [("host", "a"), ("cookie", ""), ("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        let (_, request) = normal(request(Version::HTTP_2, "GET", "/", &fields)).expect("it is valid");
        let cookies: Vec<_> = request.headers().get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
    }

    proptest! {
        #[test]
        fn accepted_requests_have_one_host_and_an_absolute_target(
            host in "[ -~]{0,20}", target in "[!-~]{1,30}", connection in "[ -~]{0,20}", version in 0..3_usize,
        ) {
            let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][version];
            let request = Request::builder().version(version).uri(target).header("host", host);
            if let Ok(request) = request.header("connection", connection).body(())
                && let Ok((Target::App, request)) = normal(request)
            {
                let uri = request.uri();
                prop_assert_eq!(uri.scheme(), Some(&Scheme::HTTP));
                let authority = uri.authority().expect("it is absolute").as_str();
                let hosts: Vec<_> = request.headers().get_all(header::HOST).iter().collect();
                prop_assert_eq!(hosts, [authority]);
                prop_assert!(!authority.contains('@') && uri.path().starts_with('/'));
                prop_assert!(!request.headers().contains_key(header::CONNECTION));
            }
        }
    }
}
