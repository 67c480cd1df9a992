//! Tests that the default limits fit together. The host rejects a request that can't fit before it
//! calls the guest. A guest that runs out of memory for a large request loses the request, not the
//! release.

use isopod_tests::{Ask, Bundle, Host, guest, guest_noted};

const MIB: usize = 1 << 20;

/// Starts a host with the app `hoarder`, which holds complete bodies in memory, with the default
/// limits.
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
fn a_body_that_cannot_fit_is_rejected_before_the_guest_runs() {
    let host = host("dev");
    let fits = 16 * MIB;
    for bytes in [MIB, MIB + 1, fits - 1, fits] {
        assert_eq!(host.app("hoarder", post("/length", bytes)).expect(200).text(), bytes.to_string());
    }
    for bytes in [fits + 1, 20 * MIB, 63 * MIB] {
        let problem = host.app("hoarder", post("/length", bytes)).problem_of("hoarder", 413, "body-too-large");
        let hint = problem["hint"].as_str().expect("the problem has a hint");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("16777216")), "{problem}");
        assert!(hint.contains("memory") && hint.contains("http_streaming!"), "{problem}");
    }
    assert_eq!(host.metric("isopod_faults_total{app=\"hoarder\",fault=\"out-of-memory\"}"), 0.0);
}

#[test]
fn a_body_without_a_length_that_cannot_fit_is_rejected_too() {
    let host = host("dev");
    let mut wire = host.wire();
    let head = b"POST /length HTTP/1.1\r\nhost: hoarder.localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    wire.send(head).expect("the host reads");
    // The host may respond and stop reading as soon as the body is too large.
    let _ = (0..17).try_for_each(|_| wire.send_chunk(&vec![b'x'; MIB]));
    let answer = wire.head().expect("an answer");
    assert_eq!(answer.status, 413, "{answer}");
}

/// A guest that streams bodies needs no memory for them.
#[test]
fn a_streamed_body_may_be_larger_than_memory() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[limits]\nmemory = \"16MiB\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    assert_eq!(host.app("greedy", post("/count", 40 * MIB)).expect(200).text(), (40 * MIB).to_string());
    host.app("greedy", post("/count", 64 * MIB + 1)).problem_of("greedy", 413, "body-too-large");
}

/// The app's own `request_body` is the limit where it is smaller.
#[test]
fn a_smaller_request_body_is_named_as_the_limit() {
    let host = Host::start();
    let manifest = "name = \"hoarder\"\n[limits]\nrequest_body = \"2MiB\"\n";
    host.deploy("hoarder", Bundle::archive(manifest, &guest("hoarder")));
    let problem = host.app("hoarder", post("/length", 3 * MIB)).problem_of("hoarder", 413, "body-too-large");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("request_body")), "{problem}");
}

/// Eight requests exhaust the guest's memory right after a deploy. If they counted against the
/// release, the host would roll it back.
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
    isopod_tests::wait_for("the rollback", || (host.show("hoarder")["release"] == 1).then_some(()));
}
