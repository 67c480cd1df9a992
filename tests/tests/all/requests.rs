//! Tests invalid requests to the API: each gets a problem with the exact reason.

use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, guest};
use serde_json::json;

#[test]
fn bad_json_is_reported_with_its_position() {
    let host = Host::start();
    let post = |text: &str| host.api(Ask::post("/v1/apps").body("application/json", text));
    let problem = post("{\n \"name\": nope }").problem(400, "bad-json");
    assert_eq!(problem["line"], 2, "{problem}");
    for text in ["", "{", "[]", "{\"name\": 7}", "{\"nam\": \"x\"}", "{\"name\":\"x\",\"type\":\"big\"}", "\u{0}"] {
        post(text).problem(400, "bad-json");
    }
    let deep = "[".repeat(200_000);
    post(&deep).problem(400, "bad-json");
    post(&format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20))).problem(413, "too-large");
    assert_eq!(host.api(Ask::get("/v1/apps")).json()["items"], json!([]));
}

#[test]
fn a_wrong_content_type_is_rejected_with_the_right_type() {
    let host = Host::start();
    for content_type in ["text/html", "application/json", "multipart/form-data; boundary=x", "wasm", ""] {
        let bundle = Ask::post("/v1/apps/app/pushes").body(content_type, guest("hello"));
        let problem = host.api(bundle).problem(415, "wrong-content-type");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("application/wasm")), "{problem}");
    }
    let without = Ask { body: guest("hello"), ..Ask::post("/v1/apps/app/pushes") };
    host.api(without).problem(415, "wrong-content-type");
    host.api(Ask::post("/v1/apps").body("text/plain", "{\"name\":\"x\"}")).problem(415, "wrong-content-type");
    host.api(Ask::get("/v1/apps/app")).problem_of("app", 404, "unknown-app");
}

#[test]
fn a_missing_or_wrong_token_is_rejected() {
    let host = Host::start();
    let ask = |value: &str| host.api_raw(&Ask::get("/v1/apps").header("authorization", value));
    let challenged =
        |answer: &Answer| answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer"));
    let missing = host.api_raw(&Ask::get("/v1/apps"));
    missing.problem(401, "no-token");
    assert!(challenged(&missing), "{missing}");
    ask("Basic YTpi").problem(401, "no-token");
    ask("Bearer").problem(401, "no-token");
    ask("Bearer ").problem(401, "no-token");
    let shortened = &host.token[..host.token.len() - 1];
    for token in ["guess", shortened, &format!("{}x", host.token), &host.token.to_uppercase()] {
        let answer = ask(&format!("Bearer {token}"));
        answer.problem(401, "unknown-token");
        assert!(challenged(&answer), "{answer}");
        assert!(!answer.text().contains(token), "the response repeats the token");
    }
    // The host checks the token before it reads the body.
    host.api_raw(&Ask::post("/v1/apps/app/pushes").body("application/wasm", guest("hello"))).problem(401, "no-token");
    host.api(Ask::get("/v1/apps/app")).problem_of("app", 404, "unknown-app");
}

