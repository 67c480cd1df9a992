//! Tests what middleware sees and changes: in order for a request, in reverse order for its
//! response, for every way in which a request reaches an app.

use isopod_tests::{
    Ask, Host, Neighbour, PROBES, Shown,
    h2c::H2c,
    middleware::{probe_manifest, probe_plugin, used, with_middleware},
    wait_for,
};
use isopod_tests::{Bundle, guest_noted};

const PASS: &str = "{ request = \"pass\" }";

fn host_with_probe() -> Host {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host
}

fn set(name: &str, value: &str) -> String {
    format!("{{ request = {{ set = [\"{name}\", \"{value}\"] }} }}")
}

#[test]
fn middlewares_see_a_request_in_order_and_its_response_in_reverse() {
    let host = host_with_probe();
    let both = |name: &str| {
        let act = format!("{{ append = [\"x-order\", \"{name}\"] }}");
        used(&format!("{{ request = {act}, response = {act} }}"), "")
    };
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &[both("first"), both("second")]));
        let answer = host.app(probe, Ask::get("/show").header("x-order", "client")).expect(200);
        let orders = |headers: &[(String, String)]| -> Vec<String> {
            headers.iter().filter(|(name, _)| name == "x-order").map(|(_, value)| value.clone()).collect()
        };
        let sent: serde_json::Value = answer.json();
        let seen: Vec<_> =
            sent["headers"].as_array().expect("a list").iter().filter(|pair| pair[0] == "x-order").collect();
        let seen: Vec<_> = seen.iter().map(|pair| pair[1].as_str().expect("text")).collect();
        assert_eq!(seen, ["client", "first", "second"], "{probe}");
        assert_eq!(orders(&answer.headers), ["second", "first"], "{probe}");
    }
}

#[test]
fn a_middleware_changes_the_path_that_later_ones_and_the_app_see() {
    let host = host_with_probe();
    let uses = [
        used("{ request = { path = \"/show?changed=1\" } }", "paths = [\"/old\"]"),
        used(&set("x-late", "yes"), "paths = [\"/show\"]"),
        used("{ request = { respond = [410, \"gone\"] } }", "paths = [\"/old/*\"]"),
    ];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    let shown = Shown::read(&host.get("probe-flat", "/old?client=1").expect(200).text());
    assert_eq!((shown.path.as_deref(), shown.header("x-late")), (Some("/show?changed=1"), Some("yes")));
    assert_eq!(shown.authority.as_deref(), Some("probe-flat.localhost"));
    assert_eq!(host.get("probe-flat", "/old/x").expect(410).text(), "gone");
    let line = host.log_line("probe-flat", "the request's line", |line| line["path"] == "/old");
    assert_eq!((line["status"].as_u64(), line["plugin"].as_str()), (Some(200), None), "{line}");
}

#[test]
fn no_other_form_of_a_path_bypasses_a_middleware() {
    let host = host_with_probe();
    let refuse = used("{ request = { respond = [403, \"no\"] } }", "paths = [\"/admin/*\", \"/exact\"]");
    host.deploy("probe-flat", with_middleware("probe-flat", &[refuse]));
    for path in
        ["/admin", "/admin/", "/admin/x", "/%61dmin/x", "//admin/x", "/x/../admin/x", "/exact", "/exac%74?q", "/exact/"]
    {
        host.get("probe-flat", path).expect(403);
    }
    for path in ["/", "/administrator", "/show", "/exact/x"] {
        host.get("probe-flat", path).expect(200);
    }
}

