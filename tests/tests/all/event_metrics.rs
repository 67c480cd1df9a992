//! G3, J5: tests the figures of the queues: stored events and waiting requests in the metrics of an
//! app, in those for Prometheus, and in the commands.

use isopod_tests::{Ask, Bundle, Host, Queue, guest, program, wait_for};
use serde_json::json;

#[test]
fn stored_events_are_counted_by_state_with_the_age_of_the_oldest() {
    let host = Host::start();
    host.create("greedy", "production");
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n\
        [limits]\nrequest_timeout = \"10m\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let none = host.metrics("greedy");
    assert_eq!(none["push"]["stored"], json!({ "ready": 0, "delayed": 0, "leased": 0 }));
    assert_eq!((&none["push"]["dead_letters"], none["push"].get("oldest_ms")), (&json!(0), None));
    assert!(none["pull"].get("stored").is_none(), "{none}");
    let failed = host.push_event("greedy", "fail");
    host.until_event("greedy", &failed, "dead");
    let running: Vec<String> = (0..4).map(|_| host.push_event("greedy", "never")).collect();
    host.until_queue("greedy", Queue::Push, 4, 0);
    host.until_event("greedy", &running[3], "leased");
    (0..2).for_each(|_| drop(host.push_event("greedy", "hello")));
    host.api_raw(&host.event("greedy", "hello", Queue::Push).header("isopod-delay", "1h")).expect(202);
    let counted = wait_for("the counts", || {
        let push = host.metrics("greedy")["push"].clone();
        (push["stored"] == json!({ "ready": 2, "delayed": 1, "leased": 4 })).then_some(push)
    });
    assert_eq!(counted["dead_letters"], 1, "{counted}");
    assert!(counted["oldest_ms"].is_u64(), "{counted}");
    let text = host.api(Ask::get("/metrics")).expect(200).text();
    for (state, number) in [("ready", 2), ("delayed", 1), ("leased", 4), ("dead", 1)] {
        let series = format!("isopod_events_stored{{app=\"greedy\",state=\"{state}\"}} {number}\n");
        assert!(text.contains(&series), "{series} is not in {text}");
    }
    assert!(text.contains("isopod_events_oldest_seconds{app=\"greedy\"} "), "{text}");
    for command in ["ps", "events"] {
        let admin = format!("http://{}", host.admin);
        let mut shown = program::command(&[command, "--app", "greedy", "--host", &admin]);
        let output = shown.env("ISOPOD_TOKEN", &host.token).output().expect("it can be run");
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(notes.contains("stored events: 2 ready, 1 delayed, 4 running, 1 dead; the oldest is "), "{notes}");
    }
    host.api(Ask::new("DELETE", "/v1/apps/greedy/dead-letters")).expect(200);
    wait_for("no dead letters", || (host.metrics("greedy")["push"]["dead_letters"] == 0).then_some(()));
}

#[test]
fn waiting_requests_are_counted_with_the_age_of_the_oldest() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\nrequest_timeout = \"10m\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let said = |args: &[&str]| {
        let admin = format!("http://{}", host.admin);
        let mut command = program::command(&[args, &["--app", "greedy", "--host", &admin]].concat());
        let output = command.env("ISOPOD_TOKEN", &host.token).output().expect("it can be run");
        [output.stderr, output.stdout].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    };
    let held = host.hold("greedy");
    assert!(host.queue("greedy", Queue::Pull).get("oldest_ms").is_none(), "a running request does not wait");
    let mut waits = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    let first = host.queue("greedy", Queue::Pull)["oldest_ms"].as_u64().expect("an age");
    let mut later = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 1, 2);
    assert!(host.queue("greedy", Queue::Pull)["oldest_ms"].as_u64().expect("an age") >= first);
    let shown = said(&["ps"]);
    assert!(shown.contains("pull queue: 2 jobs wait; the oldest is "), "{shown}");
    let shown = said(&["top", "--once"]);
    assert!(shown.contains("2 buffered (the oldest for "), "{shown}");
    held.release_core();
    for wire in [&mut waits, &mut later] {
        wire.answer().expect("an answer").expect(200);
    }
    assert!(host.queue("greedy", Queue::Pull).get("oldest_ms").is_none());
    assert!(!said(&["ps"]).contains("pull queue"));
}
