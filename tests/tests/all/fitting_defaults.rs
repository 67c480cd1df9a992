//! The default limits fit together: a request that can't fit is refused before its guest is called, and a guest that has
//! no memory for a large request costs the request and not the release.

use isopod_tests::{Ask, Bundle, Host, guest, guest_noted};

const MIB: usize = 1 << 20;

/// The app `hoarder`, which holds bodies whole, with the default limits.
fn host(app_type: &str) -> Host {
    let host = Host::start();
    host.create("hoarder", app_type);
    host.deploy("hoarder", Bundle::component(guest("hoarder")));
    host
}

fn post(path: &str, bytes: usize) -> Ask {
    Ask::post(path).body("application/octet-stream", vec![b'x'; bytes])
}

#[test]
fn a_body_that_cannot_fit_is_refused_before_the_guest_runs() {
    let host = host("dev");
    let fits = 16 * MIB;
    for bytes in [MIB, MIB + 1, fits - 1, fits] {
        assert_eq!(host.app("hoarder", post("/length", bytes)).expect(200).text(), bytes.to_string());
    }
    for bytes in [fits + 1, 20 * MIB, 63 * MIB] {
        let problem = host.app("hoarder", post("/length", bytes)).problem_of("hoarder", 413, "body-too-large");
        let hint = problem["hint"].as_str().expect("it says what to do");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("16777216")), "{problem}");
        assert!(hint.contains("memory") && hint.contains("http_streaming!"), "{problem}");
    }
    assert_eq!(host.metric("isopod_faults_total{app=\"hoarder\",fault=\"out-of-memory\"}"), 0.0);
}

#[test]
fn a_body_without_a_length_that_cannot_fit_is_refused_too() {
    let host = host("dev");
    let mut wire = host.wire();
    let head = b"POST /length HTTP/1.1\r\nhost: hoarder.localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    wire.send(head).expect("the host reads");
    // The host may answer, and stop reading, as soon as it has seen too much.
    let _ = (0..17).try_for_each(|_| wire.send_chunk(&vec![b'x'; MIB]));
    let answer = wire.head().expect("an answer");
    assert_eq!(answer.status, 413, "{answer}");
}

/// A guest that reads bodies as they come needs no memory for them.
#[test]
fn a_body_that_is_streamed_may_be_larger_than_memory() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\nmemory = \"16MiB\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    assert_eq!(host.app("greedy", post("/count", 40 * MIB)).expect(200).text(), (40 * MIB).to_string());
    host.app("greedy", post("/count", 64 * MIB + 1)).problem_of("greedy", 413, "body-too-large");
}

/// The app's own request_body is the bound where it is the smaller one.
#[test]
fn a_smaller_request_body_is_named_as_the_bound() {
    let host = Host::start();
    let manifest = "name = \"hoarder\"\n[limits]\nrequest_body = \"2MiB\"\n";
    host.deploy("hoarder", Bundle::archive(manifest, &guest("hoarder")));
    let problem = host.app("hoarder", post("/length", 3 * MIB)).problem_of("hoarder", 413, "body-too-large");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("request_body")), "{problem}");
}

/// Eight requests for which the guest has no memory, right after a deploy: without a rule for them the release before
/// would come back.
#[test]
fn running_out_of_memory_on_large_requests_causes_no_rollback() {
    let host = host("staging");
    host.deploy("hoarder", Bundle::component(guest_noted("hoarder", 1)));
    for _ in 0..8 {
        let answer = host.app("hoarder", post("/copies?count=6", 12 * MIB));
        let problem = answer.problem_of("hoarder", 413, "body-too-large");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("out of memory")), "{problem}");
    }
    assert_eq!(host.metric("isopod_faults_total{app=\"hoarder\",fault=\"out-of-memory\"}"), 8.0);
    assert_eq!((host.show("hoarder")["release"].as_u64(), host.state("hoarder").as_str()), (Some(2), "running"));
}

/// The counterpart: out-of-memory faults on small requests count against the release.
#[test]
fn running_out_of_memory_on_small_requests_causes_a_rollback() {
    let host = host("staging");
    host.deploy("hoarder", Bundle::component(guest_noted("hoarder", 1)));
    for _ in 0..8 {
        host.get("hoarder", "/keep?bytes=70000000");
    }
    isopod_tests::wait_for("the release before", || (host.show("hoarder")["release"] == 1).then_some(()));
}
