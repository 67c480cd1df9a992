//! Tests the event stream of a page: one connection carries metrics, activities and log lines, and
//! continues after its last event. Many pages are open at the same time.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use isopod_tests::{Ask, Bundle, Host, PageStream, Wire, guest, wait_for};
use serde_json::{Value, json};

/// The topics of a page about one app.
const GREEDY: &str = "apps=true&metrics=greedy&activity=greedy&log=greedy";
const TOPICS: [&str; 4] = ["apps", "metrics", "activity", "log"];

fn start() -> Host {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host
}

fn token(host: &Host, apps: &[&str]) -> String {
    let body = json!({ "name": "reader", "role": "read", "apps": apps });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

fn has_message(line: &Value, text: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(text))
}

/// Waits for the activity about a config var.
fn until_set(stream: &mut PageStream, key: &str) -> isopod_tests::sse::PageEvent {
    stream.until("activity", |entry| entry.to_string().contains(key))
}

#[test]
fn one_stream_carries_metrics_activities_and_log_lines() {
    let host = start();
    let mut stream = host.page_stream(&host.token, GREEDY, "");
    stream.until_started(&TOPICS);
    host.get("greedy", "/log-line?text=the-line").expect(200);
    stream.until("log", |line| has_message(line, "the-line"));
    let metrics = stream.until("metrics", |metrics| metrics["app"] == "greedy" && metrics["requests"] == 1).data;
    let next = stream.until("metrics", |_| true).data;
    assert!(measured_at(&next) > measured_at(&metrics), "{metrics} {next}");
    let top = stream.until("apps", |top| top["items"][0]["app"] == "greedy" && top["host"]["apps"] == 1).data;
    measured_at(&top["host"]);
    host.set_config("greedy", &json!({ "COLOUR": "red" })).expect(200);
    until_set(&mut stream, "COLOUR");
}

fn measured_at(metrics: &Value) -> SystemTime {
    let at = metrics["measured_at"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok());
    at.expect("the time of the measurement")
}

/// Returns a time in the near future.
fn in_seconds(seconds: u64) -> String {
    humantime::format_rfc3339(SystemTime::now() + Duration::from_secs(seconds)).to_string()
}

#[test]
fn a_page_stream_continues_after_its_last_event() {
    let host = start();
    let topics = "activity=greedy&log=greedy";
    let mut stream = host.page_stream(&host.token, topics, "");
    stream.until_started(&["activity", "log"]);
    host.set_config("greedy", &json!({ "BEFORE": "1" })).expect(200);
    until_set(&mut stream, "BEFORE");
    host.get("greedy", "/log-line?text=before").expect(200);
    let last = stream.until("log", |line| has_message(line, "before")).id;
    drop(stream);
    host.get("greedy", "/log-line?text=meanwhile").expect(200);
    host.set_config("greedy", &json!({ "MEANWHILE": "1" })).expect(200);
    let host = host.restart();
    let mut stream = host.page_stream(&host.token, topics, &last);
    host.get("greedy", "/log-line?text=afterwards").expect(200);
    let (mut seen, mut wanted) = (String::new(), vec!["MEANWHILE", "meanwhile", "afterwards"]);
    while !wanted.is_empty() {
        let event = stream.next().expect("the stream continues");
        seen.push_str(&event.data.to_string());
        wanted.retain(|text| !seen.contains(text));
    }
    assert!(!seen.contains("BEFORE") && !seen.contains("text=before\""), "{seen}");
}

#[test]
fn a_page_stream_accepts_any_position_of_its_form() {
    let host = start();
    host.get("greedy", "/log-line?text=before").expect(200);
    let end = host.api(Ask::get("/v1/apps/greedy/logs?limit=1")).expect(200).json();
    let (segment, offset) = end["end"].as_str().and_then(|end| end.split_once('-')).expect("a position");
    let in_a_line = offset.parse::<u64>().expect("a number") - 3;
    let beyond = "activity=999999999999999999,log=999999999999999999-999999999999999999".to_owned();
    for id in [beyond, format!("activity=0,log={segment}-{in_a_line}")] {
        let mut stream = host.page_stream(&host.token, "activity=greedy&log=greedy", &id);
        stream.until_started(&["activity", "log"]);
        host.get("greedy", "/log-line?text=afterwards").expect(200);
        host.set_config("greedy", &json!({ "AFTERWARDS": id })).expect(200);
        let first = stream.until("log", |line| line["stream"] != "host").data;
        assert!(has_message(&first, "afterwards"), "{id}: {first}");
        until_set(&mut stream, "AFTERWARDS");
    }
}

