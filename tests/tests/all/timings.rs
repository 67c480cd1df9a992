//! F6: tests the phases of a request, in its log line and in `server-timing`, and which
//! clients see them.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Queue, Upstream, guest,
    middleware::{probe_plugin, used, with_middleware},
    outbox::outbox,
    upstream::{Then, response},
    wait_for,
};
use serde_json::{Value, json};
use std::sync::{Mutex, mpsc};

/// Returns the access line of a response. Its phases up to the response's head take no longer than
/// the request.
fn line(host: &Host, app: &str, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").expect("each response has an id");
    let line = host.log_line(app, "the access line", |line| line["stream"] == "access" && line["request_id"] == id);
    let phases = line["timing"].as_object().into_iter().flatten().filter(|(name, _)| *name != "reply_ms");
    let sum: f64 = phases.filter_map(|(_, time)| time.as_f64()).sum();
    assert!(sum <= line["duration_ms"].as_f64().expect("a number") + 1.0, "{line}");
    line
}

/// Returns the phases of a response, from its access line.
fn timing(host: &Host, app: &str, answer: &Answer) -> Value {
    line(host, app, answer)["timing"].clone()
}

/// Returns the names of the phases that took time.
fn phases(timing: &Value) -> Vec<&str> {
    timing.as_object().map(|phases| phases.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn ms(timing: &Value, phase: &str) -> f64 {
    timing[phase].as_f64().unwrap_or_else(|| panic!("no {phase} in {timing}"))
}

fn asking(host: &Host, app: &str, path: &str, token: &str) -> Answer {
    host.app(app, Ask::get(path).header("x-isopod-timing", token)).expect(200)
}

#[test]
fn a_log_line_shows_what_a_request_waited_for() {
    let (release, released) = mpsc::sync_channel(1);
    let released = Mutex::new(released);
    let held = move |_: &_| {
        // A test that fails drops the sender.
        let _ = released.lock().map(|released| released.recv());
        Then::Send(response("reached"))
    };
    let (host, upstream) = (Host::start(), Upstream::start(held));
    for app in ["greedy", "greedy-flat", "relay-wasi03"] {
        let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
        let path = if app == "relay-wasi03" { "/?url" } else { "/fetch?url" };
        let earlier = upstream.requests().len();
        let mut waiting = host.begin(app, Ask::get(format!("{path}=http://{}/", upstream.address)));
        wait_for("the outbound request", || (upstream.requests().len() > earlier).then_some(()));
        host.until_queue(app, Queue::Pull, 1, 0);
        release.send(()).expect("the upstream waits");
        let fetched = timing(&host, app, &waiting.answer().expect("it is answered").expect(200));
        assert!(ms(&fetched, "http_ms") > 0.0 && ms(&fetched, "cpu_ms") > 0.0, "{app}: {fetched}");
        assert_eq!(fetched["keyvalue_ms"], Value::Null, "{app}: {fetched}");
    }
    let slept = timing(&host, "greedy", &host.get("greedy", "/sleep?ms=50").expect(200));
    assert!(ms(&slept, "other_ms") >= 45.0 && slept["http_ms"] == Value::Null, "{slept}");
}

#[test]
fn waits_for_data_and_for_other_handlers_are_distinct() {
    let host = Host::start();
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "", ""));
    let run = |steps: Value| {
        let answer = host.app("outbox", Ask::post("/").json(&steps)).expect(200);
        timing(&host, "outbox", &answer)
    };
    let stored = run(json!([["set", "key", "value"]]));
    assert!(ms(&stored, "keyvalue_ms") > 0.0 && stored["events_ms"] == Value::Null, "{stored}");
    let asked = run(json!([["ask", { "steps": [["attempt"]] }, 60_000]]));
    assert!(ms(&asked, "events_ms") > 0.0 && asked["keyvalue_ms"] == Value::Null, "{asked}");
}

