//! Tests automatic rollbacks of a plugin and of an app. If the releases are incompatible, calls
//! between them fail, and the activity names the apps.

use isopod_tests::{
    Ask, Bundle, Host,
    bundle::QUICK_WEB,
    guest,
    middleware::{probe_plugin, used},
    wait_for,
};
use serde_json::{Value, json};

/// Requests enough for the rollout watch, which needs five failures.
const FAILURES: usize = 8;

const PASS: &str = "{ request = \"pass\" }";

fn app(name: &str, middleware: &str) -> Bundle {
    Bundle::archive(&format!("name = \"{name}\"\n{middleware}"), &guest("hello"))
}

/// Uses these versions of the plugin.
fn ranged(range: &str) -> String {
    format!("[[middleware]]\nuse = \"probe@{range}\"\nconfig = {PASS}\n")
}

/// An app whose component has these config vars, with a middleware.
fn shapes(middleware: &str, config: &str) -> Bundle {
    Bundle::shapes(&format!("{middleware}{QUICK_WEB}[config]\n{config}\n"))
}

fn text(entry: &Value) -> &str {
    entry["text"].as_str().unwrap_or_else(|| panic!("an entry of the activity has a text: {entry}"))
}

/// The new version fails for `breaker` and `second`. All apps but `old` and `breaker` are deployed
/// during its rollout watch.
#[test]
fn an_automatic_rollback_of_a_plugin_affects_only_incompatible_apps() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("old", app("old", &used(PASS, "")));
    let breaker = |name: &str| drop(host.deploy(name, app(name, &used("{ request = \"trap\" }", ""))));
    breaker("breaker");
    host.get("old", "/").expect(200);
    host.installed(&probe_plugin("1.1.0", "[config]\nFEATURE = \"1\"\n"));
    // The first app that calls the plugin uses the new version first.
    drop(host.get("breaker", "/"));
    host.deploy("ranged", app("ranged", &ranged("^1.1")));
    host.deploy("configured", app("configured", &used("{ request = \"pass\", needs = \"FEATURE\" }", "")));
    for name in ["ranged", "configured"] {
        host.get(name, "/").expect(200);
    }
    breaker("second");
    ["breaker", "second"].iter().for_each(|name| (0..FAILURES).for_each(|_| drop(host.get(name, "/"))));
    let returned = host.activity_of("probe", "release-returned");
    assert_eq!((&returned["data"]["bad"], &returned["data"]["release"]), (&json!(2), &json!(1)), "{returned}");
    let unfit = host.activity_of("probe", "plugin-unfit");
    assert!(text(&unfit).contains("configured, ranged") && !text(&unfit).contains("old"), "{unfit}");
    for (name, reason) in [("ranged", "1.0.0"), ("configured", "FEATURE")] {
        let entry = host.activity_of(name, "plugin-unfit");
        assert!(text(&entry).contains("probe") && text(&entry).contains(reason), "{entry}");
        let problem = host.get(name, "/").problem_of(name, 502, "plugin-failed");
        assert_eq!(problem["plugin"], "probe", "{problem}");
    }
    assert_eq!(host.get("old", "/").expect(200).text(), "Hello, world!");
    // The apps serve again with a compatible version, even while all others use the former one.
    host.installed(&probe_plugin("1.2.0", "[config]\nFEATURE = \"1\"\n"));
    host.get("old", "/").expect(200);
    for name in ["ranged", "configured"] {
        wait_for(name, || (host.get(name, "/").status == 200).then_some(()));
    }
    let is_canary_phase =
        !host.log("probe").iter().any(|line| line["message"] == "v3 serves all apps; `old` used it first");
    assert!(is_canary_phase, "they did not wait for the end of the canary phase");
}

#[test]
fn an_automatic_rollback_to_a_release_with_an_unfit_plugin_is_reported() {
    let host = Host::start();
    host.create("shop", "production");
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("shop", shapes(&ranged("^1"), "GREETING = \"good\""));
    host.get("shop", "/").expect(200);
    host.deploy("shop", shapes("", "SHAPE = \"trap\""));
    host.installed(&probe_plugin("2.0.0", ""));
    (0..FAILURES).for_each(|_| drop(host.get("shop", "/")));
    host.activity_of("shop", "release-returned");
    let entry = host.activity_of("shop", "plugin-unfit");
    assert!(text(&entry).contains("2.0.0") && text(&entry).contains("^1"), "{entry}");
    assert_eq!((&entry["data"]["plugin"], &entry["data"]["code"]), (&json!("probe"), &json!("plugin-version")));
    let problem = host.get("shop", "/").problem_of("shop", 502, "plugin-failed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("2.0.0")), "{problem}");
}

#[test]
fn a_plugin_of_a_release_on_standby_is_not_removed() {
    let host = Host::start();
    host.create("shop", "production");
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("shop", shapes(&ranged("^1"), "GREETING = \"good\""));
    host.deploy("shop", shapes("", "SHAPE = \"trap\""));
    let refused = host.remove_plugin("probe").problem(409, "plugin-in-use");
    assert_eq!(refused["used_by"], json!(["shop"]), "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("on standby")), "{refused}");
    (0..FAILURES).for_each(|_| drop(host.get("shop", "/")));
    host.activity_of("shop", "release-returned");
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 good");
    host.deploy("shop", shapes("", "GREETING = \"better\""));
    wait_for("the end of the rollout watch", || (host.remove_plugin("probe").status == 204).then_some(()));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v3 better");
}

/// A release that serves at its own URL may use a plugin outside its range.
#[test]
fn an_earlier_release_does_not_use_a_version_outside_its_range() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host.deploy("shop", app("shop", &ranged("^1")));
    host.deploy("shop", app("shop", ""));
    host.app("v1--shop", Ask::get("/")).expect(200);
    host.installed(&probe_plugin("2.0.0", ""));
    let problem = host.app("v1--shop", Ask::get("/")).problem_of("shop", 502, "plugin-failed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("2.0.0")), "{problem}");
    host.app("shop", Ask::get("/")).expect(200);
}
