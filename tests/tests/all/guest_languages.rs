//! I5: tests guests of other languages that handle and send events, and a guest of `wasi:http` 0.3
//! that sends one.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, guests::guest_if_built};
use serde_json::json;

fn send(host: &Host, app: &str, kind: &str) -> Answer {
    let event = json!({ "specversion": "1.0", "id": kind, "source": "/test", "type": kind, "subject": "ann" });
    let ask = Ask::post(format!("/v1/apps/{app}/events"));
    host.api(ask.body("application/cloudevents+json", event.to_string()))
}

/// Tests a guest that handles events of the type `greeting`, and sends such an event for each POST.
#[track_caller]
fn handles_and_sends_events(app: &str) {
    let Some(component) = guest_if_built(app) else { return };
    let host = Host::start();
    host.deploy(app, Bundle::component(component));
    assert_eq!(host.formation(app)["worker"]["entry"], "events");
    let reply = send(&host, app, "greeting").expect(200);
    assert_eq!((reply.header("content-type"), &*reply.text()), (Some("text/plain"), "Hello ann, delivery 1"));
    let refused = send(&host, app, "farewell").problem_of(app, 422, "event-refused");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("unknown event type farewell")));
    for subject in ["bob", "cy"] {
        let id = host.app(app, Ask::post("/greet").body("text/plain", subject)).expect(202).text();
        let done = host.until_event(app, &id, "done");
        assert_eq!((&done["subject"], &done["source"]), (&json!(subject), &json!(format!("/apps/{app}"))), "{done}");
    }
}

#[test]
fn a_javascript_guest_handles_and_sends_events() {
    handles_and_sends_events("hello-js");
}

#[test]
fn a_python_guest_handles_and_sends_events() {
    handles_and_sends_events("hello-py");
}

/// The handlers of `wasi:http` 0.3 run as concurrent tasks, during which `emit` and `ask` block
/// their instance.
#[test]
fn a_guest_of_wasi_http_0_3_sends_events_and_asks() {
    let host = Host::start();
    host.deploy("relay", Bundle::component(guest("relay-wasi03")));
    let id = host.app("relay", Ask::post("/emit").body("text/plain", "ann")).expect(200).text();
    let done = host.until_event("relay", &id, "done");
    assert_eq!((&done["type"], &done["subject"]), (&json!("relayed"), &json!("ann")));
    host.set_cores("relay", &json!({ "pull": 1 })).expect(200);
    assert_eq!(host.app("relay", Ask::post("/ask").body("text/plain", "bob")).expect(200).text(), "relayed to bob");
}