#[test]
fn the_start_of_an_instance_and_the_time_in_the_queue_are_phases() {
    let host = Host::start();
    host.create("greedy", "production");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\nmax = 1\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let held = host.hold("greedy");
    let mut waiting = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    held.release_core();
    let queued = timing(&host, "greedy", &waiting.answer().expect("it is answered").expect(200));
    assert!(ms(&queued, "queue_ms") > 0.0 && queued["start_ms"] == Value::Null, "{queued}");
    let replied = wait_for("the line of the held response", || {
        host.log("greedy").into_iter().find(|line| line["path"] == "/reply-flood")
    });
    assert!(ms(&replied["timing"], "reply_ms") > 0.0, "{replied}");
    let frozen = Host::start_with("", "freeze_after = \"200ms\"\n");
    frozen.deploy("hello", Bundle::component(guest("hello")));
    wait_for("the app to be frozen", || (frozen.release_state("hello", 1) == "frozen").then_some(()));
    let thawed = timing(&frozen, "hello", &frozen.get("hello", "/").expect(200));
    assert!(ms(&thawed, "start_ms") > 0.0, "{thawed}");
}

#[test]
fn the_time_in_the_queue_of_a_client_that_left_is_logged() {
    let host = Host::start();
    host.create("greedy", "production");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\nmax = 1\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let held = host.hold("greedy");
    let waiting = host.begin("greedy", Ask::get("/left"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    drop(waiting);
    let left = host.log_line("greedy", "the line of the client that left", |line| line["path"] == "/left");
    assert!(ms(&left["timing"], "queue_ms") > 0.0 && left["timing"]["cpu_ms"] == Value::Null, "{left}");
    held.release_core();
}

#[test]
fn a_request_body_and_the_plugins_of_an_app_are_phases() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("probe-flat", with_middleware("probe-flat", &[used("{ request = \"pass\" }", "")]));
    let answer = host.app("probe-flat", Ask::post("/show").body("text/plain", vec![b'x'; 900_000])).expect(200);
    let timing = timing(&host, "probe-flat", &answer);
    assert!(ms(&timing, "plugins_ms") > 0.0 && ms(&timing, "body_ms") > 0.0, "{timing}");
}

#[test]
fn a_client_with_a_token_sees_the_phases_of_its_request() {
    let host = Host::start_with_probes();
    let answer = asking(&host, "probe-flat", "/show", &host.token);
    let shown = answer.header("server-timing").expect("the token is valid");
    assert!(shown.starts_with("total;dur=") && shown.contains("cpu;dur="), "{shown}");
    assert!(!answer.text().contains("x-isopod-timing"), "the guest sees the token: {answer}");
    let failed = host.app("probe-flat", Ask::get("/panic").header("x-isopod-timing", &host.token)).expect(502);
    assert!(failed.header("server-timing").is_some_and(|shown| shown.contains("cpu;dur=")), "{failed}");
    let own = asking(&host, "probe-flat", "/respond?status=200&h=server-timing:db;dur=5", &host.token);
    let shown: Vec<_> = own.headers.iter().filter(|(name, _)| name == "server-timing").map(|(_, it)| it).collect();
    assert!(shown.len() == 2 && shown.iter().any(|value| *value == "db;dur=5"), "{own}");
}

#[test]
fn a_client_without_a_valid_token_sees_no_phases() {
    let host = Host::start_with_probes();
    let made = |scope: Value| {
        let body = json!({ "name": format!("t{}", scope[0].as_str().unwrap_or("all")), "role": "read", "apps": scope });
        let token = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json()["token"].clone();
        token.as_str().expect("it is shown once").to_owned()
    };
    let (own, other) = (made(json!(["probe-flat"])), made(json!(["probe-wasi02"])));
    assert!(asking(&host, "probe-flat", "/show", &own).header("server-timing").is_some());
    let long = "x".repeat(10_000);
    for token in ["", "guess", other.as_str(), long.as_str(), "iso_\u{e9}"] {
        let answer = asking(&host, "probe-flat", "/show", token);
        assert_eq!(answer.header("server-timing"), None, "{answer}");
        assert!(!answer.text().contains("x-isopod-timing"), "the guest sees the token: {answer}");
    }
    assert_eq!(host.get("probe-flat", "/show").expect(200).header("server-timing"), None);
    host.api(Ask::new("DELETE", "/v1/tokens/tprobe-flat")).expect(204);
    assert_eq!(asking(&host, "probe-flat", "/show", &own).header("server-timing"), None);
}

#[test]
fn a_request_without_an_instance_has_no_guest_phases() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    host.stop_app("hello");
    let line = line(&host, "hello", &host.get("hello", "/").expect(503));
    assert!(!phases(&line["timing"]).contains(&"cpu_ms"), "{line}");
}
