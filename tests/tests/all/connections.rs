//! Tests timeouts and limits of connections, and the detection of disconnected clients.

use isopod_tests::{Ask, Bundle, Host, Queue, Wire, guest, h2c::H2c, wait_for};
use std::net::SocketAddr;

/// The first bytes of an HTTP/2 client: the preface and empty settings.
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn host_with(connections: &str) -> Host {
    let host = Host::start_with("", &format!("[connections]\n{connections}"));
    host.deploy("hello", Bundle::component(guest("hello")));
    host
}

fn open(to: SocketAddr) -> Wire {
    Wire::open(to).expect("the host accepts connections")
}

fn saying(to: SocketAddr, said: &[u8]) -> Wire {
    let mut wire = open(to);
    wire.send(said).expect("it can be sent");
    wire
}

/// Returns requests that each address answers with 200.
fn asks(host: &Host) -> [(SocketAddr, Ask); 2] {
    [(host.listen, host.to_app("hello", Ask::get("/"))), (host.admin, Ask::get("/livez"))]
}

fn answered(wire: &mut Wire, ask: &Ask) {
    wire.ask(ask).expect("it can be sent");
    assert_eq!(wire.answer().expect("an answer").status, 200);
}

/// Returns the types of the frames that an HTTP/2 server sent.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [high, middle, low, kind, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    types
}

const GOAWAY: u8 = 7;

#[test]
fn an_idle_connection_outlives_the_head_timeout() {
    let host = host_with("head = \"300ms\"\n");
    for (address, ask) in asks(&host) {
        let mut idle = open(address);
        answered(&mut idle, &ask);
        // This takes longer than the head timeout.
        let said = saying(address, b"GET / HTTP/1.1\r\nhost: x\r\nx-half: ").until_end().expect("no reset");
        assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
        answered(&mut idle, &ask);
    }
}

