//! Tests clients that are slow, send incomplete requests or send invalid bytes: the host
//! disconnects them, and they delay no other client.

use isopod_tests::{Ask, Bundle, Host, Neighbour, Wire, guest, wait_for};

/// Starts an app with a single slot, which slow clients must not occupy.
fn host_with_one_place() -> Host {
    let host = Host::start();
    let manifest = "name = \"hello\"\n[limits]\ninstances_max = 1\nqueue_max = 1\n";
    host.deploy("hello", Bundle::archive(manifest, &guest("hello")));
    host
}

/// Each client sends a part of a request and then nothing. The host closes all connections, and
/// none occupies the app's only slot.
#[test]
fn a_client_that_sends_half_a_request_is_disconnected_and_holds_no_slot() {
    let host = host_with_one_place();
    let asking = Neighbour::asking(host.listen, "hello", |text| text == "Hello, world!");
    let bearer = format!("authorization: Bearer {}", host.token);
    let open = |to, said: String| {
        let mut wire = Wire::open(to).expect("the host accepts connections");
        wire.send(said.as_bytes()).expect("it can be sent");
        wire
    };
    let app = "host: hello.localhost";
    let silent = vec![
        ("no word", open(host.listen, String::new())),
        ("no word to the API", open(host.admin, String::new())),
        ("half a request line", open(host.listen, "GET / HT".to_owned())),
        ("half a head", open(host.listen, format!("GET / HTTP/1.1\r\n{app}\r\nx-half: "))),
        ("half a head for the API", open(host.admin, "GET /livez HTTP/1.1\r\nhost: x\r\n".to_owned())),
        ("half a preface of HTTP/2", open(host.listen, "PRI * HTTP/2.0\r\n".to_owned())),
    ];
    let half = vec![
        ("half a body", open(host.listen, format!("POST /echo HTTP/1.1\r\n{app}\r\ncontent-length: 10\r\n\r\nhalf"))),
        (
            "half a body for the API",
            open(
                host.admin,
                format!(
                    "POST /v1/apps HTTP/1.1\r\nhost: x\r\n{bearer}\r\ncontent-type: application/json\r\n\
                     content-length: 100\r\n\r\n{{"
                ),
            ),
        ),
        (
            "half an upload",
            open(
                host.admin,
                format!(
                    "POST /v1/apps/slow/pushes HTTP/1.1\r\nhost: x\r\n{bearer}\r\ncontent-type: application/wasm\r\n\
                     content-length: 100\r\n\r\n\0asm"
                ),
            ),
        ),
    ];
    for (what, mut wire) in silent {
        wire.until_closed().unwrap_or_else(|error| panic!("{what} is not disconnected: {error}"));
    }
    for (what, mut wire) in half {
        let answer = wire.answer().unwrap_or_else(|broken| panic!("{what} got no response: {broken}"));
        answer.problem(408, "body-too-slow");
    }
    asking.finish();
}

#[test]
fn a_slow_body_holds_no_instance_until_it_is_complete() {
    let host = host_with_one_place();
    let mut slow: Vec<Wire> = (0..5).map(|_| host.wire()).collect();
    for wire in &mut slow {
        let head = b"POST /echo HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: 8\r\n\r\nslo";
        wire.send(head).expect("it can be sent");
    }
    for _ in 0..5 {
        host.get("hello", "/").expect(200);
    }
    for (index, wire) in slow.iter_mut().enumerate() {
        wire.send(b"wly!!").expect("it can be sent");
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "slowly!!", "client {index}");
    }
}

/// The client would occupy the app's only slot until the request timeout, which is longer than the
/// next client waits.
#[test]
fn a_client_that_does_not_read_a_large_response_loses_its_slot_to_the_next() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\ninstances_max = 1\nrequest_timeout = \"50s\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let mut deaf = host.wire();
    deaf.ask(&host.to_app("greedy", Ask::get("/reply-flood"))).expect("it can be sent");
    assert_eq!(deaf.head().expect("the answer begins").status, 200);
    host.get("greedy", "/ok").expect(200);
    while deaf
        .piece()
        .is_ok_and(|piece| !piece.expect("it was disconnected: its response has no proper end").is_empty())
    {}
    let reported = host.log("greedy");
    assert!(reported.iter().all(|line| line["context"] != "isopod"), "the log blames the app: {reported:?}");
}

