//! Tests properties of every response: HTTP/1.1 and HTTP/2, request ids, and problems that name the
//! app.

use isopod_tests::{Ask, Bundle, Host, guest, h2c::H2c};

#[test]
fn http_2_without_tls_is_supported() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let asks: Vec<Ask> = (0..20).map(|_| Ask::get("/")).collect();
    for answer in connection.ask("hello", &asks, &[]).expect("all are answered") {
        assert_eq!((answer.status, answer.text().as_str()), (200, "Hello, world!"));
        assert!(answer.header("x-request-id").is_some(), "{answer}");
    }
    let echo = Ask::post("/echo").body("text/plain", "there and back");
    let answers = connection.ask("greedy", &[echo], &[("x-sum", "14")]).expect("it is answered");
    assert_eq!(answers[0].text(), "there and back");
    assert_eq!(answers[0].trailers, [("x-sum".to_owned(), "14".to_owned())], "the guest echoes the trailers");
    let answers = connection.ask("nobody", &[Ask::get("/")], &[]).expect("it is answered");
    answers[0].problem_of("nobody", 404, "unknown-app");
}

#[test]
fn every_problem_names_the_app_and_the_request() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.create("empty", "dev");
    host.get("greedy", "/panic").problem_of("greedy", 502, "app-failed");
    host.get("empty", "/").problem_of("empty", 503, "app-unavailable");
    host.get("nobody", "/").problem_of("nobody", 404, "unknown-app");
    host.api(Ask::get("/v1/apps/nobody")).problem_of("nobody", 404, "unknown-app");
    assert!(host.get("empty", "/").header("retry-after").is_some());
    let secret = host.get("greedy", "/error").expect(500);
    assert!(!secret.text().contains("secret"), "the response shows a guest's error text: {secret}");
}

#[test]
fn request_ids_are_unique_and_on_every_response() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let mut ids: Vec<String> = (0..20)
        .map(|_| host.get("hello", "/").header("x-request-id").expect("each answer has one").to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn a_host_name_without_an_app_gets_a_problem() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let to = |name: &str| Ask::get("/").header("host", name).send(host.listen).expect("an answer");
    assert_eq!(to("HELLO.localhost:8080").expect(200).text(), "Hello, world!");
    to("example.org").problem(404, "unknown-app");
    to("localhost").problem(404, "unknown-app");
    to("v9--hello.localhost").problem_of("hello", 404, "unknown-part");
    to("web-7f3k2--hello.localhost").problem_of("hello", 404, "unknown-part");
    to("nonsense--hello.localhost").problem_of("hello", 404, "unknown-part");
    to("v9--nobody.localhost").problem(404, "unknown-app");
    to("..localhost").problem(404, "unknown-app");
    to(&format!("{}.localhost", "x".repeat(300))).problem(404, "unknown-app");
    for (hosts, reported) in
        [("", "names no host"), ("host: hello.localhost\r\nhost: other.localhost\r\n", "names several hosts")]
    {
        let mut wire = host.wire();
        wire.send(format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes()).expect("it can be sent");
        let answer = wire.answer().expect("an answer");
        answer.problem(400, "no-host");
        assert!(answer.text().contains(reported), "{answer}");
    }
}

#[test]
fn only_health_endpoints_need_no_token() {
    let host = Host::start();
    for path in ["/livez", "/readyz"] {
        host.api_raw(&Ask::get(path)).expect(200);
    }
    for path in ["/", "/metrics", "/v1/apps", "/v1/openapi.json", "/v1/status", "/v1/tokens", "/nowhere"] {
        host.api_raw(&Ask::get(path)).problem(401, "no-token");
    }
    let described = host.api(Ask::get("/v1/openapi.json")).expect(200).json();
    assert!(described["paths"]["/v1/apps/{app}/pushes"]["post"].is_object(), "the API describes itself");
}
