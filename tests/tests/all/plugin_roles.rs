//! Tests which tokens may change a plugin. Never tests what a change does.

use isopod_tests::{Ask, Bundle, Host, guest, wire::Wire};
use serde_json::{Value, json};

fn plugin() -> Bundle {
    let manifest = "name = \"probe\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\" }\n";
    Bundle::archive(manifest, &guest("probe-plugin"))
}

/// Creates a token with the role, for the app or for all apps, and returns its secret.
fn token(host: &Host, role: &str, app: Option<&str>) -> String {
    let name = format!("{role}-{}", app.unwrap_or("all"));
    let mut body = json!({ "name": name, "role": role });
    if let Some(app) = app {
        body["apps"] = json!([app]);
    }
    let created = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    created["token"].as_str().expect("it is shown once").to_owned()
}

/// Returns every request below `/v1/apps/{app}` that changes something.
fn changes(app: &str, instance: &str) -> Vec<Ask> {
    let ask =
        |method: &'static str, path: &str, body: Value| Ask::new(method, format!("/v1/apps/{app}{path}")).json(&body);
    let Bundle { content_type, bytes, .. } = plugin();
    let restart = format!("/instances/{instance}/restart");
    vec![
        Ask::post(format!("/v1/apps/{app}/pushes?accept_grants=true")).body(content_type, bytes),
        ask("POST", "/pushes/p-1/cancel", json!({})),
        ask("POST", "/rollback", json!({ "release": 1 })),
        ask("POST", "/releases/v1/approve", json!({})),
        ask("PATCH", "", json!({ "type": "dev" })),
        ask("DELETE", "", json!({})),
        ask("PATCH", "/config", json!({ "KEY": "other" })),
        ask("PATCH", "/grants", json!({ "http": ["example.org"] })),
        ask("PATCH", "/formation", json!({ "plugin": { "max": 1 } })),
        ask("POST", "/formation", json!({ "name": "more", "entry": "middleware" })),
        ask("DELETE", "/formation/plugin", json!({})),
        ask("PATCH", "/cores", json!({ "pull": 1 })),
        ask("PATCH", "/policy", json!({})),
        ask("POST", "/stop", json!({})),
        ask("POST", "/start", json!({})),
        ask("POST", &restart, json!({})),
        ask("POST", "/events", json!({})),
        ask("POST", "/broadcasts", json!({})),
        ask("POST", "/events/1/cancel", json!({})),
        ask("POST", "/dead-letters/redrive", json!({})),
        ask("DELETE", "/dead-letters", json!({})),
        ask("POST", "/schedules/plugin/run", json!({})),
        ask("PUT", "/build-error", json!({ "message": "no" })),
        ask("DELETE", "/build-error", json!({})),
    ]
}

#[test]
fn only_administrators_can_change_a_plugin() {
    let host = Host::start();
    host.installed(&plugin());
    host.set_config("probe", &json!({ "KEY": "mine" })).expect(200);
    let instance = host.running_ids("probe", "plugin", 1).remove(0);
    let before = (host.plugin("probe"), host.config("probe"), host.activity("probe").len());
    let tokens = [
        token(&host, "operate", None),
        token(&host, "deploy", None),
        token(&host, "deploy", Some("probe")),
        token(&host, "send", Some("probe")),
    ];
    for token in &tokens {
        for ask in changes("probe", &instance) {
            host.api_with(token, ask).problem(403, "role-too-small");
        }
    }
    // The name is decoded before its kind is looked up.
    host.api_with(&tokens[1], Ask::post("/v1/apps/pr%6Fbe/stop")).problem(403, "role-too-small");
    for path in ["", "/config", "/releases", "/logs", "/status"] {
        host.api_with(&tokens[1], Ask::get(format!("/v1/apps/probe{path}"))).expect(200);
    }
    assert_eq!((host.plugin("probe"), host.config("probe"), host.activity("probe").len()), before);
}

#[test]
fn an_administrator_of_some_apps_can_change_only_plugins_in_scope() {
    let host = Host::start();
    host.installed(&plugin());
    host.deploy("shop", Bundle::component(guest("hello")));
    let (own, other) = (token(&host, "admin", Some("probe")), token(&host, "admin", Some("shop")));
    let stop = || Ask::post("/v1/apps/probe/stop");
    host.api_with(&other, stop()).problem(403, "out-of-scope");
    host.api_with(&own, stop()).expect(202);
}

/// The plugin is installed between the authorisation of the upload and its end.
#[test]
fn an_upload_that_reaches_a_new_plugin_is_refused() {
    let host = Host::start();
    let deployer = token(&host, "deploy", None);
    let bytes = guest("hello");
    let upload = Ask::post("/v1/apps/probe/pushes")
        .header("authorization", format!("Bearer {deployer}"))
        .header("content-type", "application/wasm")
        .header("content-length", bytes.len().to_string())
        .header("expect", "100-continue");
    let mut wire = Wire::open(host.admin).expect("the host accepts connections");
    wire.ask(&upload).expect("the head can be sent");
    assert_eq!(wire.any_head().expect("an interim response").status, 100);
    host.installed(&plugin());
    wire.send(&bytes).expect("the body can be sent");
    wire.answer().expect("a response").problem(403, "role-too-small");
    assert_eq!(host.plugin("probe")["release"], 1);
}
