//! Tests gates: which releases a gate applies to, what it receives, and what its decisions do.
//! `gate_failures.rs` tests gates that fail.

use isopod_tests::{
    Ask, Bundle, Host,
    gates::{host_with_gate, probe_gate},
    guest,
    plugins::shipped_plugin,
    program,
};
use serde_json::{Value, json};

fn hello() -> Bundle {
    Bundle::component(guest("hello"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

#[test]
fn a_refused_release_fails_with_the_reason_of_the_gate() {
    let host = host_with_gate("{ shop = { refuse = \"not on Fridays\" } }", "");
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert_eq!(code, "gate-refused");
    assert!(reason.ends_with("`probe-gate` refused the release: not on Fridays"), "{reason}");
    let release = host.release("shop", 1);
    assert_eq!((&release["state"], &release["reason"]["code"]), (&json!("deployment_error"), &json!("gate-refused")));
    assert_eq!(host.state("shop"), "stopped", "no release serves");
    let push = host.deploy("blog", hello());
    assert!(push.log.iter().any(|line| line == "the gate probe-gate allows the release"), "{push:?}");
    assert_eq!(host.get("blog", "/").expect(200).text(), "Hello, world!");
    let calls = |outcome: &str| {
        host.metric(&format!(
            "isopod_app_plugin_calls_total{{app=\"blog\",plugin=\"probe-gate\",outcome=\"{outcome}\"}}"
        ))
    };
    assert_eq!((calls("pass"), calls("refuse"), calls("failure")), (1.0, 0.0, 0.0));
    let cpu = "isopod_app_plugin_cpu_seconds_total{app=\"blog\",plugin=\"probe-gate\"}";
    assert!(host.metric(cpu) > 0.0, "the app has paid for the call");
}

#[test]
fn gates_apply_to_rollbacks_and_settings_changes() {
    let config = "{ \"shop/rollback\" = { refuse = \"no\" }, \"shop/config\" = { refuse = \"no\" }, \
                  \"shop/formation\" = { refuse = \"no\" }, \"shop/grants\" = { refuse = \"no\" } }";
    let host = host_with_gate(config, "");
    host.deploy("shop", hello());
    host.deploy("shop", hello());
    for answer in [
        host.rollback("shop", 1),
        host.set_config("shop", &json!({ "KEY": "value" })),
        host.scale("shop", &json!({ "web": { "max": 3 } })),
        host.set_grants("shop", &json!({ "keyvalue": true })),
    ] {
        let problem = answer.problem(422, "gate-refused");
        assert!(text(&problem["detail"]).ends_with("`probe-gate` refused the release: no"), "{problem}");
    }
    assert_eq!(host.current("shop"), [2]);
    assert_eq!((host.config("shop"), &host.grants("shop")["keyvalue"]), (json!({}), &json!(false)));
    let refused = "isopod_app_plugin_calls_total{app=\"shop\",plugin=\"probe-gate\",outcome=\"refuse\"}";
    assert_eq!(host.metric(refused), 4.0);
    assert!(text(&host.activity_of("shop", "change-failed")["text"]).contains("refused the release"));
}

#[test]
fn a_gate_receives_the_release_and_what_it_changes() {
    let host = host_with_gate("{ \"shop/grants\" = \"show\" }", "");
    let manifest = "name = \"store\"\ntype = \"staging\"\n[grants]\nhttp = [\"a.org\"]\n";
    host.create("shop", "staging");
    host.deploy("shop", Bundle::archive(manifest, &guest("hello")));
    let problem = host.set_grants("shop", &json!({ "keyvalue": true })).problem(422, "gate-refused");
    let shown = text(&problem["detail"]);
    let digest = host.release("shop", 1)["bundle"].clone();
    for words in [
        "app: \"shop\", app_type: \"staging\", number: 2, current: Some(1), cause: Grants",
        "description: \"grants changed\", created_by: \"admin\", manifest_name: \"store\"",
        &format!("digest: \"{}\"", text(&digest)),
        "widened_grants: [\"keyvalue\"]",
        "middleware: []",
        r#"\"http\":[\"a.org\"]"#,
    ] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
}

#[test]
fn a_gate_applies_to_the_apps_and_types_in_its_settings() {
    let refuse = "{ shop = { refuse = \"no\" }, pay-in = { refuse = \"no\" }, pay-out = { refuse = \"no\" } }";
    let host = host_with_gate(refuse, "apps = [\"pay-*\"]\ntypes = [\"production\"]");
    host.create("pay-in", "production");
    host.create("pay-out", "staging");
    host.deploy("shop", hello());
    host.deploy("pay-out", hello());
    let (code, _) = host.deploy_failing("pay-in", &hello());
    assert_eq!(code, "gate-refused");
}

#[test]
fn a_change_of_the_type_passes_the_gates_of_the_new_type() {
    let refuse = "{ shop = \"show\", blog = \"allow\" }";
    let host = host_with_gate(refuse, "types = [\"production\"]");
    for app in ["shop", "blog", "new"] {
        host.create(app, "staging");
    }
    let manifest = "name = \"shop\"\n[grants]\nkeyvalue = true\n";
    host.deploy("shop", Bundle::archive(manifest, &guest("hello")));
    host.deploy("blog", hello());
    host.set_type("shop", "production").problem(409, "not-stopped");
    ["shop", "blog", "new"].iter().for_each(|app| host.stop_app(app));
    let problem = host.set_type("shop", "production").problem(422, "gate-refused");
    let shown = text(&problem["detail"]);
    for words in [
        "app: \"shop\", app_type: \"production\", number: 1, current: None, cause: Push",
        "description: \"type changed from staging to production\", created_by: \"admin\"",
        "widened_grants: [\"keyvalue\"]",
    ] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
    assert_eq!(host.show("shop")["type"], "staging");
    host.set_type("shop", "dev").expect(200);
    for app in ["blog", "new"] {
        host.set_type(app, "production").expect(200);
    }
    let skip = Ask::new("PATCH", "/v1/apps/shop?skip_gates=true").json(&json!({ "type": "production" }));
    let token = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "deploy" }))).expect(201).json();
    host.api_with(text(&token["token"]), skip.clone()).problem(403, "role-too-small");
    host.api(skip).expect(200);
    let changed = host.activity_of("shop", "app-type");
    assert!(text(&changed["text"]).ends_with("requested; gates skipped"), "{changed}");
}

