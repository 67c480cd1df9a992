//! Tests the rules that `isopod serve` shares with the host: its own address is unreachable,
//! proxies are trusted by address, and requests aborted by a shutdown are counted.

use crate::commands::serve;
use isopod_tests::{
    Ask, Shown, Wire,
    guests::guest_path,
    program::{self, Running},
};
use std::net::{SocketAddr, TcpListener};

#[test]
fn a_served_component_cannot_reach_its_own_address() {
    // The grant needs the port before the program listens.
    let port =
        TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it has an address").port();
    let (listen, grant) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}"));
    let file = guest_path("greedy");
    let file = file.to_str().expect("paths are text");
    let mut serving = Running::start(program::command(&["serve", file, "--addr", &listen, "--allow-http", &grant]));
    let address: SocketAddr =
        serving.line_on_stderr("Serving HTTP on http://").trim_end_matches('/').parse().expect("an address");
    for spelling in ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]"] {
        let path = format!("/fetch?url=http://{spelling}:{}/ok", address.port());
        let answer = Ask::get(path).send(address).expect("an answer");
        assert_eq!(answer.status, 502, "{spelling}: {answer}");
    }
}

#[test]
fn only_the_named_proxy_of_a_served_component_is_trusted() {
    let show = |flags: &[&str]| {
        let (_serving, address) = serve(&guest_path("probe-wasi02"), flags);
        let ask = Ask::get("/show").header("x-forwarded-for", "192.0.2.1").header("x-forwarded-proto", "https");
        Shown::read(&ask.send(address).expect("an answer").expect(200).text())
    };
    let trusted = show(&["--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "127.0.0.1"]);
    assert_eq!((trusted.scheme.as_deref(), trusted.header("x-real-ip")), (Some("https"), Some("192.0.2.1")));
    let other = show(&["--trusted-proxy", "10.0.0.0/8"]);
    assert_eq!((other.scheme.as_deref(), other.header("x-real-ip")), (Some("http"), Some("127.0.0.1")));
}

#[test]
fn an_invalid_trusted_proxy_is_named() {
    let file = guest_path("hello");
    let args = ["serve", file.to_str().expect("paths are text"), "--trusted-proxy", "proxy.example.org"];
    let refused = program::run(&args);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("`proxy.example.org`") && said.contains("10.0.0.0/8"), "{said}");
}

#[test]
fn requests_that_are_aborted_by_a_shutdown_are_counted() {
    let (mut serving, address) = serve(&guest_path("greedy"), &[]);
    let mut wires: Vec<Wire> = (0..2)
        .map(|_| {
            let mut wire = Wire::open(address).expect("a connection");
            wire.ask(&Ask::get("/stuck-mid-reply")).expect("it can be sent");
            assert_eq!(wire.head().expect("a head").status, 200);
            wire
        })
        .collect();
    let mut idle = Wire::open(address).expect("a connection");
    idle.ask(&Ask::get("/ok")).expect("it can be sent");
    assert_eq!(idle.answer().expect("an answer").status, 200);
    serving.signal(libc::SIGTERM);
    let status = serving.end();
    let said = serving.said();
    assert!(status.success() && said.contains("closed 2 connections with a request in progress, after 5 s"), "{said}");
    wires.clear();
}
