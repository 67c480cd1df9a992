//! A bot for Telegram and Slack that asks each user for a name and a favourite colour, and
//! remembers both. A webhook stores each message as an event, and responds. An event's subject is
//! the user, so that a user's messages are handled one at a time. Users who set their time zone get
//! a summary every evening.

mod chat;
mod webhooks;

use chat::Chat;
use isopod_sdk::prelude::*;
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

isopod_sdk::http!(app);
isopod_sdk::routes!(app:
    POST "/telegram" => webhooks::telegram,
    POST "/slack" => webhooks::slack,
);
isopod_sdk::events!(on_event);
isopod_sdk::health!(async || kv::open("default").map(drop));

/// Users to whom one delivery sends a broadcast or summaries. The next page is another event.
const PAGE_USERS: usize = 500;

/// The hour in which users get their summary, in their own time zone.
const SUMMARY_HOUR: i8 = 21;

#[derive(Serialize, Deserialize)]
struct Message {
    text: String,
    /// Where the reply is sent; a message from `isopod events send` gets only the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Chat>,
}

#[derive(Serialize, Deserialize)]
struct Broadcast {
    text: String,
    /// The last user of the previous page.
    after: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Summaries {
    /// The scheduled time, also if the event is handled later.
    at: Timestamp,
    after: Option<String>,
}

/// What the bot knows about a user.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct User {
    chat: Option<Chat>,
    talk: Talk,
    /// The user's time zone, such as `Europe/Berlin`.
    zone: Option<String>,
    /// The user's messages since the last summary.
    messages: u32,
}

/// The state of the conversation with one user.
#[derive(Serialize, Deserialize, Default)]
enum Talk {
    #[default]
    Start,
    AskedName,
    /// The name of the user.
    AskedColour(String),
    /// The name and the favourite colour.
    Friends(String, String),
}

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    match event.kind.as_str() {
        // The second is for `isopod events send message`.
        "chat.message" | "message" => on_message(&event).await,
        "chat.send" => {
            let Message { text, chat } = event.json()?;
            chat.or_status(422, "the message has no chat")?.send(&text, &event.idempotency_key()).await?;
            Ok(None)
        }
        "chat.broadcast" => broadcast(event.json()?),
        "chat.summaries" => summaries(event.json()?),
        "isopod.schedule" => {
            let at =
                event.time.as_deref().and_then(|time| time.parse().ok()).or_status(422, "the event has no time")?;
            summaries(Summaries { at, after: None })
        }
        kind => Err(EventError::permanent(format!("unknown event type {kind}"))),
    }
}

/// Replies to a message. The host commits the new state and the completion of the event together,
/// after the chat network has accepted the reply.
async fn on_message(event: &Event) -> Result<Option<Reply>, EventError> {
    let (user, message) = (event.subject()?, event.json::<Message>()?);
    let said = message.text.trim();
    let text = match said.strip_prefix("/broadcast ") {
        Some(text) if is_admin(user) => {
            let page = Broadcast { text: text.to_owned(), after: None };
            events::emit(NewEvent::new("chat.broadcast").with_json(&page)?)?;
            "The message is on its way to all users.".to_owned()
        }
        Some(_) => "Only my admin can do that.".to_owned(),
        None => converse(user, said, message.chat.as_ref())?,
    };
    if let Some(chat) = &message.chat {
        chat.send(&text, &event.idempotency_key()).await?;
    }
    Ok(Some(Reply::json(&Message { text, chat: None })?))
}

fn is_admin(user: &str) -> bool {
    config::get("ADMIN").is_some_and(|admin| admin == user)
}

/// Returns the reply to what a user said, and stores the state of the conversation.
fn converse(user: &str, said: &str, chat: Option<&Chat>) -> Result<String> {
    let mut text = String::new();
    kv::open("default")?.update_json(&format!("user/{user}"), |known: Option<User>| {
        let known = known.unwrap_or_default();
        let (chat, messages) = (chat.cloned().or(known.chat), known.messages + 1);
        let (talk, zone, reply) = match said.strip_prefix("/zone") {
            Some(zone) => {
                let (zone, reply) = choose(zone.trim(), known.zone);
                (known.talk, zone, reply)
            }
            None => {
                let (talk, reply) = answer(if said == "/forget" { Talk::Start } else { known.talk }, said);
                (talk, known.zone, reply)
            }
        };
        text = reply;
        User { chat, talk, zone, messages }
    })?;
    Ok(text)
}

