//! Tests that every request is normalised before it reaches a guest, over every protocol and
//! interface.

use isopod_tests::{
    Ask, Host, PROBES, Raw, Shown,
    guests::guest_path,
    h2c::H2c,
    program::{self, Running},
};
use std::net::SocketAddr;

fn send(to: SocketAddr, head: &str) -> Raw {
    let connection = if head.to_ascii_lowercase().contains("\r\nconnection:") { "" } else { "connection: close\r\n" };
    Raw::exchange(to, &format!("{head}{connection}\r\n"))
}

/// Sends a request to each probe, with APP replaced by its name, and returns the request, which
/// must be the same for all probes.
#[track_caller]
fn shown_by_all(host: &Host, head: &str) -> Shown {
    let mut all = PROBES.map(|probe| {
        // Without it, each request would begin its own trace.
        let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n";
        let answer = send(host.listen, &format!("{}{trace}", head.replace("APP", probe)));
        assert_eq!(answer.status, 200, "{probe}: {}", answer.text());
        Shown::read(&answer.text().replace(probe, "APP"))
    });
    let [flat, wasi02, wasi03] = &mut all;
    assert_eq!(wasi02, flat, "0.2 receives the same request as the flat interface");
    assert_eq!(wasi03, flat, "0.3 receives the same request as the flat interface");
    flat.clone()
}

#[test]
fn guests_of_every_interface_receive_the_same_request() {
    let host = Host::start_with_probes();
    let shown = shown_by_all(&host, "GET /show?a=%20b HTTP/1.1\r\nHost: APP.localhost:8080\r\nX-A: 1\r\n");
    assert_eq!(shown.scheme.as_deref(), Some("http"));
    assert_eq!(shown.authority.as_deref(), Some("APP.localhost:8080"));
    assert_eq!(shown.path.as_deref(), Some("/show?a=%20b"));
    assert_eq!(shown.header("host"), Some("APP.localhost:8080"));
    assert_eq!(shown.header("x-a"), Some("1"));
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        let answers = connection.ask(probe, &[Ask::get("/show?q")], &[]).expect("it is answered");
        let shown = Shown::read(&answers[0].text());
        assert_eq!(shown.scheme.as_deref(), Some("http"), "{probe}");
        assert_eq!(shown.authority, Some(format!("{probe}.localhost")));
        assert_eq!(shown.header("host"), shown.authority.as_deref());
        assert_eq!(shown.path.as_deref(), Some("/show?q"));
    }
}

#[test]
fn the_authority_of_an_absolute_target_takes_precedence() {
    let host = Host::start_with_probes();
    for (target, path) in [
        ("http://APP.localhost/show", "/show"),
        ("https://APP.localhost/show", "/show"),
        ("http://APP.localhost?q", "/?q"),
        ("http://APP.localhost", "/"),
    ] {
        let shown = shown_by_all(&host, &format!("GET {target} HTTP/1.1\r\nHost: other.localhost\r\n"));
        assert_eq!(shown.authority.as_deref(), Some("APP.localhost"), "{target}");
        assert_eq!(shown.header("host"), Some("APP.localhost"), "{target}");
        assert_eq!((shown.scheme.as_deref(), shown.path.as_deref()), (Some("http"), Some(path)), "{target}");
    }
}

#[test]
fn a_target_that_is_neither_path_nor_url_is_rejected() {
    let host = Host::start_with_probes();
    for (line, code) in [
        ("GET probe-wasi02.localhost HTTP/1.1", "bad-target"),
        ("GET * HTTP/1.1", "bad-target"),
        ("POST * HTTP/1.1", "bad-target"),
        ("GET http://u@probe-flat.localhost/ HTTP/1.1", "bad-host"),
        ("GET http://u:p@probe-flat.localhost/ HTTP/1.1", "bad-host"),
        ("GET http://probe-flat.localhost:99999/ HTTP/1.1", "bad-host"),
        ("GET ftp://probe-flat.localhost/ HTTP/1.1", "bad-target"),
    ] {
        let answer = send(host.listen, &format!("{line}\r\nHost: probe-flat.localhost\r\n"));
        assert_eq!(answer.status, 400, "{line}: {answer:?}");
        assert!(answer.text().contains(&format!("urn:isopod:problem:{code}")), "{line}: {}", answer.text());
    }
}

