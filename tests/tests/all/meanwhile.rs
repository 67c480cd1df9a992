//! What is done to an app while something else is being done to it: each has its effect, and none undoes another.

use isopod_tests::{Ask, Bundle, Host, Push, bundle::QUICK_WEB, wait_for};
use serde_json::json;

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// A bundle that takes about half a second to be found well.
fn well_late(words: &str) -> Bundle {
    let web = QUICK_WEB.replace("\"0ms\"", "\"20s\"");
    Bundle::shapes(&format!("{web}[config]\nHEALTH = \"late\"\nGREETING = \"{words}\"\n"))
}

/// A push whose instances are being asked for their health.
fn under_way(host: &Host, bundle: &Bundle) -> Push {
    let push = host.push("shop", bundle);
    let deploying = wait_for("the push's last step", || {
        let now = host.push_now(&push);
        (now.state == "deploying" || now.is_final()).then_some(now)
    });
    assert!(!deploying.is_final(), "it is over already: {deploying:?}");
    push
}

fn shop() -> Host {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("one"));
    host
}

/// What was asked for last is what is: stopped.
#[test]
fn a_stop_in_the_middle_of_a_push_is_kept() {
    let host = shop();
    let push = under_way(&host, &well_late("two"));
    host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    assert_eq!(host.ended(&push).state, "completed");
    host.until_state("shop", "stopped");
    host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");

    let push = under_way(&host, &Bundle::shape(&[("HEALTH", "fails")]));
    host.api(Ask::post("/v1/apps/shop/stop")).expect(202);
    assert_eq!(host.ended(&push).state, "failed");
    host.until_state("shop", "stopped");
    host.start_app("shop");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");
}

#[test]
fn a_start_in_the_middle_of_a_push_is_kept() {
    let host = shop();
    host.stop_app("shop");
    let push = under_way(&host, &well_late("two"));
    host.api(Ask::post("/v1/apps/shop/start")).expect(202);
    assert_eq!(host.ended(&push).state, "completed");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two");

    host.stop_app("shop");
    let push = under_way(&host, &Bundle::shape(&[("HEALTH", "fails")]));
    host.api(Ask::post("/v1/apps/shop/start")).expect(202);
    assert_eq!(host.ended(&push).state, "failed");
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v2 two", "started as it was asked to be, with what is good");
}

#[test]
fn an_app_that_is_deleted_in_the_middle_of_a_push_is_gone() {
    let host = shop();
    let mut news = host.follow(&under_way(&host, &well_late("two")).path());
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    let last = news.by_ref().last().map(|event| event["state"].clone());
    assert_eq!(last, Some(json!("failed")), "whoever followed it is told");
    host.get("shop", "/").problem_of("shop", 404, "unknown-app");
    host.api(Ask::get("/v1/apps/shop")).problem_of("shop", 404, "unknown-app");
    let host = host.restart();
    host.api(Ask::get("/v1/apps/shop")).problem_of("shop", 404, "unknown-app");
    assert_eq!(host.deploy("shop", greeting("new")).release, Some(1));
}

/// No change gets lost because another one came at the same moment.
#[test]
fn changes_at_the_same_moment_are_all_kept() {
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
    wait_for("one present release", || (host.current("shop") == [9]).then_some(()));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v9 two");
}

/// B4: a host that is asked to stop waits a little for a push, then gives it up with a reason.
#[test]
fn a_host_that_stops_in_the_middle_of_a_push_says_so() {
    let host = shop();
    let web = QUICK_WEB.replace("500ms", "30s");
    let push = under_way(&host, &Bundle::shapes(&format!("{web}[config]\nHEALTH = \"hangs\"\n")));
    let host = host.restart();
    let ended = host.push_now(&push);
    assert_eq!((ended.state.as_str(), ended.reason_code.as_deref()), ("failed", Some("host-stopped")), "{ended:?}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 one");
    assert_eq!((host.current("shop"), host.release_state("shop", 2).as_str()), (vec![1], "deployment_error"));
}

/// Whoever follows an app's activity hears of each change as it comes.
#[test]
fn the_activity_is_told_as_it_happens() {
    let host = shop();
    let mut news = host.follow("/v1/apps/shop/activity");
    let mut next = |kind: &str| news.by_ref().find(|entry| entry["kind"] == kind).expect("it is told");
    host.set_config("shop", &json!({ "A": "1" })).expect(200);
    assert_eq!(next("app-deployed")["data"]["release"], 2);
    host.deploy_in_vain("shop", &Bundle::shape(&[("HEALTH", "fails")]));
    let told = next("push-failed");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("/healthz")), "{told}");
    host.stop_app("shop");
    assert_eq!(next("app-stopped")["app"], "shop");
}

/// A push that meets the end of its app is told so, and not that there never was one.
#[test]
fn a_push_to_an_app_that_is_being_destroyed_is_refused_until_it_is_gone() {
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
    assert!(!destroying.join().expect("asking does not panic"), "it was still waiting");
}

/// Whoever follows what happens to an app hears of its end as the last thing.
#[test]
fn the_end_of_an_app_ends_its_followers() {
    let host = shop();
    let [activity, logs] = ["activity", "logs"].map(|what| host.follow(&format!("/v1/apps/shop/{what}")));
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    let told: Vec<_> = activity.collect();
    let last = told.last().expect("something was told");
    assert_eq!(
        (&last["kind"], &last["app"], &last["data"]["by"]),
        (&json!("app-destroyed"), &json!("shop"), &json!("admin"))
    );
    assert!(logs.count() > 0, "its log had lines, and has ended");
}
