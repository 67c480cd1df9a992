//! Tests events: a CloudEvent as the request, and the handler's reply, rejection or delay as the
//! response.

use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, guest};
use serde_json::{Value, json};

fn send(host: &Host, app: &str, event: &Value) -> Answer {
    let ask = Ask::post(format!("/v1/apps/{app}/events"));
    host.api(ask.body("application/cloudevents+json", event.to_string()))
}

fn event(kind: &str) -> Value {
    json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": kind })
}

fn say(host: &Host, user: &str, text: &str) -> String {
    let mut event = event("chat.message");
    event["subject"] = json!(user);
    event["data"] = json!({ "text": text });
    let reply = send(host, "bot", &event).expect(200);
    reply.json()["text"].as_str().expect("the bot replies with a text").to_owned()
}

fn deploy_bot(host: &Host) {
    let manifest = "name = \"bot\"\n[processes.worker]\nentry = \"events\"\n[grants]\nkeyvalue = true\n";
    host.deploy("bot", Bundle::archive(manifest, &guest("bot")));
}

/// I2: the bot keeps a separate conversation with each user, also after a restart.
#[test]
fn a_bot_holds_a_conversation_with_each_user() {
    let host = Host::start();
    deploy_bot(&host);
    assert_eq!(host.show("bot")["urls"], json!([]), "it accepts no HTTP requests");
    assert_eq!(say(&host, "u1", "hi"), "Hello! What is your name?");
    assert_eq!(say(&host, "u2", "hi"), "Hello! What is your name?");
    assert!(say(&host, "u1", "Ada").contains("Ada"));
    let host = host.restart();
    assert!(say(&host, "u1", "green").contains("green is a fine choice, Ada"));
    assert!(say(&host, "u2", "Bob").contains("Bob"));
}

#[test]
fn an_event_in_binary_mode_is_equivalent() {
    let host = Host::start();
    deploy_bot(&host);
    let ask = Ask::post("/v1/apps/bot/events").body("application/json", "{\"text\":\"hi\"}");
    let ask = ask.header("ce-specversion", "1.0").header("ce-id", "1").header("ce-source", "/test");
    let reply = host.api(ask.header("ce-type", "chat.message").header("ce-subject", "u1")).expect(200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json()["text"], "Hello! What is your name?");
}

/// B3 for events: the sender gets the reason of each failure, and the app continues to run.
#[test]
fn a_handlers_failure_is_reported_to_the_sender_and_the_app_continues() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\nrequest_timeout = \"300ms\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let neighbour = Neighbour::beside(&host);
    let greedy = |kind: &str| send(&host, "greedy", &event(kind));

    let reply = greedy("hello").expect(200);
    assert_eq!(reply.text(), "hello, delivery 1");
    greedy("quiet").expect(204);

    let refused = greedy("fail").problem_of("greedy", 422, "event-refused");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("asked to fail")), "{refused}");

    let later = greedy("retry");
    let put_off = later.problem_of("greedy", 503, "event-try-later");
    assert_eq!(later.header("retry-after"), Some("7"));
    let hint = put_off["hint"].as_str().unwrap_or_default();
    assert!(hint.starts_with("send the event again in 7 s") && hint.contains("does not retry it"), "{hint}");
    assert!(put_off["detail"].as_str().is_some_and(|detail| detail.contains("retry in 7 s")), "{put_off}");

    let panicked = greedy("panic").problem_of("greedy", 502, "guest-failed");
    assert_eq!(panicked["fault"], "trap", "{panicked}");
    let never = greedy("never").problem_of("greedy", 504, "deadline");
    for problem in [refused, panicked, never] {
        assert!(problem["hint"].is_string(), "the problem has no hint: {problem}");
    }

    greedy("again").expect(200);
    assert_eq!(host.state("greedy"), "running");
    neighbour.finish();
}

#[test]
fn an_invalid_event_is_rejected_by_name() {
    let host = Host::start();
    deploy_bot(&host);
    host.deploy("hello", Bundle::component(guest("hello")));
    let refused =
        send(&host, "bot", &json!({ "specversion": "1.0", "id": "1", "type": "t" })).problem(400, "bad-event");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("source")), "{refused}");
    let garbage = Ask::post("/v1/apps/bot/events").body("application/cloudevents+json", "{");
    assert_eq!(host.api(garbage).status, 400);
    // The bot can't read this data, and a retry would fail again.
    send(&host, "bot", &event("chat.message")).problem_of("bot", 422, "event-refused");
    send(&host, "hello", &event("t")).problem_of("hello", 409, "no-events");
    send(&host, "nobody", &event("t")).problem_of("nobody", 404, "unknown-app");
    let large = "x".repeat(2 << 20);
    host.api(Ask::post("/v1/apps/bot/events").body("application/cloudevents+json", large)).problem(413, "too-large");
    host.get("bot", "/").problem_of("bot", 404, "no-http");
}
