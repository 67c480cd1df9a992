//! Tests providers: plugins that offer interfaces, and the apps that call them.

use isopod_tests::{
    Ask, Bundle, Host, Load, guest,
    providers::{COUNTERS, PROBE, caller, importing, offering, probe_provider, provider},
    wait_for,
};
use serde_json::{Value, json};

fn host_with_probe() -> Host {
    let host = Host::start();
    host.installed(&probe_provider("1.0.0", ""));
    host
}

fn text(host: &Host, app: &str, path: &str) -> String {
    host.get(app, path).expect(200).text()
}

/// Installs a plugin that is refused, and returns the push.
fn install_failing(host: &Host, bundle: &Bundle) -> Value {
    host.install(bundle, "?wait=true").problem(422, "push-failed")["push"].clone()
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is a component")
}

/// An app with this grant, whose component has this text.
fn app_of(text: &str, interface: &str, provider: &str) -> Bundle {
    let manifest = format!("name = \"shop\"\n[grants.interfaces]\n\"{interface}\" = \"{provider}\"\n");
    Bundle::archive(&manifest, &component(text))
}

const DOUBLE: &str = "(export \"double\" (func (param \"n\" u32) (result u32)))";

#[test]
fn an_app_passes_values_of_each_kind_to_a_provider() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe@^1"));
    let value = "All { truth: true, numbers: (1, -1, 2, -2, 3, -3, 18446744073709551615, -9223372036854775808), \
                 fractions: [0.5, inf], letter: 'ß', text: Some(\"mango\"), shape: Shape::Lines([[1, 2], []]), \
                 colour: Colour::Green, rights: Rights(WRITE) }";
    assert_eq!(text(&host, "shop", "/echo?mango"), format!("Ok({value})"));
    assert_eq!(text(&host, "shop", "/echo?refuse"), "Err(\"refused\")");
    assert_eq!(text(&host, "shop", "/text?300000"), "300000");
    assert_eq!(text(&host, "shop", "/bytes?50000"), "50000");
    assert_eq!(text(&host, "shop", "/many?1000"), "1000000", "the values of one call are released by the next");
}

#[test]
fn a_provider_sees_which_app_calls() {
    let host = host_with_probe();
    for name in ["shop", "wiki"] {
        host.deploy(name, caller(name, "probe"));
    }
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
    assert!(text(&host, "wiki", "/caller").starts_with("wiki "));
    let plugin = host.plugin("probe");
    assert_eq!((&plugin["kind"], &plugin["used_by"]), (&json!("provider"), &json!(["shop", "wiki"])), "{plugin}");
    assert_eq!(plugin["interfaces"], json!([COUNTERS, PROBE]));
}

#[test]
fn an_app_without_the_grant_of_an_interface_is_not_deployed() {
    let host = host_with_probe();
    let upload = host.upload("shop", &Bundle::component(guest("probe-caller")), "");
    let reason = upload.problem(422, "unknown-import")["detail"].to_string();
    assert!(reason.contains(PROBE) && reason.contains("[grants]"), "{reason}");
    host.deploy("shop", caller("shop", "probe"));
    let problem = host.set_grants("shop", &json!({ "interfaces": null })).problem(422, "unknown-import");
    assert!(problem.to_string().contains(PROBE), "{problem}");
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
}

#[test]
fn an_interface_needs_an_installed_provider_in_the_accepted_version() {
    let host = Host::start();
    let reason = |reference: &str| host.deploy_failing("shop", &caller("shop", reference));
    assert_eq!(reason("probe").0, "plugin-missing");
    host.installed(&probe_provider("1.0.0", ""));
    assert_eq!(reason("probe@^2").0, "plugin-version");
    host.installed(&provider("math", "1.0.0", "", &component(&offering("1.0.0", "u32"))));
    let (code, why) = reason("math");
    assert_eq!(code, "plugin-interface", "{why}");
    host.deploy("other", Bundle::component(guest("hello")));
    assert_eq!(reason("other").0, "plugin-missing", "an app is not a provider");
}

#[test]
fn an_app_that_expects_other_types_is_not_deployed() {
    let host = Host::start();
    host.installed(&provider("math", "1.0.0", "", &component(&offering("1.0.0", "u64"))));
    let interface = "acme:math/double@1.0.0";
    let (code, reason) = host.deploy_failing("shop", &app_of(&importing(interface, DOUBLE), interface, "math"));
    assert_eq!(code, "plugin-interface", "{reason}");
    assert!(reason.contains("`func(n: u64) -> u64`") && reason.contains("`func(n: u32) -> u32`"), "{reason}");
    let half = "(export \"half\" (func (param \"n\" u64) (result u64)))";
    let (code, reason) = host.deploy_failing("shop", &app_of(&importing(interface, half), interface, "math"));
    assert_eq!(code, "plugin-interface", "{reason}");
    assert!(reason.contains("no function `half`"), "{reason}");
}

