//! Bodies that stream both ways, their trailers, and what becomes of the guest when its client goes away.

use isopod_tests::{Ask, Bundle, Host, Neighbour, Wire, guest, wait_for};

/// An app with one place for a request, so that a place which is not given back is seen at once.
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
            assert_eq!(wire.head().expect("the head comes before the request has ended").status, 200);
        }
        // Each word comes back before the next one is sent.
        let mut came = Vec::new();
        while came.len() < word.len() {
            came.extend(wire.piece().expect("it goes on").expect("it has not ended"));
        }
        assert_eq!(String::from_utf8_lossy(&came), word);
    }
    wire.send_chunk(b"").expect("it can be sent");
    assert_eq!(wire.piece().expect("it ends well"), None);
}

/// RFC 9110, 6.5: over HTTP/1.1 they are for clients that ask for them, and are named in the head.
#[test]
fn trailers_go_there_and_back_over_http_1_1() {
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

/// The guest's place is free again although its request would go on for an hour.
#[test]
fn a_client_that_goes_away_frees_the_guests_place() {
    let host = Host::start();
    greedy_with_one_place(&host, "1h");
    let neighbour = Neighbour::beside(&host);
    // Before the answer's head: waiting on a timer, waiting for nothing, and busy.
    for path in ["/never", "/stuck", "/spin"] {
        let wire = begin(&host, Ask::get(path));
        drop(wire);
        assert_eq!(host.get("greedy", "/ok").expect(200).text(), "ok", "after {path}");
    }
    // In the middle of the answer's body.
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
fn a_client_that_reads_nothing_holds_its_place_no_longer_than_the_timeout() {
    let host = Host::start();
    greedy_with_one_place(&host, "300ms");
    let _silent = begin(&host, Ask::get("/reply-flood"));
    wait_for("the place", || {
        let answer = host.get("greedy", "/ok");
        (answer.status == 200).then_some(())
    });
}

#[test]
fn requests_beyond_the_queue_are_refused_and_those_in_it_answered() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\nqueue_max = 2\nrequest_timeout = \"30s\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let mut holding = begin(&host, Ask::post("/echo").header("transfer-encoding", "chunked"));
    holding.send_chunk(b"hold").expect("it can be sent");
    assert_eq!(holding.head().expect("an answer").status, 200);
    // Four more than there is room for: two wait, two are refused, whichever these are.
    let mut asked: Vec<Wire> = (0..4).map(|_| begin(&host, Ask::get("/ok"))).collect();
    let faults = "isopod_faults_total{app=\"greedy\",fault=\"queue-full\"}";
    wait_for("two refusals", || (host.metric(faults) >= 2.0).then_some(()));
    holding.send_chunk(b"").expect("it can be sent");
    let answers: Vec<_> = asked.iter_mut().map(|wire| wire.answer().expect("an answer")).collect();
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (2, 2));
    for answer in refused {
        answer.problem_of("greedy", 429, "queue-full");
        assert!(answer.header("retry-after").is_some(), "{answer}");
    }
}
