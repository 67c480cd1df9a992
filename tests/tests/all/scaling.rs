//! E1, E2, A4, A5: tests that production apps scale with their load and record the reason, while
//! other apps keep their configured size.

use isopod_tests::{Ask, Bundle, Held, Host, Load, Neighbour, Queue, guest, wait_for};
use serde_json::{Value, json};

/// A short window, so that the test can wait for it.
const SOON: &str = "scale_window = \"2s\"\n";

fn greedy(scale: &str) -> Bundle {
    let manifest =
        format!("name = \"greedy\"\n[processes.web]\nentry = \"http\"\n{scale}\n[limits]\nrequest_timeout = \"10m\"\n");
    Bundle::archive(&manifest, &guest("greedy"))
}

fn deploy_greedy(host: &Host, app_type: &str, scale: &str) {
    host.create("greedy", app_type);
    host.deploy("greedy", greedy(scale));
}

/// Returns the autoscaler's decisions about an app, oldest first.
fn decisions(host: &Host) -> Vec<Value> {
    let mut decisions: Vec<_> =
        host.activity("greedy").into_iter().filter(|entry| entry["kind"] == "app-scaled").collect();
    decisions.reverse();
    decisions
}

/// Returns the number of instances before and after a decision.
#[track_caller]
fn step(decision: &Value) -> (u64, u64) {
    let number = |name: &str| decision["data"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {decision}"));
    (number("from"), number("to"))
}

/// Checks that a decision has its numbers and a text.
#[track_caller]
fn assert_reason(decision: &Value) {
    let (data, text) = (&decision["data"], decision["text"].as_str().unwrap_or_default());
    let (from, to) = step(decision);
    assert_ne!(from, to, "{decision}");
    assert_eq!((&data["process"], &data["min"], &data["max"]), (&json!("web"), &json!(1), &json!(4)), "{decision}");
    assert!((1..=4).contains(&to) && data["peak"].is_u64() && data["buffered"].is_u64(), "{decision}");
    for word in ["web", &from.to_string(), &to.to_string(), "1..4", "concurrently"] {
        assert!(text.contains(word), "missing {word:?} in {decision}");
    }
}

#[track_caller]
fn release_core(held: Vec<Held>) {
    held.into_iter().for_each(Held::release_core);
}

/// E2: the app scales up to its maximum immediately, further requests wait, and it scales down to
/// its minimum when the load ends.
#[test]
fn a_production_app_scales_up_with_its_load_and_down_after_it() {
    let host = Host::start_with("", SOON);
    deploy_greedy(&host, "production", "min = 1\nmax = 4");
    host.running_ids("greedy", "web", 1);
    let held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
    let waiting: Vec<_> = (0..2).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 4, 2);
    let busy = host.running_ids("greedy", "web", 4);
    let grown =
        wait_for("the scale-up in the activity", || decisions(&host).into_iter().find(|grown| step(grown).1 > 1));
    assert_reason(&grown);
    release_core(held);
    for mut wire in waiting {
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "ok");
    }
    let kept = host.running_ids("greedy", "web", 1);
    assert!(busy.contains(&kept[0]), "a running instance was replaced");
    let shrunk = wait_for("the scale-down in the activity", || decisions(&host).pop().filter(|last| step(last).1 == 1));
    assert_reason(&shrunk);
    assert!(decisions(&host).windows(2).all(|two| step(&two[0]).1 == step(&two[1]).0), "a step is missing");
    assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
    assert_eq!(host.releases("greedy").len(), 1, "scaling created a release");
}

/// E2: load that varies within the window starts no new instance.
#[test]
fn an_app_keeps_the_instances_of_its_recent_load() {
    let host = Host::start();
    deploy_greedy(&host, "production", "min = 1\nmax = 4");
    let held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
    let mut first = host.running_ids("greedy", "web", 4);
    release_core(held);
    first.sort();
    for _ in 0..3 {
        release_core((0..4).map(|_| host.hold("greedy")).collect());
        let mut ids = host.running_ids("greedy", "web", 4);
        ids.sort();
        assert_eq!(ids, first);
    }
}