#[test]
fn invalid_bytes_are_rejected_without_harm_to_others() {
    let host = host_with_one_place();
    let asking = Neighbour::asking(host.listen, "hello", |text| text == "Hello, world!");
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: hello.localhost\r\n\r\n", "x".repeat(200_000));
    let many_headers =
        format!("GET / HTTP/1.1\r\nhost: hello.localhost\r\n{}\r\n", "x-more: and more\r\n".repeat(20_000));
    let nonsense: Vec<Vec<u8>> = vec![
        b"\0\x01\x02\x03\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: hello.localhost\r\nbad header\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"POST /echo HTTP/1.1\r\nhost: hello.localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"CONNECT hello.localhost:80 HTTP/1.1\r\nhost: hello.localhost\r\n\r\n".to_vec(),
        long_path.into_bytes(),
        many_headers.into_bytes(),
    ];
    for bytes in &nonsense {
        for address in [host.listen, host.admin] {
            let mut wire = Wire::open(address).expect("the host accepts connections");
            // The host may reject the request before it is complete.
            let _ = wire.send(bytes).and_then(|()| wire.end_sending());
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            if let Ok(said) = wire.until_closed() {
                let said = String::from_utf8_lossy(&said).into_owned();
                assert!(!said.contains(" 200 "), "{shown:?} got the response {said}");
            }
        }
    }
    asking.finish();
}

#[test]
fn a_body_over_the_apps_limit_is_rejected() {
    let host = Host::start();
    for (app, component) in [("flat", "hello"), ("standard", "greedy")] {
        let manifest = format!("name = \"{app}\"\n[limits]\nrequest_body = \"64KiB\"\n");
        host.deploy(app, Bundle::archive(&manifest, &guest(component)));
        let path = if app == "flat" { "/echo" } else { "/count" };
        let announced = Ask::post(path).body("text/plain", vec![b'x'; 65 * 1024]);
        host.app(app, announced).problem_of(app, 413, "body-too-large");
        host.app(app, Ask::post(path).body("text/plain", vec![b'x'; 64 * 1024])).expect(200);
        // A body without a `content-length` fails when it crosses the limit.
        let mut wire = host.wire();
        let ask = host.to_app(app, Ask::post(path).header("transfer-encoding", "chunked"));
        wire.ask(&ask).expect("it can be sent");
        for _ in 0..5 {
            // The host may have responded and closed already.
            let _ = wire.send_chunk(&[b'x'; 16 * 1024]);
        }
        let _ = wire.send_chunk(b"");
        if let Ok(answer) = wire.answer() {
            assert!(answer.status >= 400, "{app}: {answer}");
        }
        assert_eq!(host.state(app), "running");
    }
}

#[test]
fn a_stop_completes_accepted_requests() {
    let mut host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let mut wire = host.wire();
    wire.ask(&host.to_app("greedy", Ask::get("/slow-reply"))).expect("it can be sent");
    assert_eq!(wire.head().expect("an answer").status, 200);
    host.ask_to_stop();
    let mut body = Vec::new();
    while let Some(piece) = wire.piece().expect("the response continues") {
        body.extend(piece);
    }
    assert_eq!(String::from_utf8_lossy(&body), "one two three four five");
    drop(wire);
    host.until_stopped();
}

/// Requests sent before the stop are answered, on new and on reused connections, although the host
/// has not read any byte of the request yet.
#[test]
fn a_stop_answers_all_requests_sent_before_it() {
    const CLIENTS: usize = 300;
    let mut host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let ask = |wire: &mut Wire| wire.ask(&host.to_app("hello", Ask::get("/"))).expect("it can be sent");
    let mut known: Vec<Wire> = (0..CLIENTS).map(|_| host.wire()).collect();
    known.iter_mut().for_each(ask);
    known.iter_mut().for_each(|wire| assert_eq!(wire.answer().expect("an answer").status, 200));
    known.iter_mut().for_each(ask);
    let new = (0..CLIENTS).map(|_| {
        let mut wire = host.wire();
        ask(&mut wire);
        wire
    });
    let all: Vec<Wire> = known.into_iter().chain(new.collect::<Vec<_>>()).collect();
    host.ask_to_stop();
    for mut wire in all {
        assert_eq!(wire.answer().expect("an answer").status, 200);
    }
    host.until_stopped();
}

