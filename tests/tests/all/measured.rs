//! F6: tests the current metrics of each app, in the API and for monitoring systems.

use isopod_tests::{Ask, Bundle, Host, Queue, guest, wait_for};
use serde_json::{Value, json};

fn deploy_greedy(host: &Host) {
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[processes.worker]\nentry = \"events\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
}

#[track_caller]
fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} is not a number in {value}"))
}

#[track_caller]
fn assert_all_parts(metrics: &Value) {
    for name in ["app", "type", "state"] {
        assert!(metrics[name].is_string(), "{name}: {metrics}");
    }
    for name in ["instances", "cpu_ms", "cpu_percent", "memory_bytes"] {
        assert!(number(metrics, name) >= 0.0, "{metrics}");
    }
    for queue in Queue::BOTH {
        let queue = &metrics[queue.name()];
        for name in ["cores", "active_cores", "buffered", "throughput_per_s"] {
            assert!(number(queue, name) >= 0.0, "{metrics}");
        }
        let latencies = queue["latency_ms"].as_object().unwrap_or_else(|| panic!("no latencies in {metrics}"));
        assert_eq!(latencies.keys().collect::<Vec<_>>(), ["p50", "p95", "p99"], "{metrics}");
    }
}

#[test]
fn an_app_without_requests_has_empty_metrics() {
    let host = Host::start();
    host.create("empty", "dev");
    deploy_greedy(&host);
    for app in ["empty", "greedy"] {
        let metrics = host.metrics(app);
        assert_all_parts(&metrics);
        assert_eq!(metrics["app"], app);
        for queue in Queue::BOTH {
            let queue = &metrics[queue.name()];
            assert_eq!(queue["latency_ms"], json!({ "p50": null, "p95": null, "p99": null }), "{app}");
            assert_eq!((number(queue, "active_cores"), number(queue, "throughput_per_s")), (0.0, 0.0), "{app}");
        }
    }
    host.api(Ask::get("/v1/apps/nobody/metrics")).problem_of("nobody", 404, "unknown-app");
    host.api(Ask::get("/v1/apps/greedy/metrics?follow=perhaps")).problem(400, "bad-query");
}

#[test]
fn each_queue_is_measured_separately() {
    let host = Host::start();
    deploy_greedy(&host);
    for _ in 0..20 {
        host.get("greedy", "/spin?ms=20").expect(200);
    }
    let metrics = wait_for("the jobs to be measured", || {
        let metrics = host.metrics("greedy");
        (number(&metrics["pull"], "throughput_per_s") > 0.0).then_some(metrics)
    });
    assert_all_parts(&metrics);
    let latency = &metrics["pull"]["latency_ms"];
    let (p50, p95, p99) = (number(latency, "p50"), number(latency, "p95"), number(latency, "p99"));
    assert!((19.0..=p95).contains(&p50) && p95 <= p99, "{latency}");
    assert!(metrics["push"]["latency_ms"]["p50"].is_null(), "nothing was pushed: {metrics}");
    for name in ["cpu_ms", "memory_bytes", "instances"] {
        assert!(number(&metrics, name) > 0.0, "{name}: {metrics}");
    }

    let event = host.push_event("greedy", "hello");
    host.until_event("greedy", &event, "done");
    let push = host.queue("greedy", Queue::Push);
    assert!(number(&push["latency_ms"], "p50") > 0.0 && number(&push, "throughput_per_s") > 0.0, "{push}");
}

/// The CPU time of a job is visible while the job runs.
#[test]
fn the_cpu_time_of_an_instance_grows_while_it_works() {
    let host = Host::start();
    let manifest = "name = \"greedy\"\n[processes.web]\nentry = \"http\"\n[limits]\nrequest_timeout = \"10m\"\n";
    host.deploy("greedy", Bundle::archive(manifest, &guest("greedy")));
    let spinning = host.begin("greedy", Ask::get("/spin?ms=100000"));
    let mut seen_ms = 0.0;
    for _ in 0..3 {
        seen_ms = wait_for("more CPU time of the busy instance", || {
            let instances = host.instances("greedy");
            let busy = instances.iter().find(|instance| instance["state"] == "busy")?;
            Some(number(busy, "cpu_ms")).filter(|&now_ms| now_ms > seen_ms)
        });
    }
    drop(spinning);
}

/// A rejected or abandoned job doesn't count as completed; a failed job does.
#[test]
fn a_job_that_never_started_is_not_measured() {
    let host = Host::start();
    deploy_greedy(&host);
    let held = host.hold("greedy");
    let gone: Vec<_> = (0..5).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 5);
    drop(gone);
    host.until_queue("greedy", Queue::Pull, 1, 0);
    assert!(host.queue("greedy", Queue::Pull)["latency_ms"]["p50"].is_null());
    held.release_core();
    host.until_queue("greedy", Queue::Pull, 0, 0);
    assert!(number(&host.queue("greedy", Queue::Pull)["latency_ms"], "p50") > 0.0);
}

