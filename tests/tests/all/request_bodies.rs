//! Tests how a request's body is framed and what follows it on its connection.

use isopod_tests::{Ask, Host, PROBES, Raw, Shown};

/// The guest answers before the body arrives, and never reads it.
#[test]
fn a_connection_serves_the_next_request_after_an_unread_body() {
    let host = Host::start_with_probes();
    for probe in ["probe-wasi02", "probe-wasi03"] {
        let mut wire = host.begin(probe, Ask::post("/early?status=401").header("content-length", "2000000"));
        let answer = wire.answer().expect("an answer").expect(401);
        assert_eq!(answer.header("connection"), None, "{probe}: {answer}");
        wire.send(&vec![b'x'; 2_000_000]).expect("the host reads the body");
        wire.ask(&host.to_app(probe, Ask::get("/respond?chunk=3"))).expect("it can be sent");
        assert_eq!(wire.answer().expect("an answer").expect(200).text(), "xxx", "{probe}");
    }
}

/// Without `chunked` as the last transfer coding, the end of the body is unknown.
#[test]
fn only_the_transfer_coding_chunked_is_accepted() {
    let host = Host::start_with_probes();
    let table = [
        ("gzip", 400, "bad-head"),
        ("xchunked", 400, "bad-head"),
        ("identity", 400, "bad-head"),
        ("chunked, gzip", 400, "bad-head"),
        ("gzip, chunked", 501, "unknown-coding"),
        ("identity, chunked", 501, "unknown-coding"),
    ];
    for probe in PROBES {
        for (coding, status, code) in table {
            let head =
                format!("POST / HTTP/1.1\r\nhost: {probe}.localhost\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n");
            let answer = Raw::exchange(host.listen, &head);
            assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{coding}: {answer:?}");
            assert!(answer.text().contains(&format!("urn:isopod:problem:{code}")), "{coding}: {answer:?}");
        }
    }
}

#[test]
fn an_empty_header_is_kept_but_an_empty_cookie_is_not() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let ask = Ask::get("/show").header("x-empty", "").header("cookie", "").header("cookie", "a=1");
        let shown = Shown::read(&host.app(probe, ask).expect(200).text());
        assert_eq!((shown.header("x-empty"), shown.header("cookie")), (Some(""), Some("a=1")), "{probe}");
        let shown = Shown::read(&host.app(probe, Ask::get("/show").header("cookie", "")).expect(200).text());
        assert_eq!(shown.header("cookie"), Some(""), "{probe}: a single header isn't joined");
    }
}
