//! Tests bodies that stream in both directions, their trailers, and the end of a guest's work when
//! its client disconnects.

use isopod_tests::{Ask, Bundle, Host, Neighbour, Wire, guest, wait_for};

/// Deploys an app with one slot, so that the next request detects a slot that was not released.
fn greedy_with_one_place(host: &Host, timeout: &str) {
    let manifest = format!("name = \"greedy\"\n[limits]\ninstances_max = 1\nrequest_timeout = \"{timeout}\"\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

fn begin(host: &Host, ask: Ask) -> Wire {
    let mut wire = host.wire();
    wire.ask(&host.to_app("greedy", ask)).expect("it can be sent");
    wire
}

#[test]
fn bytes_arrive_before_the_end_in_both_directions() {
    let host = Host::start();
    greedy_with_one_place(&host, "30s");
    let ask = Ask::post("/echo").header("transfer-encoding", "chunked").header("te", "trailers");
    let mut wire = begin(&host, ask);
    for word in ["one", "two", "three"] {
        wire.send_chunk(word.as_bytes()).expect("it can be sent");
        if word == "one" {
            assert_eq!(wire.head().expect("the head arrives before the request has ended").status, 200);
        }
        // Each word arrives before the next is sent.
        let mut came = Vec::new();
        while came.len() < word.len() {
            came.extend(wire.piece().expect("the body continues").expect("it has not ended"));
        }
        assert_eq!(String::from_utf8_lossy(&came), word);
    }
    wire.send_chunk(b"").expect("it can be sent");
    assert_eq!(wire.piece().expect("it is complete"), None);
}

/// RFC 9110, 6.5: over HTTP/1.1 only clients that request trailers get them, and the head names
/// them.
#[test]
fn trailers_are_echoed_over_http_1_1() {
    let host = Host::start();
    greedy_with_one_place(&host, "30s");
    for (te, named, came) in [
        ("trailers", "x-sum", vec![("x-sum".to_owned(), "14".to_owned())]),
        ("trailers", "x-other", Vec::new()),
        ("gzip", "x-sum", Vec::new()),
    ] {
        let ask = Ask::post("/echo").header("transfer-encoding", "chunked").header("te", te).header("trailer", named);
        let mut wire = begin(&host, ask);
        wire.send_chunk(b"there and back").expect("it can be sent");
        wire.send(b"0\r\nx-sum: 14\r\n\r\n").expect("it can be sent");
        let answer = wire.answer().expect("an answer").expect(200);
        assert_eq!((answer.text().as_str(), answer.trailers), ("there and back", came), "te: {te}, trailer: {named}");
    }
}

#[test]
fn a_large_body_streams_in_and_out() {
    let host = Host::start();
    greedy_with_one_place(&host, "30s");
    let mut wire = begin(&host, Ask::post("/count").header("transfer-encoding", "chunked"));
    let piece = vec![b'x'; 256 * 1024];
    for _ in 0..64 {
        wire.send_chunk(&piece).expect("it can be sent");
    }
    wire.send_chunk(b"").expect("it can be sent");
    assert_eq!(wire.answer().expect("an answer").expect(200).text(), (64 * piece.len()).to_string());
    let flood = host.get("greedy", &format!("/reply-flood?bytes={}", 16 << 20)).expect(200);
    assert_eq!(flood.body.len(), 16 << 20);
}

/// The guest's slot is released, although its request would last an hour.
#[test]
fn a_disconnected_client_frees_the_guests_slot() {
    let host = Host::start();
    greedy_with_one_place(&host, "1h");
    let neighbour = Neighbour::beside(&host);
    // Before the response's head: waiting for a timer, waiting for nothing, and busy.
    for path in ["/never", "/stuck", "/spin"] {
        let wire = begin(&host, Ask::get(path));
        drop(wire);
        assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok", "after {path}");
    }
    // In the middle of the response's body.
    let mut wire = begin(&host, Ask::get("/reply-flood"));
    assert_eq!(wire.head().expect("an answer").status, 200);
    assert!(wire.piece().expect("a piece").is_some());
    drop(wire);
    host.get("greedy", "/ok").expect(200);
    // In the middle of the request's body.
    let mut wire = begin(&host, Ask::post("/count").header("transfer-encoding", "chunked"));
    wire.send_chunk(b"half").expect("it can be sent");
    drop(wire);
    host.get("greedy", "/ok").expect(200);
    assert_eq!(host.state("greedy"), "running");
    neighbour.finish();
}

#[test]
fn a_client_that_does_not_read_holds_its_slot_at_most_until_the_timeout() {
    let host = Host::start();
    greedy_with_one_place(&host, "300ms");
    let _silent = begin(&host, Ask::get("/reply-flood"));
    wait_for("a free slot", || {
        let answer = host.get("greedy", "/ok");
        (answer.status == 200).then_some(())
    });
}

#[test]
fn requests_beyond_the_queue_are_rejected_and_queued_requests_complete() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\nqueue_max = 2\nrequest_timeout = \"30s\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let mut holding = begin(&host, Ask::post("/echo").header("transfer-encoding", "chunked"));
    holding.send_chunk(b"hold").expect("it can be sent");
    assert_eq!(holding.head().expect("an answer").status, 200);
    // Four requests for two places in the queue: any two wait, and the other two are rejected.
    let mut asked: Vec<Wire> = (0..4).map(|_| begin(&host, Ask::get("/ok"))).collect();
    let faults = "isopod_faults_total{app=\"greedy\",fault=\"queue-full\"}";
    wait_for("two rejections", || (host.metric(faults) >= 2.0).then_some(()));
    holding.send_chunk(b"").expect("it can be sent");
    let answers: Vec<_> = asked.iter_mut().map(|wire| wire.answer().expect("an answer")).collect();
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (2, 2));
    for answer in refused {
        answer.problem_of("greedy", 429, "queue-full");
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
}
