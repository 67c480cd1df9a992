//! Tests the advice on an app's type, which the host derives from measured events.

use isopod_tests::{Ask, Bundle, Host, guest};
use serde_json::{Value, json};

fn send(host: &Host, subject: Option<&str>) {
    let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": "hello" });
    event["subject"] = json!(subject);
    if subject.is_none() {
        event.as_object_mut().expect("an object").remove("subject");
    }
    let ask = Ask::post("/v1/apps/greedy/events").body("application/cloudevents+json", event.to_string());
    host.api(ask).expect(200);
}

fn advice(host: &Host) -> Value {
    host.api(Ask::get("/v1/apps/greedy/advice")).expect(200).json()
}

/// A7.
#[test]
fn users_and_their_events_are_counted_for_the_advice() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let nothing = advice(&host);
    assert_eq!((&nothing["advice"], &nothing["monthly_users"]), (&Value::Null, &json!(0)), "{nothing}");
    assert!(nothing["reason"].as_str().is_some_and(|reason| reason.contains("no events were measured")), "{nothing}");
    for user in ["ada", "bob", "ada", "eve", "bob", "ada"] {
        send(&host, Some(user));
    }
    let few = advice(&host);
    assert_eq!((&few["advice"], &few["monthly_users"]), (&json!("dev"), &json!(3)), "{few}");
    assert_eq!(few["events_per_user"], 2.0, "{few}");
    let month = few["month"].as_str().expect("it names the month");
    assert!(month.len() == 7 && month.as_bytes()[4] == b'-', "{month}");
    // A clean stop loses no counts, and a known user is counted only once.
    let host = host.restart();
    send(&host, Some("ada"));
    (0..2).for_each(|_| send(&host, None));
    let more = advice(&host);
    assert_eq!((&more["monthly_users"], &more["events_per_user"]), (&json!(3), &json!(3.0)), "{more}");
    (0..700).for_each(|_| send(&host, Some("eve")));
    let many = advice(&host);
    assert_eq!(many["advice"], "production", "{many}");
    assert!(many["reason"].as_str().is_some_and(|reason| reason.contains("200")), "{many}");
    // An event that an app doesn't accept is not counted.
    host.deploy("hello", Bundle::component(guest("hello")));
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": "hello", "subject": "ada" });
    let ask = Ask::post("/v1/apps/hello/events").body("application/cloudevents+json", event.to_string());
    assert_eq!(host.api(ask).status, 409);
    let none = host.api(Ask::get("/v1/apps/hello/advice")).expect(200).json();
    assert_eq!(none["monthly_users"], 0, "{none}");
    host.api(Ask::get("/v1/apps/nobody/advice")).problem_of("nobody", 404, "unknown-app");
}
