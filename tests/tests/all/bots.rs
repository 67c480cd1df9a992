//! Tests the example `bot` as chat networks use it: a webhook at the app's URL, whose message is
//! answered by a request to the network.

use isopod_tests::{Answer, Ask, Bundle, Host, Upstream, guest, limits::PATIENCE, upstream::Then, wait_for};
use serde_json::{Value, json};

/// Starts a chat network that accepts every message unless `busy` returns true.
pub(crate) fn network(is_busy: impl Fn(usize) -> bool + Send + Sync + 'static) -> Upstream {
    let body = r#"{"ok":true}"#;
    let taken = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let busy = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    Upstream::start(move |arrived| {
        let answer = if is_busy(arrived.connection) { busy } else { &taken };
        Then::SendAndClose(answer.as_bytes().to_vec())
    })
}

pub(crate) fn deploy(host: &Host, network: &Upstream) {
    let address = network.address;
    let manifest = format!(
        "name = \"bot\"\n[processes.web]\nentry = \"http\"\n\
         [processes.worker]\nentry = \"events\"\norder = \"subject\"\nretry = {{ first = \"100ms\", max = \"1s\" }}\n\
         [processes.hourly]\nentry = \"events\"\nschedule = \"0 0 1 1 *\"\n\
         [grants]\nkeyvalue = true\nhttp = [\"{address}\"]\n\
         [config]\nADMIN = \"telegram:1\"\nTELEGRAM_API = \"http://{address}\"\nSLACK_API = \"http://{address}/api\"\n"
    );
    host.create("bot", "dev");
    let secrets = ["TELEGRAM_TOKEN", "TELEGRAM_SECRET", "SLACK_TOKEN", "SLACK_SIGNING_SECRET"];
    let secrets = secrets.map(|name| (name.to_owned(), json!({ "secret": format!("{name}-value") })));
    host.set_config("bot", &Value::Object(secrets.into_iter().collect())).expect(200);
    host.deploy("bot", Bundle::archive(&manifest, &guest("bot")));
}

fn telegram(host: &Host, secret: &str, update: u32, user: u32, text: &str) -> Answer {
    let message = json!({ "text": text, "chat": { "id": user }, "from": { "id": user } });
    let update = json!({ "update_id": update, "message": message });
    let ask = Ask::post("/telegram").header("x-telegram-bot-api-secret-token", secret);
    host.app("bot", ask.body("application/json", update.to_string()))
}

/// Returns the time zone in which an hour of the day begins this number of hours after the current
/// hour of UTC.
fn zone_with_hour(hour: u64, later: u64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is set").as_secs() / 3_600;
    // From 11 hours behind UTC to 12 hours ahead. The names of these zones have the opposite sign.
    let ahead = (hour + 24 + 11 - (now + later) % 24) % 24;
    let sign = if ahead < 11 { '+' } else { '-' };
    format!("Etc/GMT{sign}{}", ahead.abs_diff(11))
}

/// Waits until the network got this number of messages, and returns their users and texts.
fn sent(network: &Upstream, count: usize) -> Vec<(u64, String)> {
    let requests = wait_for("the replies", || Some(network.requests()).filter(|requests| requests.len() >= count));
    let read = |arrived: &isopod_tests::upstream::Arrived| {
        let body: Value = serde_json::from_slice(&arrived.body).expect("JSON");
        let user = body["chat_id"].as_u64().unwrap_or_else(|| panic!("{body}"));
        (user, body["text"].as_str().expect("a text").to_owned())
    };
    requests.iter().map(read).collect()
}

