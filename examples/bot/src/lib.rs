//! A bot that asks each user for a name and a favourite colour, and remembers both. An event's
//! subject is the user; the data of events and replies is `{"text": "…"}`.

use isopod_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Message {
    text: String,
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

isopod_sdk::events!(on_event);
isopod_sdk::health!(async || kv::open("default").map(drop));

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    let (user, message) = (event.subject()?, event.json::<Message>()?);
    let (said, mut text) = (message.text.trim(), String::new());
    // Two messages of one user may be handled concurrently: the update applies one after the other.
    kv::open("default")?.update_json(&format!("talk/{user}"), |talk: Option<Talk>| {
        let talk = if said == "/forget" { Talk::Start } else { talk.unwrap_or_default() };
        let (talk, answer) = answer(talk, said);
        text = answer;
        talk
    })?;
    Ok(Some(Reply::json(&Message { text })?))
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

#[cfg(test)]
mod tests;
