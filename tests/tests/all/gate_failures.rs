//! Tests gates that fail or are missing: only releases of the apps that they apply to are affected.

use isopod_tests::{
    Ask, Bundle, Host, Load, Neighbour,
    gates::{gate_settings, host_with_gate, probe_gate},
    guest, wait_for,
};
use serde_json::{Value, json};

const FAILING: &str =
    "{ error = { error = \"out of tea\" }, trap = \"trap\", spin = \"spin\", sleep = { sleep = 60000 } }";

fn hello() -> Bundle {
    Bundle::component(guest("hello"))
}

#[test]
fn a_failing_gate_refuses_the_release_and_affects_no_other_app() {
    let host = host_with_gate(FAILING, "");
    let neighbour = Neighbour::beside(&host);
    for (app, words) in [("error", "out of tea"), ("trap", "trapped"), ("spin", "500 ms"), ("sleep", "500 ms")] {
        let push = host.push(app, &hello());
        host.deploy("blog", hello());
        let failed = host.ended(&push);
        assert_eq!(failed.reason_code.as_deref(), Some("gate-failed"), "{failed:?}");
        let reason = failed.reason.expect("it has a reason");
        assert!(reason.contains("the gate `probe-gate` failed") && reason.contains(words), "{app}: {reason}");
        assert_eq!(host.state(app), "stopped");
    }
    assert_eq!(host.get("blog", "/").expect(200).text(), "Hello, world!");
    neighbour.finish();
}

#[test]
fn a_failing_gate_is_skipped_with_a_note_if_its_settings_say_so() {
    let host = host_with_gate(FAILING, "on_failure = \"pass\"");
    for app in ["error", "trap", "spin"] {
        let push = host.deploy(app, hello());
        let is_note = |line: &&String| line.starts_with("note: the gate probe-gate failed and was skipped");
        assert!(push.log.iter().any(|line| is_note(&line)), "{push:?}");
    }
    let failures = "isopod_app_plugin_calls_total{app=\"trap\",plugin=\"probe-gate\",outcome=\"failure\"}";
    assert_eq!(host.get("trap", "/").expect(200).text(), "Hello, world!");
    assert_eq!(host.metric(failures), 1.0);
    host.stop_app("trap");
    let other = if host.show("trap")["type"] == "staging" { "production" } else { "staging" };
    host.set_type("trap", other).expect(200);
    host.log_line("trap", "the skipped gate", |line| {
        let note = format!("change of the type to {other}: note: the gate probe-gate failed and was skipped");
        line["message"].as_str().is_some_and(|text| text.starts_with(&note))
    });
}

/// An app that uses all of its CPU time can't delay the decision.
#[test]
fn the_cpu_time_of_a_gate_is_charged_to_the_gate() {
    let host = host_with_gate("{ shop = \"spin\" }", "on_failure = \"pass\"");
    host.deploy("shop", hello());
    let of_calls = host.metric("isopod_app_plugin_cpu_seconds_total{app=\"shop\",plugin=\"probe-gate\"}");
    let of_app = host.metric("isopod_app_cpu_seconds_total{app=\"shop\"}");
    let of_gate = host.metric("isopod_app_cpu_seconds_total{app=\"probe-gate\"}");
    assert!(of_calls > 0.0 && of_gate >= of_calls && of_app < of_calls, "{of_calls} {of_app} {of_gate}");
    assert_eq!(host.metrics("shop")["plugin_cpu_ms"], 0);
}

fn problems(host: &Host) -> Value {
    host.api(Ask::get("/v1/status")).expect(200).json()["gate_problems"].clone()
}

/// Waits for a problem whose reason contains these words, and checks that it is the only one.
#[track_caller]
fn has_problem(host: &Host, words: &str) {
    let is_it = |why: &&str| why.contains(words);
    wait_for(words, || problems(host)[0]["why"].as_str().filter(is_it).map(drop));
    let listed = problems(host);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["plugin"]), (Some(1), &json!("probe-gate")), "{listed}");
}

/// Starts the host again with these settings.
fn with_settings(host: Host, settings: &str) -> Host {
    host.restart_after(|host| {
        let file = host.data().parent().expect("a folder").join("host.toml");
        std::fs::write(file, settings).expect("a file can be written");
    })
}

#[test]
fn releases_fail_while_a_gate_is_missing_or_stopped() {
    let host = Host::start_with("", &gate_settings("{}", ""));
    assert!(host.said().contains("name a gate that can't be called"), "{}", host.said());
    has_problem(&host, "it is not installed");
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert!(code == "gate-failed" && reason.contains("it is not installed"), "{code}: {reason}");
    host.upload("probe-gate", &hello(), "").problem(409, "reserved-name");
    host.installed(&probe_gate("1.0.0", ""));
    assert_eq!(problems(&host), json!([]));
    host.deploy("shop", hello());
    host.stop_app("probe-gate");
    has_problem(&host, "its state is stopped");
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert!(code == "gate-failed" && reason.contains("unavailable"), "{code}: {reason}");
    host.set_config("shop", &json!({ "KEY": "value" })).problem(422, "gate-failed");
    host.start_app("probe-gate");
    host.until_state("probe-gate", "running");
    host.set_config("shop", &json!({ "KEY": "value" })).expect(200);
    let passing = Host::start_with("", &gate_settings("{}", "on_failure = \"pass\""));
    passing.deploy("shop", hello());
}

