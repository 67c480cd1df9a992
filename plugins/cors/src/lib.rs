//! CORS: lets pages of other origins call an app from a browser. Answers preflight requests, and
//! sets the CORS headers on the app's responses, replacing those that the app sets. Never refuses a
//! request: CORS is not access control.
//!
//! The keys of its config:
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `origins` | required | the permitted origins, such as `https://app.example.org`, or `*` for all |
//! | `methods` | `GET`, `HEAD`, `POST` | the permitted methods |
//! | `headers` | none | the permitted request headers |
//! | `credentials` | `false` | whether browsers send cookies and other credentials; not together with `*` |
//! | `max_age` | the browser's | how long a browser keeps the answer to a preflight request, such as `10m` |

use isopod_sdk::plugin::{AppRequest, Decision, RequestChanges, ResponseChanges, ResponseDecision, ResponseHead};
use isopod_sdk::prelude::*;
use serde::Deserialize;

isopod_sdk::middleware!(on_request, on_response);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    origins: Vec<String>,
    #[serde(default = "simple_methods")]
    methods: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    credentials: bool,
    max_age: Option<String>,
}

fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(str::to_owned).to_vec()
}

/// A config that has been checked.
#[derive(Deserialize)]
#[serde(try_from = "Config")]
struct Settings {
    origins: Vec<String>,
    any_origin: bool,
    methods: String,
    headers: String,
    credentials: bool,
    max_age: Option<String>,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let lists = [("origins", &config.origins), ("methods", &config.methods), ("headers", &config.headers)];
        for (key, list) in lists {
            if config.credentials && list.iter().any(|item| item == "*") {
                return Err(format!("`{key}` can't contain \"*\" with `credentials = true`; list the {key}"));
            }
            if let Some(item) = list.iter().find(|item| !item.bytes().all(|byte| matches!(byte, b'!'..=b'~'))) {
                return Err(format!("`{key}` contains {item:?}, which is not visible ASCII"));
            }
        }
        if let Some(origin) = config.origins.iter().find(|origin| !is_origin(origin)) {
            return Err(format!("`origins` contains {origin:?}; write an origin such as https://app.example.org"));
        }
        let max_age = config.max_age.map(|text| humantime::parse_duration(&text)).transpose();
        let max_age = max_age.map_err(|error| format!("`max_age` is not a duration such as \"10m\": {error}"))?;
        Ok(Self {
            any_origin: config.origins.iter().any(|origin| origin == "*"),
            origins: config.origins,
            methods: config.methods.join(", "),
            headers: config.headers.join(", "),
            credentials: config.credentials,
            max_age: max_age.map(|age| age.as_secs().to_string()),
        })
    }
}

/// Returns whether browsers could send this origin: no path, trailing slash or capital letters.
fn is_origin(text: &str) -> bool {
    let host = text.split_once("://").map_or("", |(_, host)| host);
    let is_url = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']);
    text == "*" || text == "null" || (is_url && !text.bytes().any(|byte| byte.is_ascii_uppercase()))
}

impl Settings {
    /// Returns the value of `access-control-allow-origin` for this origin, if it is permitted.
    fn permitted(&self, origin: &str) -> Option<String> {
        match self.any_origin {
            true => Some("*".to_owned()),
            false => self.origins.iter().find(|known| *known == origin).cloned(),
        }
    }
}

async fn on_request(request: &AppRequest, settings: &Settings) -> Result<Decision> {
    let permitted = request.header("origin").and_then(|origin| settings.permitted(origin)).unwrap_or_default();
    let is_preflight = request.method == Method::Options
        && request.header("origin").is_some()
        && request.header("access-control-request-method").is_some();
    if !is_preflight {
        return Ok(RequestChanges::new().on_response(permitted).into());
    }
    let mut answer = Response::new(204);
    if !settings.any_origin {
        answer.headers.set("vary", "Origin");
    }
    if permitted.is_empty() {
        return Ok(answer.into());
    }
    answer.headers.set("access-control-allow-origin", permitted);
    answer.headers.set("access-control-allow-methods", settings.methods.clone());
    if !settings.headers.is_empty() {
        answer.headers.set("access-control-allow-headers", settings.headers.clone());
    }
    if settings.credentials {
        answer.headers.set("access-control-allow-credentials", "true");
    }
    if let Some(seconds) = &settings.max_age {
        answer.headers.set("access-control-max-age", seconds.clone());
    }
    Ok(answer.into())
}

/// The context contains the permitted origin of the request, or is empty.
async fn on_response(head: &ResponseHead, permitted: &[u8], settings: &Settings) -> Result<ResponseDecision> {
    let (origin, credentials) = ("access-control-allow-origin", "access-control-allow-credentials");
    let mut changes = ResponseChanges::new().remove_header(credentials).remove_header(origin);
    if !permitted.is_empty() {
        changes = changes.set_header(origin, permitted.to_vec());
        if settings.credentials {
            changes = changes.set_header(credentials, "true");
        }
    }
    // Caches must not reuse the response for another origin, even if it lacks these headers.
    let vary: Vec<_> = head.headers.get_all("vary").map(String::from_utf8_lossy).collect();
    let has_it = vary.iter().flat_map(|line| line.split(',')).any(|name| {
        let name = name.trim();
        name == "*" || name.eq_ignore_ascii_case("origin")
    });
    if !settings.any_origin && !has_it {
        let names = vary.iter().map(|line| line.as_ref()).chain(["Origin"]).collect::<Vec<_>>();
        changes = changes.set_header("vary", names.join(", "));
    }
    Ok(changes.into())
}

#[cfg(test)]
mod tests;
