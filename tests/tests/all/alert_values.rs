//! G2: tests that the rules about resources measure their values: each alert fires under a load,
//! and ends with it.

use isopod_tests::{Ask, Bundle, Host, guest, outbox::outbox};
use serde_json::json;
use std::thread::available_parallelism;

/// More than the events below which the time to deliver them counts as 0.
const EVENTS: usize = 110;

fn deploy_greedy(host: &Host) {
    host.create("greedy", "production");
    let limits = "[limits]\nrequest_timeout = \"10m\"\nmemory = \"96MiB\"\n";
    let manifest = format!("name = \"greedy\"\n[processes.web]\nentry = \"http\"\n{limits}");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

#[test]
fn events_that_are_not_delivered_in_time_fire_an_alert() {
    let settings = "[alerts]\ninterval = \"100ms\"\ndrain_time = { threshold = \"1s\", lasting = \"0s\" }\n";
    let host = Host::start_with("", settings);
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "order = \"subject\"", ""));
    // The events behind this one wait for it.
    let running = host.push_steps("outbox", Some("ann"), &json!([["until", "go"]]));
    host.until_event("outbox", &running, "leased");
    for _ in 0..EVENTS {
        host.push_steps("outbox", Some("ann"), &json!([["increment", "handled"]]));
    }
    let alert = host.until_alert("drain-time");
    assert_eq!((&alert["app"], &alert["unit"]), (&json!("outbox"), &json!("seconds")), "{alert}");
    host.run_steps("outbox", &json!([["set", "go", "1"]]));
    host.until_no_alert("drain-time");
}

#[test]
fn a_busy_processor_fires_an_alert() {
    // Shares of one processor, as percent of all. The host needs less to answer the test.
    let percent = |share: f64| share * 100.0 / available_parallelism().map_or(1, usize::from) as f64;
    let (threshold, clear) = (percent(0.4), percent(0.25));
    let rule = format!("cpu = {{ threshold = {threshold:.3}, clear = {clear:.3}, lasting = \"0s\" }}");
    let host = Host::start_with("", &format!("[alerts]\ninterval = \"300ms\"\n{rule}\n"));
    deploy_greedy(&host);
    // The deploy compiled a component.
    host.until_no_alert("cpu");
    let spinning = host.begin("greedy", Ask::get("/spin"));
    let alert = host.until_alert("cpu");
    assert_eq!((&alert["app"], &alert["unit"]), (&json!(null), &json!("percent")), "{alert}");
    assert!(alert["value"].as_f64().is_some_and(|value| value <= 100.0), "{alert}");
    // The host cancels the request of a client that has disconnected.
    drop(spinning);
    host.until_no_alert("cpu");
}

#[test]
fn memory_that_guests_reserve_fires_an_alert() {
    let rule = "memory = { threshold = 20, lasting = \"0s\" }";
    let host = Host::start_with("", &format!("memory_max = \"128MiB\"\n[alerts]\ninterval = \"100ms\"\n{rule}\n"));
    deploy_greedy(&host);
    assert_eq!(host.alert("memory"), None);
    host.get("greedy", "/allocate?mib=32").expect(200);
    let alert = host.until_alert("memory");
    assert_eq!((&alert["app"], &alert["unit"]), (&json!(null), &json!("percent")), "{alert}");
    host.stop_app("greedy");
    host.until_no_alert("memory");
}