fn middleware_named_as_a_gate(version: &str) -> Bundle {
    let manifest = format!("name = \"probe-gate\"\nkind = \"plugin\"\nplugin = {{ version = \"{version}\" }}\n");
    Bundle::archive(&manifest, &guest("probe-plugin"))
}

#[test]
fn a_plugin_of_another_kind_is_not_a_gate() {
    let host = Host::start_with("", "");
    host.installed(&middleware_named_as_a_gate("1.0.0"));
    let host = with_settings(host, &gate_settings("{ request = \"pass\" }", ""));
    has_problem(&host, "its kind is not gate");
    let (code, reason) = host.deploy_failing("shop", &hello());
    assert!(code == "gate-failed" && reason.contains("its kind is not gate"), "{code}: {reason}");
}

/// The middleware accepts the config of the gate.
#[test]
fn a_gate_is_not_replaced_by_a_plugin_of_another_kind() {
    let host = host_with_gate("{ request = \"show\" }", "");
    let refused = host.install(&middleware_named_as_a_gate("1.1.0"), "?wait=true").problem(422, "push-failed");
    let push = &refused["push"];
    assert_eq!(push["reason_code"], "wrong-kind", "{refused}");
    assert!(push["reason"].as_str().is_some_and(|why| why.contains("the host's settings")), "{refused}");
    host.deploy("shop", hello());
}

#[test]
fn a_gate_that_rejects_its_config_after_a_start_is_a_problem() {
    let host = host_with_gate("{}", "");
    let host = with_settings(host, &gate_settings("{ shop = \"explode\" }", ""));
    has_problem(&host, "explode");
    let host = with_settings(host, &gate_settings("{ shop = \"allow\" }", "").replace("@^1", "@^2"));
    has_problem(&host, "1.0.0");
}

#[test]
fn a_config_that_the_gate_rejects_fails_its_installation() {
    let host = Host::start_with("", &gate_settings("{ shop = \"explode\" }", ""));
    let refused = host.install(&probe_gate("1.0.0", ""), "?wait=true").problem(422, "push-failed");
    assert_eq!(refused["push"]["reason_code"], "plugin-config", "{refused}");
    assert!(refused["push"]["reason"].as_str().is_some_and(|why| why.contains("explode")), "{refused}");
}

/// The gate is stopped, so that a call of it would fail.
#[test]
fn the_return_to_the_former_release_passes_no_gate() {
    let host = host_with_gate("{}", "");
    host.create("shop", "production");
    host.deploy("shop", Bundle::shape(&[("GREETING", "good")]));
    host.set_config("shop", &json!({ "SHAPE": "trap" })).expect(200);
    host.stop_app("probe-gate");
    let load = Load::on(&host, "shop", 4, |_| true);
    wait_for("the return to the former release", || (host.current("shop") == [1]).then_some(()));
    drop(load.end());
    host.set_config("shop", &json!({ "KEY": "value" })).problem(422, "gate-failed");
}

#[test]
fn releases_pass_a_gate_while_it_is_upgraded() {
    let host = host_with_gate("{ shop = { sleep = 20 } }", "");
    host.deploy("shop", hello());
    std::thread::scope(|scope| {
        let upgrades =
            scope.spawn(|| (1..6).for_each(|minor| drop(host.installed(&probe_gate(&format!("1.{minor}.0"), "")))));
        let mut deploys = 0;
        while !upgrades.is_finished() || deploys < 3 {
            host.deploy("shop", hello());
            deploys += 1;
        }
        upgrades.join().expect("the upgrades succeed");
    });
    assert_eq!(host.plugin("probe-gate")["version"], "1.5.0");
}

#[test]
fn invalid_gates_in_the_hosts_settings_are_reported() {
    for (text, words) in [
        ("[[gates]]\nuse = \"Gate\"\n", "line 1"),
        ("[[gates]]\nues = \"gate\"\n", "did you mean \"use\"?"),
        ("[[gates]]\nuse = \"gate\"\napps = []\n", "the list is empty"),
        ("[[gates]]\nuse = \"gate\"\napps = [\"Shop\"]\n", "matches no app"),
        ("[[gates]]\nuse = \"gate\"\ntypes = [\"prod\"]\n", "\"production\""),
        (&"[[gates]]\nuse = \"gate\"\n".repeat(17), "0 to 16 entries"),
    ] {
        isopod_tests::program::refuses_settings(text, words);
    }
}
