//! Tests that the text of `/metrics` matches its content type and follows Prometheus' naming rules.

use isopod_tests::{Answer, Ask, Bundle, Host, guest, wait_for};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Write as _},
    process::{Command, Stdio},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
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

/// Uses Prometheus' own tool, where this machine has it.
#[test]
fn promtool_accepts_the_metrics() {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = match command.spawn() {
        Ok(promtool) => promtool,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("note: skipped, since promtool is not installed: apt-get install prometheus");
            return;
        }
        Err(error) => panic!("promtool cannot be started: {error}"),
    };
    let text = metrics(&host_with_metrics(), "text/plain").body;
    promtool.stdin.take().expect("it is piped").write_all(&text).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
