//! Tests that a refusal gives the true reason.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, wait_for};

#[test]
fn a_request_to_a_starting_app_is_refused_as_starting() {
    let host = Host::start_pausing("release-loads=pause");
    host.deploy("hello", Bundle::component(guest("hello")));
    host.stop_app("hello");
    let detail = |answer: &Answer| answer.json()["detail"].as_str().map(str::to_owned).expect("a problem has a detail");
    let stopped = host.get("hello", "/").expect(503);
    assert!(detail(&stopped).ends_with("the app is stopped"), "{stopped}");
    host.api(Ask::post("/v1/apps/hello/start")).expect(202);
    wait_for("the start", || (host.state("hello") == "starting").then_some(()));
    let starting = host.get("hello", "/").expect(503);
    assert!(starting.header("retry-after").is_some(), "{starting}");
    assert!(detail(&starting).ends_with("the app is starting"), "{starting}");
}

#[test]
fn a_rollback_distinguishes_an_invalid_body_from_an_invalid_release() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let roll_back = |body| host.api(Ask::post("/v1/apps/hello/rollback").body("application/json", body));
    for body in ["{}", r#"{"release":null}"#, r#"{"release":true}"#] {
        roll_back(body).problem(400, "bad-json");
    }
    for body in [r#"{"release":0}"#, r#"{"release":"last"}"#] {
        roll_back(body).problem_of("hello", 422, "bad-release");
    }
}
