//! Tests that a destroyed app leaves no metric series, and no token that is valid for the next app
//! of its name.

use isopod_tests::{Ask, Bundle, Host, Wire, guest, wait_for};
use serde_json::json;

fn make_token(host: &Host, name: &str, apps: &[&str]) -> String {
    let body = json!({ "name": name, "role": "deploy", "apps": apps });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

fn destroy(host: &Host, app: &str) {
    host.api(Ask::new("DELETE", format!("/v1/apps/{app}"))).expect(204);
}

#[test]
fn the_series_of_a_destroyed_app_are_removed_and_a_new_app_starts_at_zero() {
    let host = Host::start();
    for app in ["gone", "kept"] {
        host.deploy(app, Bundle::component(guest("greedy")));
        host.get(app, "/").expect(200);
        host.get(app, "/trap").expect(502);
    }
    let text = |host: &Host| host.api(Ask::get("/metrics")).expect(200).text();
    let of = |host: &Host, app: &str| text(host).lines().filter(|line| line.contains(&format!("\"{app}\""))).count();
    wait_for("the faults to be counted", || text(&host).contains("isopod_faults_total{app=\"gone\"").then_some(()));
    destroy(&host, "gone");
    assert_eq!(of(&host, "gone"), 0, "{}", text(&host));
    assert!(of(&host, "kept") > 0);
    host.get("gone", "/").expect(404);
    assert_eq!(of(&host, "gone"), 0, "requests to an unknown app create no series");
    host.deploy("gone", Bundle::component(guest("greedy")));
    host.get("gone", "/").expect(200);
    wait_for("its first request to be counted", || {
        (host.metric("isopod_requests_total{app=\"gone\",class=\"2xx\"}") > 0.0).then_some(())
    });
    assert_eq!(host.metric("isopod_requests_total{app=\"gone\",class=\"2xx\"}"), 1.0);
    assert!(!text(&host).contains("isopod_faults_total{app=\"gone\""));
}

#[test]
fn a_token_is_removed_with_its_app_and_invalid_for_a_later_app() {
    let host = Host::start();
    for app in ["shop", "other"] {
        host.create(app, "dev");
    }
    let (one, both) = (make_token(&host, "one", &["shop"]), make_token(&host, "both", &["shop", "other"]));
    host.api_with(&one, Ask::get("/v1/apps/shop")).expect(200);
    let future = json!({ "name": "future", "role": "read", "apps": ["not-yet"] });
    host.api(Ask::post("/v1/tokens").json(&future)).problem(404, "unknown-app");
    destroy(&host, "shop");
    host.api_with(&one, Ask::get("/v1/apps")).problem(401, "unknown-token");
    host.create("shop", "dev");
    let refused = |host: &Host| {
        for ask in [Ask::get("/v1/apps/shop"), Ask::get("/v1/apps"), Ask::post("/v1/apps/shop/stop")] {
            host.api_with(&one, ask).problem(401, "unknown-token");
        }
        host.api_with(&both, Ask::get("/v1/apps/shop")).problem(403, "out-of-scope");
        let seen = host.api_with(&both, Ask::get("/v1/apps")).expect(200).json();
        assert_eq!(seen["items"].as_array().map(Vec::len), Some(1), "{seen}");
        host.api_with(&both, Ask::get("/v1/apps/other")).expect(200);
    };
    refused(&host);
    let listed = host.api(Ask::get("/v1/tokens")).expect(200).json();
    let names: Vec<_> = listed["items"].as_array().into_iter().flatten().map(|token| token["name"].clone()).collect();
    assert_eq!(names, ["admin", "both"]);
    refused(&host.kill_and_restart());
}

#[test]
fn a_token_is_rejected_while_its_app_is_destroyed_and_after_a_crash() {
    let host = Host::start_pausing("app-deleted=pause");
    host.create("shop", "dev");
    let token = make_token(&host, "one", &["shop"]);
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    let ask = Ask::new("DELETE", "/v1/apps/shop").header("authorization", format!("Bearer {}", host.token));
    wire.ask(&ask).expect("it is sent");
    wait_for("the removal of the app", || (host.api(Ask::get("/v1/apps/shop")).status == 404).then_some(()));
    host.api_with(&token, Ask::get("/v1/apps/shop")).problem(401, "unknown-token");
    let host = host.kill_and_restart();
    host.create("shop", "dev");
    host.api_with(&token, Ask::get("/v1/apps/shop")).problem(401, "unknown-token");
}
