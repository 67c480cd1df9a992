//! Tests middleware that asks for bodies: it decides about them and changes them, within its own
//! limit. All other bodies stream past it.

use isopod_tests::{
    Ask, Bundle, Host, Neighbour, PROBES, Shown, Wire, guest,
    middleware::{probe_plugin, used, with_middleware},
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
        let answer = host.get(probe, "/respond?status=204&n=0").expect(204);
        assert!(answer.body.is_empty() && answer.header("content-length").is_none(), "{probe}: {answer}");
        let line = host.log_line(probe, "the request's line", |line| line["path"] == "/respond");
        assert_eq!((line["status"].as_u64(), line["plugin"].as_str()), (Some(200), None), "{line}");
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
fn a_request_body_over_the_limit_is_refused_whatever_happens_on_failure() {
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
    // The app fails in the middle of the body that the plugin asked for.
    host.get("refuse", "/respond?chunk=3&n=2&ms=5&end=trap").problem_of("refuse", 502, "app-failed");
}

/// More slow clients than the plugin has instances. The host reads the bodies, so no instance waits
/// for them.
#[test]
fn slow_bodies_hold_no_instance_of_the_plugin_and_time_out() {
    let host = host_with_probe();
    host.deploy("probe-flat", with_middleware("probe-flat", &[reading("{ prefix = \"> \" }", "")]));
    let asking = Neighbour::beside(&host);
    let mut slow: Vec<Wire> = (0..12).map(|_| chunked(&host, "probe-flat", &[b"slo"])).collect();
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
    for path in ["/request", "/limit", "/response", "/asks"] {
        let answer = host.app("probe-flat", Ask::post(path).body("text/plain", "body"));
        let problem = answer.problem_of("probe-flat", 502, "plugin-failed");
        assert_eq!(problem["plugin"], "probe", "{path}: {problem}");
    }
    let large = host.app("probe-flat", Ask::post("/large").body("text/plain", "body")).expect(200);
    assert_eq!((large.body.len(), large.header("content-length")), (3_000_000, Some("3000000")));
    host.get("probe-flat", "/show").expect(200);
    neighbour.finish();
}

/// A component of an earlier SDK has no handler of bodies.
#[test]
fn a_plugin_without_a_handler_of_bodies_sees_heads_and_cannot_ask() {
    let host = Host::start();
    let mut component = guest("probe-plugin");
    let (from, to) = (b"isopod:plugin/body-handler@0.1.0", b"isopod:plugin/body-handler@0.9.0");
    for at in 0..component.len() - from.len() {
        if component[at..].starts_with(from) {
            component[at..at + to.len()].copy_from_slice(to);
        }
    }
    let manifest = "name = \"probe\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\" }\n";
    host.installed(&Bundle::archive(manifest, &component));
    let uses = [reading("\"pass\"", "paths = [\"/asks\"]"), used("{ request = { set = [\"x-a\", \"1\"] } }", "")];
    host.deploy("probe-flat", with_middleware("probe-flat", &uses));
    assert_eq!(Shown::read(&host.get("probe-flat", "/show").expect(200).text()).header("x-a"), Some("1"));
    host.get("probe-flat", "/asks").problem_of("probe-flat", 502, "plugin-failed");
    let reason = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("body-handler"));
    host.log_line("probe", "the reason", reason);
}
