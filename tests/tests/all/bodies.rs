//! Tests response bodies: a body of any size arrives complete, and a body that the guest didn't end
//! never looks complete.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Wire, guest,
    guests::guest_path,
    h2c::H2c,
    program::{self, Running},
    wait_for,
};
use serde_json::Value;

const PROBES: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Sizes around the host's read limit, around wasmtime's buffers, and far above them.
const SIZES: [usize; 9] = [1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 16 * MIB];

fn deploy(host: &Host, limits: &str) {
    for app in PROBES {
        let manifest = format!("name = \"{app}\"\n[limits]\n{limits}\n");
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
    }
}

fn begin(host: &Host, app: &str, ask: Ask) -> Wire {
    let mut wire = host.wire();
    wire.ask(&host.to_app(app, ask)).expect("it can be sent");
    wire
}

fn over_h2(host: &Host, app: &str, path: &str) -> Result<Answer, String> {
    let mut h2 = H2c::open(host.listen).expect("a connection");
    let answers = h2.ask(app, &[Ask::get(path)], &[]).map_err(|error| error.to_string())?;
    Ok(answers.into_iter().next().expect("an answer"))
}

fn assert_complete(answer: &Answer, size: usize, what: &str) {
    assert_eq!(answer.status, 200, "{what}: {answer}");
    assert_eq!(answer.body.len(), size, "{what}");
    assert!(answer.body.iter().all(|&byte| byte == b'x'), "{what}: unexpected bytes");
}

/// Returns the access log line of a request.
fn access_line(host: &Host, app: &str, id: &str) -> Value {
    host.log_line(app, "of the request", |line| line["stream"] == "access" && line["request_id"] == id)
}

#[test]
fn a_response_of_any_size_arrives_whole() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        for size in SIZES {
            for query in [format!("chunk={size}"), format!("chunk={size}&cl={size}")] {
                // Written in one piece, and in pieces that each wait for buffer space.
                for path in [format!("/once?{query}"), format!("/respond?{query}")] {
                    let what = format!("{app}{path}");
                    let answer = host.get(app, &path);
                    assert_complete(&answer, size, &what);
                    if path.contains("cl=") {
                        assert_eq!(answer.header("content-length"), Some(size.to_string().as_str()), "{what}");
                    }
                    assert_complete(&over_h2(&host, app, &path).expect("it is complete"), size, &what);
                }
            }
        }
    }
    assert!(!host.api(Ask::get("/metrics")).expect(200).text().contains("fault="), "no fault is counted");
}

#[test]
fn an_echo_of_any_size_arrives_whole() {
    let host = Host::start();
    deploy(&host, "");
    host.deploy("hello", Bundle::component(guest("hello")));
    for app in ["hello", "probe-wasi02", "probe-wasi03"] {
        // The client sends the whole body before it reads, so the body must fit into the buffers
        // between client and guest.
        for size in SIZES.into_iter().filter(|size| *size <= MIB + 1) {
            let answer = host.app(app, Ask::post("/echo").body("text/plain", vec![b'x'; size]));
            assert_complete(&answer, size, &format!("{app}: {size} bytes"));
        }
    }
}

#[test]
fn a_client_that_reads_late_gets_the_complete_body() {
    let host = Host::start();
    deploy(&host, "instances_max = 1");
    for app in PROBES {
        for path in ["/once?chunk=1048577", "/respond?n=64&chunk=262144"] {
            let mut wire = begin(&host, app, Ask::get(path));
            assert_eq!(wire.head().expect("a head").status, 200);
            if path.starts_with("/once") {
                // The guest has returned, so its only slot is free before the client reads the
                // response.
                assert_complete(&host.get(app, "/once?chunk=10"), 10, app);
            }
            let mut bytes = 0;
            while let Some(piece) =
                wire.piece().unwrap_or_else(|error| panic!("{app}{path} broke off after {bytes}: {error}"))
            {
                bytes += piece.len();
            }
            let expected = if path.starts_with("/once") { MIB + 1 } else { 16 * MIB };
            assert_eq!(bytes, expected, "{app}{path}");
        }
    }
}

