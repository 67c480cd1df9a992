//! A middleware for the tests of the host. The app's config selects what it does: any possible
//! decision or failure.

use hmac::{Hmac, Mac};
use isopod_sdk::plugin::{AppRequest, Decision, RequestChanges, ResponseChanges, ResponseDecision, ResponseHead};
use isopod_sdk::prelude::*;
use serde::de::{Deserialize, Deserializer, Error as _};
use sha2::Sha256;
use std::time::Duration;

isopod_sdk::middleware!(decide, complete);

/// The config.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// What to do with a request.
    request: Act,
    /// What to do with its response. Without it, the second handler isn't called.
    response: Option<Act>,
    /// Asks for the request's body of at most this many bytes.
    request_body: Option<u64>,
    /// Asks for the response's body of at most this many bytes.
    response_body: Option<u64>,
    /// Ignored bytes, to test configs of any size.
    #[serde(default, rename = "padding")]
    _padding: String,
    /// A config var of the plugin without which the config is invalid, so that a test can install
    /// releases that accept different configs.
    #[serde(default, rename = "needs", deserialize_with = "needed")]
    _needs: (),
}

fn needed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let name = String::deserialize(deserializer)?;
    config::get(&name).map(drop).ok_or_else(|| D::Error::custom(format!("the config var {name} is not set")))
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Act {
    Pass,
    /// Sets a header.
    Set(String, String),
    /// Adds a header.
    Append(String, String),
    /// Removes a header.
    Remove(String),
    /// Changes the path of a request.
    Path(String),
    /// Changes the status of a response.
    Status(u16),
    /// Answers, or replaces a response, with this status and text.
    Respond(u16, String),
    /// Answers with a body of this many bytes.
    Body(usize),
    /// Puts this text in front of the body.
    Prefix(String),
    /// Sets a body of this many bytes.
    Fill(usize),
    /// Answers with the body and its number of bytes.
    Report,
    /// Answers with 403 unless `x-signature` is the HMAC-SHA256 of the body with this key, in
    /// hexadecimal.
    Signed(String),
    /// Sets this many headers with values of this many bytes.
    Headers(usize, usize),
    /// Answers with the head of the request.
    Show,
    /// Sets the header `x-calls` to the number of calls of this instance.
    Count,
    Error(String),
    Trap,
    Spin,
    Allocate,
    /// Waits for this many milliseconds.
    Sleep(u64),
    /// Answers with the text of a response from this URL.
    Fetch(String),
}

/// What an act decides.
enum Outcome {
    Pass,
    Changes(RequestChanges, ResponseChanges),
    Respond(Response),
}

async fn decide(request: &AppRequest, settings: &Settings) -> Result<Decision> {
    // A config var of the plugin, for a version that decides by the head.
    let is_asking = config::get("HEADS_ONLY").is_none();
    if let (Some(bytes_max), None, true) = (settings.request_body, request.whole_body(), is_asking) {
        return Ok(Decision::ReadBody(bytes_max));
    }
    let outcome = match &settings.request {
        Act::Signed(key) => return signed(request, key),
        Act::Path(path) => Outcome::Changes(RequestChanges::new().set_path(path.clone()), ResponseChanges::new()),
        Act::Show => Outcome::Respond(Response::text(shown(request))),
        other => act(other, request.whole_body()).await?,
    };
    let changes = match outcome {
        Outcome::Respond(response) => return Ok(response.into()),
        Outcome::Pass if settings.response.is_none() => return Ok(Decision::Pass),
        Outcome::Pass => RequestChanges::new(),
        Outcome::Changes(changes, _) => changes,
    };
    Ok(match settings.response {
        Some(_) => changes.on_response(request.path()).into(),
        None => changes.into(),
    })
}

fn signed(request: &AppRequest, key: &str) -> Result<Decision> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(request.bytes());
    let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    match request.header("x-signature") == Some(&signature) {
        true => Ok(Decision::Pass),
        false => Err(Error::status(403, "the signature is wrong")),
    }
}

