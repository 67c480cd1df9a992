//! A bot for Telegram and Slack that asks each user for a name and a favourite colour, and
//! remembers both. A webhook stores each message as an event, and responds. An event's subject is
//! the user, so that a user's messages are handled one at a time.

mod chat;
mod webhooks;

use chat::Chat;
use isopod_sdk::prelude::*;
use serde::{Deserialize, Serialize};

isopod_sdk::http!(app);
isopod_sdk::routes!(app:
    POST "/telegram" => webhooks::telegram,
    POST "/slack" => webhooks::slack,
);
isopod_sdk::events!(on_event);
isopod_sdk::health!(async || kv::open("default").map(drop));

/// Users to whom one delivery sends a broadcast. The next page is another event.
const PAGE_USERS: usize = 500;

/// The number of counters of each kind. With a single counter, concurrent handlers would conflict
/// and run again.
const SHARDS: u32 = 16;

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

/// What the bot knows about a user.
#[derive(Serialize, Deserialize, Default)]
struct User {
    chat: Option<Chat>,
    talk: Talk,
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
        "isopod.schedule" => summary(),
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
    let bucket = kv::open("default")?;
    let (mut text, mut is_new) = (String::new(), false);
    bucket.update_json(&format!("user/{user}"), |known: Option<User>| {
        is_new = known.is_none();
        let known = known.unwrap_or_default();
        let talk = if said == "/forget" { Talk::Start } else { known.talk };
        let (talk, reply) = answer(talk, said);
        text = reply;
        User { chat: chat.cloned().or(known.chat), talk }
    })?;
    let shard = user.bytes().map(u32::from).sum::<u32>() % SHARDS;
    bucket.increment(&format!("messages/{shard}"), 1)?;
    bucket.increment(&format!("users/{shard}"), i64::from(is_new))?;
    Ok(text)
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
    let bucket = kv::open("default")?;
    let mut users: Vec<String> = bucket.keys()?.into_iter().filter(|key| key.starts_with("user/")).collect();
    users.sort();
    let rest = users.iter().filter(|user| after.as_ref().is_none_or(|after| *user > after));
    let page: Vec<&String> = rest.take(PAGE_USERS).collect();
    for key in &page {
        let known = bucket.get_json::<User>(key)?.unwrap_or_default();
        if let Some(chat) = known.chat {
            send_later(key.trim_start_matches("user/"), text.clone(), chat)?;
        }
    }
    if page.len() == PAGE_USERS {
        let next = Broadcast { text, after: page.last().map(|key| (*key).clone()) };
        events::emit(NewEvent::new("chat.broadcast").with_json(&next)?)?;
    }
    Ok(None)
}

/// Sends the admin the figures of the day, and starts the next day.
fn summary() -> Result<Option<Reply>, EventError> {
    let bucket = kv::open("default")?;
    let (mut messages, mut users) = (0, 0);
    for shard in 0..SHARDS {
        let counter = format!("messages/{shard}");
        let today = bucket.increment(&counter, 0)?;
        bucket.increment(&counter, -today)?;
        messages += today;
        users += bucket.increment(&format!("users/{shard}"), 0)?;
    }
    let admin = config::get("ADMIN").unwrap_or_default();
    // The bot doesn't know an admin who has never written to it.
    if let Some(chat) = bucket.get_json::<User>(&format!("user/{admin}"))?.and_then(|user| user.chat) {
        send_later(&admin, format!("Today: {messages} messages. I know {users} users."), chat)?;
    }
    Ok(None)
}

/// Sends a message after this event's commit, as an event of its own, so that a failure is retried
/// independently.
fn send_later(user: &str, text: String, chat: Chat) -> Result<()> {
    let event = NewEvent::new("chat.send").with_subject(user);
    events::emit(event.with_json(&Message { text, chat: Some(chat) })?).map(drop)
}

#[cfg(test)]
mod tests;
