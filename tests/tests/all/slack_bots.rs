//! Tests the example `bot` with the requests of Slack, which are signed.

use super::bots::{deploy, network};
use isopod_tests::{Answer, Ask, Host, Upstream, wait_for};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// The secret that `deploy` sets.
const SECRET: &str = "SLACK_SIGNING_SECRET-value";

/// Returns the keyed hash of RFC 2104 with SHA-256 in hexadecimal. The key has at most 64 bytes.
fn hmac(key: &str, text: &str) -> String {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key.bytes()).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the time this number of seconds ago, as Slack writes it.
fn seconds_ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    (now - seconds).to_string()
}

fn send(host: &Host, at: &str, signature: &str, body: &Value) -> Answer {
    let ask = Ask::post("/slack").header("x-slack-request-timestamp", at).header("x-slack-signature", signature);
    host.app("bot", ask.body("application/json", body.to_string()))
}

fn send_signed(host: &Host, body: &Value) -> Answer {
    let at = seconds_ago(0);
    send(host, &at, &format!("v0={}", hmac(SECRET, &format!("v0:{at}:{body}"))), body)
}

fn message(id: &str, text: &str) -> Value {
    let event = json!({ "type": "message", "text": text, "channel": "C1", "user": "U1" });
    json!({ "type": "event_callback", "event_id": id, "event": event })
}

/// Waits until Slack got this number of messages, and returns their texts.
fn texts(network: &Upstream, count: usize) -> Vec<String> {
    let requests = wait_for("the replies", || Some(network.requests()).filter(|requests| requests.len() >= count));
    let read = |arrived: &isopod_tests::upstream::Arrived| {
        assert!(arrived.head.starts_with("POST /api/chat.postMessage "), "{}", arrived.head);
        assert_eq!(arrived.header("authorization"), ["Bearer SLACK_TOKEN-value"]);
        let body: Value = serde_json::from_slice(&arrived.body).expect("JSON");
        assert_eq!(body["channel"], "C1", "{body}");
        body["text"].as_str().expect("a text").to_owned()
    };
    requests.iter().map(read).collect()
}

/// The example of Slack's documentation.
#[test]
fn the_signature_of_the_test_is_that_of_slack() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
        response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let signature = hmac("8f742231b10e8888abcd99yyyzzz85a5", &format!("v0:1531420618:{body}"));
    assert_eq!(signature, "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
}

#[test]
fn signed_messages_are_answered_once_each() {
    let host = Host::start();
    let network = network(|_| false);
    deploy(&host, &network);
    let challenge = json!({ "type": "url_verification", "challenge": "abc" });
    assert_eq!(send_signed(&host, &challenge).expect(200).json(), json!({ "challenge": "abc" }));
    for (id, text) in [("Ev1", "hi"), ("Ev1", "hi"), ("Ev2", "Ada")] {
        send_signed(&host, &message(id, text)).expect(200);
    }
    let expected = ["Hello! What is your name?", "Nice to meet you, Ada. What is your favourite colour?"];
    assert_eq!(texts(&network, 2), expected, "a repeated request is not answered again");
    host.until_event("bot", "Ev2", "done");
}

#[test]
fn messages_with_a_wrong_or_old_signature_are_refused() {
    let host = Host::start();
    let network = network(|_| false);
    deploy(&host, &network);
    let (body, now, old) = (message("Ev1", "hi"), seconds_ago(0), seconds_ago(600));
    let sign = |secret: &str, at: &str, body: &Value| format!("v0={}", hmac(secret, &format!("v0:{at}:{body}")));
    let good = sign(SECRET, &now, &body);
    for (at, signature) in [
        (&now, sign("another secret", &now, &body)),
        (&now, sign(SECRET, &now, &message("Ev1", "bye"))),
        (&now, good.trim_start_matches("v0=").to_owned()),
        (&now, good[..good.len() - 2].to_owned()),
        (&now, String::new()),
        (&old, sign(SECRET, &old, &body)),
        (&old, good.clone()),
    ] {
        send(&host, at, &signature, &body).expect(401);
    }
    let events = host.api(Ask::get("/v1/apps/bot/events")).expect(200).json();
    assert_eq!((events["items"].clone(), network.requests().len()), (json!([]), 0));
    send(&host, &now, &good, &body).expect(200);
    assert_eq!(texts(&network, 1), ["Hello! What is your name?"]);
}