#[test]
fn a_middleware_responds_before_the_body_is_read_and_without_an_instance_of_the_app() {
    let host = host_with_probe();
    let refuse = used("{ request = { respond = [401, \"a token is missing\"] } }", "");
    host.deploy("probe-wasi02", with_middleware("probe-wasi02", &[refuse]));
    let ask = Ask::post("/show").header("expect", "100-continue").header("content-length", "1000000000");
    let mut wire = host.begin("probe-wasi02", ask);
    let answer = wire.answer().expect("an answer").expect(401);
    assert_eq!(answer.text(), "a token is missing");
    assert_eq!(answer.header("x-isopod-error-source"), None, "it is the plugin's own response");
    let line = host.log_line("probe-wasi02", "the request's line", |line| line["status"] == 401);
    assert_eq!((line["plugin"].as_str(), line["fault"].as_str()), (Some("probe"), None), "{line}");
    assert!(line["message"].as_str().expect("text").contains(" by probe"), "{line}");
    let instances = host.instances("probe-wasi02");
    assert!(instances.iter().all(|instance| instance["requests"] == 0), "{instances:?}");
    assert!(host.get("probe-wasi02", "/").header("x-request-id").is_some());
}

#[test]
fn the_response_of_a_middleware_passes_through_earlier_ones() {
    let host = host_with_probe();
    let uses = [
        used("{ request = \"pass\", response = { set = [\"x-outer\", \"yes\"] } }", ""),
        used("{ request = { respond = [403, \"no\"] } }", "paths = [\"/refused\"]"),
        used("{ request = \"pass\", response = { set = [\"x-inner\", \"yes\"] } }", ""),
    ];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    let marks = |path: &str| {
        let answer = host.get("probe-flat", path);
        (answer.status, answer.header("x-outer").is_some(), answer.header("x-inner").is_some())
    };
    assert_eq!(marks("/refused"), (403, true, false));
    assert_eq!(marks("/show"), (200, true, true));
    assert_eq!(marks("/panic"), (502, false, false), "an error of the host is not a response of the app");
}

#[test]
fn a_response_is_changed_or_replaced() {
    let host = host_with_probe();
    let uses = [
        used("{ request = \"pass\", response = { status = 404 } }", "paths = [\"/respond\"]"),
        used("{ request = \"pass\", response = { respond = [503, \"replaced\"] } }", "paths = [\"/show\"]"),
        used("{ request = \"pass\", response = { status = 204 } }", "paths = [\"/early\"]"),
    ];
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &uses));
        let answer = host.get(probe, "/respond?chunk=3&n=4").expect(404);
        assert_eq!(answer.body.len(), 12, "{probe}: the body is unchanged");
        let answer = host.get(probe, "/show").expect(503);
        assert_eq!(answer.text(), "replaced", "{probe}");
        assert_eq!(answer.header("content-length"), Some("8"), "{probe}");
        assert_eq!(host.get(probe, "/early?chunk=3").expect(204).text(), "", "{probe}");
        let line = host.log_line(probe, "the replaced response", |line| line["path"] == "/show");
        assert_eq!(line["plugin"], "probe", "{line}");
    }
}

#[test]
fn bodies_are_forwarded_complete_and_unread_by_middleware() {
    let host = host_with_probe();
    let uses = [used("{ request = { set = [\"x-a\", \"1\"] }, response = { set = [\"x-b\", \"2\"] } }", "")];
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &uses));
        for bytes in [0, 1, 100_000, 3 << 20] {
            let ask = Ask::post("/show").body("text/plain", vec![b'x'; bytes]);
            let answer = host.app(probe, ask).expect(200);
            let shown = Shown::read(&answer.text());
            assert_eq!((shown.body_bytes, shown.header("x-a")), (bytes as u64, Some("1")), "{probe}");
            assert_eq!(answer.header("x-b"), Some("2"), "{probe}");
        }
    }
}

