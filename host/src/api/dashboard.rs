//! Serves the dashboard: its page at the root of the admin address, and the files of the page.
//! Never holds data: the page reads the API with the token of its user.

mod files;

use std::sync::{Arc, LazyLock};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse},
};
use headers::{ETag, HeaderMapExt, IfNoneMatch};
use sha2::{Digest, Sha256};

use self::files::{FILES, File, PAGE};
use super::{Api, browser::RequestAuthority, error::Error};

/// The start of the paths of the page's files. The version follows.
const ASSETS: &str = "/assets/";

/// The page names this version, which is replaced by the version of the program's files.
const VERSION_IN_PAGE: &str = "/assets/VERSION/";

/// Permits a page to load and run only the files of the dashboard, and no other site to frame it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                              connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                              require-trusted-types-for 'script'; trusted-types 'none'";

const PAGE_CACHING: &str = "no-cache";
/// The path of a file contains the version of all files, so its content never changes.
const FILE_CACHING: &str = "public, max-age=31536000, immutable";

/// The version of the files: the start of a digest of their paths and contents.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for File { path, bytes, .. } in FILES.iter().chain([&PAGE]) {
        digest.update(path.as_bytes());
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
});

static INDEX: LazyLock<String> = LazyLock::new(|| {
    String::from_utf8_lossy(PAGE.bytes).replace(VERSION_IN_PAGE, &format!("{ASSETS}{}/", VERSION.as_str()))
});

/// Returns the page to a client with a token. Browsers receive it without one, from [`serve`].
#[utoipa::path(
    get,
    path = "/",
    operation_id = "show_dashboard",
    summary = "Shows the page of the dashboard",
    responses(
        (status = 200, description = "An HTML page", content((String = "text/html"))),
    )
)]
pub(super) async fn show() -> Html<&'static str> {
    Html(INDEX.as_str())
}

/// Serves the page to browsers, and its files. They contain no data, so they need no token. Passes
/// every other request on.
pub(super) async fn serve(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response<Body> {
    let path = request.uri().path();
    let file = path.strip_prefix(ASSETS);
    let is_read = *request.method() == Method::GET || *request.method() == Method::HEAD;
    if !is_read || (file.is_none() && !(path == "/" && accepts_html(request.headers()))) {
        return next.run(request).await;
    }
    if let Err(refused) = api.admin_names.ensure(RequestAuthority::of(request.extensions())) {
        return Error::from(refused).into_response();
    }
    let Some(file) = file else {
        return respond(request.headers(), INDEX.as_bytes(), PAGE.content_type, PAGE_CACHING);
    };
    let found = file.split_once('/').filter(|(version, _)| *version == VERSION.as_str());
    match found.and_then(|(_, path)| FILES.iter().find(|file| file.path == path)) {
        Some(file) => respond(request.headers(), file.bytes, file.content_type, FILE_CACHING),
        None => Error::UnknownRoute { method: request.method().to_string(), path: path.to_owned() }.into_response(),
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Returns a response with a file, or 304 if the client has it.
fn respond(
    request: &HeaderMap,
    bytes: &'static [u8],
    content_type: &'static str,
    caching: &'static str,
) -> Response<Body> {
    // The version determines the content of each path.
    let etag = format!("\"{}\"", VERSION.as_str()).parse::<ETag>().ok();
    let is_known = etag.as_ref().is_some_and(|etag| {
        request.typed_get::<IfNoneMatch>().is_some_and(|condition| !condition.precondition_passes(etag))
    });
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(bytes).into_response() };
    let fields: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let fields = fields.into_iter().filter(|(name, _)| !(is_known && *name == header::CONTENT_TYPE));
    response.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    etag.into_iter().for_each(|etag| response.headers_mut().typed_insert(etag));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_files_of_its_version_only() {
        let names: Vec<&str> = INDEX.split('"').filter(|text| text.starts_with(ASSETS)).collect();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let file = name.strip_prefix(&format!("{ASSETS}{}/", VERSION.as_str())).expect("it has the version");
            assert!(FILES.iter().any(|known| known.path == file), "{file}");
        }
    }

    /// The content policy would block them.
    #[test]
    fn the_page_has_no_inline_script_or_style() {
        assert!(!INDEX.contains("<style") && !INDEX.contains("style=") && !INDEX.contains(" on"));
        assert!(INDEX.split("<script").skip(1).all(|script| script.contains("src=") && script.contains("></script>")));
    }
}
