//! Tests stored events whose handler, app or host misbehaves: poison events, timeouts, frozen and
//! destroyed apps, and events to another app. Each affects only its own events.

use isopod_tests::{
    Ask, Bundle, Host, Neighbour, guest,
    limits::PATIENCE,
    outbox::{QUICK_RETRY, ask_to_store, event_of_steps, outbox},
    wait_for,
};
use serde_json::{Value, json};

/// Returns the ids of the dead letters of `outbox`.
fn dead(host: &Host) -> Vec<String> {
    let events = host.stored_events("outbox", "state=dead");
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// A trap ends an instance with all of its running handlers, which are not at fault.
#[test]
fn a_poison_event_becomes_the_only_dead_letter_and_its_release_stays() {
    let host = Host::start();
    host.create("outbox", "production");
    for release in 1..=2 {
        host.deploy("outbox", outbox("outbox", QUICK_RETRY, &format!("[config]\nRELEASE = \"{release}\"")));
        for _ in 0..20 {
            host.run_steps("outbox", &json!([["get", "good"]]));
        }
    }
    let good = json!([["sleep", 20], ["increment", "good"]]);
    (0..10).for_each(|_| drop(host.push_steps("outbox", None, &good)));
    let poison = host.push_steps("outbox", None, &json!([["increment", "bad"], ["trap"]]));
    (0..30).for_each(|_| drop(host.push_steps("outbox", None, &good)));
    let letter = host.until_event("outbox", &poison, "dead");
    assert_eq!(letter["attempt"], 3, "{letter}");
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("trapped")), "{letter}");
    host.until_no_event_waits("outbox", PATIENCE);
    assert_eq!(dead(&host), [poison]);
    assert_eq!(host.values("outbox", ["good", "bad"]), [json!("40"), Value::Null]);
    wait_for("the end of the rollout watch", || {
        host.instances("outbox").iter().all(|instance| instance["release"] == 2).then_some(())
    });
    assert_eq!(host.current("outbox"), [2]);
}

#[test]
fn a_handler_that_exceeds_its_timeout_is_retried_and_has_no_effect() {
    let host = Host::start();
    let worker = "retry = { attempts = 2, first = \"100ms\", max = \"200ms\" }";
    host.deploy("outbox", outbox("outbox", worker, "[limits]\nrequest_timeout = \"300ms\""));
    for endless in [json!(["sleep", 600_000]), json!(["spin"])] {
        let steps = json!([["increment", "late"], endless, ["increment", "later"]]);
        let event = host.push_steps("outbox", None, &steps);
        let letter = host.until_event("outbox", &event, "dead");
        assert_eq!(letter["attempt"], 2, "{letter}");
        assert!(letter["error"].as_str().is_some_and(|error| error.contains("300")), "{letter}");
    }
    let event = host.push_steps("outbox", None, &json!([["increment", "good"]]));
    host.until_event("outbox", &event, "done");
    assert_eq!(host.values("outbox", ["late", "later", "good"]), [Value::Null, Value::Null, json!("1")]);
}

#[test]
fn a_frozen_app_is_thawed_for_a_delayed_event() {
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    host.create("outbox", "staging");
    host.deploy("outbox", outbox("outbox", "", ""));
    let emitted = |id: &str, delay_ms: u32| {
        let event = json!({ "id": id, "delay_ms": delay_ms, "steps": [["increment", "thawed"]] });
        host.run_steps("outbox", &json!([["emit", event]]));
    };
    emitted("soon", 8_000);
    emitted("after-the-restart", 15_000);
    let until_frozen = |host: &Host| {
        wait_for("the app to be frozen", || (host.release_state("outbox", 1) == "frozen").then_some(()));
    };
    until_frozen(&host);
    assert_eq!(host.stored_event("outbox", "soon")["state"], "delayed");
    host.until_event("outbox", "soon", "done");
    until_frozen(&host);
    assert_eq!(host.stored_event("outbox", "after-the-restart")["state"], "delayed");
    let host = host.kill_and_restart();
    let done = host.until_event("outbox", "after-the-restart", "done");
    assert_eq!(done["attempt"], 1, "{done}");
    assert_eq!(host.value("outbox", "thawed"), "2");
}

