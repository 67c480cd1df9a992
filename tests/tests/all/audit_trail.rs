//! Tests the audit trail: the changes of tokens and apps with their actors, and refused calls,
//! which create one entry per token however many there are.

use isopod_tests::{
    Ask, DiskError, Host, limits::MINUTE_PATIENCE, middleware::probe_plugin, program, wait_for, wait_up_to,
};
use serde_json::{Value, json};

/// The interval at which refused calls are stored.
const QUICK: &str = "refused-calls=return(200)";

fn token(host: &Host, name: &str, role: &str, apps: Option<&[&str]>) -> String {
    let body = json!({ "name": name, "role": role, "apps": apps });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    made["token"].as_str().expect("it is shown once").to_owned()
}

fn audit(host: &Host, query: &str) -> Vec<Value> {
    let page = host.api(Ask::get(format!("/v1/activity?audit=true{query}"))).expect(200).json();
    page["items"].as_array().expect("a page has items").clone()
}

/// Returns the numbers of refused calls of a token, by code.
fn refused(host: &Host, token: &str) -> Vec<Value> {
    let is_of = |entry: &&Value| entry["kind"] == "calls-refused" && entry["data"]["by"] == token;
    audit(host, "").iter().filter(is_of).map(|entry| entry["data"].clone()).collect()
}

fn total(entries: &[Value], code: &str) -> u64 {
    entries.iter().filter_map(|entry| entry["codes"][code].as_u64()).sum()
}

#[test]
fn refused_calls_are_counted_for_each_token() {
    let host = Host::start_pausing(QUICK);
    host.create("mine", "dev");
    host.create("other", "dev");
    let (reader, ci) = (token(&host, "reader", "read", None), token(&host, "ci", "deploy", Some(&["mine"])));
    for _ in 0..3 {
        host.api_with(&reader, Ask::post("/v1/apps/mine/stop")).problem(403, "role-too-small");
    }
    host.api_with(&ci, Ask::post("/v1/apps/other/stop")).problem(403, "out-of-scope");
    host.api_with("guess", Ask::get("/v1/apps")).problem(401, "unknown-token");
    let found = wait_up_to(MINUTE_PATIENCE, "the refused calls", || {
        let (reader, ci) = (refused(&host, "reader"), refused(&host, "ci"));
        (total(&reader, "role-too-small") == 3 && total(&ci, "out-of-scope") == 1).then_some(ci)
    });
    assert_eq!(
        (&found[0]["last"], &found[0]["addresses"]),
        (&json!("POST /v1/apps/other/stop"), &json!(["127.0.0.1"]))
    );
    let unknown =
        audit(&host, "").into_iter().filter(|entry| entry["text"].as_str().is_some_and(|it| it.contains("guess")));
    assert_eq!(unknown.count(), 0, "an unknown token has no name");
}

#[test]
fn calls_with_an_expired_token_are_counted() {
    let host = Host::start_pausing(QUICK);
    let address = format!("http://{}", host.admin);
    let args =
        ["tokens", "create", "ci", "--role", "read", "--expires", "1s", "--host", &address, "--token", &host.token];
    let secret = String::from_utf8(program::run(&args).stdout).expect("it is text");
    let call = || host.api_with(secret.trim(), Ask::get("/v1/apps")).status;
    wait_up_to(MINUTE_PATIENCE, "the expiry", || (call() == 401).then_some(()));
    wait_up_to(MINUTE_PATIENCE, "the refused call", || {
        (total(&refused(&host, "ci"), "token-expired") >= 1).then_some(())
    });
}

#[test]
fn a_flood_of_refused_calls_does_not_evict_other_entries() {
    let host = Host::start();
    host.create("mine", "dev");
    let reader = token(&host, "reader", "read", None);
    for _ in 0..500 {
        host.api_with(&reader, Ask::post("/v1/apps/mine/stop")).problem(403, "role-too-small");
    }
    // A stop stores the calls since the last interval.
    let host = host.restart();
    let entries = refused(&host, "reader");
    assert_eq!(total(&entries, "role-too-small"), 500);
    assert!(entries.len() <= 3, "one entry for each minute: {entries:?}");
    assert!(audit(&host, "").iter().any(|entry| entry["kind"] == "token-created"));
    assert!(host.activity("mine").iter().all(|entry| entry["kind"] != "calls-refused"));
}

