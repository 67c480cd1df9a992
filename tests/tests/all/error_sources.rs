//! Tests the source of an error response: the host names the side that failed, and distinguishes an
//! app's error from its crash.

use isopod_tests::{
    Answer, Ask, Bundle, Host, PROBES, guest,
    middleware::{probe_plugin, used, with_middleware},
};

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

/// The app can't set the header itself.
#[test]
fn a_failed_response_of_an_app_names_the_app() {
    let host = Host::start_with_probes();
    for probe in PROBES {
        for (status, expected) in [(500, Some("app")), (503, Some("app")), (404, None), (200, None)] {
            let path = format!("/respond?status={status}&chunk=1&h=x-isopod-error-source:host&h=x-a:1");
            let answer = host.get(probe, &path).expect(status);
            assert_eq!((source(&answer), answer.header("x-a")), (expected, Some("1")), "{answer}");
            let sources = answer.headers.iter().filter(|(name, _)| name == "x-isopod-error-source");
            assert_eq!(sources.count(), usize::from(expected.is_some()), "{answer}");
        }
    }
}

#[test]
fn a_failed_response_of_a_plugin_names_the_host() {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    let uses = [
        used("{ request = { respond = [503, \"closed\"] } }", "paths = [\"/closed\"]"),
        used("{ request = { respond = [403, \"no\"] } }", "paths = [\"/refused\"]"),
        used("{ request = \"pass\", response = { respond = [500, \"replaced\"] } }", "paths = [\"/show\"]"),
    ];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    for (path, status, expected) in
        [("/closed", 503, Some("host")), ("/refused", 403, None), ("/show", 500, Some("host"))]
    {
        let answer = host.get("probe-flat", path).expect(status);
        assert_eq!(source(&answer), expected, "{answer}");
    }
    let passed = host.get("probe-flat", "/respond?status=503&chunk=1").expect(503);
    assert_eq!(source(&passed), Some("app"), "a plugin passed the response of the app: {passed}");
}
