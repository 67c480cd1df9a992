//! Tests the length of a response: announced by the guest, written by the guest, and sent by the
//! host.

use isopod_tests::{Answer, Ask, Bundle, Host, PROBES, Wire, guest, h2c::H2c};

fn host_with_probes(limits: &str) -> Host {
    let host = Host::start();
    for probe in PROBES {
        host.deploy(probe, Bundle::archive(&format!("name = \"{probe}\"\n[limits]\n{limits}\n"), &guest(probe)));
    }
    host
}

/// Returns the response to a HEAD request, which ends with its head.
#[track_caller]
fn head(host: &Host, probe: &str, path: &str) -> Answer {
    let mut wire = host.begin(probe, Ask::new("HEAD", path).header("connection", "close"));
    let head = wire.any_head().expect("a head").expect(200);
    assert!(wire.until_closed().expect("the host closes the connection").is_empty(), "{probe}: HEAD {path}");
    head
}

/// The guests that write a body piece by piece.
const STREAMING: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

/// The second request has a third of the time for which an unsent body would occupy its instance
/// without the early end.
#[test]
fn a_head_of_an_endless_body_frees_its_instance() {
    let host = host_with_probes("instances_max = 1\nrequest_timeout = \"4s\"");
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let endless = "/respond?n=1000000000&chunk=10&ms=20";
    for probe in STREAMING {
        assert_eq!(head(&host, probe, endless).header("content-length"), None, "{probe}");
        assert_eq!(host.get(probe, "/respond?chunk=3").expect(200).text(), "xxx", "{probe}");
        for ask in [Ask::new("HEAD", endless), Ask::get(format!("{endless}&status=304"))] {
            let answers = connection.ask(probe, &[ask], &[]).expect("it is answered");
            assert_eq!(answers[0].text(), "", "{probe} over h2");
            assert_eq!(host.get(probe, "/respond?chunk=3").expect(200).text(), "xxx", "{probe} over h2");
        }
    }
}

#[test]
fn an_announced_length_over_the_limit_is_a_502() {
    let host = host_with_probes("reply_body = \"1KiB\"");
    for probe in STREAMING {
        // The rest of the body would take an hour.
        let path = "/respond?cl=1025&chunk=5&n=205&ms=3600000";
        let problem = host.get(probe, path).problem_of(probe, 502, "app-failed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("reply_body")), "{problem}");
        let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
        let answers = connection.ask(probe, &[Ask::get(path)], &[]).expect("it is answered");
        assert_eq!(answers[0].status, 502, "{probe} over h2");
        assert_eq!(host.get(probe, "/respond?cl=1024&chunk=1024").expect(200).body.len(), 1024, "{probe}");
        let head = head(&host, probe, "/respond?cl=1025");
        assert_eq!(head.header("content-length"), Some("1025"), "{probe}: no body is sent");
    }
}

#[test]
fn a_response_longer_than_its_content_length_is_aborted() {
    let host = host_with_probes("");
    for probe in STREAMING {
        let late = "/respond?cl=5&chunk=3&n=3&ms=50";
        let mut wire = host.begin(probe, Ask::get(late));
        assert_eq!(wire.head().expect("a head").header("content-length"), Some("5"), "{probe}");
        let said = read(&mut wire);
        assert!(said.len() <= 5, "{probe}: {said:?}");
        let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
        assert!(connection.ask(probe, &[Ask::get(late)], &[]).is_err(), "{probe}: the stream is reset");
        // The guest completes its body before the host sends the head.
        host.get(probe, "/respond?cl=5&chunk=9").problem_of(probe, 502, "app-failed");
    }
    assert_eq!(host.get("probe-flat", "/respond?cl=5&chunk=9").expect(200).text(), "xxxxxxxxx", "its length is known");
}

/// Returns the bytes of a connection after a head, to its end.
fn read(wire: &mut Wire) -> Vec<u8> {
    let mut said = Vec::new();
    while let Ok(Some(piece)) = wire.piece() {
        said.extend(piece);
    }
    said
}

#[test]
fn a_body_shorter_than_its_length_is_not_called_too_large() {
    let host = host_with_probes("");
    for probe in STREAMING {
        let answer = host.get(probe, "/respond?cl=10&chunk=5");
        let id = answer.header("x-request-id").expect("it has an id").to_owned();
        answer.problem_of(probe, 502, "app-failed");
        let line = host.log_line(probe, "the fault", |line| {
            line["request_id"] == id.as_str() && line["message"].as_str().is_some_and(|text| text.contains("its"))
        });
        let text = line["message"].as_str().expect("it is text");
        assert!(text.contains("content-length") && !text.contains("limit"), "{probe}: {text}");
    }
}

/// The response to a GET would have the length of the body that the guest writes.
#[test]
fn a_head_response_has_the_length_of_the_written_body() {
    let host = host_with_probes("");
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        for (query, length) in [("cl=10&chunk=5", "5"), ("cl=5&chunk=5&n=2", "10"), ("cl=13366", "13366")] {
            let path = format!("/respond?{query}");
            assert_eq!(head(&host, probe, &path).header("content-length"), Some(length), "{probe}: {query}");
            let answers = connection.ask(probe, &[Ask::new("HEAD", path)], &[]).expect("it is answered");
            assert_eq!(answers[0].header("content-length"), Some(length), "{probe}: {query} over h2");
        }
    }
}
