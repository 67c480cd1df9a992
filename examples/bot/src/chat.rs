//! Sends messages to the chat networks.

use isopod_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// A conversation on a chat network.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(tag = "network", content = "id", rename_all = "lowercase")]
pub enum Chat {
    Telegram(i64),
    Slack(String),
}

impl Chat {
    /// Sends a message. The key is the same in each attempt to send it.
    pub async fn send(&self, text: &str, key: &str) -> Result<(), EventError> {
        let answer = fetch(self.request(text)?.with_header("idempotency-key", key.to_owned())).await?;
        let wait = answer.headers.get("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
        match answer.status {
            // Slack reports most errors in the body of a successful response.
            200..300 => match answer.body_json::<Value>()?["error"].as_str() {
                Some(error) => Err(EventError::permanent(format!("the chat network refused the message: {error}"))),
                None => Ok(()),
            },
            429 => Err(EventError::retry_after("too many messages", Duration::from_secs(wait))),
            status @ 400..500 => Err(EventError::permanent(format!("the chat network refused the message: {status}"))),
            status => Err(EventError::retry(format!("the chat network responded {status}"))),
        }
    }

    fn request(&self, text: &str) -> Result<Request> {
        // Tests use a server of their own.
        let base = |name: &str, usual: &str| config::get(name).unwrap_or_else(|| usual.to_owned());
        match self {
            Self::Telegram(chat) => {
                let (base, token) =
                    (base("TELEGRAM_API", "https://api.telegram.org"), config::require("TELEGRAM_TOKEN")?);
                let body = json!({ "chat_id": chat, "text": text });
                Request::post(&format!("{base}/bot{token}/sendMessage")).with_json(&body)
            }
            Self::Slack(channel) => {
                let (base, token) = (base("SLACK_API", "https://slack.com/api"), config::require("SLACK_TOKEN")?);
                let request = Request::post(&format!("{base}/chat.postMessage"));
                let request = request.with_header("authorization", format!("Bearer {token}"));
                request.with_json(&json!({ "channel": channel, "text": text }))
            }
        }
    }
}
