//! G1: tests a log folder that is full, read-only, removed, or on a disk that hangs. Apps keep
//! their latency, dropped lines are counted, and logging resumes by itself.

use isopod_tests::{Ask, Bundle, DiskError, Host, Load, guest, load::p99, wait_for};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// How far the p99 may rise during a fault, so that other work of the machine fails no test: to
/// this multiple, and by this time. A request that waits for the log takes as long as the fault.
const RISE: u32 = 3;
const DELAY_MAX: Duration = Duration::from_millis(500);

/// The requests whose durations are measured together.
const REQUESTS: usize = 200;

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

/// Returns the durations of some requests, which must succeed.
fn durations(host: &Host) -> Vec<Duration> {
    let of_request = |number| {
        let begun = Instant::now();
        host.get("greedy", &format!("/log-line?text=number-{number}")).expect(200);
        begun.elapsed()
    };
    (0..REQUESTS).map(of_request).collect()
}

#[track_caller]
fn assert_unmoved(during: Vec<Duration>, before: Duration, what: &str) {
    let (requests, during) = (during.len(), p99(during));
    assert!(during <= RISE * before + DELAY_MAX, "{what}: p99 of {requests}: {during:?} instead of {before:?}");
}

/// Sends requests until lines are dropped. Asserts that the requests take as long as before, and
/// that an alert reports the drops.
#[track_caller]
fn assert_drops_delay_no_request(host: &Host, before: Duration) {
    let (first, mut during) = (dropped(host), Vec::new());
    wait_for("dropped lines", || {
        during.extend(durations(host));
        (dropped(host) > first).then_some(())
    });
    assert_unmoved(during, before, "while lines are dropped");
    host.until_alert("log-drops");
    assert_eq!(host.state("greedy"), "running");
}

/// Removes the log folder. The host may create a file in it meanwhile.
fn remove(folder: &Path) {
    wait_for("the removal of the log folder", || fs::remove_dir_all(folder).is_ok().then_some(()));
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
    let before = p99(durations(&host));
    host.faults().fail(DiskError::LogsFull);
    assert_drops_delay_no_request(&host, before);
    host.faults().end_errors();
    assert_resumes(&host);
}

#[test]
fn a_read_only_log_folder_drops_lines_and_recovers_by_itself() {
    let host = host_with_greedy();
    let before = p99(durations(&host));
    host.faults().fail(DiskError::LogsReadOnly);
    assert_drops_delay_no_request(&host, before);
    host.faults().end_errors();
    assert_resumes(&host);
}

#[test]
fn a_hanging_log_disk_drops_lines_and_recovers_by_itself() {
    let host = host_with_greedy();
    let before = p99(durations(&host));
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
    let before = p99(durations(&host));
    let mut following = host.follow("/v1/apps/greedy/logs?limit=0&stream=stdout");
    let folder = host.data().join("apps/greedy/logs");
    for round in ["first", "second"] {
        remove(&folder);
        log_line(&host, round);
        let line = following.next().expect("the stream continues");
        assert_eq!(message(&line), round);
    }
    remove(&folder);
    assert_unmoved(durations(&host), before, "after the removal");
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
    let before = p99(durations(&host));
    let of_load = p99(load.take_durations());
    for error in [DiskError::LogsFull, DiskError::LogsReadOnly] {
        host.faults().fail(error);
        assert_drops_delay_no_request(&host, before);
        host.faults().end_errors();
        assert_unmoved(load.take_durations(), of_load, &format!("{error:?}"));
    }
    host.faults().hang_logs();
    wait_for("a hanging write", || (host.faults().hanging_writes() > 0).then_some(()));
    assert_drops_delay_no_request(&host, before);
    host.faults().end_hanging_logs();
    assert_unmoved(load.take_durations(), of_load, "a hanging disk");
    remove(&host.data().join("apps/greedy/logs"));
    assert_unmoved(durations(&host), before, "after the removal");
    wait_for("a line after the outage", || {
        host.get("greedy", "/log-line?text=after-the-outage").expect(200);
        host.log("greedy").iter().any(|line| message(line) == "after-the-outage").then_some(())
    });
    assert_unmoved(load.take_durations(), of_load, "a removed folder");
    let requests = load.finish();
    assert!(requests > 100, "{requests}");
}
