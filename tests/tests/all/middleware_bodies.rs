//! Tests middleware that asks for bodies: it decides about them and changes them, within its own
//! limit. All other bodies stream past it.

use isopod_tests::{
    Answer, Ask, Bundle, Host, Neighbour, PROBES, Shown, Wire, guest,
    h2c::H2c,
    middleware::{probe_manifest, probe_plugin, used, with_middleware},
    wait_for,
};
use serde_json::Value;

/// HMAC-SHA256 of `hello` with the key `secret`.
const SIGNATURE: &str = "88aab3ede8d3adf94d26ab90d3bafd4a2083070c3bcce9c014ee04a443847c0b";

fn host_with_probe() -> Host {
    let host = Host::start();
    host.installed(&probe_plugin("1.0.0", ""));
    host
}

/// A use of the plugin that asks for request bodies of at most 1,000 bytes.
fn reading(act: &str, more: &str) -> String {
    used(&format!("{{ request_body = 1000, request = {act} }}"), more)
}

/// A use of the plugin that asks for response bodies of at most 1,000 bytes.
fn reading_responses(act: &str, more: &str) -> String {
    used(&format!("{{ request = \"pass\", response_body = 1000, response = {act} }}"), more)
}

fn chunked(host: &Host, app: &str, chunks: &[&[u8]]) -> Wire {
    let mut wire = host.begin(app, Ask::post("/show").header("transfer-encoding", "chunked"));
    chunks.iter().for_each(|chunk| wire.send_chunk(chunk).expect("it can be sent"));
    wire
}

fn calls(host: &Host, outcome: &str) -> f64 {
    host.metric(&format!("isopod_app_plugin_calls_total{{app=\"probe-flat\",plugin=\"probe\",outcome=\"{outcome}\"}}"))
}

#[test]
fn a_body_with_a_wrong_signature_is_refused_before_it_reaches_the_app() {
    let host = host_with_probe();
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &[reading("{ signed = \"secret\" }", "")]));
        let ask =
            |body: &str, signature: &str| Ask::post("/show").body("text/plain", body).header("x-signature", signature);
        let shown = Shown::read(&host.app(probe, ask("hello", SIGNATURE)).expect(200).text());
        assert_eq!((shown.body_bytes, shown.header("content-length")), (5, Some("5")), "{probe}");
        for (body, signature) in [("hello!", SIGNATURE), ("hello", "00"), ("", SIGNATURE)] {
            assert_eq!(host.app(probe, ask(body, signature)).expect(403).text(), "the signature is wrong", "{probe}");
        }
        let requests: u64 = host.instances(probe).iter().filter_map(|instance| instance["requests"].as_u64()).sum();
        assert_eq!(requests, 1, "{probe}: an instance gets only the signed body");
    }
}

#[test]
fn a_changed_request_body_reaches_later_middlewares_and_the_app_with_its_length() {
    let host = host_with_probe();
    let uses = [
        reading("{ prefix = \"first \" }", ""),
        reading("{ prefix = \"second \" }", ""),
        reading("\"report\"", "paths = [\"/report\"]"),
    ];
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &uses));
        let report = host.app(probe, Ask::post("/report").body("text/plain", "body")).expect(200);
        assert_eq!(report.text(), "17: second first body", "{probe}");
        let shown = Shown::read(&host.app(probe, Ask::post("/show").body("text/plain", "body")).expect(200).text());
        assert_eq!((shown.body_bytes, shown.header("content-length")), (17, Some("17")), "{probe}");
        let mut wire = chunked(&host, probe, &[b"bo", b"dy", b""]);
        let shown = Shown::read(&wire.answer().expect("an answer").expect(200).text());
        assert_eq!((shown.body_bytes, shown.header("content-length")), (17, Some("17")), "{probe}");
        let shown = Shown::read(&host.get(probe, "/show").expect(200).text());
        assert_eq!(shown.body_bytes, 13, "{probe}: a request without a body has an empty one");
    }
}

#[test]
fn a_changed_response_body_is_sent_with_its_length() {
    let host = host_with_probe();
    let uses = [reading_responses("{ prefix = \"outer \" }", ""), reading_responses("{ prefix = \"inner \" }", "")];
    for probe in PROBES {
        host.deploy(probe, with_middleware(probe, &uses));
        for path in ["/respond?chunk=3&n=4", "/respond?chunk=3&n=4&cl=12"] {
            let answer = host.get(probe, path).expect(200);
            assert_eq!(answer.text(), "outer inner xxxxxxxxxxxx", "{probe}");
            assert_eq!(answer.header("content-length"), Some("24"), "{probe}");
        }
        let ask = Ask::new("HEAD", "/respond?chunk=3&n=4&cl=12").header("connection", "close");
        let mut wire = host.begin(probe, ask);
        let head = wire.any_head().expect("a head").expect(200);
        assert_eq!(head.header("content-length"), None, "{probe}: the length of the changed body is unknown");
        assert_eq!(wire.until_closed().expect("it is closed"), b"", "{probe}");
        let line = host.log_line(probe, "the request's line", |line| line["path"] == "/respond");
        assert_eq!((line["status"].as_u64(), line["plugin"].as_str()), (Some(200), None), "{line}");
        let answer = host.get(probe, "/respond?status=204&n=0").expect(204);
        assert!(answer.body.is_empty() && answer.header("content-length").is_none(), "{probe}: {answer}");
    }
}

