//! Tests that the text of `/metrics` matches its content type and follows Prometheus' naming rules.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, wait_for};
use std::collections::BTreeMap;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Starts a host with all metric families: requests, faults, pushes and events have been
/// counted.
fn host_with_metrics() -> Host {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    host.get("greedy", "/");
    host.get("greedy", "/panic");
    let event = r#"{"specversion":"1.0","id":"1","source":"/","type":"hello"}"#;
    host.api(Ask::post("/v1/apps/greedy/events").body("application/cloudevents+json", event)).expect(200);
    // The host counts a push just after its completion, when its job has ended.
    wait_for("the push to be counted", || {
        (host.metric("isopod_pushes_total{state=\"completed\"}") > 0.0).then_some(())
    });
    host
}

fn metrics(host: &Host, accept: &str) -> Answer {
    host.api(Ask::get("/metrics").header("accept", accept)).expect(200)
}

/// A metric family: its type, whether it has a help text, and the names of its samples.
#[derive(Default)]
struct Family {
    kind: String,
    has_help: bool,
    samples: Vec<String>,
}

/// # Panics
/// If a sample belongs to no family that was described before it, or a family is described twice.
#[track_caller]
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "HELP", name, help] => {
                let family = families.entry((*name).to_owned()).or_default();
                assert!(!family.has_help && !help.is_empty(), "{line}");
                family.has_help = true;
            }
            ["#", "TYPE", name, kind] => {
                let family = families.entry((*name).to_owned()).or_default();
                assert!(family.kind.is_empty(), "{line}");
                (family.kind, current) = ((*kind).to_owned(), (*name).to_owned());
            }
            ["#", "UNIT", name, unit] => assert!(name.ends_with(unit), "{line}"),
            ["#", ..] => panic!("unknown comment: {line}"),
            _ => {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let family = families.get_mut(&current).unwrap_or_else(|| panic!("a sample without a family: {line}"));
                assert!(name.starts_with(current.as_str()), "{line} after {current}");
                family.samples.push(name.to_owned());
            }
        }
    }
    families
}

#[test]
fn prometheus_text_describes_each_counter_by_the_name_of_its_samples() {
    let host = host_with_metrics();
    for accept in ["*/*", "text/plain", "application/json", "application/openmetrics-text;q=0.1, text/plain"] {
        let answer = metrics(&host, accept);
        assert_eq!(answer.header("content-type"), Some(PROMETHEUS), "{accept}");
        let text = answer.text();
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        let families = families(&text);
        for (name, family) in &families {
            assert!(family.has_help, "{name} has no help text");
            match family.kind.as_str() {
                "counter" => {
                    assert!(name.ends_with("_total"), "{name} is a counter");
                    assert!(family.samples.iter().all(|sample| sample == name), "{name}: {:?}", family.samples);
                }
                "gauge" => {
                    assert!(!name.ends_with("_total") && family.samples.iter().all(|sample| sample == name), "{name}");
                }
                "histogram" => assert!(name.ends_with("_seconds"), "{name}"),
                other => panic!("{name} is {other}"),
            }
            for unit in ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_mb", "_percent"] {
                assert!(!name.contains(unit), "{name} has no base unit");
            }
        }
        for counter in
            ["requests", "faults", "pushes", "api_requests", "events", "app_cpu_seconds", "log_lines_dropped"]
        {
            let name = format!("isopod_{counter}_total");
            let family = families.get(&name).unwrap_or_else(|| panic!("{name} is missing: {text}"));
            assert!(family.kind == "counter" && !family.samples.is_empty(), "{name}: {text}");
        }
    }
}

#[test]
fn open_metrics_has_its_content_type_and_an_end() {
    let host = host_with_metrics();
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let answer = metrics(&host, prometheus_3);
    assert_eq!((answer.header("content-type"), answer.header("vary")), (Some(OPEN_METRICS), Some("accept")));
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    for (name, family) in families(&text) {
        if family.kind == "counter" {
            assert!(!name.ends_with("_total"), "{name}");
            assert!(family.samples.iter().all(|sample| *sample == format!("{name}_total")), "{name}");
        }
    }
}

#[test]
fn protobuf_is_sent_only_to_scrapers_that_accept_it() {
    let host = host_with_metrics();
    let native = format!("{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1");
    let answer = metrics(&host, &native);
    let content_type = answer.header("content-type").expect("it has a type").replace(' ', "");
    assert_eq!((content_type.as_str(), answer.header("vary")), (PROTOBUF, Some("accept")));
    // Each message has its length before it.
    let (mut rest, mut families) = (answer.body.as_slice(), 0);
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).expect("a message has a length");
        rest = rest.split_off(length..).expect("a message is complete");
        families += 1;
    }
    assert!(families > 20, "{families} families");
    let other = metrics(&host, "application/vnd.google.protobuf;encoding=text");
    assert_eq!(other.header("content-type"), Some(PROMETHEUS));
}