#[test]
fn a_reconnecting_reader_receives_all_lines_that_it_missed() {
    let host = start();
    let mut stream = host.page_stream(&host.token, "log=greedy", "");
    let last = stream.until("started", |_| true).id;
    drop(stream);
    for _ in 0..4 {
        host.get("greedy", "/log-flood?lines=250&bytes=4000").expect(200);
    }
    host.get("greedy", "/log-line?text=the-last-line").expect(200);
    let mut received = 0;
    for event in host.page_stream(&host.token, "log=greedy", &last) {
        assert_ne!(event.of, "missed", "after {received} lines: {event:?}");
        received += u64::from(event.of == "log");
        if has_message(&event.data, "the-last-line") {
            break;
        }
    }
    // The log may have dropped lines of the flood, and contains their number then.
    let stored = stored(&host);
    let last = stored.iter().position(|line| has_message(line, "the-last-line")).expect("it is stored");
    let first = stored.iter().position(|line| has_message(line, "out 0 ")).expect("it is stored");
    assert_eq!(received, (last - first + 1) as u64);
}

#[test]
fn an_unreadable_log_breaks_only_its_topic() {
    let host = start();
    host.get("greedy", "/log-line?text=before").expect(200);
    host.log_line("greedy", "the line", |line| has_message(line, "before"));
    let folder = host.data().join("apps").join("greedy").join("logs");
    let aside = folder.with_extension("aside");
    fs::rename(&folder, &aside).expect("it can be renamed");
    fs::write(&folder, "not a folder").expect("it can be written");
    let mut stream = host.page_stream(&host.token, "metrics=greedy&log=greedy", "log=0-0");
    stream.until("broken", |broken| broken["topic"] == "log");
    stream.until("metrics", |metrics| metrics["app"] == "greedy");
    fs::remove_file(&folder).expect("it can be removed");
    fs::rename(&aside, &folder).expect("it can be renamed");
    stream.until("started", |started| started["topic"] == "log");
    stream.until("log", |line| has_message(line, "before"));
}

#[test]
fn a_log_with_a_latest_time_ends_before_the_other_topics() {
    let host = start();
    let topics = format!("metrics=greedy&log=greedy&until={}", in_seconds(1));
    let mut stream = host.page_stream(&host.token, &topics, "");
    let ended = stream.until("ended", |_| true).data;
    assert_eq!(ended, json!({ "topic": "log", "reason": "until-passed" }));
    stream.until("metrics", |_| true);
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    let end = stream.until("end", |_| true).data;
    assert_eq!(end, json!({ "reason": "app-destroyed" }));
    // Without another topic, the stream ends with the log.
    host.create("shop", "dev");
    let end = host.page_stream(&host.token, "log=shop&until=0s", "").until("end", |_| true).data;
    assert_eq!(end, json!({ "reason": "until-passed" }));
}

#[test]
fn a_page_stream_never_contains_a_later_app_with_the_same_name() {
    let host = start();
    let mut stream = host.page_stream(&host.token, "metrics=greedy&activity=greedy&log=greedy", "");
    stream.until_started(&TOPICS[1..]);
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.get("greedy", "/log-line?text=of-the-later-app").expect(200);
    let events: Vec<_> = stream.collect();
    let of_later = |text: &str| events.iter().any(|event| event.data.to_string().contains(text));
    assert!(!of_later("of-the-later-app") && !of_later("app-created"), "{events:?}");
    let ended = events.iter().filter(|event| event.of == "ended").count();
    assert_eq!((ended, events.last().map(|event| event.of.as_str())), (3, Some("end")), "{events:?}");
}

#[test]
fn a_page_stream_ends_when_its_token_expires() {
    let host = start();
    let body = json!({ "name": "brief", "role": "read", "expires_at": in_seconds(2) });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    let mut stream = host.page_stream(made["token"].as_str().expect("it is shown once"), GREEDY, "");
    let end = stream.until("end", |_| true);
    assert_eq!(end.data, json!({ "reason": "token-expired" }));
}

#[test]
fn a_slow_reader_of_a_page_stream_learns_how_many_lines_it_missed() {
    let host = start();
    let mut stream = host.page_stream(&host.token, "log=greedy", "");
    stream.until_started(&["log"]);
    let before = stored(&host).len();
    // More than connections hold, and less than the log keeps. The test reads nothing before the
    // guest has written all lines, three for each number.
    for _ in 0..8 {
        host.get("greedy", "/log-flood?lines=250&bytes=4000").expect(200);
    }
    wait_for("the last line", || {
        host.get("greedy", "/log-line?text=the-last-line").expect(200);
        host.log("greedy").iter().any(|line| line["message"] == "the-last-line").then_some(())
    });
    let (mut received, mut missed) = (0, 0);
    for event in &mut stream {
        match event.of.as_str() {
            "log" => received += 1,
            "missed" => missed += event.data["lines"].as_u64().expect("a number"),
            _ => {}
        }
        if has_message(&event.data, "the-last-line") {
            break;
        }
    }
    let stored = stored(&host);
    let last = stored.iter().position(|line| has_message(line, "the-last-line")).expect("it is stored");
    let written = (last + 1 - before) as u64;
    assert!(missed > 0, "the reader was slow: it received {received} of {written} lines");
    assert_eq!(received + missed, written);
}

