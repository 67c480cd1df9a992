//! Tests the responses of the probes, on which other tests rely.

use isopod_tests::{Ask, Bundle, Host, guest};

const PROBES: [&str; 2] = ["probe-wasi02", "probe-wasi03"];

#[test]
fn a_probe_shows_the_request_that_reached_it() {
    let host = Host::start();
    for app in PROBES {
        host.deploy(app, Bundle::component(guest(app)));
        let shown = host.app(app, Ask::post("/show?a=b").body("text/plain", "twelve bytes")).expect(200).json();
        assert_eq!((&shown["method"], &shown["path"]), (&"POST".into(), &"/show?a=b".into()), "{app}");
        assert_eq!((&shown["body_bytes"], &shown["end"]), (&12.into(), &"whole".into()), "{app}");
        let headers = shown["headers"].as_array().expect("a list");
        assert!(headers.contains(&serde_json::json!(["content-type", "text/plain"])), "{app}: {shown}");
    }
}

#[test]
fn a_probe_responds_as_its_query_requests() {
    let host = Host::start();
    for app in PROBES {
        host.deploy(app, Bundle::component(guest(app)));
        let answer = host.get(app, "/respond?status=418&h=x-kind:teapot&n=3&chunk=1000&cl=3000").expect(418);
        assert_eq!(answer.header("x-kind"), Some("teapot"), "{app}");
        assert_eq!(answer.text(), "x".repeat(3000), "{app}");
        let echoed = host.app(app, Ask::post("/echo").body("text/plain", "again and again")).expect(200);
        assert_eq!(echoed.text(), "again and again", "{app}");
        host.get(app, "/nothing").problem_of(app, 502, "app-failed");
    }
}
