//! Rolling updates under constant load: whatever is done to an app, and whatever is wrong with what is deployed, no
//! request fails.

use crate::bundles::http_component;
use isopod_tests::{Ask, Bundle, Host, Load, bundle::QUICK_WEB, guest, wait_for};
use serde_json::{Value, json};

const CLIENTS: usize = 3;

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// The same with a process type that takes events.
fn with_worker(words: &str) -> Bundle {
    let worker = "[processes.worker]\nentry = \"events\"\n";
    Bundle::shapes(&format!("{QUICK_WEB}{worker}[config]\nGREETING = \"{words}\"\n"))
}

fn is_served(text: &str) -> bool {
    text.starts_with('v')
}

/// J3, H4: every kind of change, each in force when its answer comes.
#[test]
fn no_request_fails_while_releases_config_scale_and_rollbacks_roll_out() {
    for app_type in ["staging", "production"] {
        let host = Host::start();
        host.create("shop", app_type);
        host.deploy("shop", with_worker("0"));
        let load = Load::on(&host, "shop", CLIENTS, is_served);
        // Those take longer than a swap, so each of them meets some.
        let slow = Load::of(host.listen, &host.to_app("shop", Ask::get("/slow")), 2, is_served);
        let events = Load::of_events(&host, "shop");
        let mut release = 1;
        let mut rolled_out = |expected: &str| {
            release += 1;
            assert_eq!(host.get("shop", "/").expect(200).text(), format!("v{release} {expected}"), "{app_type}");
            load.go_on();
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
        assert!(requests > 100, "{requests} requests are no load");
        assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![13], "running"));
    }
}

/// J3: the hundred swaps of which the bench takes the latencies. A release takes over while requests come all the time,
/// some of which last longer than it serves.
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
    assert!(requests > 100, "{requests} requests are no load");
    assert_eq!(host.current("shop"), [101]);
}

/// The component with the version of its SDK overwritten.
pub(crate) fn built_with_an_old_sdk(mut component: Vec<u8>) -> Vec<u8> {
    let (now, old) = (b"rust/0.1.0", b"rust/0.0.1");
    let at = component.windows(now.len()).position(|window| window == now).expect("it says its SDK's version");
    component[at..at + old.len()].copy_from_slice(old);
    component
}

/// H5, C3: five kinds of bad releases, none of which gets a single request.
#[test]
fn no_request_meets_a_release_that_is_bad_from_its_start() {
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
        let (found, reason) = host.deploy_in_vain("shop", &bundle);
        assert_eq!(found, code, "{what}: {reason}");
        assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"), "{what}");
        assert!(host.show("shop")["error"].is_null(), "{what}");
        if let Some(state) = state {
            let last = host.releases("shop").pop().expect("there are some");
            assert_eq!((&last["state"], &last["release"]), (&json!(state), &json!(before + 1)), "{what}");
        }
        load.go_on();
    }
    let failed = host.activity("shop").iter().filter(|entry| entry["kind"] == "push-failed").count();
    assert_eq!(failed, 5, "each is in the activity");
    load.finish();
    // And the way for good ones is still free.
    host.deploy("shop", greeting("better"));
    assert!(host.get("shop", "/").expect(200).text().ends_with("better"));
}

/// H5, D4: what no health check could know is seen from the answers, and undone.
#[test]
fn a_release_that_fails_its_requests_is_taken_back_by_itself() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("good"));
    host.deploy("shop", greeting("better"));
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    load.go_on();
    host.deploy("shop", Bundle::shape(&[("SHAPE", "trap")]));
    let told = host.activity_of("shop", "release-returned");
    assert_eq!((&told["data"]["release"], &told["data"]["bad"]), (&json!(2), &json!(3)), "{told}");
    assert!(text(&told).contains("v2") && text(&told).contains("v3"), "{told}");
    load.go_on();
    let (requests, failed) = load.end();
    assert!(failed.iter().all(|failure| failure.contains("app-failed")), "{} of {requests}: {failed:?}", failed.len());

    assert_eq!(host.release_state("shop", 3), "deployment_error");
    let reason = host.release("shop", 3)["reason"].clone();
    assert_eq!(reason["code"], "worse-than-before", "{reason}");
    assert!(reason["detail"].as_str().is_some_and(|detail| detail.chars().any(|c| c.is_ascii_digit())), "{reason}");
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    assert_eq!(host.show("shop")["release"], 2, "under its own number");
    let load = Load::on(&host, "shop", CLIENTS, |text| text == "v2 better");
    load.finish();
    let host = host.kill_and_restart();
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 better", "that lasts");
    host.rollback("shop", 3).problem_of("shop", 409, "no-way-back");
    assert_eq!(host.deploy("shop", greeting("best")).release, Some(4));
}

/// B3: as long as it is no worse than before, a guest's own failures are its own matter.
#[test]
fn a_release_that_fails_as_the_one_before_did_stays() {
    let host = Host::start();
    host.create("shop", "staging");
    let trapping = || Bundle::shape(&[("SHAPE", "trap")]);
    host.deploy("shop", trapping());
    let load = Load::on(&host, "shop", CLIENTS, |_| true);
    load.go_on();
    host.deploy("shop", trapping());
    (0..5).for_each(|_| load.go_on());
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![2], "running"));
    let (requests, failed) = load.end();
    assert!(requests > 50 && !failed.is_empty(), "{requests} requests, {} failed", failed.len());
}

fn text(entry: &Value) -> &str {
    entry["text"].as_str().unwrap_or_else(|| panic!("an entry of the activity has a text: {entry}"))
}

/// A release that comes right after a bad one, and has its fault, leads back to what was well before both.
#[test]
fn a_fault_is_taken_back_though_another_release_came_right_after_it() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", greeting("good"));
    host.set_config("shop", &json!({ "SHAPE": "trap" })).expect(200);
    host.set_config("shop", &json!({ "GREETING": "hasty" })).expect(200);
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    wait_for("the release that was well", || (host.current("shop") == [1]).then_some(()));
    drop(load.end());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
    let told: Vec<_> = host.activity("shop").into_iter().filter(|entry| entry["kind"] == "release-returned").collect();
    assert_eq!(told.len(), 2, "{told:?}");
}

/// Neither a crash of the host nor a stop right after the swap ends the watch over a new release.
#[test]
fn a_bad_release_is_taken_back_though_the_host_crashed_or_the_app_was_stopped_meanwhile() {
    let host = Host::start();
    for app in ["shop", "store"] {
        host.create(app, "production");
        host.deploy(app, greeting("good"));
        host.set_config(app, &json!({ "SHAPE": "trap" })).expect(200);
    }
    host.stop_app("store");
    host.start_app("store");
    let load = Load::on(&host, "store", CLIENTS, is_served);
    wait_for("the release that was well", || (host.current("store") == [1]).then_some(()));
    drop(load.end());
    let host = host.kill_and_restart();
    let load = Load::on(&host, "shop", CLIENTS, is_served);
    wait_for("the release that was well", || (host.current("shop") == [1]).then_some(()));
    drop(load.end());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
}
