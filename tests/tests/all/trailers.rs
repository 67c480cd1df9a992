//! Tests trailers: only fields that may follow the content cross the host, in both directions.

use isopod_tests::{Answer, Ask, Host, PROBES, h2c::H2c};

/// Fields that belong into the header section, with values that would change a message.
const FORBIDDEN: [(&str, &str); 10] = [
    ("content-length", "4"),
    ("host", "other.localhost"),
    ("x-forwarded-for", "6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("forwarded", "for=6.6.6.6"),
    ("authorization", "Basic eA=="),
    ("cookie", "a=1"),
    ("content-type", "text/html"),
    ("cache-control", "no-store"),
    ("x-request-id", "7"),
];

/// Returns the trailers that a probe received.
#[track_caller]
fn received(answer: &Answer) -> Vec<(String, String)> {
    let trailers = answer.json()["trailers"].clone();
    serde_json::from_value(trailers).expect("trailers are pairs")
}

fn kept() -> Vec<(String, String)> {
    vec![("x-sum".to_owned(), "14".to_owned())]
}

#[test]
fn a_clients_forbidden_trailers_reach_no_guest() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let mut all = FORBIDDEN.to_vec();
    all.push(("x-sum", "14"));
    for probe in PROBES {
        // The flat interface has no trailers.
        let expected = if probe == "probe-flat" { Vec::new() } else { kept() };
        let mut fields: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        fields.push_str("transfer-encoding: gzip\r\nconnection: x-sum\r\nkeep-alive: timeout=1\r\n");
        let mut wire = host.begin(probe, Ask::post("/show").header("transfer-encoding", "chunked"));
        wire.send(format!("5\r\nhello\r\n0\r\n{fields}\r\n").as_bytes()).expect("it can be sent");
        let answer = wire.answer().expect("an answer").expect(200);
        assert_eq!((received(&answer), answer.json()["body_bytes"].as_u64()), (expected.clone(), Some(5)), "{probe}");
        for length in [None, Some("5")] {
            let mut ask = Ask::post("/show").body("text/plain", "hello");
            ask.headers.extend(length.map(|length| ("content-length".to_owned(), length.to_owned())));
            let answers = connection.ask(probe, &[ask], &all).expect("it is answered");
            let shown = (received(&answers[0]), answers[0].json()["body_bytes"].as_u64());
            assert_eq!(shown, (expected.clone(), Some(5)), "{probe}: over h2, length {length:?}");
        }
    }
}

#[test]
fn trailers_without_an_allowed_field_end_the_body() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    for probe in PROBES {
        let ask = Ask::post("/show").body("text/plain", "hello");
        let answers = connection.ask(probe, &[ask], &[("host", "other.localhost")]).expect("it is answered");
        assert_eq!(answers[0].json()["end"], "whole", "{probe}");
        assert!(received(&answers[0]).is_empty(), "{probe}");
        let path = "/respond?chunk=3&trailer=content-type:a";
        let answers = connection.ask(probe, &[Ask::get(path)], &[]).expect("it is answered");
        assert_eq!((answers[0].text().as_str(), answers[0].trailers.len()), ("xxx", 0), "{probe}");
    }
}

#[test]
fn a_guests_forbidden_trailers_reach_no_client() {
    let host = Host::start_with_probes();
    let mut connection = H2c::open(host.listen).expect("the host speaks h2c");
    let names: Vec<_> = FORBIDDEN.iter().filter(|(name, _)| *name != "host").collect();
    let trailers: String = names.iter().map(|(name, value)| format!("&trailer={name}:{value}")).collect();
    let announced: String = names.iter().map(|(name, _)| format!(",{name}")).collect();
    let path = format!("/respond?chunk=3&h=trailer:x-sum{announced}&trailer=x-sum:14{}", trailers.replace(' ', "%20"));
    for probe in ["probe-wasi02", "probe-wasi03"] {
        let answer = host.app(probe, Ask::get(path.as_str()).header("te", "trailers")).expect(200);
        assert_eq!((answer.text().as_str(), answer.trailers.clone()), ("xxx", kept()), "{probe}");
        let answers = connection.ask(probe, &[Ask::get(path.as_str())], &[]).expect("it is answered");
        assert_eq!((answers[0].text().as_str(), answers[0].trailers.clone()), ("xxx", kept()), "{probe} over h2");
    }
}
