//! Tests health checks with mixed results: the host judges each by the settings of its process
//! type, and reports the result.

use isopod_tests::{Bundle, Host, Load, bundle::QUICK_WEB};
use serde_json::Value;

fn shape(health: &str, check: &str) -> Bundle {
    let web = format!("[processes.web]\nentry = \"http\"\nmin = 1\nhealth = {{ path = \"/healthz\", {check} }}\n");
    Bundle::shapes(&format!("{web}[config]\nHEALTH = \"{health}\"\n"))
}

/// H5: if a new release fails its health check, the former release keeps all traffic, and the host
/// reports the reason.
#[test]
fn a_failed_health_check_keeps_the_former_release_and_reports_the_result() {
    let host = Host::start();
    host.deploy("shop", Bundle::shape(&[]));
    let load = Load::on(&host, "shop", 2, |text| text == "v1 ");
    let quick = "grace = \"0ms\", timeout = \"200ms\"";
    for (health, found) in [("fails", "500"), ("hangs", "200 ms"), ("redirects", "303")] {
        let (code, reason) = host.deploy_failing("shop", &shape(health, quick));
        assert_eq!(code, "health-check", "{health}");
        for word in ["web", "/healthz", found] {
            assert!(reason.contains(word), "{health}: missing {word:?} in: {reason}");
        }
        assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"), "{health}");
    }
    let nowhere = format!("{}\n", QUICK_WEB.replace("/healthz", "/trap"));
    let (code, reason) = host.deploy_failing("shop", &Bundle::shapes(&nowhere));
    assert_eq!(code, "health-check", "{reason}");
    load.finish();
}

#[test]
fn a_release_with_a_slow_start_gets_its_grace_period() {
    let host = Host::start();
    host.deploy("shop", shape("late", "grace = \"20s\""));
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
    let checks = |line: &Value| line["message"].as_str().is_some_and(|text| text == "check 3: 200");
    host.log_line("shop", "the passed check", checks);
}

/// The host repeats the check of a running instance; a single failure is below the threshold.
#[test]
fn a_check_that_fails_every_third_time_has_no_effect() {
    let host = Host::start();
    host.deploy("shop", shape("fails-every-third", "interval = \"1s\", threshold = 2"));
    let ids = host.running_ids("shop", "web", 1);
    let failed = |line: &Value| line["message"].as_str().is_some_and(|text| text == "check 3: 500");
    host.log_line("shop", "the third check", failed);
    let passed = |line: &Value| line["message"].as_str().is_some_and(|text| text == "check 4: 200");
    host.log_line("shop", "the fourth check", passed);
    assert_eq!(host.running_ids("shop", "web", 1), ids);
    assert_eq!((host.current("shop"), host.state("shop").as_str()), (vec![1], "running"));
}

/// E3: an instance that is replaced after a failed check keeps its id, and the app's log has the
/// reason.
#[test]
fn an_instance_that_fails_its_check_is_restarted_under_its_id() {
    let host = Host::start();
    host.deploy("shop", shape("fails-every-third", "interval = \"1s\", threshold = 1"));
    let ids = host.running_ids("shop", "web", 1);
    let replaced = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("instances restarted: 1"));
    let line = host.log_line("shop", "the replacement", replaced);
    assert!(line["message"].as_str().is_some_and(|text| text.contains("returned 500")), "{line}");
    assert_eq!(host.running_ids("shop", "web", 1), ids);
    let seen = host.instance("shop", &ids[0]).expect("it runs");
    assert!(seen["restarts"].as_u64() >= Some(1), "{seen}");
}

/// With an instance per request, the instance of the health check doesn't serve a request.
#[test]
fn a_single_request_instance_is_dropped_after_its_check() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("isolation = \"request\"\n{QUICK_WEB}")));
    assert!(host.instances("shop").is_empty());
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
}