/// The response passes the last middleware first: it sets a body, the next one the status, and the
/// first one reports the body that it received.
#[test]
fn a_response_without_content_gets_no_body() {
    let host = host_with_probe();
    let status = used("{ request = \"pass\", response = { status = 200 } }", "");
    let uses = [reading_responses("\"report\"", ""), status, reading_responses("{ prefix = \"late\" }", "")];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    assert_eq!(host.get("probe-flat", "/respond?status=204&n=0").expect(200).text(), "0: ");
    let head = Ask::new("HEAD", "/respond?chunk=3&n=4&cl=12").header("connection", "close");
    let only_reading = reading_responses("\"pass\"", "");
    host.deploy("probe-flat", with_middleware("probe-flat", &[only_reading]));
    let mut wire = host.begin("probe-flat", head);
    let head = wire.any_head().expect("a head").expect(200);
    assert_eq!(head.header("content-length"), None, "a middleware may change the length of the response to GET");
}

#[test]
fn trailers_pass_a_middleware_that_reads_the_body_but_not_one_that_changes_it() {
    let host = host_with_probe();
    let uses = [
        reading("\"pass\"", ""),
        reading("{ prefix = \"> \" }", "paths = [\"/changed\"]"),
        used("{ request = { path = \"/show\" } }", ""),
    ];
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in ["probe-wasi02", "probe-wasi03"] {
        host.deploy(probe, with_middleware(probe, &uses));
        for (path, expected, bytes) in [("/show", 1, 5), ("/changed", 0, 7)] {
            let check = |answer: &Answer| {
                let shown = answer.json();
                let trailers = shown["trailers"].as_array().map(Vec::len);
                assert_eq!((trailers, shown["body_bytes"].as_u64()), (Some(expected), Some(bytes)), "{probe}: {shown}");
                let names = shown["headers"].as_array().expect("a list").iter().filter_map(|field| field[0].as_str());
                assert_eq!(names.filter(|name| *name == "trailer").count(), expected, "{probe}: {shown}");
            };
            let ask = Ask::post(path).header("trailer", "x-sum").header("transfer-encoding", "chunked");
            let mut wire = host.begin(probe, ask);
            wire.send(b"5\r\nhello\r\n0\r\nx-sum: 14\r\n\r\n").expect("it can be sent");
            check(&wire.answer().expect("an answer").expect(200));
            let ask = Ask::post(path).header("trailer", "x-sum").body("text/plain", "hello");
            check(&connection.ask(probe, &[ask], &[("x-sum", "14")]).expect("it is answered")[0]);
        }
    }
}

/// The response begins before the client has sent its whole body.
#[test]
fn bodies_stream_past_a_middleware_that_does_not_ask_for_them() {
    let host = host_with_probe();
    let uses = [used("{ request = \"pass\", response = { set = [\"x-a\", \"1\"] } }", "")];
    for probe in ["probe-wasi02", "probe-wasi03"] {
        host.deploy(probe, with_middleware(probe, &uses));
        let mut wire = host.begin(probe, Ask::post("/echo").header("transfer-encoding", "chunked"));
        for word in ["one", "two"] {
            wire.send_chunk(word.as_bytes()).expect("it can be sent");
            if word == "one" {
                assert_eq!(wire.head().expect("a head").header("x-a"), Some("1"));
            }
            assert_eq!(wire.piece().expect("the body continues"), Some(word.as_bytes().to_vec()), "{probe}");
        }
        wire.send_chunk(b"").expect("it can be sent");
        assert_eq!(wire.piece().expect("it is complete"), None);
    }
}

