//! Tests the source of an error response: the host names the side that failed, and distinguishes an
//! app's error from its crash.

use isopod_tests::{Answer, Ask, Bundle, Host, PROBES, guest};

fn source(answer: &Answer) -> Option<&str> {
    answer.header("x-isopod-error-source")
}

#[test]
fn a_handlers_error_is_a_500_and_a_crash_a_502() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let failed = host.get(probe, "/error");
        failed.problem_of(probe, 500, "app-failed");
        assert_eq!(source(&failed), Some("app"), "{failed}");
        assert!(!failed.text().contains("asked to fail"), "the response shows the error's text: {failed}");
        let crash = if probe == "probe-flat" { "/panic" } else { "/nothing" };
        let bad_answer = "/respond?status=101";
        for path in [crash, bad_answer] {
            let answer = host.get(probe, path);
            answer.problem_of(probe, 502, "app-failed");
            assert_eq!(source(&answer), Some("app"), "{answer}");
        }
    }
}

#[test]
fn an_error_of_an_sdk_handler_is_the_same_on_every_interface() {
    let host = Host::start();
    for (app, path) in [("greedy", "/error"), ("greedy-flat", "/error"), ("relay-wasi03", "/?url=http://a/&body=x")] {
        host.deploy(app, Bundle::component(guest(app)));
        let failed = host.get(app, path);
        let problem = failed.problem_of(app, 500, "app-failed");
        assert_eq!(source(&failed), Some("app"), "{failed}");
        let line = host
            .log_line(app, "the fault", |line| line["level"] == "error" && line["request_id"] == problem["request_id"]);
        let text = if path == "/error" { "greedy was asked to fail" } else { "invalid digit" };
        assert!(line["message"].as_str().is_some_and(|message| message.contains(text)), "{line}");
    }
}

#[test]
fn an_error_response_of_the_host_names_the_host() {
    let host = Host::start();
    host.create("empty", "dev");
    for (app, status) in [("nobody", 404), ("empty", 503)] {
        let answer = host.get(app, "/").expect(status);
        assert_eq!(source(&answer), Some("host"), "{answer}");
        let page = host.app(app, Ask::get("/").header("accept", "text/html")).expect(status);
        assert_eq!(source(&page), Some("host"), "{page}");
    }
    let unknown = host.api(Ask::get("/v1/apps/nobody")).expect(404);
    assert_eq!(source(&unknown), Some("host"), "{unknown}");
    let fine = host.api(Ask::get("/v1/apps")).expect(200);
    assert_eq!(source(&fine), None, "{fine}");
}

#[test]
fn an_app_cannot_set_the_error_source() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        let answer = host.get(probe, "/respond?status=500&chunk=1&h=x-isopod-error-source:host&h=x-a:1").expect(500);
        assert_eq!((source(&answer), answer.header("x-a")), (None, Some("1")), "{answer}");
    }
}