async fn complete(head: &ResponseHead, path: &[u8], settings: &Settings) -> Result<ResponseDecision> {
    if let (Some(bytes_max), None) = (settings.response_body, head.whole_body()) {
        return Ok(ResponseDecision::ReadBody(bytes_max));
    }
    let outcome = match &settings.response {
        Some(Act::Status(status)) => {
            Outcome::Changes(RequestChanges::new(), ResponseChanges::new().set_status(*status))
        }
        Some(Act::Show) => {
            let text = format!("{} {}\n{:?}", head.status, String::from_utf8_lossy(path), head.headers);
            Outcome::Respond(Response::text(text))
        }
        Some(other) => act(other, head.whole_body()).await?,
        None => Outcome::Pass,
    };
    Ok(match outcome {
        Outcome::Respond(response) => response.into(),
        Outcome::Pass => ResponseDecision::Pass,
        Outcome::Changes(_, changes) => changes.into(),
    })
}

async fn act(act: &Act, body: Option<&[u8]>) -> Result<Outcome> {
    let whole = body.unwrap_or_default();
    let set_body = |body: Vec<u8>| {
        Outcome::Changes(RequestChanges::new().set_body(body.clone()), ResponseChanges::new().set_body(body))
    };
    Ok(match act {
        Act::Pass | Act::Path(_) | Act::Status(_) | Act::Show | Act::Signed(_) => Outcome::Pass,
        Act::Prefix(text) => set_body([text.as_bytes(), whole].concat()),
        Act::Fill(bytes) => set_body(vec![b'f'; *bytes]),
        Act::Report => Outcome::Respond(Response::text(format!("{}: {}", whole.len(), String::from_utf8_lossy(whole)))),
        Act::Set(name, value) => Outcome::Changes(
            RequestChanges::new().set_header(name.clone(), value.clone()),
            ResponseChanges::new().set_header(name.clone(), value.clone()),
        ),
        Act::Append(name, value) => Outcome::Changes(
            RequestChanges::new().append_header(name.clone(), value.clone()),
            ResponseChanges::new().append_header(name.clone(), value.clone()),
        ),
        Act::Remove(name) => Outcome::Changes(
            RequestChanges::new().remove_header(name.clone()),
            ResponseChanges::new().remove_header(name.clone()),
        ),
        Act::Respond(status, text) => Outcome::Respond(Response::text(text.clone()).with_status(*status)),
        Act::Body(bytes) => Outcome::Respond(Response::text("b".repeat(*bytes))),
        Act::Headers(count, bytes) => {
            let value = "v".repeat(*bytes);
            let (mut request, mut response) = (RequestChanges::new(), ResponseChanges::new());
            for index in 0..*count {
                request = request.set_header(format!("x-{index}"), value.clone());
                response = response.set_header(format!("x-{index}"), value.clone());
            }
            Outcome::Changes(request, response)
        }
        Act::Count => {
            let calls = count_call().to_string();
            Outcome::Changes(
                RequestChanges::new().set_header("x-calls", calls.clone()),
                ResponseChanges::new().set_header("x-calls", calls),
            )
        }
        Act::Error(text) => return Err(Error::msg(text.clone())),
        Act::Trap => panic!("the probe was asked to panic"),
        Act::Spin => loop {
            std::hint::black_box(0);
        },
        Act::Allocate => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&kept);
            }
        }
        Act::Sleep(ms) => {
            sleep(Duration::from_millis(*ms)).await;
            Outcome::Pass
        }
        Act::Fetch(url) => {
            let answer = fetch(Request::get(url)).await?;
            Outcome::Respond(Response::text(answer.body_text()?.to_owned()).with_status(answer.status))
        }
    })
}

fn shown(request: &AppRequest) -> String {
    let query = if request.query().is_empty() { String::new() } else { format!("?{}", request.query()) };
    format!(
        "{} {}://{}{}{query} for {} as {} from {:?}\n{:?}\n",
        request.method,
        request.scheme(),
        request.authority(),
        request.path(),
        request.app(),
        request.id(),
        request.client_address(),
        request.headers,
    )
}

/// Counts the calls of this instance.
fn count_call() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed) + 1
}