/// E2, H4: requests right after a swap find as many instances as before.
#[test]
fn a_new_release_starts_with_the_size_of_the_recent_load() {
    let host = Host::start();
    deploy_greedy(&host, "production", "min = 1\nmax = 4");
    let held: Vec<_> = (0..3).map(|_| host.hold("greedy")).collect();
    host.running_ids("greedy", "web", 3);
    release_core(held);
    let push = host.deploy("greedy", greedy("max = 4\nmin = 1"));
    assert!(push.log.iter().any(|line| line.contains("3 new instances started")), "{push:?}");
    let of_now = || host.instances("greedy").into_iter().filter(|instance| instance["release"] == 2).count();
    assert_eq!(of_now(), 3);
    let narrow = host.deploy("greedy", greedy("min = 1\nmax = 2"));
    assert!(narrow.log.iter().any(|line| line.contains("2 new instances started")), "{narrow:?}");
    assert!(decisions(&host).iter().all(|decision| step(decision) == (1, 3)), "a deploy scaled the app");
}

/// A4, A5: for any minimum and maximum.
#[test]
fn dev_and_staging_apps_do_not_scale() {
    for (app_type, scale, size) in
        [("dev", "min = 0\nmax = 4", 1), ("dev", "min = 2\nmax = 4", 2), ("staging", "min = 1\nmax = 4", 1)]
    {
        let host = Host::start_with("", SOON);
        deploy_greedy(&host, app_type, scale);
        let held: Vec<_> = (0..size).map(|_| host.hold("greedy")).collect();
        let waiting: Vec<_> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
        host.until_queue("greedy", Queue::Pull, size as u64, 3);
        assert_eq!(host.running_ids("greedy", "web", size).len(), size, "{app_type} {scale}");
        release_core(held);
        for mut wire in waiting {
            assert_eq!(wire.answer().expect("an answer").expect(200).text(), "ok", "{app_type} {scale}");
        }
        assert_eq!(host.running_ids("greedy", "web", size).len(), size, "{app_type} {scale}");
        assert_eq!(decisions(&host), [] as [Value; 0], "{app_type} {scale}");
    }
}

/// The type applies from the next start on.
#[test]
fn an_app_that_becomes_a_production_app_scales() {
    let host = Host::start();
    deploy_greedy(&host, "staging", "min = 1\nmax = 4");
    host.stop_app("greedy");
    host.set_type("greedy", "production").expect(200);
    host.start_app("greedy");
    let held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
    host.running_ids("greedy", "web", 4);
    release_core(held);
    host.stop_app("greedy");
    host.set_type("greedy", "dev").expect(200);
    host.start_app("greedy");
    let held = vec![host.hold("greedy")];
    let mut waits = host.ask_to_hold("greedy");
    host.until_queue("greedy", Queue::Pull, 1, 1);
    release_core(held);
    waits.until_held();
    waits.release_core();
}

/// E1: running jobs complete, waiting jobs start, and other apps are not affected.
#[test]
fn scaling_down_while_every_instance_is_busy_fails_no_request() {
    for app_type in ["staging", "production"] {
        let host = Host::start();
        deploy_greedy(&host, app_type, "min = 4\nmax = 4");
        let neighbour = Neighbour::beside(&host);
        let held: Vec<_> = (0..4).map(|_| host.hold("greedy")).collect();
        let waiting: Vec<_> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
        host.until_queue("greedy", Queue::Pull, 4, 3);
        host.scale("greedy", &json!({ "web": { "min": 1, "max": 1 } })).expect(200);
        // The new instances serve new requests; the running jobs continue.
        assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok");
        release_core(held);
        for mut wire in waiting {
            assert_eq!(wire.answer().expect("an answer").expect(200).text(), "ok", "{app_type}");
        }
        assert_eq!(host.running_ids("greedy", "web", 1).len(), 1);
        assert_eq!((host.current("greedy"), host.state("greedy").as_str()), (vec![2], "running"));
        neighbour.finish();
    }
}

/// Scales up and down repeatedly under constant load.
#[test]
fn no_request_fails_while_an_app_is_scaled_up_and_down() {
    let host = Host::start_with("", SOON);
    deploy_greedy(&host, "production", "min = 1\nmax = 4");
    let load = Load::of(host.listen, &host.to_app("greedy", Ask::get("/sleep?ms=20")), 6, |text| text == "ok");
    for (min, max) in [(4, 4), (1, 1), (2, 8), (0, 1), (1, 4)] {
        host.scale("greedy", &json!({ "web": { "min": min, "max": max } })).expect(200);
        load.wait_for_more();
    }
    load.finish();
    assert_eq!(host.state("greedy"), "running");
}
