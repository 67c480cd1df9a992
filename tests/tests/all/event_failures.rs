//! Tests how failures of event handlers reach a sender that waits, for both event interfaces, and
//! the grant of events to other apps.

use isopod_tests::{Answer, Ask, Bundle, Host, guest};
use serde_json::{Value, json};

fn send(host: &Host, app: &str, kind: &str, data: &Value) -> Answer {
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": kind, "data": data });
    let ask = Ask::post(format!("/v1/apps/{app}/events"));
    host.api(ask.body("application/cloudevents+json", event.to_string()))
}

fn deploy_outbox(host: &Host) {
    host.deploy("outbox", Bundle::archive("name = \"outbox\"\n[grants]\nkeyvalue = true\n", &guest("outbox")));
}

#[test]
fn each_kind_of_failure_has_its_status_and_delay() {
    let host = Host::start();
    deploy_outbox(&host);
    let fail = |kind: &str, ms: u64| send(&host, "outbox", "steps", &json!([["fail", kind, "no stock", ms]]));
    let refused = fail("permanent", 0).problem_of("outbox", 422, "event-refused");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("no stock")), "{refused}");
    // A delay that isn't a whole number of seconds is rounded up.
    for (kind, ms, seconds) in [("retry", 0, "1"), ("retry-after", 1_500, "2"), ("snooze", 90_000, "90")] {
        let later = fail(kind, ms);
        later.problem_of("outbox", 503, "event-try-later");
        assert_eq!(later.header("retry-after"), Some(seconds), "{kind}");
    }
    // An error of an unknown cause may not occur again, unlike an event that can't be read.
    send(&host, "outbox", "steps", &json!([["fail", "unheard of"]])).problem_of("outbox", 422, "event-refused");
    send(&host, "outbox", "steps", &json!({})).problem_of("outbox", 422, "event-refused");
}

#[test]
fn a_long_error_of_a_handler_is_truncated_for_the_sender() {
    let host = Host::start();
    deploy_outbox(&host);
    let refused = send(&host, "outbox", "steps", &json!([["fail", "long", "", 1_000_000]]));
    let refused = refused.problem_of("outbox", 422, "event-refused");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.len() < 10_000), "{refused}");
}

/// I5: components with the former event interface run unchanged.
#[test]
fn a_component_of_the_former_event_interface_handles_events() {
    let host = Host::start();
    host.deploy("probe", Bundle::component(guest("probe-events")));
    assert_eq!(host.formation("probe")["worker"]["entry"], "events");
    assert_eq!(send(&host, "probe", "echo", &json!("data")).expect(200).text(), "\"data\"");
    send(&host, "probe", "permanent", &json!("")).problem_of("probe", 422, "event-refused");
    let later = send(&host, "probe", "retry", &json!(""));
    later.problem_of("probe", 503, "event-try-later");
    assert_eq!(later.header("retry-after"), Some("2"));
}

#[test]
fn events_to_another_app_need_a_grant() {
    let host = Host::start();
    deploy_outbox(&host);
    let emit = || {
        let steps = json!([["emit", { "type": "bill", "app": "billing" }]]).to_string();
        host.app("outbox", Ask::post("/").body("application/json", steps)).expect(200).json()
    };
    let refused = emit();
    let text = refused[0]["error"].as_str().unwrap_or_default();
    assert!(text.contains("add \"billing\" to events under [grants] in isopod.toml"), "{refused}");
    assert_eq!(host.set_grants("outbox", &json!({ "events": ["billing"] })).expect(200).json()["events"][0], "billing");
    assert!(!emit().to_string().contains("not granted"));
    for nonsense in [json!({ "events": "billing" }), json!({ "events": ["Billing"] }), json!({ "events": [7] })] {
        host.set_grants("outbox", &nonsense).problem_of("outbox", 422, "bad-grants");
    }
    host.set_grants("outbox", &json!({ "events": null })).expect(200);
    assert!(emit().to_string().contains("not granted"));
}
