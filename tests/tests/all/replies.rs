//! Guests that answer badly: never, half, too much, or with what is no HTTP. The client is told the truth, and the app
//! goes on.

use isopod_tests::{Ask, Bundle, Host, Neighbour, guest};

/// The two roads of HTTP that the misbehaving guest can be reached by.
const ROADS: [&str; 2] = ["greedy", "greedy-flat"];

fn deploy(host: &Host, limits: &str) {
    for app in ROADS {
        let manifest = format!("name = \"{app}\"\n[limits]\n{limits}\n");
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
    }
}

fn is_well(host: &Host, app: &str) {
    assert_eq!(host.get(app, "/ok").expect(200).text(), "ok");
    assert_eq!(host.state(app), "running");
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"300ms\"\ninstances_max = 2");
    let neighbour = Neighbour::beside(&host);
    for app in ROADS {
        for path in ["/never", "/spin", "/poll-storm"] {
            let problem = host.get(app, path).problem_of(app, 504, "app-timeout");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("300 ms")), "{path}: {problem}");
            is_well(&host, app);
        }
        // One that waits for nothing is found out by the SDK itself, before its time is over.
        let answer = host.get(app, "/stuck");
        assert!(answer.status >= 500, "{answer}");
        is_well(&host, app);
    }
    neighbour.finish();
}

/// A broken answer must not look like a complete one.
#[test]
fn an_answer_that_breaks_off_is_seen_to_be_broken() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for path in ["/panic-mid-reply", "/fail-mid-reply", "/wrong-length"] {
        match host.try_app("greedy", Ask::get(path)) {
            // It broke off before anything was sent.
            Ok(answer) => {
                answer.problem_of("greedy", 502, "app-failed");
            }
            // How much of it comes before the end is chance, but nothing comes that the guest did not write.
            Err(broken) => {
                let begun = broken.answer.map_or_else(String::new, |answer| answer.text());
                assert!(path == "/wrong-length" || "the beginning of an answer that ".starts_with(&begun), "{begun}");
            }
        }
        is_well(&host, "greedy");
    }
    // A flat answer is whole or none.
    for path in ["/panic-mid-reply", "/fail-mid-reply"] {
        let answer = host.get("greedy-flat", path);
        assert!(answer.status >= 500, "{path}: {answer}");
        is_well(&host, "greedy-flat");
    }
    neighbour.finish();
}

#[test]
fn a_reply_without_bounds_is_cut_at_the_apps_limit() {
    const MIB: usize = 1 << 20;
    let host = Host::start();
    deploy(&host, "reply_body = \"4MiB\"\nrequest_timeout = \"10s\"");
    let neighbour = Neighbour::beside(&host);
    // Two gigabytes, unless somebody stops it.
    let broken = host.try_app("greedy", Ask::get("/reply-flood")).expect_err("it is cut");
    let came = broken.answer.expect("its beginning came").body.len();
    assert!(came <= 4 * MIB, "{came} bytes came");
    is_well(&host, "greedy");
    let within = host.get("greedy", &format!("/reply-flood?bytes={}", 3 * MIB)).expect(200);
    assert_eq!(within.body.len(), 3 * MIB);
    // A flat answer is in the guest's memory first, which is bounded as well.
    let refused = host.get("greedy-flat", "/reply-flood");
    assert!(refused.status >= 500, "{refused}");
    let over = host.get("greedy-flat", &format!("/reply-flood?bytes={}", 5 * MIB));
    assert!(over.status >= 500, "a flat answer over the limit: {}", over.status);
    is_well(&host, "greedy-flat");
    neighbour.finish();
}

#[test]
fn an_answer_that_is_no_http_is_not_passed_on() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for app in ROADS {
        for path in ["/illegal-header", "/illegal-value", "/illegal-status"] {
            let answer = host.get(app, path);
            answer.problem_of(app, 502, "app-failed");
            assert!(answer.header("set-cookie").is_none() && !answer.text().contains("set-cookie"), "{answer}");
            is_well(&host, app);
        }
        // Headers of the connection are the host's own: the answer is whole, and the guest cannot close the connection.
        let mut wire = host.wire();
        wire.ask(&host.to_app(app, Ask::get("/hop-header"))).expect("it can be sent");
        let first = wire.answer().unwrap_or_else(|broken| panic!("{app}: {broken}"));
        if first.status == 200 {
            assert_eq!(first.text(), "hello", "{app}");
            wire.ask(&host.to_app(app, Ask::get("/ok"))).expect("it can be sent");
            assert_eq!(wire.answer().expect("the connection is kept").text(), "ok");
        }
        // Ten thousand headers: passed on or refused, but answered.
        let many = host.get(app, "/many-headers");
        assert!(many.status == 200 || many.status >= 500, "{app}: {}", many.status);
        is_well(&host, app);
    }
    neighbour.finish();
}

#[test]
fn a_guest_that_exits_or_fails_costs_one_answer() {
    let host = Host::start();
    deploy(&host, "request_timeout = \"5s\"");
    let neighbour = Neighbour::beside(&host);
    for app in ROADS {
        let problem = host.get(app, "/exit?code=0").problem_of(app, 502, "app-failed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("exited")), "{problem}");
        host.get(app, "/exit?code=3").problem_of(app, 502, "app-failed");
        let failed = host.get(app, "/error");
        failed.problem_of(app, 500, "app-failed");
        assert!(!failed.text().contains("secret"), "{failed}");
        is_well(&host, app);
    }
    neighbour.finish();
}