/// Returns all stored lines of the app's log, oldest first.
fn stored(host: &Host) -> Vec<Value> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.api(Ask::get(format!("/v1/apps/greedy/logs?limit=1000{cursor}"))).expect(200).json();
        pages.push(page["items"].as_array().expect("a page has items").clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages.into_iter().rev().flatten().collect(),
        }
    }
}

#[test]
fn two_hundred_dashboards_follow_an_app_and_further_streams_are_refused() {
    let host = start();
    let open = || host.page_stream(&host.token, GREEDY, "");
    let mut dashboards: Vec<PageStream> = (0..200).map(|_| open()).collect();
    for stream in &mut dashboards {
        stream.until_started(&TOPICS);
    }
    host.get("greedy", "/log-line?text=to-all").expect(200);
    host.set_config("greedy", &json!({ "TO_ALL": "1" })).expect(200);
    for stream in &mut dashboards {
        stream.until("log", |line| has_message(line, "to-all"));
        until_set(stream, "TO_ALL");
        stream.until("metrics", |metrics| metrics["requests"].as_u64() >= Some(1));
        stream.until("apps", |top| top["items"][0]["app"] == "greedy");
    }
    let refused = || host.api(Ask::get("/v1/stream?apps=true"));
    while dashboards.len() < 256 {
        dashboards.push(open());
    }
    refused().problem(429, "too-many-followers");
    dashboards.pop();
    wait_for("a free permit", || {
        let ask = Ask::get("/v1/stream?apps=true").header("authorization", format!("Bearer {}", host.token));
        let mut wire = Wire::open(host.admin).expect("the API accepts connections");
        wire.ask(&ask).expect("it can be sent");
        (wire.head().expect("an answer").status == 200).then_some(())
    });
}

#[test]
fn a_token_for_some_apps_streams_only_these() {
    let host = start();
    host.deploy("hello", Bundle::component(guest("hello")));
    host.get("greedy", "/allocate").expect(502);
    let reader = token(&host, &["greedy"]);
    for topic in ["metrics", "activity", "log"] {
        let ask = |app: &str| Ask::get(format!("/v1/stream?apps=true&{topic}={app}"));
        host.api_with(&reader, ask("hello")).problem(403, "out-of-scope");
        // The token can't test whether an app exists.
        host.api_with(&reader, ask("nobody")).problem(403, "out-of-scope");
    }
    let mut stream = host.page_stream(&reader, GREEDY, "");
    let top = stream.until("apps", |_| true).data;
    assert_eq!(top["items"].as_array().map(Vec::len), Some(1), "{top}");
    let app = &top["items"][0];
    assert_eq!((&app["app"], &app["requests"], &app["errors"]), (&json!("greedy"), &json!(1), &json!(1)));
    let all = host.page_stream(&host.token, "apps=true", "").until("apps", |_| true).data;
    assert_eq!(all["host"]["apps"], 2, "{all}");
    host.api(Ask::new("DELETE", "/v1/tokens/reader")).expect(204);
    let end = stream.until("end", |_| true);
    assert_eq!(end.data, json!({ "reason": "token-revoked" }));
}

#[test]
fn a_page_stream_ends_with_its_app() {
    let host = start();
    let mut stream = host.page_stream(&host.token, "metrics=greedy&activity=greedy&log=greedy", "");
    stream.until_started(&TOPICS[1..]);
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    let events: Vec<_> = stream.collect();
    assert!(events.iter().any(|event| event.of == "activity" && event.data["kind"] == "app-destroyed"), "{events:?}");
    let end = events.last().expect("an event");
    assert_eq!((end.of.as_str(), &end.data), ("end", &json!({ "reason": "app-destroyed" })));
}

#[test]
fn a_page_stream_without_a_topic_or_with_an_invalid_id_is_refused() {
    let host = Host::start();
    host.create("shop", "dev");
    let refused = host.api(Ask::get("/v1/stream")).problem(400, "bad-query");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("apps=true")), "{refused}");
    host.api(Ask::get("/v1/stream?log=none")).problem(404, "unknown-app");
    host.api(Ask::get("/v1/stream?log=shop&request_id=x")).problem(400, "bad-query");
    let ask = Ask::get("/v1/stream?log=shop").header("last-event-id", "12-3");
    host.api(ask).problem(400, "bad-header");
}
