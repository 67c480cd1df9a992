//! Tests of the conversation without a host.

use super::*;
use isopod_sdk::testing::{TestHost, block_on};

fn say(user: &str, text: &str) -> String {
    let message = Message { text: text.to_owned() };
    let event = Event::new("chat.message").with_subject(user).with_json(&message).unwrap();
    block_on(on_event(event)).unwrap().unwrap().body_json::<Message>().unwrap().text
}

#[test]
fn each_user_has_a_separate_conversation() {
    TestHost::new();
    assert_eq!(say("u1", "hi"), "Hello! What is your name?");
    assert_eq!(say("u2", "hi"), "Hello! What is your name?");
    assert!(say("u1", "Ada").contains("Nice to meet you, Ada."));
    assert_eq!(say("u1", "Green"), "Green is a fine choice, Ada.");
    assert!(say("u2", "Bob").contains("Bob"));
    assert!(say("u1", "hello again").contains("you like Green"));
    assert_eq!(say("u1", "/forget"), "Hello! What is your name?");
}

#[test]
fn an_event_without_a_message_fails_permanently() {
    TestHost::new();
    let event = Event::new("chat.message").with_subject("u1");
    assert_eq!(block_on(on_event(event)).unwrap_err().next(), events::Next::Never);
}
