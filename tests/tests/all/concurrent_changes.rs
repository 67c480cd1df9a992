//! Tests concurrent operations on an app: each takes effect, and none reverts another.

use isopod_tests::{Ask, Bundle, Host, Push, bundle::QUICK_WEB, wait_for};
use serde_json::json;

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// Returns a bundle that becomes healthy after about half a second.
fn late_healthy(words: &str) -> Bundle {
    let web = QUICK_WEB.replace("\"0ms\"", "\"20s\"");
    Bundle::shapes(&format!("{web}[config]\nHEALTH = \"late\"\nGREETING = \"{words}\"\n"))
}

/// Starts a push, and waits until its instances are being health-checked.
fn start_push(host: &Host, bundle: &Bundle) -> Push {
    let push = host.push("shop", bundle);
    let deploying = wait_for("the push to reach its last step", || {
        let now = host.push_now(&push);
        (now.state == "deploying" || now.is_final()).then_some(now)
    });
    assert!(!deploying.is_final(), "the push has ended early: {deploying:?}");
    push
}

fn shop() -> Host {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("one"));
    host
}

/// The last request determines the state: stopped.
#[test]
fn a_stop_during_a_push_takes_effect() {
    let host = shop();
    let push = start_push(&host, &late_healthy("two"));
    host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    assert_eq!(host.ended(&push).state, "completed");
    host.until_state("shop", "stopped");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");

    let push = start_push(&host, &Bundle::shape(&[("HEALTH", "fails")]));
    host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
    assert_eq!(host.ended(&push).state, "failed");
    host.until_state("shop", "stopped");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");
}

#[test]
fn a_start_during_a_push_takes_effect() {
    let host = shop();
    host.stop_app("shop");
    let push = start_push(&host, &late_healthy("two"));
    host.api(Ask::post("/v1/apps/shop/start")).expect(202);
    assert_eq!(host.ended(&push).state, "completed");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");

    host.stop_app("shop");
    let push = start_push(&host, &Bundle::shape(&[("HEALTH", "fails")]));
    host.api(Ask::post("/v1/apps/shop/start")).expect(202);
    assert_eq!(host.ended(&push).state, "failed");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two", "started as requested, with the good release");
}

#[test]
fn an_app_that_is_destroyed_during_a_push_is_removed() {
    let host = shop();
    let mut news = host.follow(&start_push(&host, &late_healthy("two")).path());
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    let last = news.by_ref().last().map(|event| event["state"].clone());
    assert_eq!(last, Some(json!("failed")), "followers get the end of the push");
    host.get("shop", "/").problem_of("shop", 404, "unknown-app");
    host.api(Ask::get("/v1/apps/shop")).problem_of("shop", 404, "unknown-app");
    let host = host.restart();
    host.api(Ask::get("/v1/apps/shop")).problem_of("shop", 404, "unknown-app");
    assert_eq!(host.deploy("shop", greeting("new")).release, Some(1));
}

/// Concurrent changes don't overwrite each other.
#[test]
fn concurrent_changes_are_all_kept() {
    let host = shop();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let change = json!({ format!("KEY_{number}"): number.to_string() });
            let host = &host;
            scope.spawn(move || host.set_config("shop", &change).expect(200));
        }
        scope.spawn(|| host.scale("shop", &json!({ "web": { "max": 4 } })).expect(200));
        scope.spawn(|| host.push("shop", &greeting("two")));
    });
    wait_for("the push's release", || (host.releases("shop").len() == 9).then_some(()));
    host.until_state("shop", "running");
    let config = host.config("shop");
    assert_eq!(config.as_object().map(|vars| vars.len()), Some(6), "{config}");
    assert_eq!(host.formation("shop")["web"]["max"], 4);
    wait_for("a single current release", || (host.current("shop") == [9]).then_some(()));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v9 two");
}

/// B4: a host that shuts down waits a short time for a push, then fails it with a reason.
#[test]
fn a_shutdown_during_a_push_fails_it_with_a_reason() {
    let host = shop();
    let web = QUICK_WEB.replace("500ms", "30s");
    let push = start_push(&host, &Bundle::shapes(&format!("{web}[config]\nHEALTH = \"hangs\"\n")));
    let host = host.restart();
    let ended = host.push_now(&push);
    assert_eq!((ended.state.as_str(), ended.reason_code.as_deref()), ("failed", Some("host-stopped")), "{ended:?}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 one");
    assert_eq!((host.current("shop"), host.release_state("shop", 2).as_str()), (vec![1], "deployment_error"));
}

/// Followers of an app's activity receive each change as it happens.
#[test]
fn followers_of_the_activity_receive_each_entry_as_it_happens() {
    let host = shop();
    let mut news = host.follow("/v1/apps/shop/activity");
    let mut next = |kind: &str| news.by_ref().find(|entry| entry["kind"] == kind).expect("the entry arrives");
    host.set_config("shop", &json!({ "A": "1" })).expect(200);
    assert_eq!(next("app-deployed")["data"]["release"], 2);
    host.deploy_failing("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    let reported = next("push-failed");
    assert!(reported["text"].as_str().is_some_and(|text| text.contains("/healthz")), "{reported}");
    host.stop_app("shop");
    assert_eq!(next("app-stopped")["app"], "shop");
}

/// A push that arrives during a destroy is rejected with that reason, not as a push to an unknown
/// app.
#[test]
fn a_push_to_an_app_that_is_being_destroyed_is_rejected() {
    let host = Host::start_pausing("app-deleted=pause");
    host.create("shop", "staging");
    let push = host.deploy("shop", greeting("one"));
    let destroy = Ask::new("DELETE", "/v1/apps/shop").header("authorization", format!("Bearer {}", host.token));
    let admin = host.admin;
    let destroying = std::thread::spawn(move || destroy.send(admin).is_ok());
    wait_for("the end of the app's traffic", || (host.get("shop", "/").status == 404).then_some(()));
    let refused = host.upload("shop", &greeting("three"), "");
    refused.problem_of("shop", 409, "being-destroyed");
    assert!(refused.header("retry-after").is_some(), "{refused}");
    let again = Ask::post("/v1/apps").json(&json!({ "name": "shop" }));
    host.api(again).problem_of("shop", 409, "being-destroyed");
    host.api(Ask::get(push.path())).problem_of("shop", 404, "unknown-app");
    drop(host);
    assert!(!destroying.join().expect("asking does not panic"), "the destroy request ended too early");
}

/// The last entry that a follower of an app receives is its destruction.
#[test]
fn destroying_an_app_ends_its_streams() {
    let host = shop();
    let [activity, logs] = ["activity", "logs"].map(|what| host.follow(&format!("/v1/apps/shop/{what}")));
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    let reported: Vec<_> = activity.collect();
    let last = reported.last().expect("there are entries");
    assert_eq!(
        (&last["kind"], &last["app"], &last["data"]["by"]),
        (&json!("app-destroyed"), &json!("shop"), &json!("admin"))
    );
    assert!(logs.count() > 0, "the followed log is empty");
}
