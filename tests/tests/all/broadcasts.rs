//! F4, J5: tests broadcasts: many events in one request, stored as they arrive. The first invalid
//! event is named, and the events before it are stored.

use isopod_tests::{Answer, Ask, Bundle, Host, Wire, guest, wait_for};
use serde_json::json;

const LINES: &str = "application/x-ndjson";
const BATCH: &str = "application/cloudevents-batch+json";
const PATH: &str = "/v1/apps/greedy/broadcasts";

/// Starts a host with `greedy`, which takes events.
pub(crate) fn start() -> Host {
    with_greedy(Host::start())
}

/// Deploys `greedy` to a new host.
pub(crate) fn with_greedy(host: Host) -> Host {
    host.create("greedy", "production");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    host
}

/// Returns an event that waits in the queue during the test.
pub(crate) fn event(id: impl std::fmt::Display) -> String {
    let id = id.to_string();
    json!({ "specversion": "1.0", "id": id, "source": "/users", "type": "hello", "isopoddelay": "1h" }).to_string()
}

fn broadcast(host: &Host, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    host.api(Ask::post(PATH).body(content_type, body))
}

/// Returns the ids of the stored events, the first accepted first.
fn stored(host: &Host) -> Vec<String> {
    let page = host.api(Ask::get("/v1/apps/greedy/events?limit=1000")).expect(200).json();
    let items = page["items"].as_array().expect("a page has items").iter().rev();
    items.map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// Waits until an event is stored.
fn until_stored(host: &Host, id: &str) {
    let path = format!("/v1/apps/greedy/events/{id}");
    wait_for(&format!("the event {id}"), || (host.api(Ask::get(path.clone())).status == 200).then_some(()));
}

#[test]
fn each_line_of_a_broadcast_is_an_event() {
    let host = start();
    // A byte order mark, line ends of both kinds, empty lines, and a last line without an end.
    let body = format!("\u{feff}{}\r\n\r\n{}\n \t\n\n{}", event("a"), event("b"), event("c"));
    let done = broadcast(&host, LINES, body.clone()).expect(202).json();
    assert_eq!(done, json!({ "accepted": 3, "duplicates": 0 }));
    assert_eq!(stored(&host), ["a", "b", "c"]);
    let again = broadcast(&host, LINES, format!("{body}\n{}", event("d"))).expect(202).json();
    assert_eq!(again, json!({ "accepted": 4, "duplicates": 3 }), "a repeated event is not stored again");
    assert_eq!(stored(&host), ["a", "b", "c", "d"]);
    let empty = broadcast(&host, LINES, "\r\n").expect(202).json();
    assert_eq!(empty, json!({ "accepted": 0, "duplicates": 0 }));
}

#[test]
fn the_events_of_a_broadcast_are_delivered_and_its_headers_are_defaults() {
    let host = start();
    let plain = |id: &str| event(id).replace(",\"isopoddelay\":\"1h\"", "");
    broadcast(&host, LINES, plain("now")).expect(202);
    host.until_event("greedy", "now", "done");
    let ask = Ask::post(PATH).body(LINES, plain("later")).header("isopod-delay", "2h");
    host.api(ask).expect(202);
    assert_eq!(host.stored_event("greedy", "later")["state"], "delayed");
    let ask = Ask::post(PATH).body(LINES, plain("never")).header("isopod-delay", "soon");
    host.api(ask).problem(400, "bad-header");
}

#[test]
fn the_first_invalid_line_is_named_and_no_later_line_is_stored() {
    let host = start();
    let twice = event("x").replacen("{", "{\"id\":\"y\",", 1);
    let large = event("x").replacen("{", &format!("{{\"data\":\"{}\",", "x".repeat(1 << 20)), 1);
    let invalid = [
        ("{\"specversion\":\"1.0\"}".to_owned(), "id"),
        ("no json".to_owned(), ""),
        (twice, "id"),
        (large, ""),
        (format!("[{}]", event("x")), ""),
    ];
    for (at, (line, attribute)) in invalid.iter().enumerate() {
        let body = format!("{}\n\n{}\r\n{line}\n{}\n", event(format!("a{at}")), event(format!("b{at}")), event("late"));
        let refused = broadcast(&host, LINES, body).problem(400, "bad-event");
        let shown = (&refused["line"], &refused["accepted"], &refused["duplicates"]);
        assert_eq!(shown, (&json!(4), &json!(2), &json!(0)), "{refused}");
        assert!(attribute.is_empty() || refused["attribute"] == *attribute, "{refused}");
    }
    assert_eq!(stored(&host).len(), 2 * invalid.len());
    // The last line may be cut off, too.
    let cut = &event("cut")[..20];
    let refused = broadcast(&host, LINES, format!("{}\n{cut}", event("c"))).problem(400, "bad-event");
    assert_eq!((&refused["line"], &refused["accepted"]), (&json!(2), &json!(1)));
}

#[test]
fn a_broadcast_may_be_a_cloudevents_batch() {
    let host = start();
    let body = format!("[{},\n {}]", event("a"), event("b"));
    assert_eq!(broadcast(&host, BATCH, body).expect(202).json(), json!({ "accepted": 2, "duplicates": 0 }));
    assert_eq!(broadcast(&host, BATCH, "[]").expect(202).json(), json!({ "accepted": 0, "duplicates": 0 }));
    let refused = broadcast(&host, BATCH, format!("[{}, 3, {}]", event("c"), event("d"))).problem(400, "bad-event");
    assert_eq!((&refused["index"], &refused["accepted"]), (&json!(1), &json!(1)), "{refused}");
    assert_eq!(broadcast(&host, BATCH, event("e")).problem(400, "bad-json")["accepted"], 0);
    broadcast(&host, "application/json", event("e")).problem(415, "wrong-content-type");
    assert_eq!(stored(&host), ["a", "b", "c"]);
}

#[test]
fn a_large_broadcast_is_stored_whole() {
    let host = start();
    let lines: String = (0..100_000).map(|number| event(number) + "\n").collect();
    let done = broadcast(&host, LINES, lines).expect(202).json();
    assert_eq!(done, json!({ "accepted": 100_000, "duplicates": 0 }));
    let last = (99_000..100_000).map(|number: u32| number.to_string());
    assert_eq!(stored(&host), last.collect::<Vec<_>>(), "they are stored in their order");
    // More than the host stores in one transaction, with few events.
    let padding = "x".repeat(900 << 10);
    let large: String = (0..20)
        .map(|n| event(format!("L{n}")).replacen("{", &format!("{{\"data\":\"{padding}\","), 1) + "\n")
        .collect();
    assert_eq!(broadcast(&host, LINES, large).expect(202).json(), json!({ "accepted": 20, "duplicates": 0 }));
}

/// Begins a broadcast with these lines. Its body has no end yet.
fn begin(host: &Host, lines: &str) -> Wire {
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: {LINES}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        host.token
    );
    wire.send(head.as_bytes()).expect("it can be sent");
    wire.send_chunk(lines.as_bytes()).expect("it can be sent");
    wire
}