#[test]
fn a_request_body_over_the_limit_is_refused_regardless_of_on_failure() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[reading("\"pass\"", "on_failure = \"pass\"")]));
    let ask = |bytes: usize| Ask::post("/show").body("text/plain", vec![b'x'; bytes]);
    let shown = Shown::read(&host.app("probe-flat", ask(1_000)).expect(200).text());
    assert_eq!(shown.body_bytes, 1_000);
    let problem = host.app("probe-flat", ask(1_001)).problem_of("probe-flat", 413, "body-too-large");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("`probe`") && detail.contains("1000 bytes"), "{problem}");
    let mut wire = chunked(&host, "probe-flat", &[&[b'x'; 600], &[b'x'; 600]]);
    wire.answer().expect("an answer").problem_of("probe-flat", 413, "body-too-large");
    assert_eq!(calls(&host, "failure"), 0.0, "the client's error is not the plugin's failure");
    let accepting = used("{ request_body = 100000, request = \"pass\" }", "");
    let manifest = format!("name = \"probe-wasi02\"\n{accepting}[limits]\nrequest_body = \"1KiB\"\n");
    host.deploy("probe-wasi02", Bundle::archive(&manifest, &guest("probe-wasi02")));
    let problem = host.app("probe-wasi02", ask(1_025)).problem_of("probe-wasi02", 413, "body-too-large");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with("the app accepts")), "{problem}");
}

/// The client isn't at fault, so the second middleware fails.
#[test]
fn a_body_that_an_earlier_middleware_makes_too_large_fails_the_next_one() {
    let host = host_with_probe();
    for (app, on_failure) in [("refuse", "refuse"), ("pass", "pass")] {
        let uses = [reading("{ fill = 1001 }", ""), reading("\"pass\"", &format!("on_failure = \"{on_failure}\""))];
        host.deploy(app, with_middleware("probe-flat", &uses));
    }
    let ask = || Ask::post("/show").body("text/plain", "small");
    let problem = host.app("refuse", ask()).problem_of("refuse", 502, "plugin-failed");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("1001 bytes") && detail.contains("at most 1000"), "{problem}");
    assert_eq!(Shown::read(&host.app("pass", ask()).expect(200).text()).body_bytes, 1_001);
}

/// The streamed response ends only after more bytes than the plugin accepts.
#[test]
fn a_response_body_over_the_limit_is_refused_or_passes_unchanged() {
    let host = host_with_probe();
    for (app, on_failure) in [("refuse", "refuse"), ("pass", "pass")] {
        let uses = [reading_responses("{ prefix = \"late \" }", &format!("on_failure = \"{on_failure}\""))];
        host.deploy(app, with_middleware("probe-wasi02", &uses));
    }
    for path in ["/respond?chunk=300&n=7", "/respond?chunk=300&n=7&ms=1", "/respond?chunk=100000&n=30"] {
        let problem = host.get("refuse", path).problem_of("refuse", 502, "plugin-failed");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000 bytes")), "{problem}");
        let answer = host.get("pass", path).expect(200);
        assert!(answer.body.len() >= 2_100 && answer.body.iter().all(|byte| *byte == b'x'), "{path}");
    }
    assert_eq!(host.get("refuse", "/respond?chunk=3").expect(200).text(), "late xxx");
    let is_reason = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("exceeds the 1000 bytes"));
    ["refuse", "pass"].iter().for_each(|app| drop(host.log_line(app, "the reason", is_reason)));
    // The app fails in the middle of the body that the plugin asked for.
    let problem = host.get("refuse", "/respond?chunk=3&n=2&ms=5&end=trap").problem_of("refuse", 502, "app-failed");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("trapped"), "a dev app shows the fault: {problem}");
}

/// More slow clients than the plugin has instances. The host reads the bodies, so no instance waits
/// for them.
#[test]
fn slow_bodies_occupy_no_instance_of_the_plugin_and_time_out() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[reading("{ prefix = \"> \" }", "")]));
    let asking = Neighbour::beside(&host);
    let mut slow: Vec<Wire> = (0..12).map(|_| chunked(&host, "probe-flat", &[b"slo"])).collect();
    wait_for("all slow clients are between the two calls", || (calls(&host, "ask") >= 12.0).then_some(()));
    for _ in 0..20 {
        let shown = host.app("probe-flat", Ask::post("/show").body("text/plain", "fast")).expect(200).text();
        assert_eq!(Shown::read(&shown).body_bytes, 6);
    }
    let mut late = slow.split_off(1);
    let mut done = slow.remove(0);
    done.send_chunk(b"w").and_then(|()| done.send_chunk(b"")).expect("it can be sent");
    assert_eq!(Shown::read(&done.answer().expect("an answer").expect(200).text()).body_bytes, 6);
    for wire in &mut late {
        wire.answer().expect("an answer").problem_of("probe-flat", 408, "body-too-slow");
    }
    asking.finish();
}