/// A gate that refuses every release can be replaced.
#[test]
fn gates_do_not_apply_to_plugins() {
    let host = host_with_gate("{ probe-gate = { refuse = \"never\" } }", "");
    host.installed(&probe_gate("1.1.0", ""));
    host.rollback("probe-gate", 1).expect(200);
    host.set_config("probe-gate", &json!({ "KEY": "value" })).expect(200);
    assert_eq!(host.plugin("probe-gate")["version"], "1.0.0");
}

#[test]
fn a_gate_in_use_is_not_removed_or_replaced_by_a_version_outside_its_range() {
    let host = host_with_gate("{}", "");
    let shown = host.plugin("probe-gate");
    assert_eq!((&shown["kind"], &shown["required"]), (&json!("gate"), &json!(true)));
    let refused = host.remove_plugin("probe-gate").problem(409, "plugin-in-use");
    assert!(text(&refused["detail"]).contains("the host's settings"), "{refused}");
    let (code, reason) = host.deploy_failing("probe-gate", &probe_gate("2.0.0", ""));
    assert!(code == "plugin-version" && reason.contains("the host's settings"), "{code}: {reason}");
}

#[test]
fn a_long_reason_is_truncated() {
    let host = host_with_gate("{ shop = { long = 65536 } }", "");
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert_eq!(code, "gate-refused");
    assert!((1_000..3_000).contains(&reason.len()) && reason.ends_with("r…"), "{} bytes", reason.len());
}

