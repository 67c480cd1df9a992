//! Tests the lifecycle of a plugin: it is installed, used, upgraded, rolled back and removed, and
//! remains consistent with the apps that use it. Never tests what a plugin does with a request.

use isopod_tests::{Ask, Bundle, Host, guest, program, wait_for};
use serde_json::{Value, json};

/// Returns the probe plugin, with this version and further lines of its manifest.
fn plugin(version: &str, more: &str) -> Bundle {
    let head = format!("name = \"probe\"\nkind = \"plugin\"\n[plugin]\nversion = \"{version}\"\n");
    Bundle::archive(&format!("{head}{more}"), &guest("probe-plugin"))
}

/// Returns an app that uses the probe plugin, as in `probe@^1`.
fn app(used: &str) -> Bundle {
    Bundle::archive(&format!("name = \"shop\"\n{}", middleware(used, "{ request = \"pass\" }")), &guest("hello"))
}

fn middleware(used: &str, config: &str) -> String {
    format!("[[middleware]]\nuse = \"{used}\"\nconfig = {config}\n")
}

/// Returns an app that uses the probe plugin with this config.
fn app_with(config: &str) -> Bundle {
    Bundle::archive(&format!("name = \"shop\"\n{}", middleware("probe", config)), &guest("hello"))
}

fn without() -> Bundle {
    Bundle::archive("name = \"shop\"\n", &guest("hello"))
}

#[test]
fn a_plugin_is_installed_listed_upgraded_and_removed() {
    let host = Host::start();
    let grants = "time_limit = \"250ms\"\n[grants]\nhttp = [\"id.example.org\"]\n";
    let push = host.installed(&plugin("1.0.0", grants));
    assert_eq!((push.app.as_str(), push.release, push.created_app), ("probe", Some(1), true));
    let shown = host.plugin("probe");
    assert_eq!(host.plugins(), std::slice::from_ref(&shown));
    let fields = ["kind", "version", "release", "state", "used_by", "required", "time_limit_ms"];
    let expected =
        [json!("middleware"), json!("1.0.0"), json!(1), json!("running"), json!([]), json!(false), json!(250)];
    assert_eq!(fields.map(|field| shown[field].clone()), expected);
    assert_eq!(shown["grants"]["http"], json!(["id.example.org"]));
    let push = host.installed(&plugin("1.1.0", ""));
    assert_eq!((push.release, push.created_app), (Some(2), false));
    assert_eq!(host.plugin("probe")["version"], "1.1.0");
    host.remove_plugin("probe").expect(204);
    assert_eq!(host.plugins(), Vec::<Value>::new());
    host.installed(&plugin("2.0.0", ""));
    assert_eq!(host.plugin("probe")["release"], 1, "it is a new plugin");
}

#[test]
fn a_plugin_has_the_resources_of_an_app() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("probe", plugin("1.1.0", ""));
    assert_eq!(host.current("probe"), [2]);
    let changed = host.diff("probe", 2, None);
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!((&changed[0]["field"], &changed[0]["after"]), (&json!("plugin.version"), &json!("1.1.0")));
    host.set_config("probe", &json!({"KEY": {"secret": "s"}})).expect(200);
    host.scale("probe", &json!({"plugin": {"min": 2}})).expect(200);
    assert_eq!(host.formation("probe")["plugin"]["entry"], "middleware");
    assert_eq!(host.running_ids("probe", "plugin", 2).len(), 2);
    host.rollback("probe", 1).expect(200);
    assert_eq!(host.plugin("probe")["version"], "1.0.0");
    assert!(host.activity("probe").iter().any(|entry| entry["kind"] == "app-deployed"));
    let host = host.restart();
    host.until_state("probe", "running");
    assert_eq!((&host.plugin("probe")["version"], &host.show("probe")["kind"]), (&json!("1.0.0"), &json!("plugin")));
}

#[test]
fn work_cannot_be_sent_to_a_plugin() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("shop", without());
    let listed = host.api(Ask::get("/v1/apps")).expect(200).json();
    let names: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|app| &app["name"]).collect();
    assert_eq!(names, ["shop"]);
    assert_eq!(host.show("probe")["urls"], json!([]));
    let instance = host.running_ids("probe", "plugin", 1).remove(0);
    for name in ["probe", "v1--probe", &format!("{instance}--probe")] {
        host.get(name, "/").problem(404, "unknown-app");
    }
    let event = json!({"specversion": "1.0", "id": "1", "source": "/test", "type": "order"});
    let send = |query: &str| {
        let body = serde_json::to_vec(&event).unwrap();
        host.api(Ask::post(format!("/v1/apps/probe/events{query}")).body("application/cloudevents+json", body))
    };
    for query in ["", "?queue=push"] {
        let refused = send(query);
        assert!((400..500).contains(&refused.status), "{refused}");
    }
    host.stop_app("probe");
    host.set_type("probe", "dev").problem(409, "is-plugin");
    host.start_app("probe");
    host.until_state("probe", "running");
    host.add_process("probe", &json!({"name": "more", "entry": "middleware"})).problem(409, "is-plugin");
    host.remove_process("probe", "plugin").problem(409, "last-process");
    let shop = "name = \"shop\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\" }\n";
    host.install(&Bundle::archive(shop, &guest("probe-plugin")), "").problem(409, "app-exists");
    let (code, reason) = host.deploy_failing("probe", &without());
    assert_eq!(code, "wrong-kind", "{reason}");
}

