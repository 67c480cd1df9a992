//! Tests the instances of a release on standby: each is listed with a URL that reaches it, and can
//! be restarted, until the rollout watch ends. Only instances that no request can reach have no
//! URL.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, guest, guest_noted, wait_for};
use serde_json::Value;

/// Returns the ids of the instances of a release that are listed with a URL.
fn with_url(host: &Host, app: &str, release: u64) -> Vec<String> {
    let of_release = |seen: &Value| seen["release"] == release && seen["url"].is_string();
    let id = |seen: Value| seen["id"].as_str().expect("an instance has an id").to_owned();
    host.instances(app).into_iter().filter(of_release).map(id).collect()
}

fn on_standby(app_type: &str) -> (Host, String) {
    let host = Host::start();
    host.create("shop", app_type);
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 1\n")));
    let id = host.running_ids("shop", "web", 1).remove(0);
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 1\n[config]\nGREETING = \"again\"\n")));
    assert_eq!(with_url(&host, "shop", 1), [id.as_str()], "{:?}", host.instances("shop"));
    (host, id)
}

#[test]
fn the_url_of_an_instance_on_standby_reaches_it() {
    for app_type in ["production", "staging"] {
        let (host, id) = on_standby(app_type);
        assert_eq!(host.get(&format!("{id}--shop"), "/").expect(200).text(), "v1 ");
        assert_eq!(host.get("shop", "/").expect(200).text(), "v2 again", "traffic goes to the new release");
        let seen = host.instance("shop", &id).expect("it is listed");
        assert_eq!((&seen["release"], seen["requests"].as_u64()), (&Value::from(1), Some(1)), "{seen}");
    }
}

#[test]
fn a_restarted_instance_on_standby_starts_for_its_next_request() {
    let (host, id) = on_standby("production");
    host.restart_instance("shop", &id).expect(202);
    let seen = host.instance("shop", &id).expect("it is listed");
    assert_eq!((&seen["state"], &seen["memory_bytes"]), (&Value::from("stopped"), &Value::from(0)), "{seen}");
    assert_eq!(host.get(&format!("{id}--shop"), "/").expect(200).text(), "v1 ");
    let started = wait_for("its next instance", || host.instance("shop", &id).filter(|seen| seen["state"] == "idle"));
    assert!(started["memory_bytes"].as_u64() > Some(0), "{started}");
}

#[test]
fn an_instance_is_unknown_once_its_release_has_left_standby() {
    let (host, id) = on_standby("production");
    wait_for("the end of the rollout watch", || host.instance("shop", &id).is_none().then_some(()));
    host.get(&format!("{id}--shop"), "/").problem_of("shop", 404, "unknown-part");
    host.restart_instance("shop", &id).problem_of("shop", 404, "unknown-instance");
}

#[test]
fn an_instance_that_takes_no_requests_has_no_url() {
    let host = Host::start();
    let others = "[processes.nightly]\nentry = \"events\"\nmin = 1\n[processes.job]\nentry = \"command\"\n";
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 1\n{others}")));
    for (process, has_url) in [("web", true), ("nightly", false), ("job", false)] {
        let id = host.running_ids("shop", process, 1).remove(0);
        let seen = host.instance("shop", &id).expect("it is listed");
        assert_eq!(seen["url"].is_string(), has_url, "{seen}");
    }
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let held = host.hold("greedy");
    host.deploy("greedy", Bundle::component(guest_noted("greedy", 1)));
    let stopping = || host.instances("greedy").into_iter().find(|seen| seen["state"] == "stopping");
    let seen = wait_for("the draining instance", stopping);
    assert!(seen["url"].is_null(), "{seen}");
    held.release_core();
}
