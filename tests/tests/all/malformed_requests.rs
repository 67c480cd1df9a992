//! Tests requests that HTTP forbids: each response has a request id and a problem, and none writes
//! to the host's own log.

use isopod_tests::{Ask, Host, PROBES, Raw, Shown, Wire, h2c::H2c};
use serde_json::Value;
use std::net::SocketAddr;

/// Sends these bytes, and checks that the connection ends with this problem.
#[track_caller]
fn refused(to: SocketAddr, bytes: &str, status: u16, code: &str) -> Value {
    let answer = Raw::exchange(to, bytes);
    let shown: String = bytes.chars().take(80).collect();
    assert_eq!(answer.status, status, "{shown}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
    assert_eq!(answer.header("connection"), Some("close"), "{shown}");
    assert_eq!(answer.header("x-isopod-error-source"), Some("host"), "{shown}");
    assert_eq!(answer.header("content-length"), Some(answer.rest.len().to_string().as_str()), "{shown}");
    let problem: Value = serde_json::from_slice(&answer.rest).expect("the body is JSON");
    assert_eq!(problem["type"], format!("urn:isopod:problem:{code}"), "{shown}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{shown}");
    assert!(answer.header("x-request-id").is_some(), "{shown}");
    problem
}

#[test]
fn an_invalid_head_gets_a_problem_response() {
    let host = Host::start();
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "a: b\r\n".repeat(101));
    for to in [host.listen, host.admin] {
        refused(to, "no request\r\n\r\n", 400, "bad-head");
        refused(to, "GET / HTTP/1.1\r\nhost: a\r\nno field\r\n\r\n", 400, "bad-head");
        refused(
            to,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            400,
            "bad-head",
        );
        refused(to, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 400, "bad-head");
        refused(to, "GET / HTTP/3.0\r\nhost: a\r\n\r\n", 400, "bad-head");
        refused(to, &large, 431, "head-too-large");
        refused(to, &many, 431, "head-too-large");
    }
}

/// The client has shut down its sending direction, so the rest can't arrive.
#[test]
fn a_truncated_head_gets_a_problem_response() {
    let host = Host::start();
    for to in [host.listen, host.admin] {
        for bytes in ["GET", "GET / HTTP/1.1\r\nhost: a"] {
            let mut wire = Wire::open(to).expect("the host accepts connections");
            wire.send(bytes.as_bytes()).expect("it can be sent");
            wire.end_sending().expect("it can be closed");
            let answer = wire.answer().expect("an answer");
            answer.problem(400, "bad-head");
            assert_eq!(answer.header("connection"), Some("close"), "{bytes}");
        }
        let mut wire = Wire::open(to).expect("the host accepts connections");
        wire.end_sending().expect("it can be closed");
        assert!(wire.until_end().expect("the host closes the connection").is_empty(), "the client sent no request");
    }
}

/// The bytes after a complete response start another head.
#[test]
fn an_invalid_head_after_a_request_gets_a_problem_response() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let mut wire = host.begin(probe, Ask::get("/respond?chunk=3"));
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "xxx", "{probe}");
        wire.send(b"no request\r\n\r\n").expect("it can be sent");
        let answer = wire.answer().expect("an answer").expect(400);
        assert_eq!(answer.json()["type"], "urn:isopod:problem:bad-head", "{probe}");
    }
}

#[test]
fn a_slow_head_gets_a_problem_response() {
    let host = Host::start_with("", "[connections]\nhead = \"1s\"\n");
    for to in [host.listen, host.admin] {
        refused(to, "GET / HTTP/1.1\r\nhost: ", 408, "head-too-slow");
    }
}

#[test]
fn an_invalid_chunked_body_closes_its_connection() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let head = format!("POST /show HTTP/1.1\r\nhost: {probe}.localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        for body in ["zz\r\nhello\r\n", "5\r\nhelloXX", "5\r\nhello\r\n0\r\nno field\r\n\r\n"] {
            let problem = refused(host.listen, &format!("{head}{body}"), 400, "body-broken");
            let detail = problem["detail"].as_str().expect("it has a detail");
            assert!(detail.contains(": "), "{probe}: the cause is named: {detail}");
        }
    }
}

