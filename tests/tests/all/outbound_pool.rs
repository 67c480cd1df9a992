//! Tests outbound connections: they are kept and reused, replaced when the upstream has closed
//! them, and closed when they are no longer needed.

use isopod_tests::{
    Ask, Bundle, Host, Upstream, guest,
    upstream::{Arrived, Then, response},
    wait_for,
};
use serde_json::Value;

const PROBES: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

fn deploy(host: &Host, app: &str, upstream: &Upstream) {
    let manifest = format!("name = \"{app}\"\n[grants]\nhttp = [\"{}\"]\n", upstream.address);
    host.deploy(app, Bundle::archive(&manifest, &guest(app)));
}

fn fetch(host: &Host, app: &str, upstream: &Upstream, how: &str) -> Value {
    host.get(app, &format!("/fetch?authority={}&{how}", upstream.address)).expect(200).json()
}

/// Responds to the first request of each connection with keep-alive. Closes the connection at the
/// second request without a response.
fn closes_at_the_second(request: &Arrived) -> Then {
    match request.number {
        0 => Then::Send(response("first")),
        _ => Then::SendAndClose(Vec::new()),
    }
}

#[test]
fn a_connection_is_reused() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("again"))));
    for app in PROBES {
        deploy(&host, app, &upstream);
        let before = upstream.requests().len();
        // The host keeps the connection after it has seen the response's end, which may be after
        // the guest has.
        wait_for("a second request on a connection", || {
            assert_eq!(fetch(&host, app, &upstream, "")["body_bytes"], 5);
            upstream.requests()[before..].iter().any(|request| request.number > 0).then_some(())
        });
    }
}

#[test]
fn idempotent_requests_on_a_closed_connection_are_retried_once() {
    let (host, upstream) = (Host::start(), Upstream::start(closes_at_the_second));
    for app in PROBES {
        deploy(&host, app, &upstream);
        for how in ["", "method=HEAD", "method=PUT&body=5000", "method=DELETE", "method=OPTIONS", "method=PUT&body=0"] {
            for _ in 0..2 {
                let outcome = fetch(&host, app, &upstream, how);
                assert_eq!(outcome["status"], 200, "{app} {how}: {outcome}");
            }
        }
    }
    let requests = upstream.requests();
    assert!(requests.iter().any(|request| request.number == 1), "a kept connection was used");
    let bodies = requests.iter().filter(|request| request.head.starts_with("PUT") && request.number == 0);
    assert!(bodies.clone().count() >= 4 && bodies.clone().any(|request| request.head.contains("chunked")));
}

#[test]
fn other_requests_on_a_closed_connection_fail_with_connection_terminated() {
    let (host, upstream) = (Host::start(), Upstream::start(closes_at_the_second));
    for app in PROBES {
        deploy(&host, app, &upstream);
        let before = upstream.requests().len();
        // Repeats until a request is sent on a kept connection.
        let outcome = wait_for("a request on a kept connection", || {
            let outcome = fetch(&host, app, &upstream, "method=POST&body=10");
            (outcome["status"] != 200).then_some(outcome)
        });
        assert_eq!(outcome["error"], "ErrorCode::ConnectionTerminated", "{app}");
        let posts = upstream.requests().split_off(before);
        assert_eq!(posts.iter().filter(|request| request.number == 1).count(), 1, "the request was sent once");
        assert_eq!(
            posts.last().map(|request| request.number),
            Some(1),
            "the request was sent again on another connection"
        );
    }
}

/// A new connection that ends without a response is not retried, for any method.
#[test]
fn a_new_connection_that_ends_without_a_response_is_connection_terminated() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::SendAndClose(Vec::new())));
    for app in PROBES {
        deploy(&host, app, &upstream);
        let before = upstream.requests().len();
        for how in ["", "method=POST&body=10"] {
            assert_eq!(fetch(&host, app, &upstream, how)["error"], "ErrorCode::ConnectionTerminated", "{app} {how}");
        }
        assert_eq!(upstream.requests().len() - before, 2, "each request was sent once");
    }
}

