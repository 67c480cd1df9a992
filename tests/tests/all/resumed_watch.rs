//! Tests the rollout watch that a host start resumes: the instances of the release on standby are
//! listed and reached by their URLs, as before the start, until the watch ends.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, wait_for};
use serde_json::Value;

/// Returns the id of the only instance of a release.
fn instance_of(host: &Host, release: u64) -> String {
    let listed = host.instances("shop");
    let of_release: Vec<_> = listed.iter().filter(|seen| seen["release"] == release).collect();
    assert_eq!(of_release.len(), 1, "instances of v{release}: {listed:?}");
    assert!(of_release[0]["url"].is_string(), "it has a URL: {listed:?}");
    of_release[0]["id"].as_str().expect("an instance has an id").to_owned()
}

/// Returns a host that was started again while v2 was watched and v1 was on standby.
fn resumed(app_type: &str, restart: impl FnOnce(Host) -> Host) -> Host {
    let host = Host::start();
    host.create("shop", app_type);
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 1\n")));
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}min = 1\n[config]\nGREETING = \"again\"\n")));
    instance_of(&host, 1);
    let host = restart(host);
    host.until_state("shop", "running");
    host
}

#[test]
fn an_instance_on_standby_is_reached_after_a_host_start() {
    for app_type in ["production", "staging"] {
        let host = resumed(app_type, Host::restart);
        let (standby, serving) = (instance_of(&host, 1), instance_of(&host, 2));
        assert_eq!(host.get(&format!("{standby}--shop"), "/").expect(200).text(), "v1 ");
        assert_eq!(host.get(&format!("{serving}--shop"), "/").expect(200).text(), "v2 again");
        let seen = host.instance("shop", &standby).expect("it is listed");
        assert_eq!((&seen["release"], seen["requests"].as_u64()), (&Value::from(1), Some(1)), "{seen}");
    }
}

#[test]
fn an_instance_on_standby_is_restarted_after_a_crash_of_the_host() {
    let host = resumed("production", Host::kill_and_restart);
    let standby = instance_of(&host, 1);
    host.restart_instance("shop", &standby).expect(202);
    let seen = host.instance("shop", &standby).expect("it is listed");
    assert_eq!((&seen["state"], &seen["memory_bytes"]), (&Value::from("stopped"), &Value::from(0)), "{seen}");
    assert_eq!(host.get(&format!("{standby}--shop"), "/").expect(200).text(), "v1 ");
}

#[test]
fn an_instance_is_unknown_after_a_resumed_watch() {
    let host = resumed("production", Host::restart);
    let standby = instance_of(&host, 1);
    wait_for("the end of the rollout watch", || host.instance("shop", &standby).is_none().then_some(()));
    host.get(&format!("{standby}--shop"), "/").problem_of("shop", 404, "unknown-part");
    instance_of(&host, 2);
}
