//! H1: tests that scheduled runs of a command which wait for the previous run survive a restart of
//! the host.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, wait_for};

/// A command that runs until it is stopped.
const LEAP_DAYS: &str = "[processes.leap]\nentry = \"command\"\nschedule = \"0 0 29 2 *\"\noverlap = \"queue\"\n\
    missed = \"all\"\n";

/// Waits until this run is the latest that was started.
fn until_started(host: &Host, time: &str) {
    wait_for(&format!("the run of {time}"), || {
        let sql = "SELECT last_fired_at FROM schedules WHERE app = 'shop' AND process = 'leap'";
        let found: String = host.control_database().query_row(sql, [], |row| row.get(0)).expect("it can be read");
        (found == time).then_some(())
    });
}

#[test]
fn runs_of_a_command_that_wait_survive_a_restart() {
    let host = Host::start();
    host.deploy("shop", Bundle::shapes(&format!("{QUICK_WEB}{LEAP_DAYS}")));
    let host = host.restart_after(|host| {
        let sql = "INSERT OR REPLACE INTO schedules (app, process, last_fired_at) VALUES ('shop', 'leap', ?1)";
        host.change_rows(sql, ["2015-01-01T00:00:00Z"]);
    });
    until_started(&host, "2016-02-29T00:00:00Z");
    host.log_line("shop", "the run", |line| {
        line.to_string().contains("the scheduler started `leap` (schedule 0 0 29 2 *)")
    });
    // The run in progress ends with the host and isn't repeated.
    let host = host.restart();
    until_started(&host, "2020-02-29T00:00:00Z");
    let host = host.kill_and_restart();
    wait_for("a later run", || {
        let sql = "SELECT last_fired_at > '2024-02-29' FROM schedules WHERE app = 'shop' AND process = 'leap'";
        host.control_database().query_row(sql, [], |row| row.get::<_, bool>(0)).expect("it can be read").then_some(())
    });
    let dropped = host.activity("shop").into_iter().find(|entry| entry["kind"] == "schedule-missed");
    assert_eq!(dropped, None, "each missed time runs");
}
