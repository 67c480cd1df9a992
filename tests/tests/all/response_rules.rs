//! Tests HTTP's rules for a response over both protocols, for guests of every interface and for the
//! host's own responses.

use isopod_tests::{Ask, Bundle, Host, PROBES, Raw, guest, h2c::H2c};

fn host_with_probes(limits: &str) -> Host {
    let host = Host::start();
    for probe in PROBES {
        let manifest = format!("name = \"{probe}\"\n[processes.web]\nentry = \"http\"\n[limits]\n{limits}\n");
        host.deploy(probe, Bundle::archive(&manifest, &guest(probe)));
    }
    host
}

fn over_http_1(host: &Host, app: &str, method: &str, path: &str) -> Raw {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {app}.localhost\r\nconnection: close\r\n\r\n");
    Raw::exchange(host.listen, &head)
}

/// Method, query, and the status and `content-length` of the response, which has no content.
const WITHOUT_CONTENT: [(&str, &str, u16, Option<&str>); 11] = [
    ("HEAD", "cl=13366", 200, Some("13366")),
    ("HEAD", "cl=5&chunk=5", 200, Some("5")),
    ("HEAD", "status=404&cl=7", 404, Some("7")),
    ("HEAD", "status=204", 204, None),
    ("HEAD", "status=304&cl=10", 304, Some("10")),
    ("GET", "status=204&chunk=5", 204, None),
    ("GET", "status=204&cl=5&chunk=5", 204, None),
    ("GET", "status=205&chunk=5", 205, Some("0")),
    ("GET", "status=205", 205, Some("0")),
    ("GET", "status=304&cl=10", 304, Some("10")),
    ("GET", "status=304&chunk=5", 304, None),
];

#[test]
fn a_response_without_content_has_a_head_only_over_http_1() {
    let host = host_with_probes("");
    for probe in PROBES {
        for (method, query, status, length) in WITHOUT_CONTENT {
            let answer = over_http_1(&host, probe, method, &format!("/respond?{query}"));
            let found = (answer.status, answer.header("content-length"), answer.text());
            assert_eq!(found, (status, length, String::new()), "{probe}: {method} {query}: {answer:?}");
            assert_eq!(answer.header("transfer-encoding"), None, "{probe}: {method} {query}");
        }
    }
}

#[test]
fn a_response_without_content_has_a_head_only_over_http_2() {
    let host = host_with_probes("");
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        for (method, query, status, length) in WITHOUT_CONTENT {
            let asked = connection.ask(probe, &[Ask::new(method, format!("/respond?{query}"))], &[]);
            let answers = asked.unwrap_or_else(|error| panic!("{probe}: {method} {query}: {error}"));
            let found = (answers[0].status, answers[0].header("content-length"), answers[0].text());
            assert_eq!(found, (status, length, String::new()), "{probe}: {method} {query}");
        }
    }
}

#[test]
fn a_head_response_gives_the_length_that_a_get_would_have() {
    let host = host_with_probes("");
    let answer = over_http_1(&host, "probe-flat", "HEAD", "/respond?chunk=700&n=2");
    assert_eq!((answer.header("content-length"), answer.text().as_str()), (Some("1400"), ""));
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let ask = Ask::new("HEAD", "/respond?chunk=700&n=2");
    let answers = connection.ask("probe-flat", &[ask], &[]).expect("it is answered");
    assert_eq!((answers[0].header("content-length"), answers[0].text().as_str()), (Some("1400"), ""));
}

/// Each app has one instance. Its response to the next request proves that it has completed the
/// former request.
#[test]
fn a_guest_completes_a_body_that_is_not_sent() {
    let host = host_with_probes("instances_max = 1\nrequest_timeout = \"20s\"");
    for probe in PROBES {
        for (method, query) in [
            ("HEAD", "chunk=65536&n=40"),
            ("HEAD", "chunk=10&n=3&ms=20"),
            ("GET", "status=204&chunk=65536&n=40"),
            ("GET", "status=304&chunk=65536&n=40"),
            ("HEAD", "cl=2621440&chunk=65536&n=40"),
            ("HEAD", "chunk=10&end=abandon"),
        ] {
            let answer = over_http_1(&host, probe, method, &format!("/respond?{query}"));
            assert_eq!(answer.text(), "", "{probe}: {method} {query}");
            host.get(probe, "/respond?chunk=3").expect(200);
        }
        let metrics = host.api(Ask::get("/metrics")).expect(200).text();
        let fault = metrics.lines().find(|line| line.starts_with("isopod_faults_total") && line.contains(probe));
        assert_eq!(fault, None, "no request failed");
    }
}

#[test]
fn a_status_that_is_not_final_is_a_bad_answer() {
    let host = host_with_probes("");
    for probe in PROBES {
        // The interface of 0.3 itself rejects these statuses.
        let beyond: &[u16] = if probe == "probe-wasi03" { &[] } else { &[600, 999] };
        for status in [100, 101, 102, 103].iter().chain(beyond) {
            let path = format!("/respond?status={status}");
            let problem = host.get(probe, &path).problem_of(probe, 502, "app-failed");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("bad-answer")), "{problem}");
            let id = problem["request_id"].as_str().expect("it has an id").to_owned();
            host.log_line(probe, "the access log has 502", |line| {
                line["request_id"] == id.as_str() && line["status"] == 502
            });
        }
        host.get(probe, "/respond?status=599").expect(599);
    }
}

#[test]
fn the_hosts_own_responses_follow_the_same_rules() {
    let host = Host::start();
    host.create("empty", "dev");
    for (app, status) in [("nobody", 404), ("empty", 503)] {
        let get = over_http_1(&host, app, "GET", "/");
        let head = over_http_1(&host, app, "HEAD", "/");
        assert_eq!((get.status, head.status, head.text().as_str()), (status, status, ""));
        assert_eq!(get.header("content-length"), head.header("content-length"), "{head:?}");
    }
    let token = format!("Bearer {}", host.token);
    for (to, path, status) in [(host.listen, "/", 404), (host.admin, "/v1/nowhere", 404), (host.admin, "/v1/apps", 200)]
    {
        let mut connection = H2c::open(to).expect("both addresses speak h2c");
        let ask = Ask::new("HEAD", path).header("authorization", token.as_str());
        let answers = connection.ask("nobody", &[ask], &[]).unwrap_or_else(|error| panic!("HEAD {path}: {error}"));
        assert_eq!((answers[0].status, answers[0].text().as_str()), (status, ""), "HEAD {path}");
        assert!(answers[0].header("content-length").is_some_and(|length| length != "0"), "HEAD {path}");
    }
}

#[test]
fn a_guest_cannot_set_hop_by_hop_headers() {
    let host = host_with_probes("");
    let path = "/respond?chunk=2&h=connection:close&h=keep-alive:timeout=1&h=upgrade:h2c&h=te:gzip&h=x-kept:1";
    let mut wire = host.wire();
    for _ in 0..2 {
        wire.ask(&host.to_app("probe-flat", Ask::get(path))).expect("it can be sent");
        let answer = wire.answer().expect("the connection is kept").expect(200);
        for name in ["connection", "keep-alive", "upgrade", "te"] {
            assert_eq!(answer.header(name), None, "{answer}");
        }
        assert_eq!((answer.header("x-kept"), answer.text().as_str()), (Some("1"), "xx"));
    }
}