/// Begins a request of a client behind a trusted proxy. Its body lacks the last byte.
fn begin_large_body(host: &Host, client: usize) -> Wire {
    let head = format!(
        "POST /echo HTTP/1.1\r\nhost: slow.localhost\r\nx-forwarded-for: 192.0.2.{client}\r\n\
         content-length: {BODY_BYTES}\r\n\r\n"
    );
    let mut wire = host.wire();
    wire.send(head.as_bytes()).and_then(|()| wire.send(&[b'x'; BODY_BYTES - 1])).expect("it can be sent");
    wire
}

const BODY_BYTES: usize = 1 << 20;
/// One more than one client can have.
const CLIENTS: usize = 33;
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

/// One slow client can use half of an app's budget for incomplete bodies.
#[test]
fn slow_bodies_are_bounded_by_their_bytes_per_client() {
    let host = Host::start_with("", TRUSTED);
    host.deploy("slow", Bundle::component(guest("hello")));
    let (answered, answers) = std::sync::mpsc::sync_channel(CLIENTS);
    std::thread::scope(|scope| {
        for mut wire in (0..CLIENTS).map(|_| begin_large_body(&host, 1)).collect::<Vec<Wire>>() {
            let answered = answered.clone();
            scope.spawn(move || answered.send(wire.answer().expect("an answer")));
        }
        let refused = answers.recv().expect("an answer");
        let problem = refused.problem_of("slow", 429, "too-many-bodies");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("this client")), "{refused}");
        assert!(problem["hint"].is_string() && refused.header("retry-after") == Some("2"), "{refused}");
        let mut other = begin_large_body(&host, 2);
        other.send(b"x").expect("it can be sent");
        assert_eq!(other.answer().expect("an answer").expect(200).body.len(), BODY_BYTES);
        host.ask_to_stop();
    });
}

/// Incomplete bodies are held in memory, so the host charges each byte as it arrives. The slow
/// clients of one app can use only that app's budget.
#[test]
fn slow_bodies_are_bounded_by_their_bytes_per_app() {
    let host = Host::start_with("", TRUSTED);
    ["slow", "other"].iter().for_each(|app| drop(host.deploy(app, Bundle::component(guest("hello")))));
    let head = format!("POST /echo HTTP/1.1\r\nhost: slow.localhost\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    let almost: Vec<Wire> = (0..64).map(|number| begin_large_body(&host, 1 + number % 2)).collect();
    let small = |app| host.app(app, Ask::post("/echo").body("text/plain", "small"));
    let refused = wait_for("a rejection", || Some(small("slow")).filter(|answer| answer.status != 200));
    let problem = refused.problem_of("slow", 429, "too-many-bodies");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("64 MiB")), "{refused}");
    assert!(problem["hint"].is_string() && refused.header("retry-after") == Some("2"), "{refused}");
    // The response comes before the body, and the connection stays usable.
    let mut refused = host.wire();
    refused.send(head.as_bytes()).expect("it can be sent");
    refused.answer().expect("an answer").problem_of("slow", 429, "too-many-bodies");
    refused.send(&[b'x'; BODY_BYTES]).expect("the whole body can be sent");
    refused.ask(&host.to_app("slow", Ask::get("/"))).expect("the connection stays open");
    assert_eq!(refused.answer().expect("an answer").expect(200).text(), "Hello, world!");
    assert_eq!(small("other").expect(200).text(), "small");
    drop(almost);
    wait_for("free budget for bodies", || (small("slow").status == 200).then_some(()));
    let large = vec![b'x'; BODY_BYTES];
    assert_eq!(host.app("slow", Ask::post("/echo").body("text/plain", large.clone())).expect(200).body, large);
}

