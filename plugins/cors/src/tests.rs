//! Tests the middleware without a host.

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::block_on;

const PAGE: &str = "https://app.example.org";

fn settings(json: &str) -> Settings {
    parse_settings(json).unwrap()
}

fn usual() -> Settings {
    settings(
        r#"{"origins": ["https://app.example.org", "http://localhost:3000"], "methods": ["GET", "PUT"],
            "headers": ["content-type", "x-id"], "credentials": true, "max_age": "10m"}"#,
    )
}

fn preflight(origin: &str, settings: &Settings) -> Response {
    let request = Request::new("OPTIONS", "/items").with_header("origin", origin.to_owned());
    let request = request.with_header("access-control-request-method", "PUT");
    match block_on(on_request(&request.into(), settings)).unwrap() {
        Decision::Respond(response) => response,
        other => panic!("{other:?}"),
    }
}

/// Returns the head of an app's response as the client receives it.
fn completed(permitted: &str, response: Response, settings: &Settings) -> ResponseHead {
    let head = ResponseHead::from(response);
    block_on(on_response(&head, permitted.as_bytes(), settings)).unwrap().apply_to(head)
}

#[test]
fn a_preflight_request_from_a_permitted_origin_gets_the_permissions() {
    let answer = preflight(PAGE, &usual());
    assert_eq!(answer.status, 204);
    let expected = [
        ("vary", "Origin"),
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "content-type, x-id"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "600"),
    ];
    assert_eq!(answer.headers.iter().collect::<Vec<_>>(), expected.map(|(name, value)| (name, value.as_bytes())));
}

#[test]
fn a_preflight_request_from_another_origin_gets_no_permission() {
    for origin in ["https://app.example.org.evil.example", "https://evil.example", "http://app.example.org", "null", ""]
    {
        let answer = preflight(origin, &usual());
        assert_eq!(answer.headers.iter().collect::<Vec<_>>(), [("vary", &b"Origin"[..])], "{origin}");
    }
}

#[test]
fn any_origin_is_permitted_without_vary() {
    let all = settings(r#"{"origins": ["*"]}"#);
    let answer = preflight("https://any.example", &all);
    let expected = [("access-control-allow-origin", "*"), ("access-control-allow-methods", "GET, HEAD, POST")];
    assert_eq!(answer.headers.iter().collect::<Vec<_>>(), expected.map(|(name, value)| (name, value.as_bytes())));
    let head = completed("*", Response::text("x"), &all);
    assert_eq!((head.headers.get("access-control-allow-origin"), head.headers.get("vary")), (Some("*"), None));
}

#[test]
fn other_requests_reach_the_app() {
    for request in [
        Request::new("OPTIONS", "/"),
        Request::new("OPTIONS", "/").with_header("origin", PAGE),
        Request::get("/").with_header("origin", PAGE).with_header("access-control-request-method", "GET"),
    ] {
        let request: AppRequest = request.into();
        assert!(block_on(on_request(&request, &usual())).unwrap().apply_to(request).is_some());
    }
}

#[test]
fn the_cors_headers_replace_those_of_the_app() {
    let own = || {
        let response = Response::text("x").with_header("access-control-allow-origin", "*");
        response.with_header("access-control-allow-credentials", "true").with_header("vary", "accept, cookie")
    };
    let get = |head: &ResponseHead, name: &str| head.headers.get(name).map(str::to_owned);
    let head = completed(PAGE, own(), &usual());
    assert_eq!(get(&head, "access-control-allow-origin").as_deref(), Some(PAGE));
    assert_eq!(get(&head, "access-control-allow-credentials").as_deref(), Some("true"));
    assert_eq!(get(&head, "vary").as_deref(), Some("accept, cookie, Origin"));
    let head = completed("", own(), &usual());
    assert_eq!(get(&head, "access-control-allow-origin"), None);
    assert_eq!(get(&head, "access-control-allow-credentials"), None);
    for vary in ["*", "accept, ORIGIN"] {
        let head = completed("", Response::text("x").with_header("vary", vary), &usual());
        assert_eq!(get(&head, "vary").as_deref(), Some(vary));
    }
}

#[test]
fn the_error_for_an_invalid_config_names_the_fault() {
    let cases = [
        (r#"{}"#, "missing field `origins`"),
        (r#"{"origins": ["*"], "credentials": true}"#, "`origins` can't contain \"*\" with `credentials = true`"),
        (r#"{"origins": [], "methods": ["*"], "credentials": true}"#, "`methods` can't contain \"*\""),
        (r#"{"origins": ["https://app.example.org/"]}"#, "write an origin such as https://app.example.org"),
        (r#"{"origins": ["https://*.example.org"]}"#, "write an origin such as"),
        (r#"{"origins": ["app.example.org"]}"#, "write an origin such as"),
        (r#"{"origins": [], "headers": ["a\r\nb"]}"#, "which is not visible ASCII"),
        (r#"{"origins": [], "max_age": "soon"}"#, "`max_age` is not a duration such as \"10m\""),
        (
            r#"{"origin": []}"#,
            "unknown field `origin`, expected one of `origins`, `methods`, `headers`, `credentials`, `max_age`",
        ),
    ];
    for (json, fault) in cases {
        let error = parse_settings::<Settings>(json).err().expect(json).to_string();
        assert!(error.contains(fault), "{json}: {error}");
    }
}