#[test]
fn the_audit_trail_names_the_token_and_the_address_of_a_change() {
    let host = Host::start();
    host.create("shop", "dev");
    token(&host, "ci", "deploy", None);
    host.api(Ask::post("/v1/tokens/ci/rotate")).expect(200);
    host.api(Ask::new("DELETE", "/v1/tokens/ci")).expect(204);
    host.api(Ask::new("DELETE", "/v1/apps/shop")).expect(204);
    let entries = audit(&host, "");
    let kinds: Vec<&str> = entries.iter().filter_map(|entry| entry["kind"].as_str()).collect();
    assert_eq!(kinds, ["app-destroyed", "token-revoked", "token-rotated", "token-created"]);
    for entry in &entries {
        assert_eq!(
            (&entry["data"]["by"], &entry["data"]["address"]),
            (&json!("admin"), &json!("127.0.0.1")),
            "{entry}"
        );
    }
    assert!(!json!(entries).to_string().contains("iso_"), "the trail contains a secret");
}

#[test]
fn the_removal_of_a_plugin_is_in_the_audit_trail() {
    let host = Host::start();
    for route in ["/v1/plugins/probe", "/v1/apps/probe"] {
        host.installed(&probe_plugin("1.0.0", ""));
        host.api(Ask::new("DELETE", route)).expect(204);
        let newest = audit(&host, "").remove(0);
        let (text, data) = (newest["text"].as_str().expect("a text"), &newest["data"]);
        assert_eq!((&newest["kind"], text), (&json!("plugin-removed"), "plugin `probe` removed with its data"));
        assert_eq!((&data["by"], &data["address"]), (&json!("admin"), &json!("127.0.0.1")), "{newest}");
    }
}

#[test]
fn the_audit_trail_of_one_app_and_of_the_command_line() {
    let host = Host::start();
    host.create("shop", "dev");
    host.create("blog", "dev");
    let reader = token(&host, "reader", "read", Some(&["shop"]));
    assert!(audit(&host, "&app=shop").iter().all(|entry| entry["app"] == "shop"));
    assert_eq!(audit(&host, "&app=shop").len(), 1);
    host.api(Ask::get("/v1/activity?audit=true&app=nobody")).problem(404, "unknown-app");
    host.api_with(&reader, Ask::get("/v1/activity")).problem(403, "out-of-scope");
    let whole = host.api(Ask::get("/v1/activity?limit=2")).expect(200).json();
    assert!(whole["next"].is_string() && whole["items"].as_array().map(Vec::len) == Some(2), "{whole}");
    let address = format!("http://{}", host.admin);
    let output = program::run(&["activity", "--audit", "--host", &address, "--token", &host.token]);
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(
        text.contains("token-created      token `reader` created with the role read  (by admin from 127.0.0.1)"),
        "{text}"
    );
    assert!(text.contains("shop: ") && text.contains("blog: "), "{text}");
}

#[test]
fn refused_calls_are_stored_once_the_disk_can_be_written() {
    let host = Host::start_pausing_with_faults(QUICK, "");
    let reader = token(&host, "reader", "read", None);
    host.faults().fail(DiskError::Io);
    for _ in 0..5 {
        host.api_with(&reader, Ask::post("/v1/apps/shop/stop")).problem(403, "role-too-small");
    }
    wait_for("a failed write", || host.said().contains("failed to store the refused calls").then_some(()));
    host.faults().end_errors();
    wait_for("the refused calls", || (total(&refused(&host, "reader"), "role-too-small") == 5).then_some(()));
}

#[test]
fn the_replacement_of_an_expired_token_is_in_the_audit_trail() {
    let sql = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999)
               INSERT INTO tokens (name, hash, role, scope, created_at, expires_at)
               SELECT 't' || n, 'hash-' || n, 'read', admin.scope, admin.created_at, iif(n = 7, admin.created_at, NULL)
               FROM numbers, tokens AS admin WHERE admin.name = 'admin'";
    let host = Host::start().restart_after(|host| host.change_rows(sql, []));
    token(&host, "ci", "read", None);
    let entries = audit(&host, "");
    let kinds: Vec<&str> = entries.iter().filter_map(|entry| entry["kind"].as_str()).collect();
    assert_eq!(kinds, ["token-created", "token-replaced"]);
    assert_eq!(entries[1]["text"], "token `t7` replaced by the token `ci`, since it had expired");
    let tokens = || Ask::post("/v1/tokens").json(&json!({ "name": "more", "role": "read" }));
    host.api(tokens()).problem(409, "too-many-tokens");
}