#[test]
fn a_broadcast_to_an_app_that_is_destroyed_meanwhile_ends_with_404() {
    let host = start();
    let lines: String = (0..1_500).map(|number| event(number) + "\n").collect();
    let mut wire = begin(&host, &lines);
    // The first full batch is stored before the body ends.
    until_stored(&host, "900");
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    wire.send(b"0\r\n\r\n").expect("it can be sent");
    let refused = wire.answer().expect("an answer");
    assert_eq!(refused.problem(404, "unknown-app")["accepted"], 1_000, "{refused}");
}

#[test]
fn the_lines_before_a_broken_upload_are_stored() {
    let host = start();
    let lines: String = (0..1_500).map(|number| event(number) + "\n").collect();
    let mut wire = begin(&host, &format!("{lines}{}", &event("cut")[..30]));
    // The first full batch is stored before the body ends.
    until_stored(&host, "900");
    wire.end_sending().expect("it can be closed");
    if let Ok(answer) = wire.answer() {
        let refused = answer.problem(400, "truncated-body");
        assert_eq!((&refused["accepted"], &refused["duplicates"]), (&json!(1_500), &json!(0)), "{refused}");
    }
    until_stored(&host, "1499");
    drop(begin(&host, &format!("{}\n", event("gone"))));
    until_stored(&host, "gone");
    host.api(Ask::get("/v1/apps/greedy/events/cut")).problem_of("greedy", 404, "unknown-event");
}

#[test]
fn a_broadcast_needs_an_app_that_takes_events_and_a_valid_token() {
    let host = start();
    host.api(Ask::post("/v1/apps/missing/broadcasts").body(LINES, event("a"))).problem(404, "unknown-app");
    host.create("empty", "dev");
    let refused = host.api(Ask::post("/v1/apps/empty/broadcasts").body(LINES, event("a")));
    assert_eq!(refused.problem_of("empty", 503, "app-unavailable")["accepted"], 0);
    let token = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "deploy" }))).expect(201).json();
    let token = token["token"].as_str().expect("a token").to_owned();
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: {LINES}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    wire.send(head.as_bytes()).expect("it can be sent");
    let lines: String = (0..1_001).map(|number| event(number) + "\n").collect();
    wire.send_chunk(lines.as_bytes()).expect("it can be sent");
    until_stored(&host, "0");
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    let refused = wire.answer().expect("a response").problem(401, "unknown-token");
    assert_eq!(refused["accepted"], 1_001, "{refused}");
    until_stored(&host, "1000");
}
