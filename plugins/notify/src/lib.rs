//! Notifications: posts the activity of apps to a webhook, such as one of Slack. Never loses an
//! event: if the webhook doesn't accept it, it is posted again, or becomes a dead letter.
//!
//! Its config vars:
//!
//! | config var | default | meaning |
//! | --- | --- | --- |
//! | `WEBHOOK_URL` | required | the URL of the webhook; usually a secret |
//! | `FORMAT` | `json` | `json` posts the CloudEvent, `slack` a message with one line of text |
//!
//! The plugin needs a grant for the server of the webhook. `subscribe` in its manifest selects the
//! events.
//!
//! A response with a 2xx status completes the event. After 408, 429, 5xx or a failed connection,
//! the event is posted again, after `retry-after` if the webhook sends it, but at most an hour
//! later. Any other status makes the event a dead letter. The header `idempotency-key` contains the
//! event's id, which is the same in each attempt.

use isopod_sdk::plugin::Activity;
use isopod_sdk::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

isopod_sdk::hook!(on_event);

/// The longest time for a request, shorter than the time limit of a call.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The longest delay of an attempt that a webhook can request.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

async fn on_event(event: Event) -> Result<(), EventError> {
    // A missing config var can be set before the next attempt.
    let url = config::require("WEBHOOK_URL").retry()?;
    let activity: Activity = event.json()?;
    let (media_type, body) = match config::get("FORMAT").as_deref().unwrap_or("json") {
        "json" => ("application/cloudevents+json", cloud_event(&event, &activity)),
        "slack" => ("application/json", json!({ "text": message(&event, &activity) })),
        other => {
            return Err(Error::from(format!("FORMAT is {other:?}; set it to \"json\" or \"slack\""))).retry();
        }
    };
    let request = Request::post(&url)
        .with_header("content-type", media_type)
        .with_header("idempotency-key", event.id.clone())
        .with_body(body.to_string())
        .with_timeout(TIMEOUT);
    let response = fetch(request).await.retry()?;
    let failed = || Error::from(format!("the webhook responded with status {}", response.status));
    match response.status {
        200..=299 => Ok(()),
        408 | 429 | 500.. => match response.headers.get("retry-after").and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => Err(failed()).retry_after(Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
            None => Err(failed()).retry(),
        },
        _ => Err(failed()).permanent(),
    }
}

/// Returns the event in the JSON format of CloudEvents. An event about the host has no subject.
fn cloud_event(event: &Event, activity: &Activity) -> Value {
    let mut envelope = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.kind,
        "time": event.time,
        "datacontenttype": "application/json",
        "data": { "kind": activity.kind, "text": activity.text, "details": activity.details },
    });
    if let Some(app) = &event.subject {
        envelope["subject"] = json!(app);
    }
    envelope
}

/// Returns one line about the event, such as `shop: v3 deployed by ci`.
fn message(event: &Event, activity: &Activity) -> String {
    let app = event.subject.as_deref().unwrap_or("the host");
    let details = &activity.details;
    let by = details["by"].as_str().map(|by| format!(" by {by}")).unwrap_or_default();
    let what = match (event.kind.as_str(), details["release"].as_u64()) {
        ("isopod.app.created", _) => format!("created{by}"),
        ("isopod.app.destroyed", _) => format!("destroyed{by}"),
        ("isopod.app.deployed", Some(release)) => format!("v{release} deployed{by}"),
        _ => activity.text.clone(),
    };
    let mark = match event.kind.as_str() {
        "isopod.app.alert" | "isopod.host.alert" | "isopod.app.release-returned" | "isopod.app.push-failed" => {
            ":warning: "
        }
        "isopod.app.alert-resolved" | "isopod.host.alert-resolved" => ":white_check_mark: ",
        _ => "",
    };
    // Slack interprets these characters as markup.
    let what = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("{mark}{app}: {what}")
}

#[cfg(test)]
mod tests;
