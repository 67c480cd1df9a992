//! Tests requests whose client breaks the upload: they are recorded as the client's fault, and
//! never count against the release.

use isopod_tests::{Ask, Bundle, Host, PROBES, guest, wait_for};
use serde_json::{Value, json};

/// How a client breaks its upload: what it sends after the head, and whether it then shuts down its
/// write side.
struct Upload {
    headers: &'static str,
    sent: &'static [u8],
    ends: bool,
}

const BROKEN: [Upload; 5] = [
    Upload { headers: "content-length: 2000000\r\n", sent: &[b'x'; 1000], ends: true },
    Upload { headers: "transfer-encoding: chunked\r\n", sent: b"3\r\nabc\r\n", ends: true },
    Upload { headers: "transfer-encoding: chunked\r\n", sent: b"3\r\nabc\r\nZZ\r\n", ends: false },
    Upload { headers: "content-length: 40\r\nexpect: 100-continue\r\n", sent: b"", ends: true },
    Upload { headers: "transfer-encoding: chunked\r\nexpect: 100-continue\r\n", sent: b"ZZ\r\n", ends: false },
];

impl Upload {
    /// Sends the upload, and waits until the host has closed the connection.
    fn send(&self, host: &Host, app: &str, path: &str) {
        let mut wire = host.wire();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {app}.localhost\r\n{}\r\n", self.headers);
        wire.send(&[head.as_bytes(), self.sent].concat()).expect("it can be sent");
        if self.ends {
            wire.end_sending().expect("it can be closed");
        }
        // The response's head may be lost with the connection.
        wire.until_closed().expect("the host closes the connection");
    }
}

/// Waits for the access log lines of all `count` uploads to an app.
fn uploads(host: &Host, app: &str, count: usize) -> Vec<Value> {
    wait_for("the records of the uploads", || {
        let is_upload = |line: &Value| line["stream"] == "access" && line["method"] == "POST";
        let lines: Vec<Value> = host.log(app).into_iter().filter(is_upload).collect();
        (lines.len() >= count).then_some(lines)
    })
}

fn recorded(host: &Host, app: &str, id: &str) -> Value {
    host.log_line(app, "of the request", |line| line["stream"] == "access" && line["request_id"] == id)
}

/// Deploys two releases of an app with one slot, so that the outcome of a request is counted before
/// the next request starts.
fn deploy(host: &Host, app: &str, limits: &str) {
    host.create(app, "production");
    for release in 1..=2 {
        let manifest =
            format!("name = \"{app}\"\n[limits]\ninstances_max = 1\n{limits}\n[config]\nRELEASE = \"{release}\"\n");
        host.deploy(app, Bundle::archive(&manifest, &guest(app)));
        (0..3).for_each(|_| drop(host.get(app, healthy(app)).expect(200)));
    }
}

fn healthy(app: &str) -> &'static str {
    if app == "greedy" { "/ok" } else { "/show" }
}

/// Asserts that the newer release still serves, and that the app's log has no error.
#[track_caller]
fn assert_healthy(host: &Host, app: &str) {
    host.get(app, healthy(app)).expect(200);
    assert_eq!((host.current(app), host.state(app).as_str()), (vec![2], "running"), "{app}");
    let errors: Vec<Value> = host.log(app).into_iter().filter(|line| line["level"] == "error").collect();
    assert!(errors.is_empty(), "{app}: {errors:?}");
}

fn faults(host: &Host, app: &str, fault: &str) -> f64 {
    host.metric(&format!("isopod_faults_total{{app=\"{app}\",fault=\"{fault}\"}}"))
}