/// The guest returns immediately, while the body that it forwards still arrives from the client.
#[test]
fn a_forwarded_body_outlives_its_guest() {
    let host = Host::start();
    deploy(&host, "instances_max = 1");
    let app = "probe-wasi03";
    let ask = Ask::post("/pass").header("transfer-encoding", "chunked");
    let mut wire = begin(&host, app, ask);
    for word in ["one", "two", "three"] {
        wire.send_chunk(word.as_bytes()).expect("it can be sent");
        if word == "one" {
            assert_eq!(wire.head().expect("a head").status, 200);
        }
        assert_eq!(wire.piece().expect("the body continues"), Some(word.as_bytes().to_vec()));
        assert_complete(&host.get(app, "/once?chunk=10"), 10, "its only slot is free");
    }
    wire.send_chunk(b"").expect("it can be sent");
    assert_eq!(wire.piece().expect("it is complete"), None);
    // A client that disconnects in the middle breaks the response as well.
    let mut wire = begin(&host, app, Ask::post("/pass").header("transfer-encoding", "chunked"));
    wire.send_chunk(b"half").expect("it can be sent");
    assert_eq!(wire.head().expect("a head").status, 200);
    wire.end_sending().expect("it can be closed");
    assert_eq!(wire.piece().expect("what was sent"), Some(b"half".to_vec()));
    wire.piece().expect_err("the rest never came");
}

#[test]
fn a_body_left_open_before_any_byte_is_sent_is_a_502() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let paths = ["/respond?n=0&end=leak", "/respond?status=500&n=0&end=leak", "/respond?n=3&chunk=10&end=leak"];
        for path in paths {
            let answer = host.get(app, path);
            let problem = answer.problem_of(app, 502, "app-failed");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("body-left-open")), "{problem}");
            let line = access_line(&host, app, problem["request_id"].as_str().expect("an id"));
            assert_eq!((&line["status"], &line["fault"]), (&502.into(), &"body-left-open".into()), "{line}");
            assert_eq!(over_h2(&host, app, path).expect("a problem").status, 502);
        }
        let faults = host.metric(&format!("isopod_faults_total{{app=\"{app}\",fault=\"body-left-open\"}}"));
        assert_eq!(faults, 2.0 * paths.len() as f64, "{app}");
        assert_complete(&host.get(app, "/once?chunk=10"), 10, app);
    }
}

#[test]
fn a_response_with_an_ended_body_is_returned_as_the_guest_wrote_it() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let answer = host.get(app, "/respond?status=500&n=0").expect(500);
        assert!(answer.body.is_empty(), "{app}: {answer}");
    }
}

/// The head and a part were sent, so the host can only break the connection and log the fault.
#[test]
fn a_response_that_the_guest_does_not_end_is_aborted() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"2s\"");
    for app in PROBES {
        let ends = [("leak", "body-left-open"), ("trap", "trap"), ("abandon", "bad-answer"), ("hang", "timeout")];
        for (end, fault) in ends {
            let path = format!("/respond?n=2&chunk=10&ms=50&end={end}");
            let broken = host.try_app(app, Ask::get(&path)).expect_err("it never looks complete");
            let begun = broken.answer.expect("it had started");
            // The last part may be lost with the connection.
            assert!(begun.status == 200 && [10, 20].contains(&begun.body.len()), "{app}{path}: {begun}");
            let id = begun.header("x-request-id").expect("an id").to_owned();
            let line = access_line(&host, app, &id);
            assert_eq!((&line["fault"], &line["bytes"]), (&fault.into(), &20.into()), "{app}{path}: {line}");
            host.log_line(app, "the fault", |line| line["level"] == "error" && line["request_id"] == id.as_str());
            over_h2(&host, app, &path).expect_err("it never looks complete");
            let faults = format!("isopod_faults_total{{app=\"{app}\",fault=\"{fault}\"}}");
            wait_for("both to be counted", || (host.metric(&faults) >= 2.0).then_some(()));
            assert_complete(&host.get(app, "/once?chunk=10"), 10, app);
        }
    }
}

/// The host never sends a second part beyond the `content-length`, and the response doesn't look
/// complete.
#[test]
fn a_response_longer_than_its_content_length_is_aborted() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let path = "/respond?n=2&ms=50&chunk=5&cl=7";
        let broken = host.try_app(app, Ask::get(path)).expect_err("it never looks complete");
        let begun = broken.answer.expect("it had started");
        assert_eq!((begun.status, begun.body.len()), (200, 5), "{app}: {begun}");
        let line = access_line(&host, app, begun.header("x-request-id").expect("an id"));
        assert_eq!(line["fault"], "bad-answer", "{app}: {line}");
        over_h2(&host, app, path).expect_err("it never looks complete");
    }
}

