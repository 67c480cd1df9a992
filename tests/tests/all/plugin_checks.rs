//! Tests what the host checks before it accepts a plugin, or an app that uses one.

use isopod_tests::{Ask, Bundle, Host, guest};
use serde_json::json;

const PLUGIN: &str = "name = \"probe\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\" }\n";

#[test]
fn only_a_bundle_with_a_plugins_manifest_is_installed() {
    let host = Host::start();
    let app = Bundle::archive("name = \"shop\"\n", &guest("hello"));
    for bundle in [&Bundle::component(guest("hello")), &app] {
        let problem = host.install(bundle, "").problem(422, "invalid-plugin");
        assert!(problem["detail"].as_str().unwrap().contains("kind = \"plugin\""), "{problem}");
    }
    let problem = host.install(&Bundle::archive(PLUGIN, &guest("hello")), "").problem(422, "invalid-plugin");
    assert!(problem["detail"].as_str().unwrap().contains("isopod:plugin/middleware@0.1.0"), "{problem}");
    let broken = Bundle::archive("name = \"probe\"\nkind = \"plugin\"\n", &guest("hello"));
    let problem = host.install(&broken, "").problem(422, "invalid-bundle");
    assert!(problem["detail"].as_str().unwrap().contains("\"plugin\" is missing"), "{problem}");
    assert_eq!(host.plugins(), Vec::<serde_json::Value>::new(), "nothing was created");
}

#[test]
fn a_plugin_is_not_deployed_as_an_app() {
    let host = Host::start();
    let plugin = Bundle::archive(PLUGIN, &guest("hello"));
    let problem = host.upload("probe", &plugin, "").problem(422, "wrong-kind");
    assert!(problem["detail"].as_str().unwrap().contains("isopod plugins install"), "{problem}");
    host.api(Ask::get("/v1/apps/probe")).problem(404, "unknown-app");
    host.deploy("shop", Bundle::component(guest("hello")));
    let (code, reason) = host.deploy_failing("shop", &plugin);
    assert_eq!(code, "wrong-kind", "{reason}");
    assert_eq!(host.show("shop")["release"], 1, "the app keeps its release");
}

#[test]
fn an_app_whose_middleware_is_not_installed_is_not_deployed() {
    let host = Host::start();
    let with = |middleware: &str| Bundle::archive(&format!("name = \"shop\"\n{middleware}"), &guest("hello"));
    let (code, reason) = host.deploy_failing("shop", &with("[[middleware]]\nuse = \"cors\"\n"));
    assert_eq!(code, "plugin-missing", "{reason}");
    assert!(reason.contains("`cors`") && reason.contains("isopod plugins install"), "{reason}");
    host.deploy("shop", with(""));
    host.deploy("cors", with(""));
    let (code, reason) = host.deploy_failing("shop", &with("[[middleware]]\nuse = \"cors\"\n"));
    assert_eq!(code, "plugin-missing", "an app is not a plugin: {reason}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn an_unknown_plugin_is_not_found() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("hello")));
    for name in ["absent", "shop"] {
        let problem = host.api(Ask::get(format!("/v1/plugins/{name}"))).problem(404, "unknown-plugin");
        assert_eq!(problem["plugin"], name);
        host.remove_plugin(name).problem(404, "unknown-plugin");
    }
    assert_eq!(host.show("shop")["kind"], "app", "an app can't be removed as a plugin");
}

#[test]
fn plugins_are_installed_and_removed_only_by_administrators() {
    let host = Host::start();
    let token = host.api(Ask::post("/v1/tokens").json(&json!({"name": "ci", "role": "deploy"}))).expect(201).json();
    let token = token["token"].as_str().expect("it is shown once");
    host.api_with(token, Ask::get("/v1/plugins")).expect(200);
    let bundle = Bundle::archive(PLUGIN, &guest("hello"));
    let install = Ask::post("/v1/plugins").body(bundle.content_type, bundle.bytes);
    host.api_with(token, install).problem(403, "role-too-small");
    host.api_with(token, Ask::new("DELETE", "/v1/plugins/probe")).problem(403, "role-too-small");
}

#[test]
fn invalid_middleware_in_the_hosts_settings_is_reported_with_its_line() {
    for (text, words) in [
        ("[[middleware]]\nuse = \"Cors\"\n", "line 1"),
        ("[[middleware]]\nuse = \"cors\"\non_failure = \"retry\"\n", "\"refuse\" or \"pass\""),
        ("[[middleware]]\nues = \"cors\"\n", "did you mean \"use\"?"),
        (&"[[middleware]]\nuse = \"cors\"\n".repeat(17), "0 to 16 entries"),
    ] {
        isopod_tests::program::refuses_settings(text, words);
    }
}
