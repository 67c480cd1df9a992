//! Tests the event streams of a token that is revoked: each ends immediately with an event that
//! gives the reason, and streams of other tokens continue.

use isopod_tests::{
    Ask, Bundle, Host, Wire, guest,
    program::{self, Running},
    wait_for,
};
use serde_json::json;

const END: &str = "event: end\ndata: {\"reason\":\"token-revoked\"}\n\n";

fn token(host: &Host, name: &str) -> String {
    let ask = Ask::post("/v1/tokens").json(&json!({ "name": name, "role": "read" }));
    let token = host.api(ask).expect(201).json();
    token["token"].as_str().expect("it is shown once").to_owned()
}

fn follow(host: &Host, token: &str, path: &str) -> Wire {
    let ask = Ask::get(format!("{path}?follow=true")).header("authorization", format!("Bearer {token}"));
    let mut wire = Wire::open(host.admin).expect("a connection");
    wire.ask(&ask).expect("it can be sent");
    assert_eq!(wire.head().expect("a head").status, 200, "{path}");
    wire
}

/// Returns the text of a stream up to its end.
fn rest(stream: &mut Wire) -> String {
    let mut text = String::new();
    while let Some(piece) = stream.piece().expect("the stream is whole") {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

/// Reads a stream until it contains `wanted`.
fn until(stream: &mut Wire, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let piece = stream.piece().expect("the stream is whole").expect("the stream continues");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
}

#[test]
fn the_streams_of_a_revoked_token_end_with_an_event() {
    // The push job stays queued, so that its stream is open.
    let host = Host::start_pausing("push-queued=1*off->pause");
    host.deploy("hello", Bundle::component(guest("hello")));
    let push = host.push("hello", &Bundle::component(guest("hello-wasi02")));
    let (ci, ann) = (token(&host, "ci"), token(&host, "ann"));
    let paths = ["/v1/apps/hello/logs", "/v1/apps/hello/activity", "/v1/apps/hello/metrics", &push.path()];
    let mut streams = paths.map(|path| (path, follow(&host, &ci, path)));
    let mut other = follow(&host, &ann, "/v1/apps/hello/logs");
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    for (path, stream) in &mut streams {
        let text = rest(stream);
        assert!(text.ends_with(END), "{path}: {text}");
    }
    // A later token with the same name doesn't reopen the streams.
    let later = token(&host, "ci");
    host.get("hello", "/after-the-end").expect(404);
    until(&mut other, "/after-the-end");
    host.api_with(&ci, Ask::get("/v1/apps/hello")).problem(401, "unknown-token");
    host.api_with(&later, Ask::get("/v1/apps/hello")).expect(200);
}

#[test]
fn a_token_of_a_destroyed_app_has_no_open_stream() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let ask = Ask::post("/v1/tokens").json(&json!({ "name": "own", "role": "read", "apps": ["hello"] }));
    let token = host.api(ask).expect(201).json();
    let token = token["token"].as_str().expect("it is shown once");
    let mut streams =
        ["logs", "activity", "metrics"].map(|name| follow(&host, token, &format!("/v1/apps/hello/{name}")));
    host.api(Ask::new("DELETE", "/v1/apps/hello")).expect(204);
    for stream in &mut streams {
        let text = rest(stream);
        assert!(text.ends_with("event: end\ndata: {\"reason\":\"app-destroyed\"}\n\n"), "{text}");
    }
    host.api_with(token, Ask::get("/v1/apps")).problem(401, "unknown-token");
}

#[test]
fn a_command_that_follows_with_a_revoked_token_exits_with_the_reason() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let (ci, address) = (token(&host, "ci"), format!("http://{}", host.admin));
    let mut command =
        Running::start(program::command(&["logs", "-f", "--app", "hello", "--host", &address, "--token", &ci]));
    host.get("hello", "/first").expect(404);
    wait_for("a line", || command.said().contains("/first").then_some(()));
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    let status = command.end();
    let said = command.said();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the token used to follow hello was revoked") && !said.contains("reconnecting"), "{said}");
}
