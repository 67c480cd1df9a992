//! Serves the static files of an app: the files below `static/` in its bundle. Answers GET and HEAD
//! requests for their paths; all other requests continue to the app. The host sends the files, with
//! ETags, ranges and precompressed forms: `app.js.br`, `app.js.zst` or `app.js.gz` beside `app.js`.
//!
//! The path of a folder ends with a slash; the folder's index file is sent. A path without the
//! slash is redirected. Files and folders whose names begin with a dot are not served, except
//! `.well-known`.
//!
//! The keys of its config:
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `prefix` | `/` | the start of the paths that are served: with `/ui/`, `/ui/a.css` is `static/a.css` |
//! | `index` | `index.html` | the file that is sent for a folder |
//! | `fallback` | none | the file that is sent, with status 200, if a browser requests a page that has no file: `index.html` |
//! | `not_found` | none | the file that is sent, with status 404, for other paths that have no file. Without this key, the app answers |
//! | `cache` | none | `cache-control` by pattern: `{ "/assets/*" = "max-age=31536000, immutable" }` |
//!
//! A pattern of `cache` is a path, such as `/css/site.css` for `static/css/site.css`, the start of
//! paths followed by `*`, or `*` followed by the end of paths. The longest matching pattern
//! applies. Files that no pattern matches are sent with `no-cache`: browsers store them, and check
//! for a change each time.

use isopod_sdk::plugin::{
    AppRequest, AssetResponse, Decision, RequestChanges, ResponseChanges, ResponseDecision, ResponseHead, assets,
};
use isopod_sdk::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

isopod_sdk::middleware!(serve, add_vary);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    prefix: String,
    index: String,
    fallback: Option<String>,
    not_found: Option<String>,
    cache: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        let (prefix, index) = ("/".to_owned(), "index.html".to_owned());
        Self { prefix, index, fallback: None, not_found: None, cache: BTreeMap::new() }
    }
}

/// A config that has been checked.
#[derive(Deserialize)]
#[serde(try_from = "Config")]
struct Settings(Config);

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        if !config.prefix.starts_with('/') || !config.prefix.ends_with('/') {
            return Err(format!("`prefix` is {:?}; it must begin and end with a slash", config.prefix));
        }
        let files = [("index", Some(&config.index)), ("fallback", config.fallback.as_ref())];
        for (key, file) in files.into_iter().chain([("not_found", config.not_found.as_ref())]) {
            if file.is_some_and(|file| file.is_empty() || file.starts_with('/') || file.contains("..")) {
                return Err(format!("`{key}` is the path of a file below static/, such as \"index.html\""));
            }
        }
        for (pattern, value) in &config.cache {
            let inside = pattern.strip_suffix('*').or_else(|| pattern.strip_prefix('*')).unwrap_or(pattern);
            if inside.contains('*') || !(pattern.starts_with('/') || pattern.starts_with('*')) {
                return Err(format!(
                    "`cache` has the pattern {pattern:?}; write one such as \"/assets/*\" or \"*.woff2\""
                ));
            }
            if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(format!("`cache` has the value {value:?}, which is not visible ASCII"));
            }
        }
        Ok(Self(config))
    }
}

async fn serve(request: &AppRequest, Settings(config): &Settings) -> Result<Decision> {
    let Some(path) = request.path().strip_prefix(&config.prefix) else { return Ok(Decision::Pass) };
    if !matches!(request.method, Method::Get | Method::Head) {
        return Ok(Decision::Pass);
    }
    let is_hidden = |path: &str| path.split('/').any(|name| name.starts_with('.') && name != ".well-known");
    if let Ok(path) = percent_encoding::percent_decode_str(path).decode_utf8()
        && !is_hidden(&path)
    {
        let file = if path.is_empty() || path.ends_with('/') { format!("{path}{}", config.index) } else { path.into() };
        if assets::find(&file).is_some() {
            return Ok(response(config, &file).into());
        }
        if assets::find(&format!("{file}/{}", config.index)).is_some() {
            return Ok(to_folder(request).into());
        }
    }
    let wants_page = request.header("accept").is_some_and(|accepted| accepted.contains("text/html"));
    match (&config.fallback, &config.not_found) {
        (Some(file), _) if wants_page => Ok(existing(config, file)?.with_header("vary", "accept").into()),
        (Some(_), Some(file)) => Ok(existing(config, file)?.with_status(404).with_header("vary", "accept").into()),
        (None, Some(file)) => Ok(existing(config, file)?.with_status(404).into()),
        (Some(_), None) => Ok(RequestChanges::new().on_response([]).into()),
        (None, None) => Ok(Decision::Pass),
    }
}

/// Adds `vary` to a response of the app for a path at which browsers get the fallback: a cache must
/// not send one in place of the other.
async fn add_vary(_: &ResponseHead, _: &[u8], _: &Settings) -> Result<ResponseDecision> {
    Ok(ResponseChanges::new().append_header("vary", "accept").into())
}

/// Redirects to the path of a folder, so that relative links of its index file are below it.
fn to_folder(request: &AppRequest) -> Response {
    let query = if request.query().is_empty() { String::new() } else { format!("?{}", request.query()) };
    Response::new(308).with_header("location", format!("{}/{query}", request.path()))
}

/// Returns the response with a file that the config names.
fn existing(config: &Config, file: &str) -> Result<AssetResponse> {
    match assets::find(file) {
        Some(_) => Ok(response(config, file)),
        None => Err(Error::msg(format!("the config names static/{file}, which the app's bundle doesn't contain"))),
    }
}

fn response(config: &Config, file: &str) -> AssetResponse {
    let response = AssetResponse::new(file).with_header("x-content-type-options", "nosniff");
    response.with_header("cache-control", cache_control(config, &format!("/{file}")).to_owned())
}

fn cache_control<'a>(config: &'a Config, path: &str) -> &'a str {
    let matching =
        config.cache.iter().filter(|(pattern, _)| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(start), _) => path.starts_with(start),
            (None, Some(end)) => path.ends_with(end),
            (None, None) => path == pattern.as_str(),
        });
    matching.max_by_key(|(pattern, _)| pattern.len()).map_or("no-cache", |(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