#[test]
fn an_unsupported_coding_closes_its_connection() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let head = format!("POST / HTTP/1.1\r\nhost: {probe}.localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n");
        refused(host.listen, &format!("{head}5\r\nhello\r\n0\r\n\r\n"), 501, "unknown-coding");
    }
}

/// The admin address follows the same rules: the API would parse an undecoded body as JSON.
#[test]
fn the_admin_address_checks_host_and_coding_too() {
    let host = Host::start();
    let token = format!("authorization: Bearer {}\r\nconnection: close\r\n", host.token);
    for (line, fields, status, code) in [
        ("GET /v1/apps HTTP/1.1", "", 400, "no-host"),
        ("GET /v1/apps HTTP/1.1", "host: a\r\nhost: a\r\n", 400, "no-host"),
        ("GET /v1/apps HTTP/1.1", "host: a b\r\n", 400, "bad-host"),
        ("GET /v1/apps HTTP/1.1", "host: a:99999\r\n", 400, "bad-host"),
        ("GET http://u:p@a/v1/apps HTTP/1.1", "host: a\r\n", 400, "bad-host"),
        ("CONNECT a:80 HTTP/1.1", "host: a\r\n", 501, "no-tunnels"),
        ("POST /v1/apps HTTP/1.1", "host: a\r\ntransfer-encoding: gzip, chunked\r\n", 501, "unknown-coding"),
        ("POST /v1/apps HTTP/1.1", "host: a\r\ntransfer-encoding: chunked, chunked\r\n", 400, "bad-coding"),
    ] {
        refused(host.admin, &format!("{line}\r\n{fields}{token}\r\n0\r\n\r\n"), status, code);
    }
    for (line, fields) in [
        ("GET /v1/apps HTTP/1.0", ""),
        ("GET /v1/apps HTTP/1.1", "host: a\r\n"),
        ("GET /livez HTTP/1.0", ""),
        ("GET http://b/v1/apps HTTP/1.1", "host: a\r\n"),
    ] {
        let answer = Raw::exchange(host.admin, &format!("{line}\r\n{fields}{token}\r\n"));
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
    }
}

#[test]
fn a_user_name_in_a_target_is_named() {
    let host = Host::start();
    for target in ["http://u@h/", "http://u:p@h/", "http://u:p@h:80/"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let problem = refused(host.listen, &bytes, 400, "bad-host");
        let detail = problem["detail"].as_str().expect("it has a detail");
        assert!(detail.contains("user name") && !detail.contains("port"), "{target}: {detail}");
    }
}

#[test]
fn equal_lengths_reach_a_guest_as_one_and_different_lengths_are_rejected() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        let ask = |lengths: [&str; 2]| {
            let ask = Ask::post("/show").header("content-length", lengths[0]).header("content-length", lengths[1]);
            Ask { body: b"hello".to_vec(), ..ask }
        };
        let answers = connection.ask(probe, &[ask(["5", "5"])], &[]).expect("it is answered");
        assert_eq!(Shown::read(&answers[0].text()).header("content-length"), Some("5"), "{probe}");
        let answer = host.app(probe, ask(["5", "5"])).expect(200);
        assert_eq!(Shown::read(&answer.text()).header("content-length"), Some("5"), "{probe} over HTTP/1");
        let mut other = H2c::open(host.listen).expect("the host speaks h2c");
        assert!(other.ask(probe, &[ask(["5", "6"])], &[]).is_err(), "{probe}: the stream is reset");
    }
}

/// Otherwise any client could fill the log.
#[test]
fn malformed_requests_write_nothing_to_the_hosts_log() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        Raw::exchange(host.listen, "no request\r\n\r\n");
        let head = format!("POST /show HTTP/1.1\r\nhost: {probe}.localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        Raw::exchange(host.listen, &format!("{head}zz\r\n"));
        for ask in [
            Ask::post("/show").header("content-length", "9").body("text/plain", "hello"),
            Ask::get("/show").header("x-large", "a".repeat(70_000)),
        ] {
            let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
            drop(connection.ask(probe, &[ask], &[]));
        }
        let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
        connection.ask(probe, &[Ask::get("/show")], &[]).expect("a valid request is answered");
    }
    let said = host.said();
    let warnings: Vec<_> = said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}
