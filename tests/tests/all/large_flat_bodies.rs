//! Tests large bodies over the flat interface: they are copied in pieces and arrive complete and in
//! order, with every compiler and engine, and with every allocator behaviour of the guest.

use isopod_tests::{
    Ask, Bundle, Host, Neighbour, Upstream, guest,
    upstream::{Then, response},
};

const MIB: usize = 1 << 20;

/// The size of the pieces in the response of `greedy-flat`.
const PIECE: usize = 64 * 1024;

#[test]
fn large_responses_of_the_flat_interface_are_complete() {
    let host = Host::start();
    let neighbour = Neighbour::beside(&host);
    // The compiler takes a fast path for the first app, and optimises the second.
    for (app, app_type) in [("quick", "dev"), ("optimised", "staging")] {
        host.create(app, app_type);
        host.deploy(app, Bundle::component(guest("greedy-flat")));
        for bytes in [PIECE, MIB, MIB + PIECE, 2 * MIB, 8 * MIB + PIECE] {
            for _ in 0..3 {
                let answer = host.get(app, &format!("/reply-flood?bytes={bytes}")).expect(200);
                assert_eq!(answer.body.len(), bytes, "{app}");
                assert!(answer.body.iter().all(|byte| *byte == b'x'), "{app} {bytes}");
            }
        }
    }
    neighbour.finish();
}

#[test]
fn large_responses_of_the_flat_interface_are_complete_on_a_concurrent_engine() {
    let text: String = (0..3 * MIB / 8).map(|line| format!("{line:07}\n")).collect();
    let sent = response(&text);
    let (host, upstream) = (Host::start(), Upstream::start(move |_| Then::Send(sent.clone())));
    for (app, app_type) in [("quick", "dev"), ("optimised", "staging")] {
        let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
        host.create(app, app_type);
        host.deploy(app, Bundle::archive(&manifest, &guest("relay-wasi03")));
        for _ in 0..3 {
            let answer = host.get(app, &format!("/?url=http://{}/", upstream.address)).expect(200);
            assert!(answer.text() == text, "{app}: {} bytes", answer.body.len());
        }
    }
}

/// An instance whose heap is fragmented by a large response has no room for the next one.
#[test]
fn large_responses_that_alternate_in_size_all_succeed() {
    let host = Host::start();
    host.create("probe-flat", "dev");
    host.deploy("probe-flat", Bundle::component(guest("probe-flat")));
    for request in 0..10 {
        let bytes = 16 * MIB - request % 2;
        let answer = host.get("probe-flat", &format!("/respond?n=1&chunk={bytes}")).expect(200);
        assert_eq!(answer.body.len(), bytes, "request {request}");
    }
}

/// A body of at most 1 MiB is passed in one call.
#[test]
fn request_bodies_of_the_flat_interface_are_complete() {
    let host = Host::start();
    host.deploy("hoarder", Bundle::component(guest("hoarder")));
    for bytes in [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, MIB - 1, MIB, MIB + 1] {
        let ask = Ask::post("/length").body("application/octet-stream", vec![b'x'; bytes]);
        assert_eq!(host.app("hoarder", ask).expect(200).text(), bytes.to_string());
    }
}
