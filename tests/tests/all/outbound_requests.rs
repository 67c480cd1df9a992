//! Tests how the host sends an outbound request: its request line, and the result of its
//! transmission that the guest gets.

use isopod_tests::{
    Bundle, Host, Upstream, guest,
    upstream::{Then, response},
    wait_for,
};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
};

const PROBES: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

fn deploy(host: &Host, app: &str, address: SocketAddr) {
    let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{address}\"]\n");
    host.deploy(app, Bundle::archive(&manifest, &guest(app)));
}

fn fetch(host: &Host, app: &str, address: SocketAddr, how: &str) -> Value {
    host.get(app, &format!("/fetch?authority={address}&{how}")).expect(200).json()
}

#[test]
fn the_request_line_of_an_empty_path_has_a_slash() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("reached"))));
    let cases = [
        ("GET", "", "GET / HTTP/1.1"),
        ("POST", "", "POST / HTTP/1.1"),
        ("GET", "%3Fx=1", "GET /?x=1 HTTP/1.1"),
        ("GET", "/", "GET / HTTP/1.1"),
        ("OPTIONS", "", "OPTIONS * HTTP/1.1"),
        ("OPTIONS", "/", "OPTIONS / HTTP/1.1"),
    ];
    for app in PROBES {
        deploy(&host, app, upstream.address);
        for (method, path, line) in cases {
            let outcome = fetch(&host, app, upstream.address, &format!("method={method}&p={path}"));
            assert_eq!(outcome["status"], 200, "{app} {line}: {outcome}");
            let last = upstream.requests().pop().expect("a request has arrived");
            assert_eq!(last.head.lines().next(), Some(line), "{app}");
        }
    }
}

/// A server that responds after the first ten bytes of a body.
struct Early {
    address: SocketAddr,
    /// The bytes of each connection until the client closed it.
    received: mpsc::Receiver<Vec<u8>>,
}

impl Early {
    /// Starts the server, which runs until the test's process ends. With `closes` it ends each
    /// connection after the response.
    fn start(closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (sender, received) = mpsc::sync_channel(PROBES.len());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(bytes) = respond(client, closes) else { continue };
                let _ = sender.send(bytes);
            }
        });
        Self { address, received }
    }
}

fn respond(mut client: TcpStream, closes: bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.windows(12).any(|window| window == b"xxxxxxxxxx\r\n") {
        let mut piece = [0; 4096];
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
    client.write_all(&response("early")).ok()?;
    if !closes {
        // Resets count as an end.
        let _ = client.read_to_end(&mut bytes);
    }
    Some(bytes)
}

#[test]
fn a_body_that_is_aborted_after_the_response_was_not_transmitted() {
    let (host, early) = (Host::start(), Early::start(false));
    for app in PROBES {
        deploy(&host, app, early.address);
        let outcome = fetch(&host, app, early.address, "method=POST&body=10&end=abandon&sent");
        assert_eq!((&outcome["status"], &outcome["body_bytes"]), (&200.into(), &5.into()), "{app}: {outcome}");
        // 0.2 has no result of the transmission.
        let sent = (app == "probe-wasi03").then_some("ErrorCode::InternalError(Some(\"abandoned\"))");
        assert_eq!(outcome["sent"].as_str(), sent, "{app}: {outcome}");
        let received = wait_for("the end of the connection", || early.received.try_recv().ok());
        assert!(!received.ends_with(b"0\r\n\r\n"), "{app}: the body must not look complete to the server");
    }
}

#[test]
fn a_body_that_the_server_stops_reading_was_not_transmitted() {
    let (host, early) = (Host::start(), Early::start(true));
    let app = "probe-wasi03";
    deploy(&host, app, early.address);
    let outcome = fetch(&host, app, early.address, "method=POST&body=10&end=leak&sent");
    assert_eq!((&outcome["status"], &outcome["body_bytes"]), (&200.into(), &5.into()), "{outcome}");
    assert_eq!(outcome["sent"], "ErrorCode::ConnectionTerminated", "{outcome}");
}

#[test]
fn a_complete_transmission_is_reported_to_the_guest() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("whole"))));
    let app = "probe-wasi03";
    deploy(&host, app, upstream.address);
    for how in [
        "",
        "method=HEAD",
        "method=OPTIONS",
        "method=DELETE",
        "method=POST",
        "method=POST&body=10",
        "method=POST&body=300000",
        "method=POST&body=10&h=content-length:10",
        "method=GET&body=10&h=content-length:10",
        "method=PUT&h=content-length:0",
    ] {
        // The second request may use the connection of the first.
        for _ in 0..2 {
            let outcome = fetch(&host, app, upstream.address, &format!("{how}&sent"));
            assert_eq!((&outcome["status"], &outcome["sent"]), (&200.into(), &"whole".into()), "{how}: {outcome}");
        }
    }
    let early = Early::start(false);
    deploy(&host, app, early.address);
    let how = "method=POST&body=10&h=trailer:x-sum&trailer=x-sum:1&sent";
    let outcome = fetch(&host, app, early.address, how);
    assert_eq!((&outcome["status"], &outcome["sent"]), (&200.into(), &"whole".into()), "{outcome}");
}