#[test]
fn a_plugin_in_use_is_not_removed() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("shop", app("probe"));
    assert_eq!(host.plugin("probe")["used_by"], json!(["shop"]));
    for route in ["/v1/plugins/probe", "/v1/apps/probe"] {
        let refused = host.api(Ask::new("DELETE", route)).problem(409, "plugin-in-use");
        assert_eq!(refused["used_by"], json!(["shop"]), "{refused}");
    }
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    host.deploy("shop", without());
    // The rollout watch may return to the release that uses the plugin.
    wait_for("the end of the rollout watch", || (host.remove_plugin("probe").status == 204).then_some(()));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    let problem = host.rollback("shop", 1).problem(422, "plugin-missing");
    assert!(problem["detail"].as_str().unwrap().contains("`probe`"), "{problem}");
}

#[test]
fn versions_are_checked_when_an_app_or_its_plugin_changes() {
    let host = Host::start();
    host.installed(&plugin("1.2.0", ""));
    let (code, reason) = host.deploy_failing("shop", &app("probe@^2"));
    assert_eq!(code, "plugin-version", "{reason}");
    assert!(reason.contains("1.2.0") && reason.contains("^2"), "{reason}");
    host.deploy("shop", app("probe@^1.2"));
    host.deploy("probe", plugin("1.3.0", ""));
    for version in ["2.0.0", "1.1.9"] {
        let (code, reason) = host.deploy_failing("probe", &plugin(version, ""));
        assert_eq!(code, "plugin-version", "{reason}");
        assert!(reason.contains(version) && reason.contains("shop"), "{reason}");
    }
    assert_eq!(host.plugin("probe")["version"], "1.3.0", "the serving release is unchanged");
    host.deploy("shop", app("probe@>=1.3"));
    let problem = host.rollback("probe", 1).problem(422, "plugin-version");
    assert!(problem["detail"].as_str().unwrap().contains("shop"), "{problem}");
    host.deploy("shop", app("probe"));
    host.deploy("probe", plugin("2.0.0", ""));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn a_config_that_the_plugin_rejects_fails_the_deploy() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    let (code, reason) = host.deploy_failing("shop", &app_with("{ request = \"explode\" }"));
    assert_eq!(code, "plugin-config", "{reason}");
    assert!(reason.contains("`probe`") && reason.contains("explode"), "the plugin's message is missing: {reason}");
    host.deploy("shop", app_with("{ request = \"pass\" }"));
    let (code, reason) = host.deploy_failing("shop", &app_with("{ request = \"pass\", padding = 1 }"));
    assert_eq!(code, "plugin-config", "{reason}");
    assert_eq!(host.show("shop")["release"], 1);
}

#[test]
fn an_upgrade_that_rejects_the_config_of_an_app_is_refused() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", "[config]\nFEATURE = \"1\"\n"));
    host.deploy("shop", app_with("{ request = \"pass\", needs = \"FEATURE\" }"));
    host.deploy("blog", app_with("{ request = \"pass\" }"));
    let (code, reason) = host.deploy_failing("probe", &plugin("1.1.0", ""));
    assert_eq!(code, "plugin-config", "{reason}");
    assert!(reason.contains("`shop`") && reason.contains("FEATURE") && !reason.contains("blog"), "{reason}");
    assert_eq!(host.plugin("probe")["version"], "1.0.0");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    host.deploy("shop", app_with("{ request = \"pass\" }"));
    host.installed(&plugin("1.1.0", ""));
}

#[test]
fn a_stopped_plugin_does_not_prevent_other_changes_of_an_app() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("shop", app("probe"));
    host.stop_app("probe");
    host.scale("shop", &json!({"web": {"max": 3}})).expect(200);
    let passing = format!("{}on_failure = \"pass\"\n", middleware("probe", "{ request = \"pass\" }"));
    host.deploy("shop", Bundle::archive(&format!("name = \"shop\"\n{passing}"), &guest("hello")));
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    let other = app_with("{ request = \"show\" }");
    let (code, reason) = host.deploy_failing("shop", &other);
    assert_eq!(code, "plugin-missing", "a new config can't be checked: {reason}");
    assert!(reason.contains("isn't serving"), "{reason}");
}

