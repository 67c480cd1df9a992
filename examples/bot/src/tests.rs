//! Tests of the bot without a host.

use super::*;
use isopod_sdk::testing::{TestHost, answer as response, block_on};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, UNIX_EPOCH},
};

/// The messages that the chat networks got: path, body and key.
type Sent = Rc<RefCell<Vec<(String, Value, String)>>>;

/// Creates a host with chat networks that take every message.
fn host() -> (TestHost, Sent) {
    let (host, sent) = (TestHost::new(), Sent::default());
    for (name, value) in [
        ("TELEGRAM_TOKEN", "T"),
        ("TELEGRAM_SECRET", "s3cret"),
        ("SLACK_TOKEN", "S"),
        ("SLACK_SIGNING_SECRET", "signing"),
        ("ADMIN", "telegram:1"),
    ] {
        host.set_config(name, value);
    }
    let taken = Rc::clone(&sent);
    host.on_fetch(move |request| {
        let key = request.header("idempotency-key").unwrap().to_owned();
        taken.borrow_mut().push((request.path().to_owned(), request.json()?, key));
        Response::json(&json!({ "ok": true }))
    });
    (host, sent)
}

fn telegram(secret: &str, update: u32, user: u32, text: &str) -> u16 {
    let message = json!({ "text": text, "chat": { "id": user }, "from": { "id": user } });
    let update = json!({ "update_id": update, "message": message });
    let request = Request::post("/telegram").with_json(&update).unwrap();
    response(app(request.with_header("x-telegram-bot-api-secret-token", secret.to_owned()))).status
}

fn slack(timestamp: u64, signature: impl Fn(&str, &str) -> String, body: &Value) -> Response {
    let (timestamp, body) = (timestamp.to_string(), body.to_string());
    let request = Request::post("/slack").with_header("x-slack-signature", signature(&timestamp, &body));
    response(app(request.with_header("x-slack-request-timestamp", timestamp).with_body(body)))
}

fn signed(timestamp: &str, body: &str) -> String {
    webhooks::sign("signing", timestamp, body)
}

fn texts(sent: &Sent) -> Vec<String> {
    sent.borrow().iter().map(|(_, body, _)| body["text"].as_str().unwrap().to_owned()).collect()
}

