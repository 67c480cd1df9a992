//! Tests that an app takes requests at each step of a push, and that the push neither undoes nor
//! survives them.

use isopod_tests::{Ask, Bundle, Host, Push, wait_for};

/// The steps at which the second push is paused, each with the state that it has then.
const STEPS: [(&str, &str); 3] =
    [("push-verified", "running"), ("release-built", "building"), ("release-booted", "deploying")];

fn greeting(words: &str) -> Bundle {
    Bundle::shape(&[("GREETING", words)])
}

/// Returns a host with an app, and a push to this app that never ends.
fn paused_at(step: &str, state: &str) -> (Host, Push) {
    let host = Host::start_pausing(&format!("{step}=1*off->pause"));
    host.create("shop", "staging");
    host.deploy("shop", greeting("old"));
    let push = host.push("shop", &greeting("new"));
    wait_for("the push to reach its step", || (host.push_now(&push).state == state).then_some(()));
    (host, push)
}

#[test]
fn a_stop_and_a_start_take_effect_at_each_step_of_a_push() {
    for (step, state) in STEPS {
        let (host, push) = paused_at(step, state);
        host.stop_app("shop");
        host.get("shop", "/").problem_of("shop", 503, "app-unavailable");
        host.start_app("shop");
        host.until_state("shop", "running");
        assert_eq!(host.get("shop", "/").expect(200).text(), "v1 old", "{step}");
        assert_eq!(host.push_now(&push).state, state, "{step}");
    }
}

#[test]
fn an_app_is_destroyed_at_each_step_of_a_push() {
    for (step, state) in STEPS {
        let (host, _) = paused_at(step, state);
        host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
        host.api(Ask::post("/v1/apps").json(&serde_json::json!({ "name": "shop" }))).expect(201);
        let host = host.kill_and_restart();
        assert!(host.releases("shop").is_empty(), "{step}");
    }
}

/// Requests that are already queued when the app is destroyed get the reason.
#[test]
fn requests_to_an_app_that_is_destroyed_meanwhile_are_refused() {
    let host = Host::start();
    host.create("shop", "staging");
    host.deploy("shop", greeting("old"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                wait_for("the end of the app", || {
                    let answers = ["stop", "start"].map(|what| host.api(Ask::post(format!("/v1/apps/shop/{what}"))));
                    for answer in &answers {
                        assert!([202, 404].contains(&answer.status), "{answer}");
                    }
                    answers.iter().all(|answer| answer.status == 404).then_some(())
                });
            });
        }
        host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    });
    host.create("shop", "staging");
}