#[cfg(unix)]
#[test]
fn the_administrators_token_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::start();
    let mode = std::fs::metadata(host.data().join("admin.token")).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_token_is_limited_to_its_role_and_scope() {
    let host = Host::start();
    host.deploy("mine", Bundle::component(guest("hello")));
    host.deploy("other", Bundle::component(guest("hello")));
    let make = |body| {
        let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
        made["token"].as_str().expect("it is shown once").to_owned()
    };
    let reader = make(json!({ "name": "reader", "role": "read" }));
    let deployer = make(json!({ "name": "deployer", "role": "deploy", "apps": ["mine"] }));
    let bundle =
        |app: &str| Ask::post(format!("/v1/apps/{app}/pushes?wait=true")).body("application/wasm", guest("hello"));

    host.api_with(&reader, Ask::get("/v1/apps/mine")).expect(200);
    host.api_with(&reader, bundle("mine")).problem(403, "role-too-small");
    host.api_with(&reader, Ask::post("/v1/apps/mine/stop")).problem(403, "role-too-small");
    host.api_with(&reader, Ask::get("/v1/tokens")).problem(403, "role-too-small");
    host.api_with(&deployer, bundle("mine")).expect(200);
    host.api_with(&deployer, bundle("other")).problem(403, "out-of-scope");
    host.api_with(&deployer, Ask::new("DELETE", "/v1/apps/mine")).problem(403, "role-too-small");
    let seen = host.api_with(&deployer, Ask::get("/v1/apps")).expect(200).json();
    assert_eq!(seen["items"].as_array().map(Vec::len), Some(1), "{seen}");

    let host = host.restart();
    host.api_with(&reader, Ask::get("/v1/apps/mine")).expect(200);
    host.api(Ask::new("DELETE", "/v1/tokens/reader")).expect(204);
    host.api_with(&reader, Ask::get("/v1/apps/mine")).problem(401, "unknown-token");
    assert_eq!(host.get("mine", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn unknown_resources_and_routes_are_named() {
    let host = Host::start();
    host.create("app", "dev");
    for path in ["/v1/apps/nobody", "/v1/apps/nobody/logs", "/v1/apps/nobody/pushes", "/v1/apps/nobody/activity"] {
        host.api(Ask::get(path)).problem_of("nobody", 404, "unknown-app");
    }
    host.api(Ask::post("/v1/apps/nobody/stop")).problem_of("nobody", 404, "unknown-app");
    host.api(Ask::new("DELETE", "/v1/apps/nobody")).problem_of("nobody", 404, "unknown-app");
    host.api(Ask::get("/v1/apps/NOT%20A%20NAME")).problem(404, "unknown-app");
    host.api(Ask::get("/v1/apps/app/pushes/p-0000000000")).problem_of("app", 404, "unknown-push");
    host.api(Ask::get("/v1/apps/app/pushes/..%2f..%2fx")).problem_of("app", 404, "unknown-push");
    host.api(Ask::get("/v1/apps/app/releases/v1")).problem_of("app", 404, "unknown-release");
    host.api(Ask::get("/v1/nowhere")).problem(404, "unknown-route");
    host.api(Ask::get("/v1/apps/%ff/pushes")).problem(400, "bad-path");
    host.api(Ask::post("/v1/apps/shop/pushes/%ff/cancel")).problem(400, "bad-path");
    host.api(Ask::new("PUT", "/v1/apps")).problem(405, "wrong-method");
    host.api(Ask::get("/v1/apps?limit=0")).problem(400, "bad-query");
    host.api(Ask::get("/v1/apps?limit=many")).problem(400, "bad-query");
    host.api(Ask::post("/v1/apps/app/start")).problem_of("app", 409, "no-release");
}

#[test]
fn a_name_that_is_not_a_dns_label_is_rejected_with_a_suggestion() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    let long = "x".repeat(64);
    for name in ["", "Hello", "a b", "-a", "a-", "a--b", "a.b", "é", "../x", "a/b", "a\u{0}b", &long] {
        let made = host.api(Ask::post("/v1/apps").json(&json!({ "name": name })));
        let problem = made.problem(422, "bad-app-name");
        if name == "Hello" {
            assert_eq!(problem["suggestion"], "hello", "{problem}");
        }
    }
    for name in ["Hello", "a--b", "a%20b", "..%2fx"] {
        let pushed = host.api(Ask::post(format!("/v1/apps/{name}/pushes")).body("application/wasm", guest("hello")));
        pushed.problem(422, "bad-app-name");
    }
    let listed = host.api(Ask::get("/v1/apps")).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "only the neighbour exists: {listed}");
    for name in ["a", "0", "a-b-c", &"y".repeat(63)] {
        host.create(name, "dev");
    }
    neighbour.finish();
}

#[test]
fn an_app_name_is_unique() {
    let host = Host::start();
    host.deploy("taken", Bundle::component(guest("hello")));
    for app_type in ["dev", "production"] {
        let again = host.api(Ask::post("/v1/apps").json(&json!({ "name": "taken", "type": app_type })));
        again.problem_of("taken", 409, "app-exists");
    }
    assert_eq!(host.get("taken", "/").expect(200).text(), "Hello, world!");
    // Of several concurrent requests one succeeds.
    let made: Vec<u16> = std::thread::scope(|scope| {
        let ask = || host.api(Ask::post("/v1/apps").json(&json!({ "name": "wanted" }))).status;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("asking does not panic")).collect()
    });
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|status| **status == 409).count(), 3, "{made:?}");
}

#[test]
fn a_type_can_change_only_while_the_app_is_stopped() {
    let host = Host::start();
    host.deploy("app", Bundle::component(guest("hello")));
    let change = || host.api(Ask::new("PATCH", "/v1/apps/app").json(&json!({ "type": "production" })));
    change().problem_of("app", 409, "not-stopped");
    assert_eq!(host.show("app")["type"], "dev");
    host.api(Ask::post("/v1/apps/app/stop")).expect(202);
    isopod_tests::wait_for("the stop", || (host.state("app") == "stopped").then_some(()));
    assert_eq!(change().expect(200).json()["type"], "production");
}