#[test]
fn requests_to_previews_and_instances_and_over_http2_pass_through_the_middleware() {
    let host = host_with_probe();
    let uses = |text: &str| [used(&format!("{{ request = {{ respond = [403, \"{text}\"] }} }}"), "paths = [\"/x\"]")];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses("one")));
    host.deploy("probe-flat", with_middleware("probe-flat", &uses("two")));
    assert_eq!(host.get("probe-flat", "/x").expect(403).text(), "two");
    assert_eq!(host.get("v1--probe-flat", "/x").expect(403).text(), "one");
    assert_eq!(host.get("v2--probe-flat", "/x").expect(403).text(), "two");
    host.get("probe-flat", "/show").expect(200);
    let id = host.running_ids("probe-flat", "web", 1).remove(0);
    assert_eq!(host.get(&format!("{id}--probe-flat"), "/x").expect(403).text(), "two");
    host.get(&format!("{id}--probe-flat"), "/show").expect(200);
    let asks: Vec<Ask> = ["/x", "/show", "/x"].map(Ask::get).into();
    let answers = H2c::open(host.listen).expect("it connects").ask("probe-flat", &asks, &[]).expect("answers");
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [403, 200, 403]);
}

#[test]
fn the_plugin_sees_the_request_as_the_app_would() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[used("{ request = \"show\" }", "")]));
    let ask = Ask::get("/a%20b?c=d").header("X-Custom", "1").header("x-forwarded-for", "192.0.2.1");
    let answer = host.app("probe-flat", ask).expect(200);
    let (text, id) = (answer.text(), answer.header("x-request-id").expect("an id").to_owned());
    let first = format!("GET http://probe-flat.localhost/a%20b?c=d for probe-flat as {id} from Some(127.0.0.1)\n");
    assert!(text.starts_with(&first), "{text}");
    assert!(text.contains(r#""x-custom": "1""#) && text.contains(r#""x-forwarded-for": "127.0.0.1""#), "{text}");
}

#[test]
fn middleware_still_applies_after_a_restart_of_the_host() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[used("{ request = { respond = [403, \"no\"] } }", "")]));
    let host = host.restart();
    assert_eq!(host.get("probe-flat", "/").expect(403).text(), "no");
}

#[test]
fn no_request_fails_while_a_plugin_is_upgraded() {
    let host = host_with_probe();
    host.deploy(
        "shop",
        Bundle::archive(&format!("name = \"shop\"\n{}", used(PASS, "")), &isopod_tests::guest("hello")),
    );
    let asking = Neighbour::asking(host.listen, "shop", |answer| answer == "Hello, world!");
    for number in 1..=3_u8 {
        let manifest = probe_manifest(&format!("1.0.{number}"), "");
        host.installed(&Bundle::archive(&manifest, &guest_noted("probe-plugin", number)));
        let answers = asking.answers();
        wait_for("answers with the new version", || (asking.answers() > answers + 10).then_some(()));
    }
    asking.finish();
    assert_eq!(host.plugin("probe")["version"], "1.0.3");
}

#[test]
fn calls_and_cpu_time_of_a_plugin_are_counted_for_the_app_that_uses_it() {
    let host = host_with_probe();
    let uses = [
        used("{ request = \"spin\" }", "on_failure = \"pass\"\npaths = [\"/spin\"]"),
        used(&set("x-a", "1"), "paths = [\"/show\"]"),
        used("{ request = { respond = [403, \"no\"] } }", "paths = [\"/respond\"]"),
    ];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    for (path, status) in [("/spin", 200), ("/show", 200), ("/show", 200), ("/respond", 403), ("/other", 200)] {
        host.get("probe-flat", path).expect(status);
    }
    let calls = |outcome: &str| {
        let labels = format!("app=\"probe-flat\",plugin=\"probe\",outcome=\"{outcome}\"");
        host.metric(&format!("isopod_app_plugin_calls_total{{{labels}}}"))
    };
    assert_eq!(["pass", "change", "respond", "failure"].map(calls), [0.0, 2.0, 1.0, 1.0]);
    let of_calls = host.metric("isopod_app_plugin_cpu_seconds_total{app=\"probe-flat\",plugin=\"probe\"}");
    let of_app = host.metric("isopod_app_cpu_seconds_total{app=\"probe-flat\"}");
    let of_plugin = host.metric("isopod_app_cpu_seconds_total{app=\"probe\"}");
    assert!(of_calls > 0.05 && of_app >= of_calls && of_plugin < of_calls, "{of_calls} {of_app} {of_plugin}");
}