#[test]
fn a_client_that_breaks_its_uploads_does_not_roll_back_a_release() {
    let host = Host::start();
    // `greedy` streams with the SDK.
    let probes: [(&str, &[&str]); 4] = [
        ("probe-flat", &["/echo", "/show"]),
        ("probe-wasi02", &["/echo", "/show"]),
        ("probe-wasi03", &["/echo", "/pass", "/show"]),
        ("greedy", &["/echo", "/count"]),
    ];
    for (app, paths) in probes {
        deploy(&host, app, "");
        for path in paths {
            BROKEN.iter().for_each(|upload| upload.send(&host, app, path));
        }
        let lines = uploads(&host, app, paths.len() * BROKEN.len());
        assert!(lines.iter().all(|line| line["fault"] == "bad-request"), "{app}: {lines:#?}");
        assert_healthy(&host, app);
        assert_eq!(faults(&host, app, "bad-request"), lines.len() as f64, "{app}");
        assert_eq!(faults(&host, app, "bad-answer"), 0.0, "{app}");
    }
}

/// The guest waits for the client until the timeout for the next part of its response expires.
#[test]
fn a_client_that_withholds_its_upload_does_not_roll_back_a_release() {
    let host = Host::start();
    for app in ["probe-wasi02", "probe-wasi03"] {
        deploy(&host, app, "request_timeout = \"1s\"");
        for _ in 0..4 {
            let mut wire = host.begin(app, Ask::post("/echo").header("transfer-encoding", "chunked"));
            wire.send_chunk(b"abc").expect("it can be sent");
            let head = wire.head().expect("a head").expect(200);
            assert_eq!(wire.piece().expect("a piece"), Some(b"abc".to_vec()), "{app}");
            // The guest of 0.2 ends its response, the guest of 0.3 abandons it.
            assert!(!matches!(wire.piece(), Ok(Some(_))), "{app}: the body doesn't continue");
            let line = recorded(&host, app, head.header("x-request-id").expect("an id"));
            assert_eq!((&line["fault"], &line["bytes"]), (&json!("bad-request"), &json!(3)), "{app}: {line}");
        }
        assert_healthy(&host, app);
    }
}

#[test]
fn a_refused_body_is_recorded_and_counted_as_a_bad_request() {
    let host = Host::start();
    for app in PROBES {
        deploy(&host, app, "request_body = \"8KiB\"");
        let short = Upload { headers: "content-length: 40\r\n", sent: b"abc", ends: true };
        let large =
            Upload { headers: "content-length: 9000\r\nconnection: close\r\n", sent: &[b'x'; 9000], ends: false };
        short.send(&host, app, "/show");
        large.send(&host, app, "/show");
        let sent = [&b"2400\r\n"[..], &[b'x'; 0x2400], b"\r\n0\r\n\r\n"].concat();
        let mut wire = host.begin(app, Ask::post("/show").header("transfer-encoding", "chunked"));
        wire.send(&sent).expect("it can be sent");
        wire.answer().expect("an answer").problem_of(app, 413, "body-too-large");
        let mut seen: Vec<(Value, Value)> =
            uploads(&host, app, 3).iter().map(|line| (line["status"].clone(), line["fault"].clone())).collect();
        seen.sort_by_key(|(status, _)| status.as_u64());
        assert_eq!(seen, [400, 413, 413].map(|status| (json!(status), json!("bad-request"))), "{app}");
        assert_eq!(faults(&host, app, "bad-request"), 3.0, "{app}");
        assert_healthy(&host, app);
    }
}

/// A guest of 0.2 that copies the body doesn't see that it is incomplete.
#[test]
fn a_body_that_ends_early_is_recorded_even_if_the_guest_ends_its_response() {
    let host = Host::start();
    let app = "probe-wasi02";
    deploy(&host, app, "");
    let mut wire = host.begin(app, Ask::post("/echo").header("transfer-encoding", "chunked"));
    wire.send_chunk(b"abc").expect("it can be sent");
    let head = wire.head().expect("a head").expect(200);
    assert_eq!(wire.piece().expect("a piece"), Some(b"abc".to_vec()));
    wire.end_sending().expect("it can be closed");
    assert_eq!(wire.piece().expect("the guest ends its response"), None);
    let line = recorded(&host, app, head.header("x-request-id").expect("an id"));
    assert_eq!((&line["fault"], &line["bytes"]), (&json!("bad-request"), &json!(3)), "{line}");
    assert_healthy(&host, app);
}