#[test]
fn a_middleware_that_returns_a_huge_body_fails_only_its_own_requests() {
    let host = host_with_probe();
    let manifest = |uses: &str| format!("name = \"probe-flat\"\n{uses}[limits]\nrequest_body = \"2MiB\"\n");
    let uses = [
        reading("{ fill = 5000000 }", "paths = [\"/request\"]"),
        reading("{ fill = 3000000 }", "paths = [\"/limit\"]"),
        reading_responses("{ fill = 5000000 }", "paths = [\"/response\"]"),
        reading_responses("{ fill = 3000000 }", "paths = [\"/large\"]"),
        used("{ request_body = 4194305, request = \"pass\" }", "paths = [\"/asks\"]"),
    ];
    host.deploy("probe-flat", Bundle::archive(&manifest(&uses.concat()), &guest("probe-flat")));
    let neighbour = Neighbour::beside(&host);
    let reasons = [
        ("/request", "the arguments of one host call"),
        ("/limit", "3000000 bytes; the app accepts at most 2097152"),
        ("/response", "the arguments of one host call"),
        ("/asks", "a body of up to 4194305 bytes"),
    ];
    for (path, reason) in reasons {
        let answer = host.app("probe-flat", Ask::post(path).body("text/plain", "body"));
        let problem = answer.problem_of("probe-flat", 502, "plugin-failed");
        assert_eq!(problem["plugin"], "probe", "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(reason)), "{path}: {problem}");
    }
    let large = host.app("probe-flat", Ask::post("/large").body("text/plain", "body")).expect(200);
    assert_eq!((large.body.len(), large.header("content-length")), (3_000_000, Some("3000000")));
    host.get("probe-flat", "/show").expect(200);
    neighbour.finish();
}

/// The component of `probe-plugin`, as an earlier SDK builds it: without a handler of bodies.
fn without_body_handler() -> Vec<u8> {
    let mut component = guest("probe-plugin");
    let (from, to) = (b"isopod:plugin/body-handler@0.1.0", b"isopod:plugin/body-handler@0.9.0");
    for at in 0..component.len() - from.len() {
        if component[at..].starts_with(from) {
            component[at..at + to.len()].copy_from_slice(to);
        }
    }
    component
}

#[test]
fn a_plugin_without_a_body_handler_receives_heads_and_cannot_ask_for_bodies() {
    let host = Host::start();
    host.installed(&Bundle::archive(&probe_manifest("1.0.0", ""), &without_body_handler()));
    let uses = [reading("\"pass\"", "paths = [\"/asks\"]"), used("{ request = { set = [\"x-a\", \"1\"] } }", "")];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    assert_eq!(Shown::read(&host.get("probe-flat", "/show").expect(200).text()).header("x-a"), Some("1"));
    host.get("probe-flat", "/asks").problem_of("probe-flat", 502, "plugin-failed");
    let reason = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("body-handler"));
    host.log_line("probe", "the reason", reason);
}

#[test]
fn an_upgrade_to_a_version_without_a_body_handler_fails_no_request_between_the_two_calls() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[reading("{ set = [\"x-a\", \"1\"] }", "")]));
    let mut wire = chunked(&host, "probe-flat", &[b"slo"]);
    wait_for("the middleware has asked for the body", || (calls(&host, "ask") == 1.0).then_some(()));
    let manifest = probe_manifest("1.1.0", "[config]\nHEADS_ONLY = \"1\"\n");
    host.installed(&Bundle::archive(&manifest, &without_body_handler()));
    wire.send_chunk(b"w").and_then(|()| wire.send_chunk(b"")).expect("it can be sent");
    let shown = Shown::read(&wire.answer().expect("an answer").expect(200).text());
    assert_eq!((shown.body_bytes, shown.header("x-a")), (4, Some("1")));
    assert_eq!((calls(&host, "failure"), calls(&host, "change")), (0.0, 1.0));
}

/// More than a client's budget of 32 MiB, while the requests wait for a second plugin.
#[test]
fn the_new_bodies_of_requests_without_a_body_are_charged_to_the_budget() {
    let host = host_with_probe();
    let slow = "name = \"slow\"\nkind = \"plugin\"\n[plugin]\nversion = \"1.0.0\"\ntime_limit = \"5s\"\n";
    host.installed(&Bundle::archive(slow, &guest("probe-plugin")));
    let uses = [
        reading("{ fill = 3900000 }", ""),
        "[[middleware]]\nuse = \"slow\"\nconfig = { request = { sleep = 3000 } }\n".to_owned(),
    ];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    let mut wires: Vec<Wire> = (0..12).map(|_| host.begin("probe-flat", Ask::get("/show"))).collect();
    let answers: Vec<_> = wires.iter_mut().map(|wire| wire.answer().expect("an answer")).collect();
    let is_over = |answer: &Answer| answer.status == 503 && answer.text().contains("from this client");
    assert!(answers.iter().any(is_over), "no body is over the budget");
    assert!(answers.iter().any(|answer| answer.status == 200), "no body is within the budget");
}
