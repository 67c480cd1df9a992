//! Tests the timers of an outbound request: each measures one step, and the guest learns which
//! timer expired.

use isopod_tests::{
    Answer, Bundle, Host, Upstream, guest,
    upstream::{Then, Unaccepting, response},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

const PROBES: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

/// Guests that send requests with the SDK: over 0.2, the flat interface and 0.3.
const RELAYS: [&str; 3] = ["greedy", "greedy-flat", "relay-wasi03"];

/// Far less than the 10 s of the host's own timeout, far more than a busy machine needs.
const SOON: Duration = Duration::from_secs(7);

fn deploy(host: &Host, app: &str, address: SocketAddr) {
    let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{address}\"]\n");
    host.deploy(app, Bundle::archive(&manifest, &guest(app)));
}

#[track_caller]
fn soon(host: &Host, app: &str, path: &str) -> Answer {
    let begun = Instant::now();
    let answer = host.get(app, path);
    assert!(begun.elapsed() < SOON, "{app} {path} took {:?}", begun.elapsed());
    answer
}

#[test]
fn a_guests_connect_timeout_ends_a_connection_that_is_not_accepted() {
    let (host, unaccepting) = (Host::start(), Unaccepting::start());
    // The related case: a server that accepts connections and never continues the TLS handshake.
    let silent = Upstream::start(|_| Then::SendAndStall(Vec::new()));
    for app in PROBES {
        for (address, scheme) in [(unaccepting.address, "http"), (silent.address, "https")] {
            deploy(&host, app, address);
            let path = format!("/fetch?scheme={scheme}&authority={address}&connect_ms=200");
            let outcome = soon(&host, app, &path).expect(200).json();
            assert_eq!(outcome["error"], "ErrorCode::ConnectionTimeout", "{app} {scheme}");
        }
    }
}

#[test]
fn a_guests_first_byte_timeout_runs_from_the_request() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::SendAndStall(Vec::new())));
    for app in PROBES {
        deploy(&host, app, upstream.address);
        for body in [0, 100_000] {
            let path = format!("/fetch?method=PUT&authority={}&first_byte_ms=200&body={body}", upstream.address);
            let outcome = soon(&host, app, &path).expect(200).json();
            assert_eq!(outcome["error"], "ErrorCode::HttpResponseTimeout", "{app} with {body} bytes");
        }
    }
}

#[test]
fn a_guests_between_bytes_timeout_ends_a_stalled_body() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ".to_vec();
    let (host, upstream) = (Host::start(), Upstream::start(move |_| Then::SendAndStall(half.clone())));
    for app in PROBES {
        deploy(&host, app, upstream.address);
        let path = format!("/fetch?authority={}&between_ms=200", upstream.address);
        let outcome = soon(&host, app, &path).expect(200).json();
        assert_eq!((&outcome["status"], &outcome["body_bytes"]), (&200.into(), &5.into()), "{app}");
        // The probe for 0.2 shows the error's text, the probe for 0.3 its name.
        let end = outcome["end"].as_str().unwrap_or_default();
        assert!(["connection read timeout", "ErrorCode::ConnectionReadTimeout"].contains(&end), "{app}: {outcome}");
    }
}

/// A short timeout of one step doesn't limit another: the whole exchange takes longer than each
/// timeout.
#[test]
fn a_timer_limits_only_its_own_step() {
    let (host, upstream) = (
        Host::start(),
        Upstream::start(|_| {
            std::thread::sleep(Duration::from_millis(600));
            Then::Send(response("late"))
        }),
    );
    for app in PROBES {
        deploy(&host, app, upstream.address);
        let path = format!("/fetch?authority={}&connect_ms=500&between_ms=500", upstream.address);
        let outcome = host.get(app, &path).expect(200).json();
        assert_eq!((&outcome["status"], &outcome["end"]), (&200.into(), &"whole".into()), "{app}: {outcome}");
    }
}

#[test]
fn with_timeout_of_the_sdk_takes_effect_over_every_interface() {
    let host = Host::start();
    let (silent, unaccepting) = (Upstream::start(|_| Then::SendAndStall(Vec::new())), Unaccepting::start());
    for app in RELAYS {
        for address in [silent.address, unaccepting.address] {
            deploy(&host, app, address);
            for body in ["", "&method=POST&body=10", "&method=PUT&body=100000"] {
                let answer = soon(&host, app, &format!("/fetch?url=http://{address}/&timeout_ms=200{body}"));
                assert_eq!(answer.status, 502, "{app}: {answer}");
                assert!(answer.text().contains("no response began within 200ms"), "{app}: {answer}");
            }
        }
    }
}
