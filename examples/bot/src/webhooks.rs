//! The webhooks of the chat networks. They verify that the network has sent the request, and store
//! its message as an event.

use super::{Chat, Message};
use hmac::{Hmac, Mac};
use isopod_sdk::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::{Duration, UNIX_EPOCH};
use subtle::ConstantTimeEq;

/// A request that is older may be repeated by an attacker.
const SLACK_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Receives an update of Telegram's `setWebhook`.
pub async fn telegram(request: Request) -> Result<Response> {
    let secret = config::get("TELEGRAM_SECRET").or_status(404, "TELEGRAM_SECRET is not set")?;
    let given = request.header("x-telegram-bot-api-secret-token").unwrap_or_default();
    if secret.is_empty() || !bool::from(given.as_bytes().ct_eq(secret.as_bytes())) {
        return Err(Error::status(401, "the secret token is wrong"));
    }
    let update: Value = request.json()?;
    let message = &update["message"];
    if let (Some(text), Some(chat), Some(user)) =
        (message["text"].as_str(), message["chat"]["id"].as_i64(), message["from"]["id"].as_i64())
    {
        let chat = Chat::Telegram(chat);
        store("telegram", update["update_id"].to_string(), format!("telegram:{user}"), text, chat)?;
    }
    Ok(Response::new(200))
}

/// Receives a request of Slack's Events API.
pub async fn slack(request: Request) -> Result<Response> {
    let secret = config::get("SLACK_SIGNING_SECRET").or_status(404, "SLACK_SIGNING_SECRET is not set")?;
    check_slack(&request, &secret)?;
    let body: Value = request.json()?;
    if body["type"] == "url_verification" {
        return Response::json(&json!({ "challenge": body["challenge"] }));
    }
    let event = &body["event"];
    // Messages of bots include those of this one.
    if event["type"] == "message"
        && event["bot_id"].is_null()
        && let (Some(text), Some(channel), Some(user)) =
            (event["text"].as_str(), event["channel"].as_str(), event["user"].as_str())
        && let Some(id) = body["event_id"].as_str()
    {
        store("slack", id.to_owned(), format!("slack:{user}"), text, Chat::Slack(channel.to_owned()))?;
    }
    Ok(Response::new(200))
}

/// Checks the signature of a request of Slack, and that the request is recent.
fn check_slack(request: &Request, secret: &str) -> Result<()> {
    let refused = || Error::status(401, "the signature is wrong or too old");
    let timestamp = request.header("x-slack-request-timestamp").ok_or_else(refused)?;
    let sent_at = UNIX_EPOCH + Duration::from_secs(timestamp.parse().map_err(|_| refused())?);
    let age = isopod_sdk::time::now().duration_since(sent_at).unwrap_or_else(|ahead| ahead.duration());
    let signature =
        request.header("x-slack-signature").and_then(|text| text.strip_prefix("v0=")).ok_or_else(refused)?;
    if age > SLACK_AGE_MAX || secret.is_empty() {
        return Err(refused());
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(request.bytes());
    mac.verify_slice(&unhex(signature).ok_or_else(refused)?).map_err(|_| refused())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    Some(digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// Stores a message for the event handler. A message that the network sends again is not stored
/// again.
fn store(source: &str, id: String, user: String, text: &str, chat: Chat) -> Result<()> {
    let event = NewEvent::new("chat.message").with_source(source).with_id(id).with_subject(user);
    events::emit(event.with_json(&Message { text: text.to_owned(), chat: Some(chat) })?).map(drop)
}

#[cfg(test)]
pub fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let hex = |byte: u8| format!("{byte:02x}");
    format!("v0={}", mac.finalize().into_bytes().into_iter().map(hex).collect::<String>())
}