#[test]
fn a_webhook_without_the_networks_secret_is_refused() {
    let host = Host::start();
    let network = network(|_| false);
    deploy(&host, &network);
    for secret in ["", "wrong", "TELEGRAM_SECRET-valu"] {
        telegram(&host, secret, 1, 5, "hi").expect(401);
    }
    let unsigned = Ask::post("/slack").header("x-slack-signature", "v0=00").header("x-slack-request-timestamp", "0");
    host.app("bot", unsigned.body("application/json", "{}")).expect(401);
    host.app("bot", Ask::post("/slack").body("application/json", "{}")).expect(401);
    let events = host.api(Ask::get("/v1/apps/bot/events")).expect(200).json();
    assert_eq!(events["items"], json!([]));
    assert_eq!(network.requests().len(), 0);
}

#[test]
fn a_bot_answers_each_message_once_and_in_order() {
    let host = Host::start();
    let network = network(|connection| connection == 0);
    deploy(&host, &network);
    for (update, text) in [(1, "hi"), (2, "Ada"), (3, "green"), (1, "hi")] {
        telegram(&host, "TELEGRAM_SECRET-value", update, 5, text).expect(200);
    }
    let replies = sent(&network, 4);
    let texts: Vec<&str> = replies.iter().map(|(_, text)| text.as_str()).collect();
    let first = "Hello! What is your name?";
    let expected =
        [first, first, "Nice to meet you, Ada. What is your favourite colour?", "green is a fine choice, Ada."];
    assert_eq!(texts, expected, "the network was busy at the first attempt");
    let requests = network.requests();
    let key = |index: usize| requests[index].header("idempotency-key")[0].to_owned();
    assert_eq!(key(0), key(1), "a repeated reply has the same key");
    assert_ne!(key(1), key(2));
    assert!(requests[0].head.starts_with("POST /botTELEGRAM_TOKEN-value/sendMessage "), "{}", requests[0].head);
    // A reply whose delivery is not stored yet would be sent again after the kill.
    wait_for("the outcome of each delivery", || {
        let events = host.api(Ask::get("/v1/apps/bot/events")).expect(200).json();
        let events = events["items"].as_array()?;
        events.iter().all(|event| event["state"] == "done").then_some(())
    });
    let host = host.kill_and_restart();
    telegram(&host, "TELEGRAM_SECRET-value", 4, 5, "again").expect(200);
    assert_eq!(sent(&network, 5)[4].1, "I know you, Ada: you like green. Say /forget to start afresh.");
}

#[test]
fn the_admin_sends_a_broadcast() {
    let host = Host::start();
    let network = network(|_| false);
    deploy(&host, &network);
    for user in 1..=3 {
        telegram(&host, "TELEGRAM_SECRET-value", user, user, "hi").expect(200);
    }
    sent(&network, 3);
    telegram(&host, "TELEGRAM_SECRET-value", 4, 1, "/broadcast news").expect(200);
    let mut news: Vec<u64> =
        sent(&network, 7).into_iter().filter(|(_, text)| text == "news").map(|sent| sent.0).collect();
    news.sort_unstable();
    assert_eq!(news, [1, 2, 3]);
}

#[test]
fn users_get_a_summary_in_the_evening_of_their_time_zone() {
    let host = Host::start();
    let network = network(|_| false);
    deploy(&host, &network);
    // For the first user it is the hour of the summary, for the second it begins in an hour.
    for (user, later) in [(1, 0), (2, 1)] {
        let zone = zone_with_hour(21, later);
        telegram(&host, "TELEGRAM_SECRET-value", user, user, &format!("/zone {zone}")).expect(200);
        let confirmed = format!("You get a summary every evening after 21:00 ({zone}).");
        assert_eq!(sent(&network, user as usize).swap_remove(user as usize - 1), (u64::from(user), confirmed));
    }
    let run = host.api(Ask::post("/v1/apps/bot/schedules/hourly/run")).expect(202).json();
    let (user, text) = sent(&network, 3).swap_remove(2);
    // The next hour may have begun meanwhile.
    assert!(text == "Messages from you today: 1" && (1..=2).contains(&user), "{user}: {text}; {run}");
    host.until_no_event_waits("bot", PATIENCE);
    assert_eq!(network.requests().len(), 3);
}
