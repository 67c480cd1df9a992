//! Tests rolling updates under constant load: no request fails during changes of an app, even if
//! the deployed release is faulty.

use crate::bundles::http_component;
use isopod_tests::{Ask, Bundle, Host, Load, bundle::QUICK_WEB, guest, wait_for};
use serde_json::{Value, json};

const CLIENTS: usize = 3;

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// Returns the bundle with a further process type for events.
fn with_worker(words: &str) -> Bundle {
    let worker = "[processes.worker]\nentry = \"events\"\n";
    Bundle::shapes(&format!("{QUICK_WEB}{worker}[config]\nGREETING = \"{words}\"\n"))
}

fn is_served(text: &str) -> bool {
    text.starts_with('v')
}

/// J3, H4: each kind of change applies when its response arrives.
#[test]
fn no_request_fails_during_deploys_config_changes_scaling_and_rollbacks() {
    for app_type in ["staging", "production"] {
        let host = Host::start();
        host.create("shop", app_type);
        host.deploy("shop", with_worker("0"));
        let load = Load::on(&host, "shop", CLIENTS, is_served);
        // These requests take longer than a swap, so each request spans several swaps.
        let slow = Load::of(host.listen, &host.to_app("shop", Ask::get("/slow")), 2, is_served);
        let events = Load::of_events(&host, "shop");
        let mut release = 1;
        let mut rolled_out = |expected: &str| {
            release += 1;
            assert_eq!(host.get("shop", "/").expect(200).text(), format!("v{release} {expected}"), "{app_type}");
            load.wait_for_more();
        };
        for turn in 1..4 {
            host.deploy("shop", with_worker(&turn.to_string()));
            rolled_out(&turn.to_string());
            host.set_config("shop", &json!({ "GREETING": format!("set {turn}") })).expect(200);
            rolled_out(&format!("set {turn}"));
            host.scale("shop", &json!({ "web": { "min": turn, "max": 2 * turn } })).expect(200);
            rolled_out(&format!("set {turn}"));
            host.rollback("shop", 1).expect(200);
            rolled_out("0");
        }
        slow.finish();
        events.finish();
        let requests = load.finish();
        assert!(requests > 100, "only {requests} requests");
        assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![13], "running"));
    }
}

/// J3: one hundred swaps, as in the latency benchmark. Each release takes over under constant load,
/// and some requests last longer than their release serves.
#[test]
fn no_request_fails_in_a_hundred_swaps() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("0"));
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    let slow = Load::of(host.listen, &host.to_app("shop", Ask::get("/slow")), 2, is_served);
    for swap in 1..=100 {
        let push = host.deploy("shop", greeting(&swap.to_string()));
        assert_eq!(push.release, Some(swap + 1));
        assert_eq!(host.get("shop", "/").expect(200).text(), format!("v{} {swap}", swap + 1));
    }
    slow.finish();
    let requests = load.finish();
    assert!(requests > 100, "only {requests} requests");
    assert_eq!(host.current("shop"), [101]);
}

/// Overwrites the SDK version in a component.
pub(crate) fn built_with_an_old_sdk(mut component: Vec<u8>) -> Vec<u8> {
    let (now, old) = (b"rust/0.1.0", b"rust/0.0.1");
    let at = component
        .windows(now.len())
        .position(|window| window == now)
        .expect("the component contains its SDK's version");
    component[at..at + old.len()].copy_from_slice(old);
    component
}

/// H5, C3: five kinds of faulty releases, none of which receives a request.
#[test]
fn a_release_that_is_faulty_from_its_start_receives_no_request() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("good"));
    let load = Load::on(&host, "shop", CLIENTS, |text| text == "v1 good");
    let trapping = http_component("(func $start unreachable) (start $start)");
    for (what, bundle, code, state) in [
        ("a trap at its start", Bundle::component(trapping), "start-failed", Some("deployment_error")),
        ("health 500", Bundle::shape(&[("HEALTH", "fails")]), "health-check", Some("deployment_error")),
        ("health without an end", Bundle::shape(&[("HEALTH", "hangs")]), "health-check", Some("deployment_error")),
        ("health elsewhere", Bundle::shape(&[("HEALTH", "redirects")]), "health-check", Some("deployment_error")),
        ("an old SDK", Bundle::component(built_with_an_old_sdk(guest("shapes"))), "sdk-too-old", None),
    ] {
        let before = host.releases("shop").len();
        let (found, reason) = host.deploy_failing("shop", &bundle);
        assert_eq!(found, code, "{what}: {reason}");
        assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"), "{what}");
        assert!(host.show("shop")["error"].is_null(), "{what}");
        if let Some(state) = state {
            let last = host.releases("shop").pop().expect("there are some");
            assert_eq!((&last["state"], &last["release"]), (&json!(state), &json!(before + 1)), "{what}");
        }
        load.wait_for_more();
    }
    let failed = host.activity("shop").iter().filter(|entry| entry["kind"] == "push-failed").count();
    assert_eq!(failed, 5, "each failed push has an entry");
    load.finish();
    // A good release can still be deployed.
    host.deploy("shop", greeting("better"));
    assert!(host.get("shop", "/").expect(200).text().ends_with("better"));
}

