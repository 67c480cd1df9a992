//! Tests calls of a plugin with a real component, whose config selects what it does.
//! `cargo xtask guests probe-plugin` builds the component.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use http::{HeaderMap, Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use isopod_engine::{
    Decision, Engine, EngineConfig, Fault, Instance, Output, OutputLine, PluginRequest, Program, Resource,
    ResponseDecision, Sandbox, Speed, inspect, limits,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};

struct Silent;

impl Output for Silent {
    fn line(&self, _: OutputLine<'_>) {}
}

fn component() -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests/probe-plugin.wasm");
    std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask guests probe-plugin` builds it", file.display()))
}

async fn plugin() -> Program {
    let engine = Engine::new(EngineConfig { instances_max: 10, ..EngineConfig::default() }).unwrap();
    let component = engine.load(component().into(), Speed::Quick).await.unwrap();
    let sandbox = Sandbox::without_rights("probe-plugin".to_owned(), Arc::new(Silent));
    engine.program(&component, sandbox).unwrap()
}

fn head() -> request::Parts {
    let request = Request::builder().method("PURGE").uri("https://shop.localhost:8443/cart?item=1");
    request.header("x-a", "1").header("x-a", "2").header("x-real-ip", "192.0.2.7").body(()).unwrap().into_parts().0
}

type Asked = (Result<Decision, Fault>, Option<Box<Instance>>);

async fn ask(instance: Box<Instance>, config: &Value) -> Asked {
    let head = head();
    let request =
        PluginRequest { head: &head, client_address: Some("192.0.2.7"), app: "shop", request_id: "r1", assets: None };
    instance.on_request(&config.to_string(), request).await
}

/// Asks a new instance about a request.
async fn decide(act: Value) -> Asked {
    let plugin = plugin().await;
    ask(plugin.start().await.unwrap(), &json!({ "request": act })).await
}

/// Asks a new instance about a response with status 200 and the header `x-a: 1`.
async fn complete(act: Value) -> (Result<ResponseDecision, Fault>, Option<Box<Instance>>) {
    let plugin = plugin().await;
    let head = Response::builder().header("x-a", "1").body(()).unwrap().into_parts().0;
    let config = json!({ "request": "pass", "response": act }).to_string();
    plugin.start().await.unwrap().on_response(&config, b"context", &head, "r1").await
}

/// Returns the headers of the request after a decision that changes them.
fn changed(decision: Decision) -> HeaderMap {
    let Decision::Change(changes) = decision else { panic!("the request is not changed") };
    let mut headers = head().headers;
    changes.headers.apply(&mut headers);
    headers
}

#[test]
fn a_plugin_is_recognised_by_its_exports() {
    let info = inspect(&component()).unwrap();
    assert!(info.entries.middleware && info.entries.http.is_none() && !info.entries.events);
    assert_eq!(info.sdk_version.as_deref(), Some("rust/0.1.0"));
}

#[test]
fn the_properties_of_a_component_stored_by_an_older_host_are_read() {
    let entries: isopod_engine::Entries =
        serde_json::from_value(json!({ "http": "flat", "events": false, "command": false, "health": true })).unwrap();
    assert!(!entries.middleware && entries.health);
}

#[tokio::test]
async fn a_middleware_sees_the_whole_head() {
    let (decision, instance) = decide(json!("show")).await;
    assert!(instance.is_some());
    let Ok(Decision::Respond(response)) = decision else { panic!("no response") };
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let first = "PURGE https://shop.localhost:8443/cart?item=1 for shop as r1 from Some(192.0.2.7)\n";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains(r#""x-a": "1", "x-a": "2""#), "{text}");
}

#[tokio::test]
async fn a_request_is_passed_changed_or_answered() {
    assert!(matches!(decide(json!("pass")).await, (Ok(Decision::Pass), Some(_))));
    let headers = changed(decide(json!({ "set": ["x-a", "3"] })).await.0.unwrap());
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["3"]);
    let headers = changed(decide(json!({ "append": ["X-B", "3"] })).await.0.unwrap());
    assert_eq!((headers.len(), &headers["x-b"]), (4, &http::HeaderValue::from_static("3")));
    assert!(!changed(decide(json!({ "remove": "x-a" })).await.0.unwrap()).contains_key("x-a"));
    let Ok(Decision::Change(changes)) = decide(json!({ "path": "/other?x" })).await.0 else { panic!("no change") };
    assert_eq!(changes.path_and_query.unwrap(), "/other?x");
    assert_eq!(changes.response_context, None);
    let Ok(Decision::Respond(response)) = decide(json!({ "respond": [403, "no"] })).await.0 else {
        panic!("no response")
    };
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "no");
}

#[tokio::test]
async fn a_middleware_sees_the_response_with_its_context() {
    let plugin = plugin().await;
    let config = json!({ "request": "pass", "response": "show" });
    let (decision, instance) = ask(plugin.start().await.unwrap(), &config).await;
    let Ok(Decision::Change(changes)) = decision else { panic!("it doesn't wait for the response") };
    assert_eq!(changes.response_context.as_deref(), Some(&b"/cart"[..]));
    let head = Response::builder().status(404).header("x-a", "1").body(()).unwrap().into_parts().0;
    let (decision, _) = instance.unwrap().on_response(&config.to_string(), b"/cart", &head, "r1").await;
    let Ok(ResponseDecision::Replace(response)) = decision else { panic!("the response is not replaced") };
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "404 /cart\n{\"x-a\": \"1\"}");
}

#[tokio::test]
async fn a_response_is_passed_changed_or_replaced() {
    assert!(matches!(complete(json!("pass")).await, (Ok(ResponseDecision::Pass), Some(_))));
    let Ok(ResponseDecision::Change(changes)) = complete(json!({ "status": 418 })).await.0 else {
        panic!("the response is not changed")
    };
    assert_eq!(changes.status, Some(StatusCode::IM_A_TEAPOT));
    let Ok(ResponseDecision::Change(changes)) = complete(json!({ "set": ["x-b", "2"] })).await.0 else {
        panic!("the response is not changed")
    };
    let mut headers = HeaderMap::new();
    changes.headers.apply(&mut headers);
    assert!(changes.status.is_none() && headers["x-b"] == "2");
    let Ok(ResponseDecision::Replace(response)) = complete(json!({ "respond": [503, "later"] })).await.0 else {
        panic!("the response is not replaced")
    };
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_invalid_decision_is_a_fault() {
    let many = limits::DECISION_CHANGES_MAX + 1;
    for act in [
        json!({ "set": ["host", "evil.example"] }),
        json!({ "append": ["Transfer-Encoding", "chunked"] }),
        json!({ "remove": "x-request-id" }),
        json!({ "set": ["x-forwarded-for", "192.0.2.1"] }),
        json!({ "set": ["content-length", "5"] }),
        json!({ "set": ["a b", "x"] }),
        json!({ "set": ["x-a", "x\r\ny: z"] }),
        json!({ "path": "//evil.example@" }),
        json!({ "path": "http://evil.example/" }),
        json!({ "headers": [many, 1] }),
        json!({ "headers": [2, limits::RESPONSE_HEADERS_BYTES_MAX / 2] }),
    ] {
        let (decision, instance) = decide(act.clone()).await;
        if act["path"] == "//evil.example@" {
            // A path may start with two slashes. The authority remains unchanged.
            assert!(decision.is_ok());
            continue;
        }
        let Err(fault) = decision else { panic!("{act}") };
        assert!(matches!(fault, Fault::InvalidDecision { .. }), "{act}: {fault}");
        assert!(instance.is_some(), "{act}: the instance can be reused");
    }
    for act in [json!({ "set": ["connection", "close"] }), json!({ "status": 101 }), json!({ "status": 999 })] {
        let (decision, _) = complete(act.clone()).await;
        assert!(matches!(decision.err(), Some(Fault::InvalidDecision { .. })), "{act}");
    }
    for act in [json!({ "respond": [99, ""] }), json!({ "respond": [101, ""] })] {
        assert!(matches!(decide(act.clone()).await.0.err(), Some(Fault::InvalidResponse { .. })), "{act}");
        assert!(matches!(complete(act.clone()).await.0.err(), Some(Fault::InvalidResponse { .. })), "{act}");
    }
}

#[tokio::test]
async fn a_plugin_that_fails_is_described() {
    let (decision, instance) = decide(json!({ "error": "no keys" })).await;
    assert!(matches!(decision.err(), Some(Fault::Failed { message }) if message == "no keys") && instance.is_some());
    let (decision, instance) = decide(json!("trap")).await;
    assert!(matches!(decision.err(), Some(Fault::Trap { .. })) && instance.is_none());
    let (decision, instance) = decide(json!("allocate")).await;
    assert!(matches!(decision.err(), Some(Fault::OutOf { what: Resource::Memory, .. })) && instance.is_none());
    let (decision, _) = decide(json!({ "error": "é".repeat(1 << 20) })).await;
    assert!(matches!(decision.err(), Some(Fault::Failed { message }) if message.len() < 10_000));
}

#[tokio::test]
async fn a_huge_decision_is_not_copied_to_the_host() {
    let bytes = limits::HOST_CALL_BYTES_MAX;
    for act in [json!({ "body": bytes + 1 }), json!({ "headers": [1, bytes + 1] }), json!({ "headers": [500_000, 1] })]
    {
        let (decision, instance) = decide(act.clone()).await;
        let Err(fault) = decision else { panic!("{act}") };
        assert!(matches!(fault, Fault::OutOf { .. }), "{act}: {fault}");
        assert!(instance.is_none(), "{act}");
    }
    assert!(decide(json!({ "body": bytes / 2 })).await.0.is_ok());
}

#[tokio::test]
async fn a_plugin_that_never_returns_is_stopped_by_dropping_the_call() {
    for act in [json!("spin"), json!({ "sleep": 3_600_000 })] {
        let started = plugin().await.start().await.unwrap();
        let config = json!({ "request": act });
        // The executor's slices are absent here, so a spinning guest yields at each epoch.
        let asked = tokio::time::timeout(Duration::from_millis(300), ask(started, &config)).await;
        assert!(asked.is_err(), "{act}");
    }
}

#[tokio::test]
async fn an_instance_keeps_its_memory_between_calls_with_different_configs() {
    let plugin = plugin().await;
    let mut instance = plugin.start().await.unwrap();
    for calls in 1..=3 {
        let config = json!({ "request": "count", "padding": "x".repeat(calls * 100) });
        let (decision, left) = ask(instance, &config).await;
        assert_eq!(changed(decision.unwrap())["x-calls"], calls.to_string());
        instance = left.unwrap();
    }
}

#[tokio::test]
async fn a_config_is_validated_by_the_plugin() {
    let plugin = plugin().await;
    let validate = async |config: &str| plugin.start().await.unwrap().validate_config(config).await;
    assert!(matches!(validate(r#"{"request": "pass"}"#).await, (Ok(()), Some(_))));
    for (config, why) in [
        (r#"{"request": "dance"}"#, "unknown variant `dance`"),
        (r#"{"request": "pass", "more": 1}"#, "unknown field `more`"),
        ("{}", "missing field `request`"),
        ("{", "EOF"),
        ("", "EOF"),
    ] {
        let (validated, instance) = validate(config).await;
        let Err(Fault::Failed { message }) = validated else { panic!("{config} is accepted") };
        assert!(message.starts_with("the config is invalid: ") && message.contains(why), "{config}: {message}");
        assert!(instance.is_some(), "{config}");
    }
    let long = json!({ "request": "pass", "padding": "x".repeat(10 << 20) }).to_string();
    assert!(validate(&long).await.0.is_ok(), "the manifest limits the size of a config; the engine doesn't");
}
