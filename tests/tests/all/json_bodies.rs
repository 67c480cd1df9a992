//! Tests JSON bodies of the API: a duplicate member is rejected, and errors have a plain text with
//! a position.

use isopod_tests::{Ask, Bundle, Host, guest};
use serde_json::Value;

fn refused(host: &Host, method: &'static str, path: &str, body: &str) -> Value {
    let ask = Ask::new(method, format!("/v1/{path}")).body("application/json", body);
    host.api(ask).problem(400, "bad-json")
}

#[test]
fn a_duplicate_member_is_rejected_by_name() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for (method, path, body, name) in [
        ("PATCH", "apps/shop/config", r#"{"A":"1","B":"2","A":"3"}"#, "A"),
        ("PATCH", "apps/shop/config", r#"{"A":{"secret":"1","secret":"2"}}"#, "secret"),
        ("PATCH", "apps/shop/formation", r#"{"web":{"max":2},"web":{"max":3}}"#, "web"),
        ("PATCH", "apps/shop/formation", r#"{"web":{"max":2,"max":3}}"#, "max"),
        ("POST", "apps/shop/formation", r#"{"name":"a","entry":"events","name":"b"}"#, "name"),
        ("PATCH", "apps/shop/grants", r#"{"keyvalue":true,"keyvalue":false}"#, "keyvalue"),
        ("PATCH", "apps/shop/cores", r#"{"pull":1,"pull":2}"#, "pull"),
        ("PATCH", "apps/shop", r#"{"type":"dev","type":"staging"}"#, "type"),
        ("POST", "apps/shop/rollback", r#"{"release":1,"rel\u0065ase":2}"#, "release"),
        ("POST", "apps", r#"{"name":"a","name":"b"}"#, "name"),
        ("POST", "tokens", r#"{"name":"ci","role":"read","role":"admin"}"#, "role"),
    ] {
        let problem = refused(&host, method, path, body);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(&format!("the member `{name}` appears more than once")), "{path} {body}: {detail}");
        assert!(problem["line"] == 1 && problem["column"].as_u64() > Some(1), "{problem}");
    }
    assert_eq!(host.config("shop"), serde_json::json!({}), "the rejected request changed the config");
}

#[test]
fn a_duplicate_member_of_an_event_is_rejected_and_event_data_is_passed_unchanged() {
    let host = Host::start();
    host.deploy("shapes", Bundle::component(guest("shapes")));
    let send = |event: &str| host.api(Ask::post("/v1/apps/shapes/events").body("application/cloudevents+json", event));
    let twice = send(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","id":"2"}"#).problem(400, "bad-event");
    assert_eq!(twice["attribute"], "id", "{twice}");
    let nested = send(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"a":1,"a":2}}"#);
    assert_ne!(nested.status, 400, "only the handler reads the data: {nested}");
}

#[test]
fn errors_in_bodies_and_queries_show_no_library_text() {
    let host = Host::start();
    host.create("shop", "dev");
    for (method, path, body, wanted) in [
        ("POST", "apps", "{\"name\":\n nope}", "invalid JSON body (line 2, column 3): `name`: only `true`, `false`"),
        ("POST", "apps", r#"{"name":5}"#, "(line 1, column 9): `name`: it must be text, not a number"),
        ("POST", "apps", r#"{"nmae":"x"}"#, "unknown member `nmae`; did you mean `name`?"),
        ("POST", "apps", "{}", "the member `name` is missing"),
        ("POST", "apps", r#"{"name":"x""#, "it ends in the middle of an object"),
        ("POST", "apps", "", "it ends in the middle of a value"),
        ("POST", "apps", r#"{"name":"x"}{}"#, "more text follows its end"),
        ("POST", "apps", r#"{"name":"x","type":"live"}"#, "`type`: unknown value `live`; known: dev, staging"),
        (
            "POST",
            "tokens",
            r#"{"name":"ci","role":"read","apps":["shop",7]}"#,
            "`apps[1]`: it must be text, not a number",
        ),
        ("POST", "tokens", r#"{"name":"ci","role":"read","apps":"shop"}"#, "`apps`: it must be a list, not text"),
    ] {
        let problem = refused(&host, method, path, body);
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("invalid JSON body (line ") && detail.contains(wanted), "{body}: {detail}");
    }
    for (path, wanted) in [
        ("apps?limit=many", "`limit` must be a whole number"),
        ("apps?limit=1&limit=2", "the parameter `limit` appears more than once"),
        ("apps/shop/logs?follow=yes", "`follow` must be `true` or `false`"),
    ] {
        let problem = host.api(Ask::get(format!("/v1/{path}"))).problem(400, "bad-query");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.ends_with(wanted), "{path}: {detail}");
    }
    let path = host.api(Ask::get("/v1/apps/%FF")).problem(400, "bad-path");
    assert!(path["detail"].as_str().is_some_and(|detail| detail.contains("not UTF-8")), "{path}");
}

#[test]
fn a_token_for_an_empty_list_of_apps_is_rejected() {
    let host = Host::start();
    host.create("shop", "dev");
    let create = |body: &str| host.api(Ask::post("/v1/tokens").body("application/json", body));
    let refused = create(r#"{"name":"ci","role":"read","apps":[]}"#).problem(422, "no-apps");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("without `apps`")), "{refused}");
    let twice = create(r#"{"name":"ci","role":"read","apps":["shop","shop"]}"#).expect(201).json();
    assert_eq!(twice["apps"], serde_json::json!(["shop"]));
    let all = create(r#"{"name":"all","role":"read","apps":null}"#).expect(201).json();
    assert_eq!(all["apps"], Value::Null);
}