#[test]
fn followers_see_the_load_rise_and_fall() {
    let host = Host::start();
    deploy_greedy(&host);
    let mut samples = host.follow("/v1/apps/greedy/metrics").inspect(assert_all_parts);
    let mut until =
        |active: u64| samples.find(|sample| sample["pull"]["active_cores"] == active).expect("the stream continues");
    until(0);
    let held = host.hold("greedy");
    until(1);
    held.release_core();
    until(0);
    host.api(Ask::new("DELETE", "/v1/apps/greedy")).expect(204);
    assert_eq!(samples.find(|sample| sample["state"] == "nothing"), None, "it ends with the app");
}

/// `GET /v1/metrics` lists the active apps and the usage of the machine.
#[test]
fn active_apps_are_listed_for_tokens_that_may_see_them() {
    let host = Host::start_with("", "freeze_after = \"500ms\"\n");
    host.create("shop", "production");
    for app in ["shop", "hello"] {
        host.deploy(app, Bundle::component(guest("hello")));
    }
    let listed = |token: &str| {
        let page = host.api_with(token, Ask::get("/v1/metrics")).expect(200).json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}")).clone();
        items.iter().for_each(assert_all_parts);
        let mut names: Vec<String> = items.iter().filter_map(|app| app["app"].as_str().map(str::to_owned)).collect();
        names.sort();
        (names, page)
    };
    host.get("hello", "/").expect(200);
    wait_for("a single active app", || (listed(&host.token).0 == ["shop"]).then_some(()));
    let (_, page) = listed(&host.token);
    assert_eq!((&page["host"]["apps"], &page["host"]["apps_awake"]), (&json!(2), &json!(1)), "{page}");
    host.get("hello", "/").expect(200);

    let made = host.api(Ask::post("/v1/tokens").json(&json!({ "name": "one", "role": "read", "apps": ["shop"] })));
    let made = made.expect(201).json();
    let (names, page) = listed(made["token"].as_str().expect("it is shown once"));
    assert_eq!(
        (names, &page["host"]["apps"]),
        (vec!["shop".to_owned()], &json!(1)),
        "apps out of the token's scope are counted"
    );
    host.api_raw(&Ask::get("/v1/metrics")).problem(401, "no-token");
}

/// The Prometheus metrics equal the API's metrics, and have no series for frozen apps.
#[test]
fn prometheus_metrics_contain_each_queue_of_active_apps() {
    let host = Host::start_with("", "freeze_after = \"500ms\"\n");
    deploy_greedy(&host);
    host.deploy("asleep", Bundle::component(guest("hello")));
    host.get("asleep", "/").expect(200);
    host.send_event("greedy", "hello", Queue::Pull).expect(200);
    for _ in 0..2 {
        let event = host.push_event("greedy", "hello");
        host.until_event("greedy", &event, "done");
    }
    let held = host.hold("greedy");
    let waiting: Vec<_> = (0..3).map(|_| host.begin("greedy", Ask::get("/ok"))).collect();
    host.until_queue("greedy", Queue::Pull, 1, 3);
    let of =
        |name: &str, queue: Queue| host.metric(&format!("isopod_{name}{{app=\"greedy\",queue=\"{}\"}}", queue.name()));
    for (queue, events) in [(Queue::Pull, 1.0), (Queue::Push, 2.0)] {
        let shown = host.queue("greedy", queue);
        for (name, same) in
            [("queue_cores", "cores"), ("queue_active_cores", "active_cores"), ("queue_buffered", "buffered")]
        {
            assert_eq!(of(name, queue), number(&shown, same), "{name} of {queue:?}: {shown}");
        }
        assert_eq!(of("events_total", queue), events, "{queue:?}");
    }
    let shown = host.metrics("greedy");
    assert_eq!(host.metric("isopod_app_memory_bytes{app=\"greedy\"}"), number(&shown, "memory_bytes"));
    let cpu_ms = host.metric("isopod_app_cpu_seconds_total{app=\"greedy\"}") * 1_000.0;
    assert!(cpu_ms > 0.0 && cpu_ms >= number(&shown, "cpu_ms"), "{cpu_ms} and {shown}");
    wait_for("a single active app", || {
        let text = host.api(Ask::get("/metrics")).expect(200).text();
        let queues: Vec<_> = text.lines().filter(|line| line.starts_with("isopod_queue_")).collect();
        queues.iter().all(|line| line.contains("app=\"greedy\"")).then_some(())
    });
    drop(waiting);
    held.release_core();
}
