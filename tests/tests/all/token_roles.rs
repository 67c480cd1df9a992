//! Tests the roles `send` and `operate`: what each permits, and that it permits nothing else.

use isopod_tests::{Ask, Bundle, Host, guest};
use serde_json::{Value, json};

fn token(host: &Host, role: &str) -> String {
    let body = json!({ "name": role, "role": role, "apps": ["shop"] });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/test", "type": "greeting" })
}

fn send(queue: &str, id: &str) -> Ask {
    let ask = Ask::post(format!("/v1/apps/shop/events?queue={queue}"));
    ask.body("application/cloudevents+json", event(id).to_string())
}

#[test]
fn a_sender_sends_events_and_shows_them_and_nothing_else() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    host.deploy("other", Bundle::component(guest("shapes")));
    let sender = token(&host, "send");
    let ask = |ask: Ask| host.api_with(&sender, ask);
    let stored = ask(send("push", "1")).expect(202);
    ask(Ask::get(stored.header("location").expect("the route of the event"))).expect(200);
    let line = event("2").to_string();
    ask(Ask::post("/v1/apps/shop/broadcasts").body("application/x-ndjson", line)).expect(202);
    for path in ["", "/events", "/dead-letters", "/logs", "/config", "/activity", "/metrics", "/releases", "/schedules"]
    {
        ask(Ask::get(format!("/v1/apps/shop{path}"))).problem(403, "role-too-small");
    }
    for path in ["/", "/metrics", "/v1/apps", "/v1/openapi.json", "/v1/tokens", "/v1/status"] {
        ask(Ask::get(path)).problem(403, "role-too-small");
    }
    for path in ["events/1/cancel", "dead-letters/redrive", "stop", "rollback", "pushes"] {
        ask(Ask::post(format!("/v1/apps/shop/{path}"))).problem(403, "role-too-small");
    }
    let elsewhere = Ask::post("/v1/apps/other/events").body("application/cloudevents+json", event("3").to_string());
    ask(elsewhere).problem(403, "out-of-scope");
}

#[test]
fn an_operator_changes_the_running_state_but_not_the_code() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    let operator = token(&host, "operate");
    let ask = |ask: Ask| host.api_with(&operator, ask);
    let patch = |path: &str, body: Value| Ask::new("PATCH", format!("/v1/apps/shop{path}")).json(&body);
    ask(Ask::get("/v1/apps/shop/logs")).expect(200);
    assert_eq!(ask(patch("/formation", json!({ "web": { "max": 2 } }))).expect(200).json()["web"]["max"], 2);
    let refused =
        ask(patch("/formation", json!({ "web": { "max": 3, "health": "/" } }))).problem(403, "role-too-small");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("`deploy`")), "{refused}");
    ask(patch("/formation", json!([1]))).problem(422, "bad-formation");
    ask(send("push", "1")).expect(202);
    ask(Ask::new("DELETE", "/v1/apps/shop/dead-letters")).expect(200);
    ask(Ask::post("/v1/apps/shop/stop")).expect(202);
    ask(Ask::post("/v1/apps/shop/start")).expect(202);
    ask(Ask::post("/v1/apps/shop/pushes").body("application/wasm", guest("shapes"))).problem(403, "role-too-small");
    ask(Ask::post("/v1/apps/shop/rollback").json(&json!({ "release": 1 }))).problem(403, "role-too-small");
    for (path, body) in [
        ("/config", json!({ "A": "b" })),
        ("/grants", json!({ "keyvalue": true })),
        ("", json!({ "type": "staging" })),
        ("/cores", json!({ "pull": 1 })),
    ] {
        ask(patch(path, body)).problem(403, "role-too-small");
    }
    assert_eq!(host.show("shop")["release"], 2, "only the scaling created a release");
}
