//! A bot: it asks whoever talks to it for a name and a favourite colour, and remembers both, each user by themselves.
//! An event's subject is the user; its data is `{"text": "…"}`, and so is the reply's.

use isopod_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Message {
    text: String,
}

/// How far the conversation with one user has come.
#[derive(Serialize, Deserialize, Default)]
enum Talk {
    #[default]
    Start,
    AskedName,
    /// Who was asked for a colour.
    AskedColour(String),
    /// Name and colour.
    Friends(String, String),
}

isopod_sdk::events!(on_event);
isopod_sdk::health!(async || kv::open("default").map(drop));

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    let (user, message) = (event.subject()?, event.json::<Message>()?);
    let (said, mut text) = (message.text.trim(), String::new());
    // Two messages of one user may be handled at the same time: the update makes the second one follow the first.
    kv::open("default")?.update_json(&format!("talk/{user}"), |talk: Option<Talk>| {
        let talk = if said == "/forget" { Talk::Start } else { talk.unwrap_or_default() };
        let (talk, answer) = answer(talk, said);
        text = answer;
        talk
    })?;
    Ok(Some(Reply::json(&Message { text })?))
}

/// The next state and what to say. It touches nothing outside, so that every turn can be tested.
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

#[cfg(test)]
mod tests;