#[test]
fn a_response_over_its_limit_is_counted_and_marked() {
    let host = Host::start();
    deploy(&host, "reply_body = \"32KiB\"");
    for app in PROBES {
        let broken = host.try_app(app, Ask::get("/respond?n=9&chunk=16384&ms=20")).expect_err("it is aborted");
        let begun = broken.answer.expect("it had started");
        let line = access_line(&host, app, begun.header("x-request-id").expect("an id"));
        assert_eq!(line["fault"], "bad-answer", "{line}");
        // If the host knows the excess size before it sends the head, it sends a problem instead.
        host.get(app, "/once?chunk=32769").problem_of(app, 502, "app-failed");
        assert_complete(&host.get(app, "/once?chunk=32768"), 32 * KIB, app);
    }
}

#[test]
fn a_client_that_disconnects_is_logged_and_not_counted_as_a_fault() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let mut wire = begin(&host, app, Ask::get("/respond?n=1000&chunk=262144"));
        let head = wire.head().expect("a head");
        let id = head.header("x-request-id").expect("an id").to_owned();
        drop(wire);
        assert_eq!(access_line(&host, app, &id)["fault"], "client-gone");
        let metrics = host.api(Ask::get("/metrics")).expect(200).text();
        assert!(!metrics.contains("fault=\"client-gone\""), "{metrics}");
    }
}

#[test]
fn destroying_an_app_aborts_its_responses() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let mut wire = begin(&host, app, Ask::get("/respond?chunk=10&end=hang"));
        assert_eq!(wire.head().expect("a head").status, 200);
        assert_eq!(wire.piece().expect("a piece").map(|piece| piece.len()), Some(10));
        host.api(Ask::new("DELETE", format!("/v1/apps/{app}"))).expect(204);
        wire.piece().expect_err("it is aborted");
    }
}

#[test]
fn a_served_component_that_leaves_its_body_open_has_its_response_aborted() {
    for app in PROBES {
        let path = guest_path(app);
        let file = path.to_str().expect("a path");
        let mut serving = Running::start(program::command(&["serve", file, "--addr", "127.0.0.1:0"]));
        let address = serving.line_on_stderr("Serving HTTP on http://");
        let address = address.trim_end_matches('/').parse().expect("an address");
        Ask::get("/respond?n=2&chunk=10&ms=50&end=leak").send(address).expect_err("it never looks complete");
        assert_eq!(Ask::get("/respond?n=0&end=leak").send(address).expect("a problem").status, 502);
        assert_eq!(Ask::get("/once?chunk=10").send(address).expect("it still serves").status, 200);
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let host = Host::start();
    deploy(&host, "");
    for app in PROBES {
        let ask = |path| Ask::post(path).header("expect", "100-continue").header("content-length", "12");
        let mut wire = begin(&host, app, ask("/early?status=401"));
        assert_eq!(wire.any_head().expect("a head").status, 401, "{app}: it need not send its body");
        let mut wire = begin(&host, app, ask("/show"));
        assert_eq!(wire.any_head().expect("a head").status, 100, "{app}: the guest reads the body");
        wire.send(b"twelve bytes").expect("it can be sent");
        assert_eq!(wire.answer().expect("an answer").expect(200).json()["body_bytes"], 12, "{app}");
    }
}

/// `http!` also exports the flat interface, which carries only complete bodies. The host doesn't
/// use it for an app that streams.
#[test]
fn a_streamed_response_arrives_piece_by_piece() {
    let host = Host::start();
    host.deploy("countdown", Bundle::component(guest("countdown")));
    // The pause after the first line is longer than any test.
    let mut wire = begin(&host, "countdown", Ask::get("/?from=2&ms=3600000"));
    assert_eq!(wire.head().expect("a head").status, 200);
    assert_eq!(wire.piece().expect("a line"), Some(b"2\n".to_vec()));
    drop(wire);
    assert_eq!(host.get("countdown", "/?from=3&ms=1").expect(200).text(), "3\n2\n1\nlift-off\n");
    host.get("countdown", "/?from=many").expect(400);
}