/// A truncated response is a separate error, and the request is not retried.
#[test]
fn a_truncated_response_is_incomplete() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ".to_vec();
    let (host, upstream) = (Host::start(), Upstream::start(move |_| Then::SendAndClose(half.clone())));
    for app in PROBES {
        deploy(&host, app, &upstream);
        let outcome = fetch(&host, app, &upstream, "");
        // The probe for 0.2 shows the error's text, the probe for 0.3 its name.
        let end = outcome["end"].as_str().unwrap_or_default();
        assert!(["incomplete HTTP response", "ErrorCode::HttpResponseIncomplete"].contains(&end), "{app}: {outcome}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn idle_connections_are_closed_after_the_idle_time() {
    let host = Host::start_with("", "[outbound]\nidle_time = \"300ms\"\n");
    let upstream = Upstream::start(|_| Then::Send(response("well")));
    for app in PROBES {
        deploy(&host, app, &upstream);
        assert_eq!(fetch(&host, app, &upstream, "")["status"], 200);
        wait_for("the close of the idle connection", || (upstream.open() == 0).then_some(()));
    }
}

const KEPT_FOR_LONG: &str = "[outbound]\nidle_time = \"1h\"\n";

#[test]
fn connections_are_closed_when_their_app_is_frozen_and_reopened_afterwards() {
    let host = Host::start_with("", &format!("freeze_after = \"200ms\"\n{KEPT_FOR_LONG}"));
    let upstream = Upstream::start(|_| Then::Send(response("well")));
    for app in PROBES {
        deploy(&host, app, &upstream);
        for _ in 0..2 {
            assert_eq!(fetch(&host, app, &upstream, "")["status"], 200);
            wait_for("the close of the frozen app's connections", || (upstream.open() == 0).then_some(()));
            assert_eq!(host.release_state(app, 1), "frozen");
        }
    }
}

#[test]
fn connections_are_closed_when_their_release_is_retired_and_with_their_app() {
    let host = Host::start_with("", KEPT_FOR_LONG);
    let upstream = Upstream::start(|_| Then::Send(response("well")));
    for app in PROBES {
        deploy(&host, app, &upstream);
        assert_eq!(fetch(&host, app, &upstream, "")["status"], 200);
        assert_eq!(upstream.open(), 1);
        deploy(&host, app, &upstream);
        wait_for("the close of the retired release's connections", || (upstream.open() == 0).then_some(()));
        assert_eq!(fetch(&host, app, &upstream, "")["status"], 200);
        host.api(Ask::new("DELETE", format!("/v1/apps/{app}")));
        wait_for("the close of the destroyed app's connections", || (upstream.open() == 0).then_some(()));
    }
}

#[test]
fn the_sdk_sends_a_user_agent_and_the_length_of_a_complete_body() {
    let (host, upstream) = (Host::start(), Upstream::start(|_| Then::Send(response("well"))));
    for app in ["greedy", "greedy-flat", "relay-wasi03"] {
        deploy(&host, app, &upstream);
        let arrived = |how: &str| {
            host.get(app, &format!("/fetch?url=http://{}/{how}", upstream.address)).expect(200);
            upstream.requests().pop().expect("a request has arrived")
        };
        for (how, length) in [
            ("&method=POST&body=5", "5"),
            ("&method=PUT&body=100000", "100000"),
            ("&method=POST", "0"),
            ("&method=DELETE&body=3", "3"),
        ] {
            let request = arrived(how);
            assert_eq!(request.header("content-length"), [length], "{app} {how}: {}", request.head);
            assert!(request.header("transfer-encoding").is_empty(), "{app} {how}: {}", request.head);
            assert_eq!(request.body.len().to_string(), length, "{app} {how}");
        }
        let request = arrived("");
        assert!(request.header("content-length").is_empty() && request.header("transfer-encoding").is_empty());
        assert!(request.header("user-agent")[0].starts_with("isopod-sdk/"), "{app}: {}", request.head);
        assert_eq!(arrived("&agent=mine/2").header("user-agent"), ["mine/2"], "{app}");
    }
}
