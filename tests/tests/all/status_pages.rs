//! G4: tests the public status page and the URL per app for uptime monitors, and which apps decide
//! about the status of the host.

use crate::types::crashing;
use isopod_tests::{Answer, Ask, Bundle, Host, guest};
use serde_json::json;

/// Sends a request without a token.
fn public(host: &Host, path: &str) -> Answer {
    host.api_raw(&Ask::get(path).header("accept", "text/html,*/*;q=0.8"))
}

fn deploy(host: &Host, app: &str) {
    host.deploy(app, Bundle::component(guest("hello")));
}

#[test]
fn the_status_page_shows_only_the_selected_apps() {
    let host = Host::start_with("", "[status]\ntitle = \"<i>Shop</i>\"\napps = [\"shop\", \"pay-*\"]\n");
    for app in ["shop", "pay-eu", "hidden-name"] {
        deploy(&host, app);
    }
    host.stop_app("pay-eu");
    let page = public(&host, "/status").expect(200);
    let text = page.text();
    assert!(text.contains("&lt;i&gt;Shop&lt;/i&gt;") && text.contains("1 service is down"), "{text}");
    assert!(text.contains("<span>shop</span> <strong class=\"up\">up</strong>"), "{text}");
    assert!(text.contains("<span>pay-eu</span> <strong class=\"down\">down</strong>"), "{text}");
    assert!(!text.contains("hidden-name") && !text.contains("stopped"), "{text}");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").expect("a content policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    host.api_raw(&Ask::post("/status")).problem(401, "no-token");
}

#[test]
fn a_monitor_sees_whether_a_selected_app_is_up() {
    let host = Host::start_with("", "[status]\napps = [\"shop\"]\n");
    deploy(&host, "shop");
    deploy(&host, "other");
    let up = public(&host, "/status/shop").expect(200);
    assert_eq!((up.json(), up.header("cache-control")), (json!({ "app": "shop", "status": "up" }), Some("no-store")));
    host.stop_app("shop");
    assert_eq!(public(&host, "/status/shop").expect(503).json(), json!({ "app": "shop", "status": "down" }));
    host.start_app("shop");
    public(&host, "/status/shop").expect(200);
    for path in ["/status/other", "/status/unknown", "/status/Not%20an%20app", "/status/shop/more"] {
        let answer = public(&host, path);
        assert!(!answer.text().contains("\"app\""), "{path}: {answer}");
        assert_eq!(answer.status, if path.ends_with("more") { 401 } else { 404 }, "{path}: {answer}");
    }
}

#[test]
fn without_settings_no_status_is_public() {
    let host = Host::start();
    deploy(&host, "shop");
    for path in ["/status", "/status/shop"] {
        public(&host, path).problem(404, "unknown-route");
    }
}

#[test]
fn a_dev_app_in_error_leaves_the_host_up() {
    let host = Host::start();
    let status = || {
        let status = host.api(Ask::get("/v1/status"));
        (status.status, status.json()["apps_in_error"].clone())
    };
    host.deploy("tried", crashing("1"));
    host.until_state("tried", "error");
    assert_eq!(status(), (200, json!(["tried"])));
    host.api(Ask::get("/v1/apps/tried/status")).expect(503);
    host.create("shop", "staging");
    host.deploy("shop", crashing("1"));
    host.until_state("shop", "error");
    assert_eq!(status(), (503, json!(["shop", "tried"])));
}