fn say(user: &str, text: &str) -> String {
    let message = Message { text: text.to_owned(), chat: None };
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

#[test]
fn a_message_of_telegram_is_answered_once_although_it_arrives_twice() {
    let (host, sent) = host();
    assert_eq!((telegram("wrong", 7, 5, "hi"), telegram("", 7, 5, "hi")), (401, 401));
    assert_eq!((telegram("s3cret", 7, 5, "hi"), telegram("s3cret", 7, 5, "hi")), (200, 200));
    assert_eq!(host.run(on_event), 1);
    let sent = sent.borrow();
    let [(path, body, _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(path, "/botT/sendMessage");
    assert_eq!(*body, json!({ "chat_id": 5, "text": "Hello! What is your name?" }));
}

#[test]
fn a_request_of_slack_needs_a_recent_signature() {
    let (host, sent) = host();
    let event = json!({ "type": "message", "user": "U1", "channel": "C1", "text": "hi" });
    let body = json!({ "type": "event_callback", "event_id": "Ev1", "event": event });
    let now = host.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (at, signature) in [
        (now, "v0=00".to_owned()),
        (now, "v0=0é".to_owned()),
        (now, webhooks::sign("other", &now.to_string(), &body.to_string())),
        (now - 301, signed(&(now - 301).to_string(), &body.to_string())),
        (now + 301, signed(&(now + 301).to_string(), &body.to_string())),
    ] {
        assert_eq!(slack(at, |_, _| signature.clone(), &body).status, 401, "{signature}");
    }
    assert_eq!(slack(now - 299, signed, &body).status, 200);
    host.run(on_event);
    assert_eq!(sent.borrow()[0].0, "/api/chat.postMessage");
    assert_eq!(sent.borrow()[0].1["channel"], "C1");
    let challenge = slack(now, signed, &json!({ "type": "url_verification", "challenge": "abc" }));
    assert_eq!(challenge.body_json::<Value>().unwrap(), json!({ "challenge": "abc" }));
}

#[test]
fn a_crash_repeats_the_reply_with_the_same_key_and_counts_the_message_once() {
    for step in 1..8 {
        let (host, sent) = host();
        telegram("s3cret", 1, 5, "hi");
        host.crash_after(step);
        host.run(on_event);
        let sent = sent.borrow();
        assert!((1..=2).contains(&sent.len()), "after step {step}: {sent:?}");
        assert!(sent.iter().all(|message| *message == sent[0]), "after step {step}: {sent:?}");
        let user = kv::open("default").unwrap().get_json::<User>("user/telegram:5").unwrap().unwrap();
        assert_eq!(user.messages, 1, "after step {step}");
    }
}

#[test]
fn a_busy_chat_network_is_asked_again_after_its_delay() {
    let (host, _) = host();
    host.on_fetch(|_| Ok(Response::new(429).with_header("retry-after", "30")));
    telegram("s3cret", 1, 5, "hi");
    let started = host.now();
    host.run(on_event);
    assert!(host.advance_to_next_event());
    assert!(host.now().duration_since(started).unwrap() >= Duration::from_secs(30));
}

#[test]
fn only_the_admin_sends_a_broadcast() {
    let (host, sent) = host();
    for (update, user, text) in [(1, 1, "hi"), (2, 2, "hi"), (3, 2, "/broadcast spam"), (4, 1, "/broadcast news")] {
        telegram("s3cret", update, user, text);
    }
    host.run(on_event);
    let texts = texts(&sent);
    assert!(texts.contains(&"Only my admin can do that.".to_owned()), "{texts:?}");
    assert!(!texts.contains(&"spam".to_owned()));
    let news: Vec<Value> =
        sent.borrow().iter().filter(|sent| sent.1["text"] == "news").map(|sent| sent.1["chat_id"].clone()).collect();
    assert_eq!(news, [1, 2]);
}

/// Runs the schedule of a day, once per hour from midnight UTC. Returns the summaries, each with
/// its hour and user.
fn summaries_of_a_day(host: &TestHost, sent: &Sent, midnight: &str) -> Vec<(i64, Value, Value)> {
    let midnight: Timestamp = midnight.parse().unwrap();
    (0..24)
        .flat_map(|hour| {
            sent.borrow_mut().clear();
            let at = midnight + Duration::from_secs(hour * 3_600);
            host.send(NewEvent { time: Some(at.to_string()), ..NewEvent::new("isopod.schedule") });
            host.run(on_event);
            let summary = |(_, body, _): &(String, Value, String)| {
                (i64::try_from(hour).unwrap(), body["chat_id"].clone(), body["text"].clone())
            };
            sent.borrow().iter().map(summary).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn each_user_gets_a_summary_in_the_evening_of_their_time_zone() {
    let (host, sent) = host();
    for (update, user, text) in [
        (1, 1, "/zone Europe/Berlin"),
        (2, 2, "/zone Asia/Kolkata"),
        (3, 3, "/zone America/New_York"),
        (4, 4, "hi, I set no zone"),
        (5, 1, "hi"),
    ] {
        telegram("s3cret", update, user, text);
    }
    host.run(on_event);
    assert!(texts(&sent).contains(&"You get a summary every evening after 21:00 (Europe/Berlin).".to_owned()));
    let summary = |hour: i64, user: u32, messages: u32| {
        (hour, json!(user), json!(format!("Messages from you today: {messages}")))
    };
    // Kolkata is 5.5 hours ahead of UTC.
    let winter = summaries_of_a_day(&host, &sent, "2026-01-15T00:00:00Z");
    assert_eq!(winter, [summary(2, 3, 1), summary(16, 2, 1), summary(20, 1, 2)]);
    let summer = summaries_of_a_day(&host, &sent, "2026-07-15T00:00:00Z");
    assert_eq!(summer, [summary(1, 3, 0), summary(16, 2, 0), summary(19, 1, 0)]);
}

#[test]
fn an_unknown_time_zone_is_refused_and_the_known_one_stays() {
    let (host, sent) = host();
    for (update, text) in [(1, "/zone Asia/Tokyo"), (2, "/zone"), (3, "/zone Atlantis/Capital")] {
        telegram("s3cret", update, 5, text);
    }
    host.run(on_event);
    let refused = "I need a time zone, for example: /zone Europe/Berlin";
    assert_eq!(texts(&sent)[1..], [refused, refused]);
    let user = kv::open("default").unwrap().get_json::<User>("user/telegram:5").unwrap().unwrap();
    assert_eq!((user.zone.as_deref(), user.messages), (Some("Asia/Tokyo"), 3));
}

#[test]
fn a_message_that_arrives_during_a_summary_is_counted_once() {
    let (host, sent) = host();
    telegram("s3cret", 1, 5, "/zone Europe/London");
    host.run(on_event);
    let time = Some("2026-01-15T21:00:00Z".to_owned());
    host.send(NewEvent { time, ..NewEvent::new("isopod.schedule") });
    host.conflict(|| drop(converse("telegram:5", "hi", None).unwrap()));
    host.run(on_event);
    assert_eq!(texts(&sent)[1..], ["Messages from you today: 2"]);
    let user = kv::open("default").unwrap().get_json::<User>("user/telegram:5").unwrap().unwrap();
    assert_eq!(user.messages, 0);
}