#[test]
fn a_plugin_in_use_keeps_its_kind() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("shop", app("probe"));
    let manifest = "name = \"probe\"\nkind = \"plugin\"\nplugin = { version = \"1.1.0\" }\n";
    let gate = Bundle::archive(manifest, &guest("probe-gate"));
    let (code, reason) = host.deploy_failing("probe", &gate);
    assert!(code == "wrong-kind" && reason.contains("shop"), "{code}: {reason}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    host.installed(&gate);
    assert_eq!(host.plugin("probe")["kind"], "gate");
}

#[test]
fn a_plugin_that_the_host_requires_is_not_removed() {
    let settings = middleware("probe@^1", "{ request = \"pass\" }");
    let host = Host::start_with("", &settings);
    host.deploy("shop", without());
    host.installed(&plugin("1.0.0", ""));
    assert_eq!(host.plugin("probe")["required"], true);
    let refused = host.remove_plugin("probe").problem(409, "plugin-in-use");
    assert!(refused["detail"].as_str().unwrap().contains("the host's settings"), "{refused}");
    let hint = "first remove its [[middleware]] or [[gates]] table from the host's settings, and restart the host";
    assert_eq!((&refused["hint"], &refused["used_by"]), (&json!(hint), &json!([])));
    let (code, reason) = host.deploy_failing("probe", &plugin("2.0.0", ""));
    assert_eq!(code, "plugin-version", "{reason}");
    assert!(reason.contains("the host's settings"), "{reason}");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn a_new_release_of_an_app_shows_its_middleware() {
    let host = Host::start();
    host.installed(&plugin("1.0.0", ""));
    host.deploy("shop", without());
    host.deploy("shop", app("probe@^1"));
    let manifest = &host.release("shop", 2)["manifest"];
    let expected = json!([{"use": "probe@^1", "on_failure": "refuse", "config": {"request": "pass"}}]);
    assert_eq!(manifest["middleware"], expected);
    let changes = host.diff("shop", 2, None);
    assert_eq!((&changes[0]["field"], &changes[0]["after"]), (&json!("middleware"), &expected));
}

/// `isopod plugins`, and `isopod deploy` in the folder of a plugin.
#[test]
fn the_command_line_installs_lists_and_removes_plugins() {
    let host = Host::start();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |version: &str| {
        let manifest = format!(
            "name = \"probe\"\nkind = \"plugin\"\ncomponent = \"plugin.wasm\"\n[plugin]\nversion = \"{version}\"\n\
             [grants]\nkeyvalue = true\n"
        );
        std::fs::write(folder.path().join("isopod.toml"), manifest).expect("a file can be written");
    };
    write("1.0.0");
    std::fs::write(folder.path().join("plugin.wasm"), guest("probe-plugin")).expect("a file can be written");
    let source = folder.path().to_str().expect("it is text");
    let (address, token) = (format!("http://{}", host.admin), host.token.clone());
    let run = |args: &[&str]| {
        let output = program::run(&[args, &["--host", &address, "--token", &token]].concat());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), said(&output.stdout), said(&output.stderr))
    };
    let (done, _, said) = run(&["plugins", "install", source]);
    assert!(done && said.contains("probe 1.0.0 asks for key-value store"), "{said}");
    assert!(said.contains("probe 1.0.0 is installed as v1") && said.contains("use = \"probe\""), "{said}");
    write("1.1.0");
    let (done, _, said) = run(&["deploy", source]);
    assert!(done && said.contains("probe 1.1.0 is installed as v2"), "{said}");
    let (_, listed, _) = run(&["plugins"]);
    assert!(listed.contains("probe") && listed.contains("middleware") && listed.contains("1.1.0"), "{listed}");
    let (_, json, _) = run(&["plugins", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["items"][0]["version"], "1.1.0");
    let (_, shown, _) = run(&["plugins", "info", "probe"]);
    assert!(shown.contains("1.1.0") && shown.contains("1000 ms"), "{shown}");
    let (done, built, said) = run(&["rollback", "v1", "--app", "probe"]);
    assert!(done, "{built}{said}");
    let (done, removed, said) = run(&["plugins", "remove", "probe"]);
    assert!(done && removed.contains("removed probe"), "{removed}{said}");
    let (done, _, said) = run(&["plugins", "info", "probe"]);
    assert!(!done && said.contains("not an installed plugin"), "{said}");
    let (done, _, said) = run(&["plugins", "install", source, "--app", "other"]);
    assert!(!done, "{said}");
}