/// Returns whether a host has a file of its data folder open.
fn has_open(host: &Host, file: &str) -> bool {
    let file = host.data().join(file).canonicalize().expect("it exists");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", host.id())).expect("the process runs");
    // A descriptor may be closed during the search.
    descriptors.flatten().any(|descriptor| std::fs::read_link(descriptor.path()).is_ok_and(|open| open == file))
}

#[test]
fn the_database_of_a_frozen_app_with_a_delayed_event_is_closed() {
    let host = Host::start_with("data-check=return(100)", "freeze_after = \"200ms\"\n");
    host.create("outbox", "staging");
    host.deploy("outbox", outbox("outbox", "", ""));
    let emitted = json!({ "id": "late", "delay_ms": 3_600_000, "steps": [["increment", "thawed"]] });
    host.run_steps("outbox", &json!([["emit", emitted]]));
    wait_for("the app to be frozen", || (host.release_state("outbox", 1) == "frozen").then_some(()));
    wait_for("its database to be closed", || (!has_open(&host, "apps/outbox/kv.db")).then_some(()));
    assert!(has_open(&host, "control.db"));
    assert_eq!(host.stored_event("outbox", "late")["state"], "delayed");
    // The host may close the database before the search.
    wait_for("its database to be open", || {
        host.stored_event("outbox", "late");
        has_open(&host, "apps/outbox/kv.db").then_some(())
    });
    wait_for("its database to be closed again", || (!has_open(&host, "apps/outbox/kv.db")).then_some(()));
    assert_eq!(host.release_state("outbox", 1), "frozen");
}

#[test]
fn an_event_to_another_app_is_forwarded_once() {
    let host = Host::start();
    for app in ["outbox", "audit"] {
        host.deploy(app, outbox(app, QUICK_RETRY, ""));
    }
    let forwarded = |id: &str| json!([["emit", { "id": id, "app": "audit", "steps": [["increment", "audited"]] }]]);
    let repeated = [(); 3].map(|()| host.push_steps("outbox", None, &forwarded("same")));
    let other = host.push_steps("outbox", None, &forwarded("other"));
    repeated.iter().chain([&other]).for_each(|id| drop(host.until_event("outbox", id, "done")));
    for id in ["same", "other"] {
        let done = host.until_forwarded("outbox", "audit", id);
        assert_eq!((&done["source"], &done["attempt"]), (&json!("/apps/outbox"), &json!(1)), "{done}");
    }
    assert_eq!(host.stored_events("audit", "").len(), 2);
    assert_eq!(host.value("audit", "audited"), "2");
    // A target that can't take the event delays it.
    host.stop_app("audit");
    let late = host.push_steps("outbox", None, &forwarded("late"));
    host.until_event("outbox", &late, "done");
    host.until_event("outbox", "late", "delayed");
    host.api(Ask::post("/v1/apps/audit/start")).expect(202);
    host.until_forwarded("outbox", "audit", "late");
    assert_eq!(host.value("audit", "audited"), "3");
}

#[test]
fn an_app_is_destroyed_during_a_backlog() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "", ""));
    let neighbour = Neighbour::beside(&host);
    let slow = json!(["emit", { "steps": [["sleep", 100], ["increment", "old"]] }]);
    host.run_steps("outbox", &Value::from(vec![slow; 500]));
    wait_for("a running delivery", || (!host.stored_events("outbox", "state=leased").is_empty()).then_some(()));
    host.api(Ask::new("DELETE", "/v1/apps/outbox")).expect(204);
    assert!(!host.data().join("apps/outbox").exists(), "the folder of a destroyed app is left");
    host.deploy("outbox", outbox("outbox", "", ""));
    assert_eq!(host.stored_events("outbox", ""), [""; 0]);
    let event = host.push_steps("outbox", None, &json!([["increment", "new"]]));
    host.until_event("outbox", &event, "done");
    assert_eq!(host.values("outbox", ["old", "new"]), [Value::Null, json!("1")]);
    neighbour.finish();
}

