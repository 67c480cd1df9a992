//! Tests the middleware without a host, on the simulated clock.

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::{TestHost, block_on};

fn settings(json: &str) -> Settings {
    parse_settings(json).unwrap()
}

fn from(address: &'static str) -> AppRequest {
    Request::get("/").with_header("x-real-ip", address).into()
}

/// Returns the refusal of a request; `None` if the app receives it.
fn refused(request: &AppRequest, settings: &Settings) -> Option<Response> {
    match block_on(on_request(request, settings)).unwrap() {
        Decision::Respond(response) => Some(response),
        Decision::Pass | Decision::Change(_) => None,
        Decision::Asset(_) | Decision::ReadBody(_) => panic!("it serves no assets and reads no bodies"),
    }
}

#[test]
fn a_client_over_its_limit_is_refused_until_the_stated_time() {
    let host = TestHost::new();
    let settings = settings(r#"{"limit": 2, "per": "1m"}"#);
    assert!(refused(&from("192.0.2.1"), &settings).is_none() && refused(&from("192.0.2.1"), &settings).is_none());
    let answer = refused(&from("192.0.2.1"), &settings).unwrap();
    assert_eq!(answer.status, 429);
    let fields = ["retry-after", "ratelimit", "ratelimit-policy", "content-type"].map(|name| answer.headers.get(name));
    let expected = ["30", "\"default\";r=0;t=30", "\"default\";q=2;w=60", "application/problem+json"];
    assert_eq!(fields, expected.map(Some));
    assert!(refused(&from("192.0.2.2"), &settings).is_none());
    host.advance(Duration::from_secs(29));
    assert_eq!(refused(&from("192.0.2.1"), &settings).unwrap().headers.get("retry-after"), Some("1"));
    host.advance(Duration::from_secs(1));
    assert!(refused(&from("192.0.2.1"), &settings).is_none() && refused(&from("192.0.2.1"), &settings).is_some());
}

#[test]
fn addresses_of_one_network_count_as_one_client() {
    let settings = settings(r#"{"limit": 1}"#);
    for (first, same, other) in
        [("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"), ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2")]
    {
        TestHost::new();
        assert!(refused(&from(first), &settings).is_none());
        assert!(refused(&from(same), &settings).is_some());
        assert!(refused(&from(other), &settings).is_none());
    }
}

#[test]
fn clients_are_identified_by_a_header_or_together() {
    TestHost::new();
    let by_key = settings(r#"{"limit": 1, "by": "header:X-Api-Key"}"#);
    let with_key = |key: String| AppRequest::from(Request::get("/").with_header("x-api-key", key));
    let keys = ["a".to_owned(), "b".to_owned(), "ä".repeat(100), "x".repeat(8_000), "x".repeat(8_001)];
    for key in &keys {
        assert!(refused(&with_key(key.clone()), &by_key).is_none());
    }
    for key in keys {
        assert!(refused(&with_key(key), &by_key).is_some());
    }
    assert!(refused(&from("192.0.2.1"), &by_key).is_none());
    assert!(refused(&from("192.0.2.1"), &by_key).is_some(), "without the header, the address counts");
    let together = settings(r#"{"limit": 1, "by": "app", "name": "all"}"#);
    assert!(refused(&from("192.0.2.1"), &together).is_none());
    assert!(refused(&from("192.0.2.2"), &together).is_some());
}

#[test]
fn responses_of_the_app_show_the_limit_on_request() {
    TestHost::new();
    let shown = settings(r#"{"limit": 10, "burst": 5, "per": "10s", "name": "api", "fields": true}"#);
    let Decision::Change(changes) = block_on(on_request(&from("192.0.2.1"), &shown)).unwrap() else { panic!() };
    assert!(Decision::Change(changes).apply_to(from("192.0.2.1")).is_some());
    let head = ResponseHead::from(Response::new(200).with_header("ratelimit", "\"own\";r=1"));
    let head = block_on(on_response(&head, b"\"api\";r=4;t=1", &shown)).unwrap().apply_to(head);
    let fields: Vec<_> = head.headers.get_all("ratelimit").collect();
    assert_eq!(fields, [&b"\"own\";r=1"[..], b"\"api\";r=4;t=1"]);
    assert_eq!(head.headers.get("ratelimit-policy"), Some("\"api\";q=10;w=10"));
}

#[test]
fn invalid_configs_are_refused() {
    for (config, fault) in [
        ("{}", "missing field `limit`"),
        (r#"{"limit": 0}"#, "from 1 to 1,000,000"),
        (r#"{"limit": 1, "burst": 1000001}"#, "from 1 to 1,000,000"),
        (r#"{"limit": 1, "per": "2d"}"#, "`per`"),
        (r#"{"limit": 1, "per": "1d", "burst": 31}"#, "30 days"),
        (r#"{"limit": 1, "by": "cookie"}"#, "`by`"),
        (r#"{"limit": 1, "by": "header:"}"#, "`by`"),
        (r#"{"limit": 1, "name": "a\"b"}"#, "`name`"),
        (r#"{"limit": 1, "limits": 2}"#, "unknown field `limits`"),
    ] {
        let error = parse_settings::<Settings>(config).err().unwrap().to_string();
        assert!(error.contains(fault), "{config}: {error}");
    }
}
