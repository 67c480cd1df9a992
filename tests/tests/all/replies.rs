//! Tests guests with faulty responses: missing, truncated, too large, or invalid HTTP. The client
//! gets a correct problem, and the app continues.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};

/// The faulty guest, once per HTTP interface.
const INTERFACES: [&str; 2] = ["greedy", "greedy-flat"];

fn deploy(host: &Host, limits: &str) {
    for app in INTERFACES {
        let manifest = format!("name = \"{app}\"\n[limits]\n{limits}\n");
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
    }
}

fn assert_healthy(host: &Host, app: &str) {
    assert_eq!(host.get(app, "/ok").expect(200).text(), "ok");
    assert_eq!(host.state(app), "running");
}

#[test]
fn a_guest_that_never_responds_times_out() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"300ms\"\ninstances_max = 2");
    let neighbour = Neighbour::beside(&host);
    for app in INTERFACES {
        for path in ["/never", "/spin", "/poll-storm"] {
            let problem = host.get(app, path).problem_of(app, 504, "app-timeout");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("300 ms")), "{path}: {problem}");
            assert_healthy(&host, app);
        }
        // The SDK detects a guest that waits for nothing, before its timeout.
        let answer = host.get(app, "/stuck");
        assert!(answer.status >= 500, "{answer}");
        assert_healthy(&host, app);
    }
    neighbour.finish();
}

/// A truncated response must not look complete.
#[test]
fn a_truncated_response_looks_truncated() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for path in ["/panic-mid-reply", "/fail-mid-reply", "/wrong-length"] {
        match host.try_app("greedy", Ask::get(path)) {
            // It failed before the head was sent.
            Ok(answer) => {
                answer.problem_of("greedy", 502, "app-failed");
            }
            // The number of bytes before the end varies, but the guest wrote all these bytes.
            Err(broken) => {
                let begun = broken.answer.map_or_else(String::new, |answer| answer.text());
                assert!(path == "/wrong-length" || "the beginning of an answer that ".starts_with(&begun), "{begun}");
            }
        }
        assert_healthy(&host, "greedy");
    }
    // A response of the flat interface is complete or missing.
    for path in ["/panic-mid-reply", "/fail-mid-reply"] {
        let answer = host.get("greedy-flat", path);
        assert!(answer.status >= 500, "{path}: {answer}");
        assert_healthy(&host, "greedy-flat");
    }
    neighbour.finish();
}

#[test]
fn an_endless_response_is_aborted_at_the_apps_limit() {
    const MIB: usize = 1 << 20;
    let host = Host::start();
    deploy(&host, "reply_body = \"4MiB\"\nrequest_timeout = \"10s\"");
    let neighbour = Neighbour::beside(&host);
    // Two gigabytes without the limit.
    let broken = host.try_app("greedy", Ask::get("/reply-flood")).expect_err("it is aborted");
    let came = broken.answer.expect("its beginning arrived").body.len();
    assert!(came <= 4 * MIB, "{came} bytes arrived");
    assert_healthy(&host, "greedy");
    let within = host.get("greedy", &format!("/reply-flood?bytes={}", 3 * MIB)).expect(200);
    assert_eq!(within.body.len(), 3 * MIB);
    // A flat response is first in the guest's memory, which is bounded as well.
    let refused = host.get("greedy-flat", "/reply-flood");
    assert!(refused.status >= 500, "{refused}");
    let over = host.get("greedy-flat", &format!("/reply-flood?bytes={}", 5 * MIB));
    assert!(over.status >= 500, "a flat response over the limit: {}", over.status);
    assert_healthy(&host, "greedy-flat");
    neighbour.finish();
}

#[test]
fn an_invalid_http_response_is_not_passed_on() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for app in INTERFACES {
        for path in ["/illegal-header", "/illegal-value", "/illegal-status"] {
            let answer = host.get(app, path);
            answer.problem_of(app, 502, "app-failed");
            assert!(answer.header("set-cookie").is_none() && !answer.text().contains("set-cookie"), "{answer}");
            assert_healthy(&host, app);
        }
        // The host owns the headers of the connection: the response is complete, and the guest
        // can't close the connection.
        let mut wire = host.wire();
        wire.ask(&host.to_app(app, Ask::get("/hop-header"))).expect("it can be sent");
        let first = wire.answer().unwrap_or_else(|broken| panic!("{app}: {broken}"));
        if first.status == 200 {
            assert_eq!(first.text(), "hello", "{app}");
            wire.ask(&host.to_app(app, Ask::get("/ok"))).expect("it can be sent");
            assert_eq!(wire.answer().expect("the connection is kept").text(), "ok");
        }
        // Ten thousand headers: passed on or rejected, but with a response.
        let many = host.get(app, "/many-headers");
        assert!(many.status == 200 || many.status >= 500, "{app}: {}", many.status);
        assert_healthy(&host, app);
    }
    neighbour.finish();
}

#[test]
fn a_guest_that_exits_or_fails_costs_one_response() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for app in INTERFACES {
        let problem = host.get(app, "/exit?code=0").problem_of(app, 502, "app-failed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("exited")), "{problem}");
        host.get(app, "/exit?code=3").problem_of(app, 502, "app-failed");
        let failed = host.get(app, "/error");
        failed.problem_of(app, 500, "app-failed");
        assert!(!failed.text().contains("secret"), "{failed}");
        assert_healthy(&host, app);
    }
    neighbour.finish();
}