#[test]
fn options_of_asterisk_is_answered_by_the_host() {
    let host = Host::start_with_probes();
    let answer = send(host.listen, "OPTIONS * HTTP/1.1\r\nHost: probe-flat.localhost\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{answer:?}");
    assert!(answer.header("x-request-id").is_some());
    let answer = send(host.listen, "OPTIONS /show HTTP/1.1\r\nHost: probe-flat.localhost\r\n");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn an_invalid_host_is_rejected() {
    let host = Host::start_with_probes();
    let app = "probe-flat.localhost";
    for fields in [
        format!("Host: u@{app}"),
        format!("Host: {app} b"),
        format!("Host: {app}:99999"),
        format!("Host: {app}:http"),
        format!("Host: {app}:80:80"),
        "Host:".to_owned(),
        "Host: [::1".to_owned(),
        "Host: %70robe-flat.localhost".to_owned(),
        format!("Host: http://{app}"),
        format!("Host: {app}\r\nHost: {app}"),
        "X-A: no host at all".to_owned(),
    ] {
        let answer = send(host.listen, &format!("GET /show HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(answer.status, 400, "{fields}: {answer:?}");
        assert!(answer.text().contains("request_id"), "{fields}: {}", answer.text());
    }
    for (line, fields) in [
        ("GET /show HTTP/1.1", "Host: PROBE-flat.localhost.:8080"),
        ("GET /show HTTP/1.0", "Host: probe-flat.localhost:"),
    ] {
        let answer = send(host.listen, &format!("{line}\r\n{fields}\r\n"));
        assert_eq!(answer.status, 200, "{fields}: {answer:?}");
    }
}

#[test]
fn over_http_2_host_and_authority_must_agree() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for (name, status) in [("probe-flat.localhost", 200), ("PROBE-flat.localhost", 200), ("other.localhost", 400)] {
        let ask = Ask::get("/show").header("host", name);
        let answers = connection.ask("probe-flat", &[ask], &[]).expect("it is answered");
        assert_eq!(answers[0].status, status, "{name}: {}", answers[0]);
    }
}

#[test]
fn a_body_with_an_unknown_coding_reaches_no_guest() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        for (codings, status) in [
            ("transfer-encoding: gzip, chunked", 501),
            ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", 501),
            ("transfer-encoding: identity, chunked", 501),
            ("transfer-encoding: chunked, chunked", 400),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
            ("transfer-encoding: chunked, gzip", 400),
            ("transfer-encoding: gzip", 400),
        ] {
            let head = format!("POST /show HTTP/1.1\r\nhost: {probe}.localhost\r\n{codings}\r\n\r\n");
            let answer = Raw::exchange(host.listen, &format!("{head}5\r\nhello\r\n0\r\n\r\n"));
            assert_eq!(answer.status, status, "{probe}: {codings}: {answer:?}");
        }
        let head = format!("POST /show HTTP/1.1\r\nhost: {probe}.localhost\r\nconnection: close\r\n");
        let answer =
            Raw::exchange(host.listen, &format!("{head}Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(answer.status, 200, "{probe}: {answer:?}");
        assert_eq!(Shown::read(&answer.text()).header("transfer-encoding"), None);
    }
}

#[test]
fn cookies_that_http_2_splits_are_joined() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        let ask = Ask::get("/show").header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3; d=4");
        let answers = connection.ask(probe, &[ask], &[]).expect("it is answered");
        assert_eq!(Shown::read(&answers[0].text()).header("cookie"), Some("a=1; b=2; c=3; d=4"), "{probe}");
    }
}

#[test]
fn hop_by_hop_headers_reach_no_guest() {
    let host = Host::start_with_probes();
    let head = "GET /show HTTP/1.1\r\nHost: APP.localhost\r\nConnection: close, X-Hop, x-forwarded-for, host, TE\r\n\
        Keep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: close\r\nTE: trailers, gzip\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Hop: 1\r\nX-End: 2\r\n";
    let shown = shown_by_all(&host, head);
    let mut names: Vec<_> = shown.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.retain(|name| !name.starts_with("x-forwarded-") && *name != "x-real-ip");
    assert_eq!(names, ["host", "te", "traceparent", "x-end"], "{shown:?}");
    assert_eq!(shown.header("te"), Some("trailers"));
    assert_eq!(shown.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn serve_accepts_only_http_1_0_requests_without_a_host() {
    for probe in PROBES {
        let file = guest_path(probe);
        let file = file.to_str().expect("paths are text");
        let mut serving = Running::start(program::command(&["serve", file, "--addr", "127.0.0.1:0"]));
        let address = serving.line_on_stderr("Serving HTTP on http://");
        let address: SocketAddr = address.trim_end_matches('/').parse().expect("an address");
        let old = send(address, "GET /show HTTP/1.0\r\n");
        assert_eq!(old.status, 200, "{probe}: {old:?}");
        let shown = Shown::read(&old.text());
        assert_eq!(shown.authority, Some(address.to_string()));
        assert_eq!(shown.header("host"), shown.authority.as_deref());
        for fields in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n", "Host: u@a\r\n"] {
            let answer = send(address, &format!("GET /show HTTP/1.1\r\n{fields}"));
            assert_eq!(answer.status, 400, "{probe}: {fields}: {answer:?}");
        }
        assert_eq!(send(address, "GET /show HTTP/1.0\r\nHost: a\r\nHost: b\r\n").status, 400);
        assert_eq!(send(address, "GET /show HTTP/1.1\r\nHost: whatever.example.org\r\n").status, 200);
    }
}
