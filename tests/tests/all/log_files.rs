//! Tests the bound on the log files that the host has open: it is independent of the number of
//! apps.

use isopod_tests::{Host, wait_for};
use std::fs;

const APPS: usize = 80;

/// The documented bound.
const FILES_OPEN_MAX: usize = 64;

fn open_logs(host: &Host) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", host.id())).expect("the host runs").flatten();
    // The host may close a file meanwhile.
    let paths = files.filter_map(|file| fs::read_link(file.path()).ok());
    paths.filter(|path| path.extension().is_some_and(|end| end == "ndjson")).count()
}

#[track_caller]
fn assert_bounded(host: &Host, of: &str) {
    let open = open_logs(host);
    assert!((1..=FILES_OPEN_MAX).contains(&open), "{open} files are open after the {of} of {APPS} logs");
}

/// Waits until an app's log has bytes on the disk.
fn until_written(host: &Host, app: &str) {
    let folder = host.data().join("apps").join(app).join("logs");
    wait_for(&format!("the log of {app}"), || {
        let mut segments = fs::read_dir(&folder).ok()?.flatten();
        segments.any(|segment| segment.metadata().is_ok_and(|found| found.len() > 0)).then_some(())
    });
}

#[test]
fn open_log_files_are_bounded_for_writes_and_for_reads() {
    let host = Host::start();
    let apps: Vec<String> = (0..APPS).map(|number| format!("quiet-{number}")).collect();
    for app in &apps {
        host.create(app, "dev");
        // The request of an app without a release is logged too.
        host.get(app, "/").problem_of(app, 503, "app-unavailable");
    }
    apps.iter().for_each(|app| until_written(&host, app));
    assert_bounded(&host, "writes");
    let host = host.restart();
    for app in &apps {
        assert!(host.log(app).iter().any(|line| line["status"] == 503), "{app}");
    }
    assert_bounded(&host, "reads");
}
