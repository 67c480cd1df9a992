//! Tests scheduled runs that the host missed: each is in the app's activity with its reason, and
//! they don't flood it.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, wait_for};
use serde_json::Value;

const LEAP_DAYS: &str = "[processes.leap]\nentry = \"events\"\nschedule = \"0 0 29 2 *\"\n";

/// A date before seven leap days, up to that of 2024.
const LONG_AGO: &str = "2000-01-01T00:00:00Z";

fn missed(host: &Host) -> Vec<Value> {
    host.activity("shop").into_iter().filter(|entry| entry["kind"] == "schedule-missed").collect()
}

fn contain(entries: &[Value], words: &str) -> bool {
    entries.iter().any(|entry| entry["text"].as_str().is_some_and(|text| text.contains(words)))
}

/// Sets the last run to a time before a simulated downtime of the host.
fn last_fired_long_ago(host: &Host) {
    let sql = "INSERT OR REPLACE INTO schedules (app, process, last_fired_at) VALUES ('shop', 'leap', ?1)";
    host.change_rows(sql, [LONG_AGO]);
}

#[test]
fn runs_missed_while_the_host_was_down_are_recorded_together() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{LEAP_DAYS}")));
    let host = host.restart_after(last_fired_long_ago);
    let entries = wait_for("the record", || Some(missed(&host)).filter(|entries| !entries.is_empty()));
    assert!(contain(&entries, "the host was down") && contain(&entries, LONG_AGO), "{entries:?}");
    assert_eq!(
        (entries.len(), &entries[0]["data"]["runs"]),
        (1, &6.into()),
        "the host makes up for one of the seven runs"
    );
    host.log_line("shop", "the catch-up run", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("the scheduler stored event leap-"))
    });
    let host = host.restart();
    assert_eq!(missed(&host).len(), 1);
}

#[test]
fn a_missed_run_of_a_stopped_app_is_recorded_with_the_reason_and_not_repeated() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{LEAP_DAYS}")));
    host.stop_app("shop");
    let host = host.restart_after(last_fired_long_ago);
    let entries =
        wait_for("the record", || Some(missed(&host)).filter(|entries| contain(entries, "the app is stopped")));
    assert_eq!(entries.len(), 2, "one for the time before, one for this run: {entries:?}");
    host.start_app("shop");
    host.get("shop", "/").expect(200);
    let host = host.restart();
    host.get("shop", "/").expect(200);
    assert_eq!(missed(&host).len(), 2);
    let ran = host.log("shop").iter().any(|line| line.to_string().contains("the scheduler stored"));
    assert!(!ran, "a start of the app made up for a missed run");
}

#[test]
fn a_missed_run_of_an_app_in_error_is_recorded_with_the_reason() {
    let host = Host::start();
    host.create("shop", "production");
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{LEAP_DAYS}")));
    let host = host.restart_after(|host| {
        last_fired_long_ago(host);
        for blob in std::fs::read_dir(host.data().join("blobs")).expect("there are some") {
            std::fs::remove_file(blob.expect("it can be read").path()).expect("it can be removed");
        }
    });
    host.until_state("shop", "error");
    wait_for("the record", || contain(&missed(&host), "the app is in error").then_some(()));
}