#[test]
fn the_head_timeout_runs_from_the_first_byte() {
    let host = host_with("head = \"700ms\"\nidle = \"60s\"\n");
    for (address, ask) in asks(&host) {
        let mut wire = open(address);
        answered(&mut wire, &ask);
        // Empty lines before a request don't start its head.
        wire.send(b"\r\n").expect("it can be sent");
        assert!(open(address).until_end().expect("no reset").is_empty(), "the host sent a response to a silent client");
        answered(&mut wire, &ask);
        wire.send(b"GET /livez HTTP/1.1\r\nx-slow: ").expect("it can be sent");
        let said = wire.until_end().expect("no reset");
        assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_reset() {
    let host = host_with("idle = \"300ms\"\n");
    for (address, ask) in asks(&host) {
        let mut wire = open(address);
        answered(&mut wire, &ask);
        assert!(wire.until_end().expect("no reset").is_empty(), "the host sent bytes before the close");
        // Bytes that cross the host's FIN don't reset the connection.
        wire.send(ask.head().as_bytes()).expect("it can be sent");
        assert!(wire.until_end().expect("no reset").is_empty());
    }
}

#[test]
fn a_slow_body_is_neither_a_slow_head_nor_an_idle_connection() {
    let host = host_with("head = \"300ms\"\nidle = \"300ms\"\n");
    let mut slow = saying(host.listen, b"POST /echo HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: 4\r\n\r\nha");
    // Both timeouts expire meanwhile.
    for _ in 0..3 {
        open(host.listen).until_end().expect("no reset");
    }
    slow.send(b"lf").expect("it can be sent");
    assert_eq!(slow.answer().expect("an answer").expect(200).text(), "half");
}

#[test]
fn an_idle_http2_connection_gets_goaway_and_is_closed() {
    let host = host_with("head = \"300ms\"\nidle = \"300ms\"\n");
    for (address, _) in asks(&host) {
        let said = saying(address, HTTP2_HELLO).until_closed().expect("it is closed");
        assert!(frames(&said).contains(&GOAWAY), "{:?}", frames(&said));
    }
}

#[test]
fn an_old_http2_connection_takes_no_new_requests() {
    let host = host_with("age = \"1s\"\n");
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let mut answers = 0;
    wait_for("the connection's age", || match connection.ask("hello", &[Ask::get("/")], &[]) {
        Ok(answer) => {
            assert_eq!(answer[0].status, 200);
            answers += 1;
            None
        }
        Err(_) => Some(()),
    });
    assert!(answers > 1, "it served earlier requests");
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    assert_eq!(connection.ask("hello", &[Ask::get("/")], &[]).expect("an answer")[0].status, 200);
}

/// The response is larger than the one byte that the client permits, and small enough for hyper to
/// take it at a time.
#[test]
fn an_http2_connection_whose_client_does_not_read_a_response_is_closed() {
    let host = host_with("head = \"100ms\"\nwrite = \"200ms\"\n");
    let mut stuck = H2c::open_reluctant(host.listen).expect("the host speaks h2c");
    let unread = stuck.begin("hello", &[Ask::get("/")]).expect("a response");
    stuck.until_closed().expect("it is closed");
    drop(unread);
    // An idle connection is not closed at this time.
    let mut idle = H2c::open(host.listen).expect("the host speaks h2c");
    for _ in 0..2 {
        assert_eq!(idle.ask("hello", &[Ask::get("/")], &[]).expect("an answer")[0].status, 200);
        open(host.listen).until_end().expect("no reset");
    }
}

#[test]
fn liveness_is_answered_while_every_connection_is_taken() {
    let host = host_with("admin_max = 8\nhead = \"10min\"\n");
    let list = || host.api(Ask::get("/v1/apps"));
    let mut idle = Vec::new();
    // The host may not have closed an earlier connection yet, so the number of free slots is
    // unknown.
    let refused = wait_for("a crowded listener", || {
        idle.push(saying(host.admin, HTTP2_HELLO));
        Some(list()).filter(|answer| answer.status != 200)
    });
    let problem = refused.problem(503, "too-many-connections");
    assert!(refused.header("retry-after").is_some() && problem["request_id"].is_string(), "{refused}");
    let id = refused.header("x-request-id").expect("an id");
    wait_for("the line of the host's log", || host.said().contains(id).then_some(()));
    // More silent connections than the reserve has slots.
    let silent: Vec<Wire> = (0..30).map(|_| open(host.admin)).collect();
    for _ in 0..3 {
        for path in ["/livez", "/readyz"] {
            host.api_raw(&Ask::get(path)).expect(200);
        }
        let mut connection = H2c::open(host.admin).expect("the host speaks h2c");
        assert_eq!(connection.ask("x", &[Ask::get("/livez")], &[]).expect("an answer")[0].status, 200);
    }
    drop((idle, silent));
    wait_for("the API", || (list().status == 200).then_some(()));
}

#[test]
fn a_crowded_listener_closes_idle_connections_early() {
    let host = host_with("admin_max = 8\nhead = \"300ms\"\nidle = \"10min\"\n");
    let idle: Vec<Wire> = (0..8)
        .map(|index| match index % 2 {
            0 => saying(host.admin, HTTP2_HELLO),
            _ => open(host.admin),
        })
        .collect();
    wait_for("the API", || (host.api(Ask::get("/v1/apps")).status == 200).then_some(()));
    for mut wire in idle {
        wire.until_closed().expect("it was closed");
    }
}

#[test]
fn one_client_cannot_take_the_last_quarter_of_the_traffic_connections() {
    let host = host_with("traffic_max = 8\nhead = \"10min\"\n");
    let mut held = Vec::new();
    // As above, the number of free slots is unknown.
    let refused = wait_for("a rejection", || {
        held.push(open(host.listen));
        host.try_app("hello", Ask::get("/")).err()
    });
    assert!(refused.answer.is_none(), "{refused}");
    drop(held);
    wait_for("an answer", || host.try_app("hello", Ask::get("/")).ok().filter(|answer| answer.status == 200));
}

/// Starts a host with an app that has one instance and a long request timeout.
fn host_with_greedy() -> Host {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\nrequest_timeout = \"10m\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    host
}

#[test]
fn a_client_that_shuts_down_its_side_is_answered() {
    let host = host_with_greedy();
    let begin = |path: &str| {
        let mut wire = host.begin("greedy", Ask::get(path));
        wire.end_sending().expect("it can be shut down");
        wire
    };
    // The second request waits in the queue meanwhile.
    let (mut first, mut second) = (begin("/sleep?ms=1500"), begin("/ok"));
    assert_eq!(first.answer().expect("an answer").expect(200).text(), "ok");
    assert_eq!(second.answer().expect("an answer").expect(200).text(), "ok");
    assert_eq!(begin("/slow-reply").answer().expect("a whole answer").text(), "one two three four five");
    let mut old = saying(host.listen, b"GET /slow-reply HTTP/1.0\r\nhost: greedy.localhost\r\n\r\n");
    old.end_sending().expect("it can be shut down");
    let said = String::from_utf8_lossy(&old.until_end().expect("no reset")).into_owned();
    assert!(said.starts_with("HTTP/1.0 200 ") && said.ends_with("one two three four five"), "{said}");
    let mut sized = host.begin("greedy", Ask::post("/echo").body("text/plain", "there and back"));
    sized.end_sending().expect("it can be shut down");
    assert_eq!(sized.answer().expect("an answer").expect(200).text(), "there and back");
}

#[test]
fn a_client_of_the_api_that_shuts_down_its_side_is_answered() {
    let host = host_with_greedy();
    let mut wire = saying(host.admin, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
    wire.end_sending().expect("it can be shut down");
    assert_eq!(wire.answer().expect("an answer").status, 200);
    let mut wire = host.begin_event("greedy", "sleep", Queue::Pull);
    wire.end_sending().expect("it can be shut down");
    assert!(wire.answer().expect("an answer").status > 0);
}

#[test]
fn work_for_a_disconnected_client_is_cancelled() {
    let host = host_with_greedy();
    let until = |active, buffered| host.until_queue("greedy", Queue::Pull, active, buffered);
    for path in ["/never", "/stuck-mid-reply"] {
        let mut begun = host.begin("greedy", Ask::get(path));
        until(1, 0);
        if path == "/stuck-mid-reply" {
            assert_eq!(begun.head().expect("a head").status, 200);
            assert_eq!(begun.piece().expect("a piece").as_deref(), Some(&b"begun"[..]));
        }
        let queued = host.begin("greedy", Ask::get("/never"));
        until(1, 1);
        drop(queued);
        until(1, 0);
        drop(begun);
        until(0, 0);
    }
    host.get("greedy", "/ok").expect(200);
}

/// The kernel buffers a few MiB of a response; the rest waits for the client.
#[test]
fn a_connection_whose_client_reads_no_response_is_reset() {
    let host = Host::start_with("", "[connections]\nwrite = \"100ms\"\nhead = \"100ms\"\n");
    for app in ["greedy", "greedy-flat"] {
        host.deploy(app, Bundle::component(guest(app)));
        let unread = host.begin(app, Ask::get("/reply-flood?bytes=16777216"));
        unread.until_reset_unread();
        host.until_queue(app, Queue::Pull, 0, 0);
    }
    // The counterpart: a guest that works for longer than the timeout, whose client reads.
    let mut read = host.begin("greedy", Ask::get("/slow-reply"));
    assert_eq!(read.head().expect("a head").status, 200);
    let pieces = std::iter::from_fn(|| read.piece().expect("a piece"));
    assert_eq!(pieces.flatten().collect::<Vec<u8>>(), b"one two three four five");
}

/// The client already sent its FIN, so closing the socket sends nothing.
#[test]
fn a_client_that_disconnects_after_its_shutdown_is_detected() {
    let host = host_with_greedy();
    for path in ["/never", "/stuck-mid-reply"] {
        let mut begun = host.begin("greedy", Ask::get(path));
        begun.end_sending().expect("it can be shut down");
        host.until_queue("greedy", Queue::Pull, 1, 0);
        drop(begun);
        host.until_queue("greedy", Queue::Pull, 0, 0);
    }
}
