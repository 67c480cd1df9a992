//! Tests the way from an upload to an app that serves, and the state that survives a restart.

use isopod_tests::{Ask, Bundle, Host, Push, Wire, guest, wait_for};
use serde_json::{Value, json};
use std::io::Write;

/// I1: the single command of the README, verbatim.
#[test]
fn one_curl_of_a_component_deploys_an_app() {
    let host = Host::start();
    let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
    file.write_all(&guest("hello")).expect("a file can be written");
    let curl = std::process::Command::new("curl")
        .args(["--silent", "--show-error", "-X", "POST", "-H", "content-type: application/wasm"])
        .args(["--data-binary", &format!("@{}", file.path().display())])
        .args(["-H", &format!("Authorization: Bearer {}", host.token)])
        .arg(format!("http://{}/v1/apps/hello/pushes", host.admin))
        .output();
    let answer: Value = match curl {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).expect("curl shows JSON")
        }
        // A machine without curl sends the same request with the test client.
        Err(_) => host.upload("hello", &Bundle::component(guest("hello")), "").expect(202).json(),
    };
    let push = Push::from(answer);
    assert!(push.created_app, "{push:?}");
    let ended = host.ended(&push);
    assert_eq!((ended.state.as_str(), ended.release), ("completed", Some(1)), "{ended:?}");
    assert!(!ended.log.is_empty(), "a push has a log");
    assert_eq!(host.get("hello", "/").expect(200).text(), "Hello, world!");
    let app = host.show("hello");
    assert_eq!((&app["state"], &app["type"], &app["release"]), (&json!("running"), &json!("dev"), &json!(1)));
    assert_eq!(app["urls"][0], format!("http://hello.localhost:{}/", host.listen.port()));
}

/// A1: one component, unchanged, on all three types.
#[test]
fn the_same_component_runs_on_every_type() {
    let host = Host::start();
    for app_type in ["dev", "staging", "production"] {
        host.create(app_type, app_type);
        assert_eq!(host.state(app_type), "stopped");
        host.deploy(app_type, Bundle::component(guest("hello")));
        assert_eq!(host.get(app_type, "/").expect(200).text(), "Hello, world!");
        assert_eq!(host.show(app_type)["type"], app_type);
    }
}

#[test]
fn a_restart_restores_every_app() {
    let host = Host::start();
    host.deploy("one", Bundle::component(guest("hello")));
    host.deploy("two", Bundle::archive("name = \"two\"\ntype = \"staging\"\n", &guest("hello-wasi02")));
    host.create("empty", "production");
    let token = host.token.clone();
    let host = host.restart();
    assert_eq!(host.token, token, "the token persists");
    for app in ["one", "two"] {
        assert_eq!(host.get(app, "/").expect(200).text(), "Hello, world!");
        assert_eq!((host.state(app), host.show(app)["release"].clone()), ("running".to_owned(), json!(1)));
    }
    assert_eq!(host.show("two")["type"], "staging");
    assert_eq!(host.state("empty"), "stopped");
}

#[test]
fn a_killed_host_restores_every_app() {
    let host = Host::start();
    host.deploy("kept", Bundle::component(guest("hello")));
    // Killed in the middle of a push: the app keeps its former release.
    let push = host.push("kept", &Bundle::component(guest("greedy")));
    let host = host.kill_and_restart();
    assert_eq!(host.state("kept"), "running");
    let ended = host.push_now(&push);
    assert!(ended.is_final(), "{ended:?}");
    let release = if ended.state == "completed" { 2 } else { 1 };
    assert_eq!(host.show("kept")["release"], release, "{ended:?}");
    let expected = if ended.state == "completed" { "ok" } else { "Hello, world!" };
    assert_eq!(host.get("kept", "/").expect(200).text(), expected);
}

#[test]
fn a_stopped_app_stays_stopped_after_a_restart_and_can_be_started() {
    let host = Host::start();
    host.deploy("resting", Bundle::component(guest("hello")));
    host.api(Ask::post("/v1/apps/resting/stop")).expect(202);
    wait_for("the stop", || (host.state("resting") == "stopped").then_some(()));
    host.get("resting", "/").problem_of("resting", 503, "app-unavailable");
    let host = host.restart();
    host.get("resting", "/").problem_of("resting", 503, "app-unavailable");
    host.api(Ask::post("/v1/apps/resting/start")).expect(202);
    wait_for("the start", || (host.state("resting") == "running").then_some(()));
    host.get("resting", "/").expect(200);
}