#[test]
fn an_interface_that_cannot_be_passed_on_is_refused() {
    let host = Host::start();
    host.installed(&provider("math", "1.0.0", "", &component(&offering("1.0.0", "u64"))));
    let interface = "acme:math/double@1.0.0";
    for (content, word) in [
        ("(export \"r\" (type (sub resource)))", "resource"),
        ("(type $s (stream u8)) (export \"double\" (func (param \"n\" $s)))", "stream"),
        ("(type $f (future u8)) (export \"double\" (func (result $f)))", "future"),
    ] {
        let (code, reason) = host.deploy_failing("shop", &app_of(&importing(interface, content), interface, "math"));
        assert_eq!(code, "plugin-interface", "{reason}");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn an_upgrade_of_a_provider_applies_to_its_apps_without_a_failed_request() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe@^1"));
    let ask = Ask::get("/caller").header("host", "shop.localhost");
    let load = Load::of(host.listen, &ask, 4, |answer| answer.starts_with("shop "));
    load.wait_for_more();
    host.installed(&probe_provider("1.1.0", ""));
    load.wait_for_more();
    load.finish();
    assert_eq!(host.plugin("probe")["version"], "1.1.0");
    assert_eq!(host.show("shop")["release"], 1, "the app has no new release");
    let push = install_failing(&host, &probe_provider("2.0.0", ""));
    assert_eq!(push["reason_code"], "plugin-version", "{push}");
}

/// A release that serves at its own URL may use a provider outside its range.
#[test]
fn an_earlier_release_does_not_call_a_version_outside_its_range() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe@^1"));
    host.deploy("shop", Bundle::archive("name = \"shop\"\n", &guest("hello")));
    host.get("v1--shop", "/caller").expect(200);
    host.installed(&probe_provider("2.0.0", ""));
    assert_eq!(host.get("v1--shop", "/caller").problem_of("shop", 502, "plugin-failed")["plugin"], "probe");
    assert_eq!(text(&host, "v1--shop", "/"), "without a call");
}

#[test]
fn an_upgrade_that_changes_a_used_interface_is_refused() {
    let host = Host::start();
    let math = |version: &str, component: &[u8]| provider("math", version, "", component);
    host.installed(&math("1.0.0", &component(&offering("1.0.0", "u32"))));
    let interface = "acme:math/double@1.0.0";
    // The app imports the interface and never calls it.
    let grants = format!("name = \"shop\"\n[grants.interfaces]\n\"{interface}\" = \"math\"\n");
    host.deploy("shop", Bundle::archive(&grants, &guest("hello")));
    for (changed, why) in [
        (component(&offering("1.0.0", "u64")), "`func(n: u64) -> u64`"),
        (component(&offering("2.0.0", "u32")), "doesn't offer"),
        (guest("probe-plugin"), "not a provider"),
    ] {
        let push = install_failing(&host, &math("1.1.0", &changed));
        assert_eq!(push["reason_code"], "plugin-interface", "{push}");
        assert!(
            push["reason"].as_str().is_some_and(|reason| reason.contains(why) && reason.contains("shop")),
            "{push}"
        );
    }
    host.installed(&math("1.1.0", &component(&offering("1.0.0", "u32"))));
}

#[test]
fn a_provider_that_an_app_uses_cannot_be_removed() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe"));
    let problem = host.remove_plugin("probe").problem(409, "plugin-in-use");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("shop")), "{problem}");
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
    host.deploy("shop", Bundle::archive("name = \"shop\"\n", &guest("hello")));
    wait_for("the end of the rollout watch", || (host.remove_plugin("probe").status == 204).then_some(()));
}

#[test]
fn a_stopped_provider_fails_only_the_requests_that_call_it() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe"));
    host.stop_app("probe");
    let refused = host.get("shop", "/caller");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.problem_of("shop", 503, "plugin-unavailable")["plugin"], "probe");
    assert_eq!(text(&host, "shop", "/"), "without a call");
    host.start_app("probe");
    wait_for("the provider to serve", || (host.get("shop", "/caller").status == 200).then_some(()));
}

#[test]
fn calls_survive_a_freeze_of_the_app_and_a_restart_of_the_host() {
    let host = Host::start_with("", "freeze_after = \"200ms\"\n");
    host.installed(&probe_provider("1.0.0", ""));
    host.deploy("shop", caller("shop", "probe"));
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
    wait_for("the app to be frozen", || (host.release_state("shop", 1) == "frozen").then_some(()));
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
    let host = host.restart();
    assert!(text(&host, "shop", "/caller").starts_with("shop "));
}

#[test]
fn the_cpu_time_of_a_provider_is_charged_to_the_app_that_calls_it() {
    let host = host_with_probe();
    host.deploy("shop", caller("shop", "probe"));
    assert_eq!(text(&host, "shop", "/burn?100"), "burnt");
    let of_calls = host.metric("isopod_app_plugin_cpu_seconds_total{app=\"shop\",plugin=\"probe\"}");
    let of_app = host.metric("isopod_app_cpu_seconds_total{app=\"shop\"}");
    let of_plugin = host.metric("isopod_app_cpu_seconds_total{app=\"probe\"}");
    assert!(of_calls > 0.0 && of_app >= of_calls && of_plugin < of_calls, "{of_calls} {of_app} {of_plugin}");
    let shown = host.metrics("shop");
    let [of_plugins, all] = ["plugin_cpu_ms", "cpu_ms"].map(|name| shown[name].as_u64().expect("a number"));
    assert!(of_plugins > 0 && all >= of_plugins, "{shown}");
    let calls = "isopod_app_plugin_calls_total{app=\"shop\",plugin=\"probe\",outcome=\"return\"}";
    assert!(host.metric(calls) >= 1.0);
}

#[test]
fn the_ceiling_of_an_app_limits_its_providers() {
    let host = host_with_probe();
    host.create("shop", "dev");
    let token = json!({"name": "ci", "role": "deploy", "policy": {"providers": []}});
    let token = host.api(Ask::post("/v1/tokens").json(&token)).expect(201).json();
    let token = token["token"].as_str().expect("it is shown once").to_owned();
    let bundle = caller("shop", "probe");
    let push = Ask::post("/v1/apps/shop/pushes?wait=true").body(bundle.content_type, bundle.bytes);
    let push = host.api_with(&token, push).problem(422, "push-failed")["push"].clone();
    assert_eq!(push["reason_code"], "grant-not-allowed", "{push}");
    assert!(push["reason"].as_str().is_some_and(|reason| reason.contains(PROBE)), "{push}");
}
