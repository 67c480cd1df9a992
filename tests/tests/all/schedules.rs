//! Tests schedules: validation, persistence, and that each schedule fires exactly once per time.
//! The policy crate tests the calculation of the times.

use isopod_tests::{Bundle, Host, bundle::QUICK_WEB, guest, limits::MINUTE_PATIENCE, wait_for, wait_up_to};
use serde_json::{Value, json};

#[test]
fn a_schedule_is_listed_verbatim_and_persists() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for (name, schedule) in [
        ("every-minute", "* * * * *"),
        ("nightly", "0 3 * * *"),
        ("mondays", "30 4 * * MON"),
        ("leap-days", "0 0 29 2 *"),
        ("often", "*/5 8-18 * * 1-5"),
    ] {
        let process = json!({ "name": name, "entry": "events", "schedule": schedule });
        assert_eq!(host.add_process("shop", &process).expect(201).json()[name]["schedule"], schedule);
    }
    let command = json!({ "name": "report", "entry": "command", "schedule": "15 * * * *", "args": ["0"] });
    assert_eq!(host.add_process("shop", &command).expect(201).json()["report"]["args"], json!(["0"]));
    let before = host.formation("shop");
    let host = host.kill_and_restart();
    assert_eq!(host.formation("shop"), before);
    host.deploy("shop", Bundle::component(guest("shapes")));
    assert_eq!(host.formation("shop"), before, "a deploy changed the formation");
    host.scale("shop", &json!({ "nightly": { "schedule": null } })).expect(200);
    assert!(host.formation("shop")["nightly"]["schedule"].is_null());
}

#[test]
fn a_schedule_that_never_fires_is_rejected() {
    let host = Host::start();
    host.deploy("shop", Bundle::component(guest("shapes")));
    for schedule in [
        "",
        "every day",
        "0 3 * *",
        "0 3 * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "-1 * * * *",
        "@reboot",
    ] {
        let process = json!({ "name": "nightly", "entry": "events", "schedule": schedule });
        let refused = host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains("schedule")), "{schedule:?}: {refused}");
        host.scale("shop", &json!({ "worker": { "schedule": schedule } })).problem_of("shop", 422, "bad-formation");
    }
    for wrong in [json!(3), json!(["0 3 * * *"]), json!({ "cron": "0 3 * * *" })] {
        let process = json!({ "name": "nightly", "entry": "events", "schedule": wrong });
        host.add_process("shop", &process).problem_of("shop", 422, "bad-formation");
    }
    let manifest = "[processes.nightly]\nentry = \"events\"\nschedule = \"0 0 30 2 *\"\n";
    let (code, reason) = host.deploy_failing("shop", &Bundle::shapes(manifest));
    assert_eq!(code, "invalid-bundle", "{reason}");
    assert!(reason.contains("schedule"), "{reason}");
    assert_eq!(host.releases("shop").len(), 1);
}

/// A command with a schedule is not kept running; it waits for its time.
#[test]
fn a_scheduled_command_waits_for_its_time() {
    let host = Host::start();
    let job = "[processes.web]\nentry = \"http\"\n[processes.job]\nentry = \"command\"\nschedule = \"0 0 29 2 *\"\n";
    host.create("shop", "production");
    host.deploy("shop", Bundle::shapes(job));
    host.running_ids("shop", "web", 1);
    assert_eq!(host.get("shop", "/").expect(200).text(), "v1 ");
    let ran = host.log("shop").iter().any(|line| line.to_string().contains("shapes works as"));
    assert!(!ran, "it ran before its time");
}

/// H1: an event for a handler, a run for a command. Nothing fires before the next full minute, so
/// the test waits up to one minute.
#[test]
fn a_schedule_fires_once_in_its_minute() {
    let host = Host::start();
    let every_minute = "schedule = \"* * * * *\"\n";
    host.deploy(
        "shop",
        Bundle::shapes(&format!(
            "[processes.web]\nentry = \"http\"\n[processes.tick]\nentry = \"events\"\n{every_minute}\
             [processes.job]\nentry = \"command\"\nargs = [\"0\"]\n{every_minute}"
        )),
    );
    let ticks = |host: &Host| host.get("shop", "/ticks").expect(200).text();
    let runs = |host: &Host| host.log("shop").iter().filter(|line| line["message"] == JOB).count();
    let fired = wait_up_to(MINUTE_PATIENCE, "the next full minute", || {
        let (ticks, runs) = (ticks(&host), runs(&host));
        (ticks != "0" && runs > 0).then_some((ticks, runs))
    });
    assert_eq!(fired, ("1".to_owned(), 1));
    let host = host.kill_and_restart();
    assert_eq!((ticks(&host).as_str(), runs(&host)), ("1", 1), "the restart fired the schedule again");
}

/// The clock was wrong, and was corrected while the host was down. The missed leap days become one
/// run. The next minute fires, although the stored last run is years in the future.
#[test]
fn a_clock_jump_neither_bursts_nor_silences_a_schedule() {
    let host = Host::start();
    let [leap_days, minutes] = ["0 0 29 2 *", "* * * * *"].map(|schedule| format!("schedule = \"{schedule}\"\n"));
    let processes = format!(
        "{QUICK_WEB}[processes.behind]\nentry = \"events\"\n{leap_days}[processes.ahead]\nentry = \"events\"\n{minutes}"
    );
    host.deploy("shop", Bundle::shapes(&processes));
    let host = host.restart_after(|host| {
        for (process, last) in [("behind", "2000-01-01T00:00:00Z"), ("ahead", "2099-01-01T00:00:00Z")] {
            let sql = "INSERT OR REPLACE INTO schedules (app, process, last_fired_at) VALUES ('shop', ?1, ?2)";
            host.change_rows(sql, [process, last]);
        }
    });
    let runs = |process: &str| {
        let said = format!("the scheduler stored event {process}-");
        let reports = |line: &&Value| line["message"].as_str().is_some_and(|message| message.starts_with(&said));
        host.log("shop").iter().filter(reports).count()
    };
    wait_for("the catch-up run", || (runs("behind") == 1).then_some(()));
    wait_up_to(MINUTE_PATIENCE, "the next full minute", || (runs("ahead") > 0).then_some(()));
    assert_eq!((runs("behind"), runs("ahead")), (1, 1));
    let stored: String = host
        .control_database()
        .query_row("SELECT last_fired_at FROM schedules WHERE process = 'ahead'", [], |row| row.get(0))
        .expect("it is stored");
    assert!(stored.as_str() < "2099", "{stored}: the stored time follows the current clock");
}

/// The first line that the command of `shapes` prints.
const JOB: &str = "shapes works as Some(\"job\")";