#[test]
fn a_destroyed_app_loses_its_data() {
    let host = Host::start();
    let manifest = "name = \"book\"\n[grants]\nkeyvalue = true\n";
    host.deploy("book", Bundle::archive(manifest, &guest("guestbook")));
    let form = "application/x-www-form-urlencoded";
    host.app("book", Ask::post("/entries").body(form, "name=Ada&text=hello")).expect(303);
    host.api(Ask::new("DELETE", "/v1/apps/book")).expect(204);
    host.api(Ask::get("/v1/apps/book")).problem_of("book", 404, "unknown-app");
    host.get("book", "/").problem_of("book", 404, "unknown-app");
    host.deploy("book", Bundle::archive(manifest, &guest("guestbook")));
    assert_eq!(host.get("book", "/entries").json(), json!([]), "a new app with the same name starts empty");
}

#[test]
fn two_pushes_at_the_same_time_run_one_after_the_other() {
    let host = Host::start();
    host.create("busy", "dev");
    let pushes = [
        host.push("busy", &Bundle::component(guest("hello"))),
        host.push("busy", &Bundle::component(guest("hello-wasi02"))),
    ];
    let mut releases: Vec<_> = pushes.iter().map(|push| host.ended(push).release).collect();
    releases.sort();
    assert_eq!(releases, [Some(1), Some(2)]);
    assert_eq!(host.show("busy")["release"], 2);
    let listed = host.api(Ask::get("/v1/apps/busy/pushes")).expect(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_push_can_be_followed_to_its_end() {
    let host = Host::start();
    host.create("followed", "dev");
    let push = host.push("followed", &Bundle::component(guest("greedy")));
    let states = follow(&host, &push);
    let order = ["queued", "running", "building", "deploying", "completed"];
    let place = |state: &String| order.iter().position(|known| known == state).expect("a state of a push");
    let places: Vec<usize> = states.iter().map(place).collect();
    assert!(places.is_sorted(), "{states:?}");
    assert_eq!(states.last().map(String::as_str), Some("completed"));
    // A push that has ended sends a single event to a follower.
    assert_eq!(follow(&host, &push), ["completed"]);
}

/// Returns the states that the server-sent events report, until the stream ends.
fn follow(host: &Host, push: &Push) -> Vec<String> {
    let mut wire = Wire::open(host.admin).expect("the API accepts connections");
    let ask = Ask::get(format!("{}?follow=true", push.path()));
    wire.ask(&ask.header("authorization", format!("Bearer {}", host.token))).expect("it can be sent");
    let answer = wire.answer().expect("the stream of events ends");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer}");
    let text = answer.text();
    let events = text.lines().filter_map(|line| line.strip_prefix("data:"));
    let state = |event: &str| Push::from(serde_json::from_str::<Value>(event).expect("each event is JSON")).state;
    events.map(state).collect()
}

/// I1: a bundle sets grants, limits, isolation and config; a bare component keeps them.
#[test]
fn an_app_gets_the_manifest_of_its_bundle() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\ntype = \"staging\"\nisolation = \"request\"\n\
        [grants]\nfiles = { data = \"read-write\" }\n\
        [limits]\nmemory = \"16MiB\"\ninstances_max = 1\n\
        [config]\nGREETING = \"salut\"\n";
    let pushed = host.upload("greedy", &Bundle::archive(manifest, &guest("greedy")), "?wait=true").expect(200);
    assert_eq!(pushed.json()["created_app"], true);
    let check = || {
        assert_eq!(host.show("greedy")["type"], "staging");
        assert_eq!(host.get("greedy", "/config?name=GREETING").text(), "salut");
        assert_eq!(host.get("greedy", "/write?path=/data/x&bytes=3").text(), "written");
        assert_eq!(host.get("greedy", "/read?path=/data/x").text(), "xxx");
        let fault = host.get("greedy", "/allocate?mib=32").problem_of("greedy", 502, "app-failed");
        assert!(fault["detail"].as_str().is_some_and(|detail| detail.contains("out-of-memory")), "{fault}");
        host.get("greedy", "/allocate?mib=4").expect(200);
        // More handles than one instance may hold, but fewer than one request may hold.
        for _ in 0..3 {
            host.get("greedy", "/handles?count=700").expect(200);
        }
    };
    check();
    let push = host.deploy("greedy", Bundle::component(guest("greedy")));
    assert_eq!(push.release, Some(2));
    check();
}

#[test]
fn instances_are_reused_unless_the_manifest_isolates_requests() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    host.get("greedy", "/handles?count=400").expect(200);
    // The reused instance still holds the handles of the former request, so it reaches its limit.
    // The next instance is fresh.
    host.get("greedy", "/handles?count=700").problem_of("greedy", 502, "app-failed");
    host.get("greedy", "/handles?count=700").expect(200);
}
