//! G1: tests a log folder that is full, read-only, removed, or on a disk that hangs. Apps keep
//! their latency, dropped lines are counted, and logging resumes by itself.

use isopod_tests::{Ask, Bundle, DiskError, Host, Load, guest, wait_for};
use serde_json::Value;
use std::{
    fs,
    time::{Duration, Instant},
};

/// How much longer the median request may take during a fault. A request that waits for a log takes
/// seconds.
const DELAY_MAX: Duration = Duration::from_millis(100);

fn host_with_greedy() -> Host {
    let host = Host::start_with_faults("[alerts]\ninterval = \"100ms\"\n");
    host.deploy("greedy", Bundle::component(guest("greedy")));
    log_line(&host, "before");
    host
}

fn message(line: &Value) -> &str {
    line["message"].as_str().expect("a line has a message")
}

fn dropped(host: &Host) -> u64 {
    host.api(Ask::get("/v1/status")).json()["log_lines_dropped"].as_u64().expect("it is counted")
}

/// Writes a line and waits until the log has it.
fn log_line(host: &Host, text: &str) {
    host.get("greedy", &format!("/log-line?text={text}")).expect(200);
    host.log_line("greedy", text, |line| message(line) == text);
}

/// Returns the median duration of some requests, which must succeed.
fn median(host: &Host) -> Duration {
    let mut durations: Vec<Duration> = (0..100)
        .map(|number| {
            let begun = Instant::now();
            host.get("greedy", &format!("/log-line?text=number-{number}")).expect(200);
            begun.elapsed()
        })
        .collect();
    durations.sort_unstable();
    durations[durations.len() / 2]
}

/// Sends requests until lines are dropped, and asserts that they take as long as before.
fn assert_drops_delay_no_request(host: &Host, before: Duration) {
    let first = dropped(host);
    let during = wait_for("dropped lines", || {
        let during = median(host);
        (dropped(host) > first).then_some(during)
    });
    assert!(during < before + DELAY_MAX, "{during:?} instead of {before:?}");
    assert_eq!(host.state("greedy"), "running");
}

/// Asserts that the log continues, and that it reports the dropped lines.
fn assert_resumes(host: &Host) {
    wait_for("a line after the fault", || {
        host.get("greedy", "/log-line?text=after-the-fault").expect(200);
        host.log("greedy").iter().any(|line| message(line) == "after-the-fault").then_some(())
    });
    let found = |query: &str| {
        let page = host.api(Ask::get(format!("/v1/apps/greedy/logs?{query}"))).expect(200).json();
        page["items"].as_array().map_or(0, Vec::len)
    };
    wait_for("the report of the dropped lines", || {
        (found("grep=log%20lines%20were%20dropped%20here&stream=host") > 0).then_some(())
    });
    assert_eq!(found("grep=before&stream=stdout"), 1, "earlier lines are kept");
}

#[test]
fn a_full_log_folder_drops_lines_and_recovers_by_itself() {
    let host = host_with_greedy();
    let before = median(&host);
    host.faults().fail(DiskError::LogsFull);
    assert_drops_delay_no_request(&host, before);
    wait_for("the alert about dropped lines", || {
        let alerts = host.api(Ask::get("/v1/alerts")).expect(200).json();
        alerts["items"].as_array()?.iter().any(|alert| alert["rule"] == "log-drops").then_some(())
    });
    host.faults().end_errors();
    assert_resumes(&host);
}

#[test]
fn a_read_only_log_folder_drops_lines_and_recovers_by_itself() {
    let host = host_with_greedy();
    let before = median(&host);
    host.faults().fail(DiskError::LogsReadOnly);
    assert_drops_delay_no_request(&host, before);
    host.faults().end_errors();
    assert_resumes(&host);
}

#[test]
fn a_hanging_log_disk_drops_lines_and_recovers_by_itself() {
    let host = host_with_greedy();
    let before = median(&host);
    host.faults().hang_logs();
    host.get("greedy", "/log-line?text=waits").expect(200);
    wait_for("a hanging write", || (host.faults().hanging_writes() > 0).then_some(()));
    assert_drops_delay_no_request(&host, before);
    // A reader is refused after some seconds instead of waiting for the disk.
    let refused = host.api(Ask::get("/v1/apps/greedy/logs")).problem(503, "log-unavailable");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("Apps are not affected")), "{refused}");
    assert_eq!(host.faults().hanging_writes(), 1, "one thread writes");
    host.faults().end_hanging_logs();
    assert_resumes(&host);
}

#[test]
fn a_removed_log_folder_is_replaced_without_a_restart() {
    let host = host_with_greedy();
    let mut following = host.follow("/v1/apps/greedy/logs?limit=0&stream=stdout");
    let folder = host.data().join("apps/greedy/logs");
    for round in ["first", "second"] {
        fs::remove_dir_all(&folder).expect("it can be removed");
        log_line(&host, round);
        let line = following.next().expect("the stream continues");
        assert_eq!(message(&line), round);
    }
    assert!(!host.log("greedy").iter().any(|line| message(line) == "before"), "the removed lines are lost");
    fs::rename(&folder, folder.with_extension("aside")).expect("it can be moved");
    log_line(&host, "third");
    assert_eq!(dropped(&host), 0, "every later line is written");
    let host = host.restart();
    log_line(&host, "fourth");
}

/// The outage that a shared log store once caused: here, no request fails.
#[test]
fn a_broken_log_store_under_load_fails_no_request() {
    let host = host_with_greedy();
    let load = Load::on(&host, "greedy", 8, |text| text == "ok");
    load.wait_for_more();
    let before = median(&host);
    let folder = host.data().join("apps/greedy/logs");
    for error in [DiskError::LogsFull, DiskError::LogsReadOnly] {
        host.faults().fail(error);
        assert_drops_delay_no_request(&host, before);
        load.wait_for_more();
        host.faults().end_errors();
    }
    host.faults().hang_logs();
    wait_for("a hanging write", || (host.faults().hanging_writes() > 0).then_some(()));
    assert_drops_delay_no_request(&host, before);
    load.wait_for_more();
    host.faults().end_hanging_logs();
    fs::remove_dir_all(&folder).expect("it can be removed");
    wait_for("a line after the outage", || {
        host.get("greedy", "/log-line?text=after-the-outage").expect(200);
        host.log("greedy").iter().any(|line| message(line) == "after-the-outage").then_some(())
    });
    let requests = load.finish();
    assert!(requests > 100, "{requests}");
}