/// An announced `content-length` is not charged, so it takes no budget from other clients.
#[test]
fn announced_bodies_take_no_budget() {
    let host = Host::start();
    host.deploy("hello", Bundle::component(guest("hello")));
    let head = "POST /echo HTTP/1.1\r\nhost: hello.localhost\r\ncontent-length: 1048576\r\n\r\n";
    let _announced: Vec<Wire> = (0..200)
        .map(|index| {
            let mut wire = host.wire();
            let begun = &b"x"[..index % 2];
            wire.send(head.as_bytes()).and_then(|()| wire.send(begun)).expect("it can be sent");
            wire
        })
        .collect();
    for _ in 0..50 {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(host.app("hello", Ask::post("/echo").body("text/plain", large.clone())).expect(200).body, large);
    }
}

/// Clients that withhold the rest of their bodies lose the guest's slot as soon as other requests
/// wait. They get a response that names their fault, and the new release is not rolled back.
#[test]
fn a_withheld_body_loses_its_slot_without_a_fault_of_the_app() {
    let host = Host::start();
    host.create("shop", "production");
    for release in 1..=2 {
        let manifest = format!("name = \"shop\"\n[limits]\ninstances_max = 2\n[config]\nRELEASE = \"{release}\"\n");
        host.deploy("shop", Bundle::archive(&manifest, &guest("hello")));
    }
    let mut kept_back: Vec<Wire> = (0..6).map(|_| host.wire()).collect();
    for wire in &mut kept_back {
        wire.send(b"POST /echo HTTP/1.1\r\nhost: shop.localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc")
            .expect("it can be sent");
    }
    host.get("shop", "/").expect(200);
    for (index, wire) in kept_back.iter_mut().enumerate() {
        let answer = wire.answer().unwrap_or_else(|broken| panic!("client {index} got no response: {broken}"));
        answer.problem(408, "body-too-slow");
    }
    assert_eq!((host.current("shop"), host.state("shop")), (vec![2], "running".to_owned()));
}

/// I1: a response that is sent before the body has arrived also reaches clients that first send the
/// whole body, and their connection stays usable.
#[test]
fn a_client_that_sends_an_unwanted_body_gets_the_response() {
    let host = Host::start();
    ["hello", "asleep"].iter().for_each(|app| drop(host.deploy(app, Bundle::component(guest("hello")))));
    host.stop_app("asleep");
    let large = vec![b'x'; 8 << 20];
    let fine = host.to_app("hello", Ask::get("/"));
    for (app, status) in [("nobody", 404), ("asleep", 503), ("hello", 405)] {
        let mut wire = host.wire();
        wire.ask(&host.to_app(app, Ask::post("/").body("text/plain", large.clone())))
            .expect("the whole body can be sent");
        assert_eq!(wire.answer().expect("an answer").status, status, "{app}");
        wire.ask(&fine).expect("the connection stays open");
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "Hello, world!", "{app}");
    }
    // Small and late: the response arrives before the body.
    let mut wire = host.wire();
    wire.send(b"POST / HTTP/1.1\r\nhost: nobody.localhost\r\ncontent-length: 4\r\n\r\n").expect("can be sent");
    assert_eq!(wire.answer().expect("an answer").status, 404);
    wire.send(b"late").expect("can be sent");
    wire.ask(&fine).expect("the connection stays open");
    assert_eq!(wire.answer().expect("an answer").expect(200).text(), "Hello, world!");
    // The API behaves identically.
    let mut wire = Wire::open(host.admin).expect("a connection");
    let ask = Ask::post("/v1/apps/app/pushes").body("application/wasm", large).header("host", "localhost");
    wire.ask(&ask).expect("the whole body can be sent");
    wire.answer().expect("an answer").problem(401, "no-token");
    wire.ask(&Ask::get("/livez").header("host", "localhost")).expect("the connection stays open");
    assert_eq!(wire.answer().expect("an answer").status, 200);
}