#[test]
fn an_event_that_fails_each_time_delays_no_other_app() {
    let host = Host::start();
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 30, first = \"100ms\", max = \"100ms\" }", ""));
    host.deploy("other", outbox("other", "", ""));
    let failing: Vec<String> =
        (0..5).map(|_| host.push_steps("outbox", None, &json!([["fail", "retry", "not yet"]]))).collect();
    for _ in 0..20 {
        let event = host.push_steps("other", None, &json!([["increment", "good"]]));
        host.until_event("other", &event, "done");
    }
    assert_eq!(host.value("other", "good"), "20");
    for event in failing {
        assert_eq!(host.until_event("outbox", &event, "dead")["attempt"], 30);
    }
}

/// Deploys a release of `outbox` whose event handler is the process type with this name.
fn deploy_with_handler(host: &Host, process: &str) {
    let manifest = format!(
        "name = \"outbox\"\n[processes.web]\nentry = \"http\"\n[processes.{process}]\nentry = \"events\"\n\
         retry = {{ attempts = 2 }}\n[grants]\nkeyvalue = true\n"
    );
    host.deploy("outbox", Bundle::archive(&manifest, &guest("outbox")));
}

/// Stores an event that is due after a delay.
fn store_delayed(host: &Host, app: &str, id: &str, delay: &str) {
    let mut event = event_of_steps(id, None, &json!([["set", id, "done"]]));
    event["isopoddelay"] = json!(delay);
    host.api(ask_to_store(app, &event)).expect(202);
}

/// A stored event waits for its process type, even if a release lacks it.
#[test]
fn an_event_of_a_removed_process_type_does_not_stop_the_retries_of_others() {
    let host = Host::start();
    host.create("outbox", "production");
    let deploy = |process: &str| deploy_with_handler(&host, process);
    deploy("worker");
    store_delayed(&host, "outbox", "orphan", "1s");
    deploy("handler");
    let failing = host.push_steps("outbox", None, &json!([["fail", "retry-after", "not yet", 2_500]]));
    host.until_event("outbox", &failing, "dead");
    // The event is delivered once a release has its process type again.
    assert_eq!(host.stored_event("outbox", "orphan")["attempt"], 0);
    deploy("worker");
    host.until_event("outbox", "orphan", "done");
}

#[test]
fn an_app_whose_event_waits_for_its_process_type_is_frozen() {
    let host = Host::start_with("queue-check=return(100)", "freeze_after = \"200ms\"\n");
    host.create("outbox", "staging");
    host.deploy("other", outbox("other", "", ""));
    deploy_with_handler(&host, "worker");
    store_delayed(&host, "outbox", "orphan", "1s");
    deploy_with_handler(&host, "handler");
    // Because of this event, the host checks the queue regularly.
    store_delayed(&host, "outbox", "later", "1h");
    store_delayed(&host, "other", "orphan-is-due", "2s");
    host.until_event("other", "orphan-is-due", "done");
    host.stays_frozen("outbox", 2, "other");
    deploy_with_handler(&host, "worker");
    host.until_event("outbox", "orphan", "done");
}

/// A bug in the host must not block an event, or all later events of its subject, until a restart.
#[test]
fn an_event_whose_delivery_panics_is_delivered_again() {
    let host = Host::start_with("event-delivery=1*panic", "");
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", &format!("order = \"subject\"\n{QUICK_RETRY}"), ""));
    let first = host.push_steps("outbox", Some("ann"), &json!([["increment", "done"]]));
    let second = host.push_steps("outbox", Some("ann"), &json!([["increment", "done"]]));
    assert_eq!(host.until_event("outbox", &first, "done")["attempt"], 2);
    assert_eq!(host.until_event("outbox", &second, "done")["attempt"], 1);
    assert_eq!(host.value("outbox", "done"), "2");
}

#[test]
fn an_event_whose_delivery_panics_each_time_fails_after_its_own_number_of_attempts() {
    let host = Host::start_with("event-delivery=panic", "");
    host.create("outbox", "production");
    host.deploy("outbox", outbox("outbox", "retry = { attempts = 1 }", ""));
    let event = host.push_steps("outbox", None, &json!([["increment", "done"]]));
    assert_eq!(host.until_event("outbox", &event, "dead")["attempt"], 1);
}