#[test]
fn only_an_administrator_skips_the_gates() {
    let refuse = "{ \"shop/push\" = { refuse = \"no\" }, \"shop/rollback\" = { refuse = \"no\" } }";
    let host = host_with_gate(refuse, "");
    let token = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "ci", "role": "deploy" }))).expect(201).json();
    let ci = text(&token["token"]);
    let push = || {
        let Bundle { content_type, bytes, .. } = hello();
        Ask::post("/v1/apps/shop/pushes?wait=true&skip_gates=true").body(content_type, bytes)
    };
    let rollback = || Ask::post("/v1/apps/shop/rollback?skip_gates=true").json(&json!({ "release": 1 }));
    host.api_with(ci, push()).problem(403, "role-too-small");
    host.deploy_failing("shop", &hello());
    let pushed = host.api(push()).expect(200).json();
    assert!(text(&json!(pushed["log"].to_string())).contains("gates skipped: probe-gate"), "{pushed}");
    host.api(push()).expect(200);
    host.api_with(ci, rollback()).problem(403, "role-too-small");
    let problem =
        host.api(Ask::post("/v1/apps/shop/rollback").json(&json!({ "release": 2 }))).problem(422, "gate-refused");
    assert!(text(&problem["hint"]).contains("an administrator can skip the gates"), "{problem}");
    let back = host.api(Ask::post("/v1/apps/shop/rollback?skip_gates=true").json(&json!({ "release": 2 })));
    assert_eq!(back.expect(200).json()["cause"], "rollback to v2; gates skipped");
    let audit = host.api(Ask::get("/v1/activity?audit=true&app=shop")).expect(200).json();
    let deployed: Vec<&Value> =
        audit["items"].as_array().expect("entries").iter().filter(|entry| entry["kind"] == "app-deployed").collect();
    assert_eq!(deployed.len(), 3, "{audit}");
    for entry in deployed {
        assert!(text(&entry["text"]).ends_with("; gates skipped") && entry["data"]["by"] == "admin", "{entry}");
    }
}

#[test]
fn a_host_restarts_with_releases_that_its_gates_would_refuse() {
    let host = host_with_gate("{ shop = { refuse = \"no\" } }", "");
    host.api(Ask::post("/v1/apps/shop/pushes?wait=true&skip_gates=true").body("application/wasm", guest("hello")))
        .expect(200);
    let host = host.restart();
    host.until_state("shop", "running");
    assert_eq!(host.get("shop", "/").expect(200).text(), "Hello, world!");
    host.stop_app("shop");
    host.start_app("shop");
    host.until_state("shop", "running");
}

#[test]
fn the_command_line_shows_a_refusal_and_skips_the_gates() {
    let refuse = "{ \"shop/push\" = { refuse = \"not on Fridays\" }, \"shop/rollback\" = { refuse = \"no\" } }";
    let host = host_with_gate(refuse, "");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("shop.wasm");
    std::fs::write(&file, guest("hello")).expect("a file can be written");
    let (file, address) = (file.to_str().expect("it is text"), format!("http://{}", host.admin));
    let run = |args: &[&str]| {
        let output = program::run(&[args, &["--app", "shop", "--host", &address, "--token", &host.token]].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (done, said) = run(&["deploy", file]);
    assert!(!done && said.contains("`probe-gate` refused the release: not on Fridays"), "{said}");
    assert!(said.contains("an administrator can deploy with --skip-gates"), "{said}");
    for _ in 0..2 {
        let (done, said) = run(&["deploy", file, "--skip-gates"]);
        assert!(done && said.contains("gates skipped: probe-gate"), "{said}");
    }
    let (done, said) = run(&["rollback", "v2"]);
    assert!(!done && said.contains("refused the release"), "{said}");
    let (done, said) = run(&["rollback", "v2", "--skip-gates"]);
    assert!(done && said.contains("gates skipped"), "{said}");
}

#[test]
fn a_deploy_window_refuses_releases_and_states_the_next_window() {
    let settings = |config: &str| format!("[[gates]]\nuse = \"deploy-window@^0.1\"\nconfig = {config}\n");
    // A window that begins on the day after tomorrow.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let day = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][((now.as_secs() / 86_400 + 2) % 7) as usize];
    let config = format!("{{ allow = [{{ days = \"{day}\", from = \"12:00\" }}] }}");
    let host = Host::start_with("", &settings(&config));
    host.installed(&shipped_plugin("deploy-window", ""));
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert_eq!(code, "gate-refused", "{reason}");
    assert!(reason.contains("releases are not allowed now") && reason.ends_with(" 12:00"), "{reason}");
    let open = Host::start_with("", &settings("{ allow = [{}], time_zone = \"Europe/Berlin\" }"));
    open.installed(&shipped_plugin("deploy-window", ""));
    open.deploy("shop", hello());
    let broken = Host::start_with("", &settings("{ allow = [], time_zone = \"Europe/Berlin\" }"));
    let refused = broken.install(&shipped_plugin("deploy-window", ""), "?wait=true").problem(422, "push-failed");
    let push = &refused["push"];
    assert_eq!(push["reason_code"], "plugin-config", "{refused}");
    assert!(text(&push["reason"]).contains("`allow` has no window"), "{refused}");
}
