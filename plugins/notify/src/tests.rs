//! Tests the plugin with a simulated webhook. Never sends a request.

use super::*;
use isopod_sdk::events::Next;
use isopod_sdk::testing::{Delivery, TestHost};
use std::cell::RefCell;
use std::rc::Rc;

const URL: &str = "https://hooks.example/T1";

/// A host whose webhook gives this response, and the requests that it has received.
fn host(response: impl Fn() -> Result<Response> + 'static) -> (TestHost, Rc<RefCell<Vec<Request>>>) {
    let (host, requests) = (TestHost::new(), Rc::<RefCell<Vec<Request>>>::default());
    host.set_config("WEBHOOK_URL", URL);
    let seen = Rc::clone(&requests);
    host.on_fetch(move |request| {
        seen.borrow_mut().push(request);
        response()
    });
    (host, requests)
}

fn deployed() -> Event {
    let details = json!({ "release": 3, "by": "ci" });
    let activity = Activity::new("app-deployed", "v3 is in service: push p-1").with_details(details);
    activity.into_event("isopod.app.deployed", "shop").with_id("e1")
}

fn alert(text: &str) -> Event {
    Activity::new("process-failing", text).into_event("isopod.app.alert", "shop")
}

/// Returns the Slack message of an event.
fn slack(event: Event) -> String {
    let (host, requests) = host(|| Ok(Response::text("ok")));
    host.set_config("FORMAT", "slack");
    host.deliver_to_hook(event, on_event).reply();
    let requests = requests.borrow();
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let message: Value = requests[0].json().expect("JSON");
    message["text"].as_str().expect("a text").to_owned()
}

#[test]
fn an_event_is_posted_as_a_cloud_event_with_its_id_as_the_key() {
    let (host, requests) = host(|| Ok(Response::new(204)));
    host.deliver_to_hook(deployed(), on_event).reply();
    let requests = requests.borrow();
    assert_eq!((requests.len(), requests[0].authority(), requests[0].path()), (1, "hooks.example", "/T1"));
    assert_eq!(requests[0].header("idempotency-key"), Some("e1"));
    assert_eq!(requests[0].header("content-type"), Some("application/cloudevents+json"));
    let event: Value = requests[0].json().expect("JSON");
    assert_eq!((&event["specversion"], &event["id"], &event["subject"]), (&json!("1.0"), &json!("e1"), &json!("shop")));
    assert_eq!((&event["type"], &event["source"]), (&json!("isopod.app.deployed"), &json!("/apps/shop")));
    assert_eq!((&event["data"]["kind"], &event["data"]["details"]["release"]), (&json!("app-deployed"), &json!(3)));
}

#[test]
fn an_alert_of_the_host_has_no_subject() {
    let of_host = |event_type: &str| {
        let event = Activity::new("alert", "the disk has 0.5 GiB free").into_event(event_type, "shop");
        Event { subject: None, source: "/host".to_owned(), ..event }
    };
    let (host, requests) = host(|| Ok(Response::new(204)));
    host.deliver_to_hook(of_host("isopod.host.alert"), on_event).reply();
    let event: Value = requests.borrow()[0].json().expect("JSON");
    assert_eq!((&event["source"], event.get("subject")), (&json!("/host"), None));
    assert_eq!(slack(of_host("isopod.host.alert")), ":warning: the host: the disk has 0.5 GiB free");
    assert!(slack(of_host("isopod.host.alert-resolved")).starts_with(":white_check_mark: the host: "));
}

#[test]
fn a_slack_message_is_one_readable_line() {
    assert_eq!(slack(deployed()), "shop: v3 deployed by ci");
    assert_eq!(slack(alert("process `web`: a & b <c>")), ":warning: shop: process `web`: a &amp; b &lt;c&gt;");
    let destroyed = Activity::new("app-destroyed", "destroyed with all its data: requested");
    assert_eq!(slack(destroyed.into_event("isopod.app.destroyed", "shop")), "shop: destroyed");
}

#[test]
fn only_temporary_failures_are_retried() {
    for (status, next) in
        [(400, Next::Never), (404, Next::Never), (302, Next::Never), (408, Next::Retry), (500, Next::Retry)]
    {
        let (host, _) = host(move || Ok(Response::new(status)));
        let failure = host.deliver_to_hook(deployed(), on_event).failure();
        assert_eq!(failure.next(), next, "{status}");
        assert!(failure.to_string().contains(&status.to_string()), "{failure}");
    }
}

#[test]
fn a_webhook_delays_an_event_by_at_most_an_hour() {
    for (header, seconds) in [("7", 7), ("3600", 3_600), ("31536000", 3_600), ("18446744073709551615", 3_600)] {
        let (host, _) = host(move || Ok(Response::new(429).with_header("retry-after", header)));
        let failure = host.deliver_to_hook(deployed(), on_event).failure();
        assert_eq!(failure.next(), Next::RetryAfter(Duration::from_secs(seconds)), "{header}");
    }
}

#[test]
fn an_unreachable_webhook_is_retried() {
    let (host, _) = host(|| Err(Error::from("connection refused")));
    assert_eq!(host.deliver_to_hook(deployed(), on_event).failure().next(), Next::Retry);
}

#[test]
fn events_wait_for_missing_or_invalid_config_vars() {
    let host = TestHost::new();
    let failure = host.deliver_to_hook(deployed(), on_event).failure();
    assert!(failure.next() == Next::Retry && failure.to_string().contains("WEBHOOK_URL"), "{failure}");
    host.set_config("WEBHOOK_URL", URL);
    host.set_config("FORMAT", "xml");
    let Delivery::Failed(failure) = host.deliver_to_hook(deployed(), on_event) else { panic!("it doesn't fail") };
    assert!(failure.next() == Next::Retry && failure.to_string().contains("\"slack\""), "{failure}");
}