/// H5, D4: faults that no health check detects are detected in the responses, and the release is
/// rolled back.
#[test]
fn a_release_that_fails_its_requests_is_rolled_back() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("good"));
    host.deploy("shop", greeting("better"));
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    load.wait_for_more();
    host.deploy("shop", Bundle::shape(&[("SHAPE", "trap")]));
    let reported = host.activity_of("shop", "release-returned");
    assert_eq!((&reported["data"]["release"], &reported["data"]["bad"]), (&json!(2), &json!(3)), "{reported}");
    assert!(text(&reported).contains("v2") && text(&reported).contains("v3"), "{reported}");
    load.wait_for_more();
    let (requests, failed) = load.end();
    assert!(failed.iter().all(|failure| failure.contains("app-failed")), "{} of {requests}: {failed:?}", failed.len());

    assert_eq!(host.release_state("shop", 3), "deployment_error");
    let reason = host.release("shop", 3)["reason"].clone();
    assert_eq!(reason["code"], "worse-than-before", "{reason}");
    assert!(reason["detail"].as_str().is_some_and(|detail| detail.chars().any(|c| c.is_ascii_digit())), "{reason}");
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    assert_eq!(host.show("shop")["release"], 2, "the former release keeps its number");
    let load = Load::on(&host, "shop", CLIENTS, |text| text == "v2 better");
    load.finish();
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 better", "the rollback persists");
    host.rollback("shop", 3).problem_of("shop", 409, "no-way-back");
    assert_eq!(host.deploy("shop", greeting("best")).release, Some(4));
}

/// B3: a release that fails no more often than its predecessor is not rolled back.
#[test]
fn a_release_that_fails_like_its_predecessor_stays() {
    let host = Host::start();
    host.create("shop", "staging");
    let trapping = || Bundle::shape(&[("SHAPE", "trap")]);
    host.deploy("shop", trapping());
    let load = Load::on(&host, "shop", CLIENTS, |_| true);
    load.wait_for_more();
    host.deploy("shop", trapping());
    (0..5).for_each(|_| load.wait_for_more());
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    let (requests, failed) = load.end();
    assert!(requests > 50 && !failed.is_empty(), "{requests} requests, {} failed", failed.len());
}

fn text(entry: &Value) -> &str {
    entry["text"].as_str().unwrap_or_else(|| panic!("an entry of the activity has a text: {entry}"))
}

/// If a release right after a faulty release has the same fault, the host rolls back to the last
/// healthy release.
#[test]
fn a_fault_is_rolled_back_across_two_releases() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("good"));
    host.set_config("shop", &json!({ "SHAPE": "trap" })).expect(200);
    host.set_config("shop", &json!({ "GREETING": "hasty" })).expect(200);
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    wait_for("the rollback to the healthy release", || (host.current("shop") == [1]).then_some(()));
    drop(load.end());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
    let reported: Vec<_> =
        host.activity("shop").into_iter().filter(|entry| entry["kind"] == "release-returned").collect();
    assert_eq!(reported.len(), 2, "{reported:?}");
}

/// Neither a crash of the host nor a stop right after the swap ends the rollout watch of a new
/// release.
#[test]
fn a_faulty_release_is_rolled_back_after_a_crash_or_a_stop() {
    let host = Host::start();
    for app in ["shop", "store"] {
        host.create(app, "production");
        host.deploy(app, greeting("good"));
        host.set_config(app, &json!({ "SHAPE": "trap" })).expect(200);
    }
    host.stop_app("store");
    host.start_app("store");
    let load = Load::on(&host, "store", CLIENTS, is_served);
    wait_for("the rollback to the healthy release", || (host.current("store") == [1]).then_some(()));
    drop(load.end());
    let host = host.kill_and_restart();
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    wait_for("the rollback to the healthy release", || (host.current("shop") == [1]).then_some(()));
    drop(load.end());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
}
