//! Tests the metrics with Debian's Prometheus and `promtool`, and Grafana's dashboard in
//! `docs/grafana.json`. The tests that need Prometheus are skipped without it.

use isopod_tests::{
    Ask, Bundle, Collector, Host, Prometheus, guest,
    guests::repository,
    middleware::{probe_plugin, used},
    prometheus::installed,
    wait_for,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, io::Write as _, process::Stdio};

/// With native histograms, this version of Prometheus scrapes no classic ones.
const NATIVE: &[&str] = &["--enable-feature=native-histograms"];

/// Starts a host with all metrics: the app `greedy` has a middleware and events, and has answered
/// requests, of which one failed.
fn host_with_all_metrics(collector: &Collector) -> Host {
    let host = Host::start_with("", &collector.settings(""));
    host.installed(&probe_plugin("1.0.0", ""));
    let processes = "[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    let manifest =
        format!("name = \"greedy\"\n{}{processes}", used("{ request = { set = [\"x-probe\", \"1\"] } }", ""));
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
    host.get("greedy", "/ok").expect(200);
    host.get("greedy", "/panic").expect(502);
    let send = |id: &str, kind: &str, queue: &str, delay: Option<&str>| {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/", "type": kind }).to_string();
        let ask =
            Ask::post(format!("/v1/apps/greedy/events?queue={queue}")).body("application/cloudevents+json", event);
        host.api(delay.into_iter().fold(ask, |ask, delay| ask.header("isopod-delay", delay)))
    };
    send("1", "hello", "pull", None).expect(200);
    send("2", "never", "push", None).expect(202);
    send("3", "hello", "push", Some("1h")).expect(202);
    wait_for("the pushes and the stored events to be counted", || {
        let text = metrics(&host);
        let stored = |state| format!("isopod_events_stored{{app=\"greedy\",state=\"{state}\"}} 1");
        let lines = ["isopod_pushes_total{state=\"completed\"} 2".to_owned(), stored("delayed"), stored("leased")];
        lines.iter().all(|line| text.contains(line)).then_some(())
    });
    host
}

fn metrics(host: &Host) -> String {
    host.api(Ask::get("/metrics")).expect(200).text()
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(repository().join("docs/grafana.json")).expect("the dashboard can be read");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The names of the metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    let names = words.filter(|word| word.starts_with("isopod_")).map(|name| {
        let suffixes = ["_bucket", "_sum", "_count"];
        suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name).to_owned()
    });
    names.collect()
}

#[test]
fn the_dashboard_uses_only_metrics_that_the_host_has() {
    let collector = Collector::start();
    let exposed = names(&metrics(&host_with_all_metrics(&collector)));
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["schemaVersion"]), (&Value::from("isopod"), &Value::from(39)));
    let used = names(&dashboard.to_string());
    let unknown: Vec<_> = used.difference(&exposed).collect();
    assert!(!used.is_empty() && unknown.is_empty(), "{unknown:?} are not in {exposed:?}");
    let unused: Vec<_> = exposed.difference(&used).collect();
    assert!(unused.is_empty(), "no panel shows {unused:?}");
    let documented = std::fs::read_to_string(repository().join("docs/api.md")).expect("the page can be read");
    let undocumented: Vec<_> = exposed.iter().filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(undocumented.is_empty(), "docs/api.md lacks {undocumented:?}");
}

#[test]
fn each_panel_of_the_dashboard_shows_data() {
    let collector = Collector::start();
    let host = host_with_all_metrics(&collector);
    let (Some(classic), Some(native)) = (Prometheus::scraping(&host, &[]), Prometheus::scraping(&host, NATIVE)) else {
        return;
    };
    for prometheus in [&classic, &native] {
        wait_for("the first scrape", || (!prometheus.series("isopod_pushes_total").is_empty()).then_some(()));
    }
    // Quantiles of the durations of pushes need a push between two scrapes.
    host.deploy("second", Bundle::component(guest("greedy")));
    for panel in dashboard()["panels"].as_array().expect("the dashboard has panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = with_data(target["expr"].as_str().expect("a query is text"));
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
            let labels = labels_of(target["legendFormat"].as_str().unwrap_or_default());
            println!("{}: {query}", panel["title"]);
            for prometheus in [&classic, &native] {
                // A rate needs two scrapes.
                wait_for(&format!("data of the panel {}", panel["title"]), || {
                    host.get("greedy", "/ok").expect(200);
                    let series = prometheus.series(&query);
                    let has_data = |series: &Value| {
                        let value = series["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
                        let is_labelled = labels.iter().all(|label| series["metric"][label].is_string());
                        value.is_some_and(f64::is_finite) && is_labelled
                    };
                    series.iter().any(has_data).then_some(())
                });
            }
        }
    }
}

