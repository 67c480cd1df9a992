//! Tests the start of a host whose settings require middleware that can't handle requests. The host
//! starts, logs a warning, and lists the problem in its status.

use isopod_tests::{
    Ask, Bundle, Host, guest,
    middleware::{probe_plugin, used},
    wait_for,
};
use serde_json::{Value, json};

const PASS: &str = "{ request = \"pass\" }";

fn ranged(range: &str) -> String {
    format!("[[middleware]]\nuse = \"probe@{range}\"\nconfig = {PASS}\n")
}

fn problems(host: &Host) -> Value {
    host.api(Ask::get("/v1/status")).expect(200).json()["middleware_problems"].clone()
}

/// Returns the reason of the only problem.
fn problem(host: &Host) -> String {
    let reason = wait_for("a problem in the host's status", || problems(host)[0]["why"].as_str().map(str::to_owned));
    assert_eq!(problems(host), json!([{ "plugin": "probe", "why": reason }]));
    reason
}

/// Starts the host again with these settings.
fn with_settings(host: Host, settings: &str) -> Host {
    host.restart_after(|host| {
        let file = host.data().parent().expect("a folder").join("host.toml");
        std::fs::write(file, settings).expect("a file can be written");
    })
}

#[test]
fn a_required_plugin_that_is_missing_is_a_problem_until_it_is_installed() {
    let host = Host::start_with("", &used(PASS, ""));
    assert!(problem(&host).contains("not installed"));
    assert!(host.said().contains("require a middleware that can't handle requests"), "{}", host.said());
    host.installed(&probe_plugin("1.0.0", ""));
    assert_eq!(problems(&host), json!([]));
    host.stop_app("probe");
    assert!(problem(&host).contains("stopped"));
}

#[test]
fn a_required_plugin_outside_its_range_or_with_a_rejected_config_is_a_problem() {
    let host = Host::start_with("", "");
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("hello", Bundle::component(guest("hello")));
    let host = with_settings(host, &ranged("^2"));
    let reason = problem(&host);
    assert!(reason.contains("1.0.0") && reason.contains("^2"), "{reason}");
    host.get("hello", "/").problem_of("hello", 502, "plugin-failed");
    let host = with_settings(host, &used("{ request = \"dance\" }", ""));
    let reason = problem(&host);
    assert!(reason.contains("dance"), "{reason}");
    wait_for("the warning", || host.said().contains("dance").then_some(()));
    let host = with_settings(host, &ranged("^1"));
    host.get("hello", "/").expect(200);
    assert_eq!(problems(&host), json!([]));
}