/// Returns the new time zone of a user and the reply. An unknown zone changes nothing.
fn choose(zone: &str, known: Option<String>) -> (Option<String>, String) {
    match TimeZone::get(zone) {
        Ok(_) => (Some(zone.to_owned()), format!("You get a summary every evening after {SUMMARY_HOUR}:00 ({zone}).")),
        Err(_) => (known, "I need a time zone, for example: /zone Europe/Berlin".to_owned()),
    }
}

/// Returns the next state and the reply. Pure, so that each step can be tested.
fn answer(talk: Talk, said: &str) -> (Talk, String) {
    match talk {
        Talk::Start => (Talk::AskedName, "Hello! What is your name?".to_owned()),
        Talk::AskedName => {
            (Talk::AskedColour(said.to_owned()), format!("Nice to meet you, {said}. What is your favourite colour?"))
        }
        Talk::AskedColour(name) => {
            let text = format!("{said} is a fine choice, {name}.");
            (Talk::Friends(name, said.to_owned()), text)
        }
        Talk::Friends(name, colour) => {
            let text = format!("I know you, {name}: you like {colour}. Say /forget to start afresh.");
            (Talk::Friends(name, colour), text)
        }
    }
}

/// Sends one page of a broadcast: an event for each user, and one for the next page.
fn broadcast(Broadcast { text, after }: Broadcast) -> Result<Option<Reply>, EventError> {
    let after = each_user(after, |user, known| match known.chat {
        Some(chat) => send_later(user, text.clone(), chat),
        None => Ok(()),
    })?;
    if after.is_some() {
        events::emit(NewEvent::new("chat.broadcast").with_json(&Broadcast { text, after })?)?;
    }
    Ok(None)
}

/// Sends the summaries of one page of users, and an event for the next page. Runs every hour, and
/// sends a summary to those users in whose time zone it is the hour of the summary.
fn summaries(Summaries { at, after }: Summaries) -> Result<Option<Reply>, EventError> {
    let after = each_user(after, |user, known| {
        let zone = known.zone.and_then(|zone| TimeZone::get(&zone).ok());
        let is_evening = zone.is_some_and(|zone| at.to_zoned(zone).hour() == SUMMARY_HOUR);
        match known.chat {
            Some(chat) if is_evening => summary(user, chat),
            Some(_) | None => Ok(()),
        }
    })?;
    if after.is_some() {
        events::emit(NewEvent::new("chat.summaries").with_json(&Summaries { at, after })?)?;
    }
    Ok(None)
}

/// Sends a user the number of messages since the last summary, and starts the next day.
fn summary(user: &str, chat: Chat) -> Result<()> {
    let mut messages = 0;
    kv::open("default")?.update_json(&format!("user/{user}"), |known: Option<User>| {
        let known = known.unwrap_or_default();
        messages = known.messages;
        User { messages: 0, ..known }
    })?;
    send_later(user, format!("Messages from you today: {messages}"), chat)
}

/// Calls `act` with each user of one page. Returns the last key of the page if another page
/// follows.
fn each_user(after: Option<String>, act: impl Fn(&str, User) -> Result<()>) -> Result<Option<String>> {
    let bucket = kv::open("default")?;
    let mut users: Vec<String> = bucket.keys()?.into_iter().filter(|key| key.starts_with("user/")).collect();
    users.sort();
    let rest = users.into_iter().filter(|user| after.as_ref().is_none_or(|after| user > after));
    let mut page: Vec<String> = rest.take(PAGE_USERS).collect();
    for key in &page {
        act(key.trim_start_matches("user/"), bucket.get_json(key)?.unwrap_or_default())?;
    }
    Ok(if page.len() == PAGE_USERS { page.pop() } else { None })
}

/// Sends a message after this event's commit, as an event of its own, so that a failure is retried
/// independently.
fn send_later(user: &str, text: String, chat: Chat) -> Result<()> {
    let event = NewEvent::new("chat.send").with_subject(user);
    events::emit(event.with_json(&Message { text, chat: Some(chat) })?).map(drop)
}

#[cfg(test)]
mod tests;