/// Returns a panel's query for all apps, which has a result only if the host has its series.
fn with_data(query: &str) -> String {
    let query = query.replace("$__rate_interval", "1m").replace("$app", ".*");
    // No app has an error, and no alert fires.
    let query = query.replace("{state=\"error\"}", "").trim_end_matches(" > 0").to_owned();
    query.trim_end_matches(" or vector(0)").to_owned()
}

/// Returns the labels of a legend such as `{{app}} {{queue}}`.
fn labels_of(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|part| Some(part.split_once("}}")?.0)).collect()
}

#[test]
fn promtool_accepts_all_metrics() {
    let Some(mut command) = installed("promtool") else { return };
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let text = metrics(&host_with_all_metrics(&Collector::start()));
    let mut promtool = command.spawn().expect("promtool can be run");
    promtool.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn prometheus_reads_the_counts_of_the_sent_load() {
    let host = Host::start();
    host.deploy("greedy", Bundle::component(guest("greedy")));
    let (Some(classic), Some(native)) = (Prometheus::scraping(&host, &[]), Prometheus::scraping(&host, NATIVE)) else {
        return;
    };
    (0..40).for_each(|_| drop(host.get("greedy", "/ok").expect(200)));
    (0..6).for_each(|_| drop(host.get("greedy", "/sleep?ms=300").expect(200)));
    (0..4).for_each(|_| drop(host.get("greedy", "/panic").expect(502)));
    for prometheus in [&classic, &native] {
        prometheus.until("isopod_requests_total{app='greedy',class='2xx'}", 46.0);
        prometheus.until("isopod_requests_total{app='greedy',class='5xx'}", 4.0);
        prometheus.until("sum(isopod_faults_total{app='greedy'})", 4.0);
    }
    const DURATION: &str = "isopod_request_duration_seconds";
    classic.until(&format!("{DURATION}_count{{app='greedy'}}"), 50.0);
    native.until(&format!("histogram_count({DURATION}{{app='greedy'}})"), 50.0);
    let slow = classic.value(&format!("50 - {DURATION}_bucket{{app='greedy',le='0.25'}}"));
    assert!(slow >= Some(6.0), "{slow:?}");
    let sum = classic.value(&format!("{DURATION}_sum{{app='greedy'}}"));
    assert!(sum > Some(1.8) && sum == native.value(&format!("histogram_sum({DURATION}{{app='greedy'}})")), "{sum:?}");
    // The bounds of classic buckets are bounds of native buckets, so both have the same counts.
    for bound in ["0.0078125", "0.125", "0.25", "32.0"] {
        let counted = classic.value(&format!("{DURATION}_bucket{{app='greedy',le='{bound}'}}"));
        let share = native.value(&format!("50 * histogram_fraction(0, {bound}, {DURATION}{{app='greedy'}})"));
        let [counted, share] = [counted, share].map(|count| count.expect("the series exists"));
        assert!((counted - share).abs() < 1e-6, "{bound}: {counted} classic, {share} native");
    }
    // The host measures the jobs of a queue itself: the sleeping requests are the slowest 12 %.
    const LATENCY: &str = "isopod_queue_latency_seconds";
    let jobs = classic.value(&format!("{LATENCY}_count{{app='greedy',queue='pull'}}")).expect("the series exists");
    assert!(jobs >= 46.0, "{jobs}");
    native.until(&format!("histogram_count({LATENCY}{{app='greedy',queue='pull'}})"), jobs);
    let p95 = native.value(&format!("histogram_quantile(0.95, {LATENCY}{{app='greedy',queue='pull'}})"));
    assert!(p95 > Some(0.27), "{p95:?}");

    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    for prometheus in [classic, native] {
        wait_for("the series of the destroyed app to end", || {
            prometheus.series("{app='greedy'}").is_empty().then_some(())
        });
    }
}
