//! Tests `Expect: 100-continue`: a response before the body ends the connection, because the host
//! can't know whether the client still sends the body.

use isopod_tests::{Ask, Bundle, Host, PROBES, guest};

/// The client omits its body and sends the next request immediately.
#[test]
fn bytes_after_an_early_response_are_not_read_as_the_body() {
    let host = Host::start_with_probes();
    for probe in ["probe-wasi02", "probe-wasi03"] {
        let ask = Ask::post("/early?status=401").header("expect", "100-continue").header("content-length", "5");
        let mut wire = host.begin(probe, ask);
        wire.ask(&host.to_app(probe, Ask::get("/respond?chunk=3"))).expect("it can be sent");
        let answer = wire.answer().expect("an answer").expect(401);
        assert_eq!(answer.header("connection"), Some("close"), "{probe}: {answer}");
        let said = wire.until_closed().expect("the host closes the connection");
        assert!(said.is_empty(), "{probe}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn a_rejection_by_the_host_before_the_body_closes_the_connection() {
    let host = Host::start_with_probes();
    let begin = |app: &str, length: &str| {
        let ask = Ask::post("/").header("expect", "100-continue").header("content-length", length);
        let mut wire = host.begin(app, ask);
        wire.any_head().expect("a head")
    };
    for (app, length, status) in [("nobody", "5", 404), ("probe-flat", "99999999999", 413)] {
        let head = begin(app, length).expect(status);
        assert_eq!(head.header("connection"), Some("close"), "{app}: {head}");
    }
}

#[test]
fn a_connection_is_kept_after_the_body_was_read() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let mut wire = host.wire();
        for _ in 0..2 {
            let ask = Ask::post("/show").header("expect", "100-continue").header("content-length", "5");
            wire.ask(&host.to_app(probe, ask)).expect("it can be sent");
            assert_eq!(wire.any_head().expect("a head").status, 100, "{probe}");
            wire.send(b"hello").expect("it can be sent");
            let answer = wire.answer().expect("an answer").expect(200);
            assert_eq!((answer.header("connection"), answer.json()["body_bytes"].as_u64()), (None, Some(5)), "{probe}");
        }
    }
}

/// The guest begins its response before it reads the body.
#[test]
fn a_guest_that_streams_the_body_back_asks_for_it_first() {
    let host = Host::start_with_probes();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let paths = [
        ("probe-wasi02", "/echo"),
        ("probe-wasi02", "/echo?ms=50"),
        ("probe-wasi03", "/echo"),
        ("probe-wasi03", "/pass"),
        ("greedy", "/echo"),
    ];
    for (probe, path) in paths {
        let mut wire = host.wire();
        for length in ["content-length: 5", "transfer-encoding: chunked"] {
            let (name, value) = length.split_once(": ").expect("a header");
            let ask = Ask::post(path).header("expect", "100-continue").header(name, value);
            wire.ask(&host.to_app(probe, ask)).expect("it can be sent");
            assert_eq!(wire.any_head().expect("a head").status, 100, "{probe}{path}");
            match name {
                "content-length" => wire.send(b"hello"),
                _ => wire.send_chunk(b"hello").and_then(|()| wire.send_chunk(b"")),
            }
            .expect("it can be sent");
            let answer = wire.answer().expect("an answer").expect(200);
            assert_eq!((answer.header("connection"), answer.text().as_str()), (None, "hello"), "{probe}{path}");
        }
    }
}

/// The client got a response instead of `100 Continue`, so the next bytes may be a request.
#[test]
fn a_guest_cannot_read_the_body_after_the_head_of_its_response() {
    let host = Host::start_with_probes();
    for probe in ["probe-wasi02", "probe-wasi03"] {
        let ask = Ask::post("/echo?ms=4000").header("expect", "100-continue").header("content-length", "5");
        let mut wire = host.begin(probe, ask);
        let head = wire.any_head().expect("a head").expect(200);
        assert_eq!(head.header("connection"), Some("close"), "{probe}: {head}");
        wire.ask(&host.to_app(probe, Ask::get("/respond?chunk=3"))).expect("it can be sent");
        let said = wire.until_closed().expect("the host closes the connection");
        assert!([&b""[..], b"0\r\n\r\n"].contains(&&*said), "{probe}: {}", String::from_utf8_lossy(&said));
        let id = head.header("x-request-id").expect("an id");
        let line =
            host.log_line(probe, "of the request", |line| line["stream"] == "access" && line["request_id"] == id);
        assert_eq!(line["fault"], "bad-request", "{probe}: {line}");
    }
}

/// hyper knows no other expectation, so its client doesn't wait.
#[test]
fn another_expectation_does_not_hold_back_the_body() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let mut wire = host.wire();
        for path in ["/early", "/show"] {
            let ask = Ask::post(path).header("expect", "200-ok").body("text/plain", vec![b'x'; 300_000]);
            wire.ask(&host.to_app(probe, ask)).expect("it can be sent");
            let answer = wire.answer().expect("an answer").expect(200);
            assert_eq!(answer.header("connection"), None, "{probe}{path}: {answer}");
        }
    }
}
